//! What makes two readings the same: the name of a row in the cache.
//!
//! A key is the SHA-256 of the model version's identity and of the reading in one canonical form.
//! It is not shortened: readings come from outside, and a collision would be a wrong answer.

use sha2::{Digest, Sha256};

/// Features turned into bytes at once: one long update is quicker than many of four bytes.
const CHUNK: usize = 64;

/// The name of one row.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key([u8; 32]);

impl Key {
    pub(super) const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(super) fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({})", self.hex())
    }
}

/// One part of a reading; parts are in the order of the task's schema.
#[derive(Debug, Clone, Copy)]
pub enum Part<'a> {
    /// Numbers, as the model gets them. `-0.0` counts as `0.0`; every other bit counts.
    Features(&'a [f32]),
    /// A text; every byte counts.
    Text(&'a str),
}

/// The identity of one loaded model version, from which the keys of its readings are made.
///
/// Made once when a version is loaded, and kept with it.
#[derive(Debug, Clone)]
pub struct KeyBase(Sha256);

impl KeyBase {
    /// `content` is all that decides the rows besides the reading: the file's SHA-256 first, then for example the
    /// output's name.
    #[must_use]
    pub fn new(task: &str, model: &str, version: u32, content: &[&str]) -> Self {
        let mut hash = Sha256::new();
        // The layout of what is hashed; change the number with the layout.
        hash.update(b"infer-router row 1");
        hash.update(version.to_le_bytes());
        hash.update(length(content.len()));
        for text in [task, model].iter().chain(content) {
            hash.update(length(text.len()));
            hash.update(text);
        }
        Self(hash)
    }

    /// The key of a reading.
    #[must_use]
    pub fn key(&self, reading: &[Part<'_>]) -> Key {
        let mut hash = self.0.clone();
        hash.update(length(reading.len()));
        for part in reading {
            // Kind and length first: no two lists of parts have the same bytes.
            match part {
                Part::Features(features) => {
                    hash.update([0]);
                    hash.update(length(features.len()));
                    hash_features(&mut hash, features);
                }
                Part::Text(text) => {
                    hash.update([1]);
                    hash.update(length(text.len()));
                    hash.update(text);
                }
            }
        }
        Key(hash.finalize().into())
    }
}

fn hash_features(hash: &mut Sha256, features: &[f32]) {
    let mut bytes = [[0_u8; 4]; CHUNK];
    for chunk in features.chunks(CHUNK) {
        for (place, value) in bytes.iter_mut().zip(chunk) {
            // Adding zero turns -0.0 into 0.0 and leaves all else as it is (IEEE 754 §6.3).
            *place = (value + 0.0).to_le_bytes();
        }
        hash.update(bytes.get(..chunk.len()).unwrap_or_default().as_flattened());
    }
}

/// A length as bytes, the same on every machine.
fn length(length: usize) -> [u8; 8] {
    u64::try_from(length).unwrap_or(u64::MAX).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn base() -> KeyBase {
        KeyBase::new("task", "model", 1, &["abc", "scores"])
    }

    #[test]
    fn another_model_version_or_file_gives_another_key() {
        let reading = [Part::Features(&[1.0, 2.0])];
        let keys = [
            base(),
            KeyBase::new("task2", "model", 1, &["abc", "scores"]),
            KeyBase::new("task", "model2", 1, &["abc", "scores"]),
            KeyBase::new("task", "model", 2, &["abc", "scores"]),
            KeyBase::new("task", "model", 1, &["abd", "scores"]),
            KeyBase::new("task", "model", 1, &["abc", "labels"]),
            KeyBase::new("task", "model", 1, &["abc"]),
            KeyBase::new("taskm", "odel", 1, &["abc", "scores"]),
            KeyBase::new("task", "model", 1, &["abcscores", ""]),
        ]
        .map(|base| base.key(&reading));
        for (i, key) in keys.iter().enumerate() {
            assert!(!keys[..i].contains(key), "{i}");
        }
        assert_eq!(keys[0], base().key(&reading), "the same again");
    }

    #[test]
    fn where_one_part_ends_counts() {
        let base = base();
        let keys = [
            vec![],
            vec![Part::Text("")],
            vec![Part::Features(&[])],
            vec![Part::Text("ab")],
            vec![Part::Text("a"), Part::Text("b")],
            vec![Part::Text("ab"), Part::Text("")],
            vec![Part::Features(&[0.0])],
            vec![Part::Features(&[0.0, 0.0])],
            vec![Part::Features(&[0.0]), Part::Features(&[0.0])],
            vec![Part::Text("\0\0\0\0")],
        ]
        .map(|reading| base.key(&reading));
        for (i, key) in keys.iter().enumerate() {
            assert!(!keys[..i].contains(key), "{i}");
        }
    }

    proptest! {
        #[test]
        fn two_readings_have_one_key_exactly_when_they_are_the_same_numbers(
            a in proptest::collection::vec(prop_oneof![Just(0.0f32), Just(-0.0), Just(1.0), any::<f32>()], 0..150),
            flip in any::<proptest::sample::Index>(), bit in 0..32u32,
        ) {
            let base = base();
            let key = |features: &[f32]| base.key(&[Part::Features(features)]);
            let positive: Vec<f32> = a.iter().map(|x| if *x == 0.0 { 0.0 } else { *x }).collect();
            prop_assert_eq!(key(&a), key(&positive));
            if !a.is_empty() {
                let mut other = positive.clone();
                let i = flip.index(other.len());
                other[i] = f32::from_bits(other[i].to_bits() ^ (1 << bit));
                let is_zero = positive[i] == 0.0 && other[i] == 0.0;
                // A signalling NaN may be made quiet by the addition; readings are finite anyway.
                prop_assume!(!positive[i].is_nan() && !other[i].is_nan());
                prop_assert_eq!(key(&other) == key(&positive), is_zero);
            }
        }
    }
}
