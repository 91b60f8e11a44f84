//! The small, versioned picture of load and accuracy, and its text on the wire.
//!
//! Published by the native side on every answer (header [`crate::headers::SNAPSHOT`]) and at
//! `GET /v1/snapshot`; kept by every edge isolate in a [`cache::SnapshotCache`]. How old it is only
//! the keeper knows: ages are taken between two readings of the keeper's own clock.
//!
//! ```text
//! v=2;e=5f2a;s=42;t=1700000000000;hydraulic-valve=fast:0:110:8131:433:300:1070:25:32,accurate:3:1020:-|5:0:4:64:...
//! ```
//! `e` names the boot (hex), `s` counts up within it, `t` is the origin's Unix milliseconds; then a
//! segment a task with `tier:depth:service_us:accuracy:labels:alpha:beta:sd:cap` in order of cost:
//! accuracy in 1/10000, `-` for what is unknown, labels in effective number, the profile's times in
//! 1/10 microseconds. What is behind accuracy or labels may be left out where it is unknown. Behind `|` stands the
//! task's plan, where there is one: the numbers of `plan_text.rs`, which names and scales them by position.
//! Segments of names that are no task are for later versions: ignored. Version 1, which ends with the accuracy and has
//! no plan, is read as well.

pub mod cache;
mod plan_text;

use crate::ids::is_name;
use crate::policy::{Plan, Profile};

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
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TaskLoad {
    /// The task's name.
    pub task: String,
    /// Its tiers, cheapest first.
    pub tiers: Vec<TierLoad>,
    /// How its load is split until the next snapshot; none from an origin that does not plan.
    pub plan: Option<Plan>,
}

/// Load and accuracy of one tier.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TierLoad {
    /// The tier's name.
    pub tier: String,
    /// Jobs accepted for this tier and not yet settled, and synchronous readings not yet answered.
    pub depth: u32,
    /// Microseconds of one session per reading, smoothed; unknown before the first run.
    pub service_us: Option<u32>,
    /// Measured accuracy of the tier's model, 0..=1; unknown without labels, statement or training report.
    pub accuracy: Option<f32>,
    /// Labels behind the accuracy, in effective number; 0 where it is a statement or a training report.
    pub labels: f32,
    /// Its measured service time over the size of a batch.
    pub measured: Option<Profile>,
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
    #[error("the snapshot has another version than 1 or 2")]
    Version,
    /// A segment cannot be read.
    #[error("the snapshot is malformed")]
    Malformed,
}

impl Snapshot {
    /// The text for the wire.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("v=2;e={:x};s={};t={}", self.boot, self.seq, self.at);
        for load in &self.tasks {
            text.push_str(&format!(";{}=", load.task));
            for (i, tier) in load.tiers.iter().enumerate() {
                if i > 0 {
                    text.push(',');
                }
                push_tier(&mut text, tier);
            }
            if let Some(plan) = &load.plan {
                text.push('|');
                plan_text::push(&mut text, plan);
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
            (Some(Ok(("v", "1" | "2"))), Some(Ok(("e", e))), Some(Ok(("s", s))), Some(Ok(("t", t)))) => {
                (u64::from_str_radix(e, 16).ok(), s.parse().ok(), t.parse().ok())
            }
            (Some(Ok(("v", version))), ..) if version != "1" && version != "2" => return Err(SnapshotError::Version),
            _ => return Err(SnapshotError::Malformed),
        };
        let (Some(boot), Some(seq), Some(at)) = (boot, seq, at) else {
            return Err(SnapshotError::Malformed);
        };
        let mut tasks = Vec::new();
        for segment in segments {
            let (task, load) = segment?;
            if tasks.len() == MAX_TASKS {
                return Err(SnapshotError::TooLarge);
            }
            // One letter is reserved for fields of the snapshot itself.
            if is_name(task) && task.len() > 1 {
                let (tiers, plan) = load.split_once('|').map_or((load, None), |(tiers, plan)| (tiers, Some(plan)));
                let plan = plan.and_then(plan_text::read);
                tasks.push(TaskLoad { task: task.to_owned(), tiers: read_tiers(tiers)?, plan });
            }
        }
        Ok(Self { boot, seq, at, tasks })
    }
}

fn push_tier(text: &mut String, tier: &TierLoad) {
    text.push_str(&format!("{}:{}:", tier.tier, tier.depth));
    push_or_dash(text, tier.service_us);
    text.push(':');
    push_or_dash(text, tier.accuracy.map(|accuracy| whole(accuracy.clamp(0.0, 1.0) * TEN_THOUSAND)));
    if tier.labels > 0.0 || tier.measured.is_some() {
        text.push_str(&format!(":{}", whole(tier.labels)));
    }
    if let Some(profile) = tier.measured {
        let [alpha, beta, sd] = [profile.alpha_us, profile.beta_us, profile.sd_us].map(|time| whole(time * TENTHS));
        text.push_str(&format!(":{alpha}:{beta}:{sd}:{}", profile.cap));
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
    let accuracy = number_or_dash(parts.next()?)?.map(|value| real(value) / TEN_THOUSAND);
    if accuracy.is_some_and(|accuracy| accuracy > 1.0) {
        return None;
    }
    // These came with version 2, and parts behind them are for later versions: what cannot be read is not known.
    let mut rest = parts.map(|part| part.parse::<u32>().ok());
    let labels = rest.next().flatten().map_or(0.0, real);
    let mut time = || rest.next().flatten().map(|value| real(value) / TENTHS);
    let times = (time(), time(), time());
    let measured = match (times, rest.next().flatten().and_then(|cap| u16::try_from(cap).ok())) {
        ((Some(alpha_us), Some(beta_us), Some(sd_us)), Some(cap)) => Some(Profile { alpha_us, beta_us, sd_us, cap }),
        _ => None,
    };
    Some(TierLoad { tier: tier.to_owned(), depth, service_us, accuracy, labels, measured })
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

/// Accuracies are written in this part of 1.
const TEN_THOUSAND: f32 = 10_000.0;
/// Times of a profile are written in this part of a microsecond.
const TENTHS: f32 = 10.0;

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates, and a NaN is 0")]
fn whole(value: f32) -> u32 {
    value.round() as u32
}

#[expect(clippy::cast_precision_loss, reason = "24 bits are what a decision rests on")]
const fn real(value: u32) -> f32 {
    value as f32
}

#[cfg(test)]
mod tests;
