//! What the service tells its operators: log lines (JSON on standard error, or text for eyes) and metrics.

pub mod metrics;
mod process;

use tracing_subscriber::EnvFilter;

use crate::config::LogConfig;

/// Starts logging for the whole process.
///
/// # Errors
/// A message when the filter cannot be read.
pub fn start(config: &LogConfig) -> anyhow::Result<()> {
    // The runtime library logs each session it opens at info.
    let filter = EnvFilter::try_new(format!("{},ort=warn", config.level))
        .map_err(|error| anyhow::anyhow!("LOG_LEVEL={}: {error}", config.level))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    let started = if config.json { lines.json().flatten_event(true).try_init() } else { lines.try_init() };
    started.map_err(|error| anyhow::anyhow!("logging cannot be started: {error}"))
}
