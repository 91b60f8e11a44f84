//! The small, versioned picture of load and accuracy, and its text on the wire.
//!
//! Published by the native side on every answer (header [`crate::headers::SNAPSHOT`]) and at
//! `GET /v1/snapshot`; kept by every edge isolate in a [`cache::SnapshotCache`]. How old it is only
//! the keeper knows: ages are taken between two readings of the keeper's own clock.
//!
//! ```text
//! v=1;e=5f2a;s=42;t=1700000000000;hydraulic-valve=fast:0:110:8131,accurate:3:1020:-
//! ```
//! `e` names the boot (hex), `s` counts up within it, `t` is the origin's Unix milliseconds; then a
//! segment a task with `tier:depth:service_us:accuracy` in order of cost, accuracy in 1/10000 and
//! `-` for what is unknown. Segments of names that are no task are for later versions: ignored.

pub mod cache;

use crate::ids::is_name;

/// Longest text that is read; a header over it is not from our origin.
pub const MAX_TEXT: usize = 8_192;
const MAX_TASKS: usize = 64;
const MAX_TIERS: usize = 16;

/// Load and accuracy of all tasks (or of some) at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Which run of the origin made it.
    pub boot: u64,
    /// Counts up within a boot.
    pub seq: u64,
    /// The origin's clock, in Unix milliseconds.
    pub at: u64,
    /// The tasks it speaks of.
    pub tasks: Vec<TaskLoad>,
}

/// Load and accuracy of one task.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskLoad {
    /// The task's name.
    pub task: String,
    /// Its tiers, cheapest first.
    pub tiers: Vec<TierLoad>,
}

/// Load and accuracy of one tier.
#[derive(Debug, Clone, PartialEq)]
pub struct TierLoad {
    /// The tier's name.
    pub tier: String,
    /// Jobs accepted for this tier and not yet settled, and synchronous readings not yet answered.
    pub depth: u32,
    /// Microseconds of one session per reading, smoothed; unknown before the first run.
    pub service_us: Option<u32>,
    /// Measured accuracy of the tier's model, 0..=1; unknown without labels, statement or training report.
    pub accuracy: Option<f32>,
}

impl TaskLoad {
    /// Accuracy of a tier's model, where both are known.
    #[must_use]
    pub fn accuracy_of(&self, tier: &str) -> Option<f32> {
        self.tiers.iter().find(|load| load.tier == tier)?.accuracy
    }

    /// Backlog of the whole task, over all tiers.
    #[must_use]
    pub fn depth(&self) -> u32 {
        self.tiers.iter().fold(0, |sum, tier| sum.saturating_add(tier.depth))
    }
}

/// Why a text is no snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Longer than [`MAX_TEXT`], or more tasks or tiers than are kept.
    #[error("the snapshot is over its size limit")]
    TooLarge,
    /// Another format version.
    #[error("the snapshot has another version than 1")]
    Version,
    /// A segment cannot be read.
    #[error("the snapshot is malformed")]
    Malformed,
}

impl Snapshot {
    /// The text for the wire.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("v=1;e={:x};s={};t={}", self.boot, self.seq, self.at);
        for load in &self.tasks {
            text.push_str(&format!(";{}=", load.task));
            for (i, tier) in load.tiers.iter().enumerate() {
                let comma = if i == 0 { "" } else { "," };
                text.push_str(&format!("{comma}{}:{}:", tier.tier, tier.depth));
                push_or_dash(&mut text, tier.service_us);
                text.push(':');
                push_or_dash(&mut text, tier.accuracy.map(to_ten_thousandths));
            }
        }
        text
    }

    /// Reads the text of a snapshot.
    ///
    /// # Errors
    /// [`SnapshotError`]; a reader treats each as no snapshot.
    pub fn from_text(text: &str) -> Result<Self, SnapshotError> {
        if text.len() > MAX_TEXT {
            return Err(SnapshotError::TooLarge);
        }
        let mut segments = text.split(';').map(|segment| segment.split_once('=').ok_or(SnapshotError::Malformed));
        let (boot, seq, at) = match (segments.next(), segments.next(), segments.next(), segments.next()) {
            (Some(Ok(("v", "1"))), Some(Ok(("e", e))), Some(Ok(("s", s))), Some(Ok(("t", t)))) => {
                (u64::from_str_radix(e, 16).ok(), s.parse().ok(), t.parse().ok())
            }
            (Some(Ok(("v", version))), ..) if version != "1" => return Err(SnapshotError::Version),
            _ => return Err(SnapshotError::Malformed),
        };
        let (Some(boot), Some(seq), Some(at)) = (boot, seq, at) else {
            return Err(SnapshotError::Malformed);
        };
        let mut tasks = Vec::new();
        for segment in segments {
            let (task, tiers) = segment?;
            if tasks.len() == MAX_TASKS {
                return Err(SnapshotError::TooLarge);
            }
            // One letter is reserved for fields of the snapshot itself.
            if is_name(task) && task.len() > 1 {
                tasks.push(TaskLoad { task: task.to_owned(), tiers: read_tiers(tiers)? });
            }
        }
        Ok(Self { boot, seq, at, tasks })
    }
}

