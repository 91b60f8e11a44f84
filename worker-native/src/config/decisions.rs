//! The settings of the log of decisions.

use std::path::PathBuf;

use super::source::Reader;

/// Where decisions are logged, and how many.
#[derive(Debug, Clone)]
pub struct DecisionsConfig {
    /// The file; none logs nothing.
    pub log: Option<PathBuf>,
    /// The share of the readings that is logged, 0..=1.
    pub sample: f32,
    /// Most bytes of the file and the one before it, together.
    pub max_bytes: u64,
}

pub(super) fn read(read: &mut Reader) -> DecisionsConfig {
    DecisionsConfig {
        log: read
            .optional(
                "DECISION_LOG",
                "the file in which every decision is logged, one JSON line each; nothing logs none",
            )
            .map(PathBuf::from),
        sample: read.ratio("DECISION_LOG_SAMPLE", 1.0, "share of the readings that is in the decision log"),
        max_bytes: read.number(
            "DECISION_LOG_MAX_BYTES",
            256 << 20,
            1 << 20..=1 << 40,
            "most bytes of the decision log, its file and the one before it (FILE.1) together",
        ),
    }
}
