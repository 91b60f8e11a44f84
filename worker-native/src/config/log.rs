//! The settings of logs.

use super::source::Reader;

/// How logs look.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// Filter, as `tracing` understands it: `info`, `worker_native=debug`.
    pub level: String,
    /// JSON lines, or text for eyes.
    pub json: bool,
}

pub(super) fn read(read: &mut Reader) -> LogConfig {
    LogConfig {
        level: read.log_filter(
            "LOG_LEVEL",
            "info",
            "log filter: error, warn, info, debug, or per module such as worker_native=debug",
        ),
        json: read.one_of("LOG_FORMAT", "json", &["json", "text"], "JSON lines, or text for eyes") == "json",
    }
}
