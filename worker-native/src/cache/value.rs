//! How a row is written in Redis: eight bytes that check it, then its numbers as little-endian float32.
//!
//! The check is the front of SHA-256 over key and numbers: a value that was cut, changed or put
//! under another name is told from a row.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::{Key, LARGEST_ROW_BYTES, Row};

const CHECK_BYTES: usize = 8;

/// One byte more than the longest value, so that one that was cut here fails its check.
pub(super) const LARGEST_VALUE_BYTES: isize = (LARGEST_ROW_BYTES + CHECK_BYTES).cast_signed();

pub(super) fn encode(key: &Key, row: &Row) -> Vec<u8> {
    let mut value = vec![0; CHECK_BYTES];
    value.extend(row.iter().flat_map(|number| number.to_le_bytes()));
    let check = check(key, value.get(CHECK_BYTES..).unwrap_or_default());
    value.splice(..CHECK_BYTES, check);
    value
}

/// The row, or none where the value is not one of this key's.
pub(super) fn decode(key: &Key, value: &[u8]) -> Option<Row> {
    let (found, numbers) = value.split_first_chunk::<CHECK_BYTES>()?;
    let (numbers, rest) = numbers.as_chunks::<4>();
    if numbers.is_empty() || !rest.is_empty() || *found != check(key, numbers.as_flattened()) {
        return None;
    }
    Some(numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect::<Arc<[f32]>>())
}

fn check(key: &Key, numbers: &[u8]) -> [u8; CHECK_BYTES] {
    let hash = Sha256::new().chain_update(key.bytes()).chain_update(numbers).finalize();
    hash.first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{KeyBase, Part};
    use super::*;

    fn key(text: &str) -> Key {
        KeyBase::new("t", "m", 1, &[]).key(&[Part::Text(text)])
    }

    proptest! {
        #[test]
        fn a_row_comes_back_bit_for_bit_and_nothing_else_does(
            numbers in proptest::collection::vec(any::<u32>(), 1..20),
            at in any::<proptest::sample::Index>(), bit in 0..8u8, cut in any::<proptest::sample::Index>(),
        ) {
            let row: Row = numbers.iter().map(|bits| f32::from_bits(*bits)).collect();
            let value = encode(&key("a"), &row);
            let back = decode(&key("a"), &value).unwrap();
            prop_assert_eq!(back.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), numbers);
            prop_assert!(decode(&key("b"), &value).is_none(), "under another name");
            prop_assert!(decode(&key("a"), &value[..cut.index(value.len())]).is_none(), "cut");
            let mut changed = value;
            let at = at.index(changed.len());
            changed[at] ^= 1 << bit;
            prop_assert!(decode(&key("a"), &changed).is_none(), "changed");
        }

        #[test]
        fn no_bytes_break_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert!(decode(&key("a"), &bytes).is_none());
        }
    }
}
