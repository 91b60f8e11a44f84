//! The settings of what is learned from labels.

use std::time::Duration;

use shared::accuracy::Settings;

use super::queue::QueueConfig;
use super::source::Reader;
use super::to_u32;

/// How labels are kept and weighed.
#[derive(Debug, Clone)]
pub struct LearningConfig {
    /// How labels are weighed.
    pub settings: Settings,
    /// Answers that this process writes down for labels in a second, at the most.
    pub records_per_second: u32,
    /// Share of the readings that a second tier answers as well, while nothing else waits.
    pub pair_share: f32,
    /// How long an answer that was given at once can be labelled.
    pub label_ttl: Duration,
    /// How long a job's answer can be.
    pub result_ttl: Duration,
}

pub(super) fn read(read: &mut Reader, queue: &QueueConfig) -> LearningConfig {
    let half_life = read.number(
        "ACCURACY_HALF_LIFE_SECONDS",
        1_800,
        1..=31_536_000,
        "after so long a label counts half in what is believed of a model's accuracy",
    );
    let prior = read.number(
        "ACCURACY_PRIOR_LABELS",
        20,
        1..=1_000_000,
        "how many labels the accuracy of a model's training report counts as",
    );
    let records_per_second = to_u32(read.number(
        "LABEL_RECORDS_PER_SECOND",
        1_000,
        0..=1_000_000,
        "answers written beside the queue in a second, so that other processes know them when labels come; 0 writes none",
    ));
    let pair_share = read.ratio(
        "PAIR_SHARE",
        0.01,
        "share of the readings that a second tier answers as well while nothing else waits, to see how often the two differ",
    );
    #[expect(clippy::cast_precision_loss, reason = "both are bounded far below 2^53")]
    let settings = Settings { half_life_ms: half_life as f64 * 1_000.0, prior_weight: prior as f64 };
    LearningConfig {
        settings,
        records_per_second,
        pair_share,
        label_ttl: queue.label_ttl,
        result_ttl: queue.result_ttl,
    }
}