fn read_tiers(text: &str) -> Result<Vec<TierLoad>, SnapshotError> {
    let mut tiers = Vec::new();
    for tier in text.split(',') {
        if tiers.len() == MAX_TIERS {
            return Err(SnapshotError::TooLarge);
        }
        tiers.push(read_tier(tier).ok_or(SnapshotError::Malformed)?);
    }
    Ok(tiers)
}

fn read_tier(text: &str) -> Option<TierLoad> {
    let mut parts = text.split(':');
    let tier = parts.next().filter(|tier| is_name(tier))?;
    let depth = parts.next()?.parse().ok()?;
    let service_us = number_or_dash(parts.next()?)?;
    let accuracy = number_or_dash(parts.next()?)?.map(from_ten_thousandths);
    if accuracy.is_some_and(|accuracy| accuracy > 1.0) {
        return None;
    }
    // Parts behind the fourth are for later versions.
    Some(TierLoad { tier: tier.to_owned(), depth, service_us, accuracy })
}

fn push_or_dash(text: &mut String, value: Option<u32>) {
    match value {
        Some(value) => text.push_str(&value.to_string()),
        None => text.push('-'),
    }
}

/// `Some(None)` is an unknown value, `None` a broken one.
fn number_or_dash(text: &str) -> Option<Option<u32>> {
    if text == "-" { Some(None) } else { text.parse().ok().map(Some) }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=10000 before")]
fn to_ten_thousandths(accuracy: f32) -> u32 {
    (accuracy.clamp(0.0, 1.0) * 10_000.0).round() as u32
}

#[expect(clippy::cast_precision_loss, reason = "what is kept is at most 10000")]
fn from_ten_thousandths(value: u32) -> f32 {
    value as f32 / 10_000.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "v=1;e=5f2a;s=42;t=1700000000000;hydraulic-valve=fast:0:110:8131,accurate:3:1020:-";

    #[test]
    fn the_documented_text_reads_and_writes() {
        let snapshot = Snapshot::from_text(TEXT).unwrap();
        assert_eq!(snapshot.tasks[0].depth(), 3);
        assert_eq!(snapshot.tasks[0].tiers[0].accuracy, Some(0.8131));
        assert_eq!(snapshot.tasks[0].tiers[1].accuracy, None);
        assert_eq!(snapshot.to_text(), TEXT);
    }

    #[test]
    fn what_cannot_be_read_is_no_snapshot() {
        assert_eq!(Snapshot::from_text("v=2;x=1"), Err(SnapshotError::Version));
        assert_eq!(Snapshot::from_text(&"x".repeat(MAX_TEXT + 1)), Err(SnapshotError::TooLarge));
        for bad in
            ["", "v=1", "v=1;e=zz;s=1;t=1", "v=1;e=1;s=1;t=1;task=fast:1:2", "v=1;e=1;s=1;t=1;task=fast:1:2:10001"]
        {
            assert_eq!(Snapshot::from_text(bad), Err(SnapshotError::Malformed), "{bad}");
        }
    }

    #[test]
    fn a_later_version_may_add_parts_and_segments() {
        let text = "v=1;e=1;s=1;t=1;q=anything;task=fast:1:2:3:more";
        assert_eq!(Snapshot::from_text(text).unwrap().tasks.len(), 1);
    }

    fn tier() -> impl Strategy<Value = TierLoad> {
        ("[a-z]{1,8}", any::<u32>(), any::<Option<u32>>(), proptest::option::of(0u32..=10_000)).prop_map(
            |(tier, depth, service_us, accuracy)| TierLoad {
                tier,
                depth,
                service_us,
                accuracy: accuracy.map(from_ten_thousandths),
            },
        )
    }

    proptest! {
        #[test]
        fn every_snapshot_survives_the_wire(
            boot in any::<u64>(), seq in any::<u64>(), at in any::<u64>(),
            tasks in proptest::collection::vec(("[a-z]{2,8}", proptest::collection::vec(tier(), 1..4)), 0..4),
        ) {
            let tasks = tasks.into_iter().map(|(task, tiers)| TaskLoad { task, tiers }).collect();
            let snapshot = Snapshot { boot, seq, at, tasks };
            prop_assert_eq!(Snapshot::from_text(&snapshot.to_text()), Ok(snapshot));
        }

        #[test]
        fn no_text_can_break_the_reader(text in "(v=1;e=1;s=1;t=1;)?[a-z0-9:;=,.-]{0,60}") {
            drop(Snapshot::from_text(&text));
        }
    }
}
