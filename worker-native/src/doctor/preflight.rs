//! Before jobs are taken: would this Redis lose them?
//!
//! Owns what `serve` does about it: it refuses to start, unless it is told to accept the loss. A Redis that is away
//! when the service starts is looked at when it comes; then it is too late to refuse, and the service says that it is
//! not ready.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::finding::Finding;
use super::redis;
use crate::app::App;
use crate::config::QueueConfig;

/// How long a look may take.
const LIMIT: Duration = Duration::from_secs(5);
/// How often a Redis that is away is looked for.
const PAUSE: Duration = Duration::from_millis(500);

/// What the look at the start came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preflight {
    /// There is nothing to lose, or it was accepted.
    Passed,
    /// Redis was away: look again with [`when_back`].
    Away,
}

/// Looks at the queue's Redis before the start.
///
/// # Errors
/// It would lose jobs: every finding with its remedy. It does not know the user or the password.
pub async fn at_start(config: &QueueConfig) -> anyhow::Result<Preflight> {
    if !config.is_shared() {
        return Ok(Preflight::Passed);
    }
    let losses = match look(config).await {
        Ok(Some(losses)) => losses,
        Ok(None) => return Ok(Preflight::Away),
        // What Redis says of it has no password in it.
        Err(error) => anyhow::bail!(
            "Redis refuses the user or the password in REDIS_URL ({error}); let REDIS_URL name those it knows, as \
             redis://USER:PASSWORD@HOST, or none where it asks for none (its `requirepass` and `ACL LIST` tell)"
        ),
    };
    if losses.is_empty() {
        return Ok(Preflight::Passed);
    }
    if config.accept_loss {
        warn(&losses);
        return Ok(Preflight::Passed);
    }
    let lines: String = losses.iter().map(|finding| format!("\n  - {}", finding.line())).collect();
    anyhow::bail!(
        "this Redis would lose jobs that were accepted; change it (`infer-router doctor` looks at all of it), or start \
         with --accept-loss (ACCEPT_LOSS=true):{lines}"
    )
}

/// Waits for a Redis that was away at the start, and looks at it once.
pub async fn when_back(app: App, shutdown: CancellationToken) {
    let waited = async {
        let mut refused = false;
        loop {
            tokio::time::sleep(PAUSE).await;
            match look(&app.config.queue).await {
                Ok(Some(losses)) => return losses,
                Ok(None) => refused = false,
                Err(error) => {
                    if !refused {
                        tracing::error!(%error, "redis refuses the user or the password in REDIS_URL");
                    }
                    refused = true;
                }
            }
        }
    };
    let Some(losses) = shutdown.run_until_cancelled(waited).await else { return };
    if app.config.queue.accept_loss {
        warn(&losses);
        return;
    }
    for finding in &losses {
        tracing::error!(
            check = finding.check,
            place = finding.place,
            found = finding.found,
            change = finding.change,
            "this redis would lose jobs; the service is not ready until it is changed and the service restarted"
        );
    }
    app.found_losses(losses.iter().map(|finding| finding.check).collect());
}

/// The faults by which jobs would be lost; none where Redis is away.
async fn look(config: &QueueConfig) -> ::redis::RedisResult<Option<Vec<Finding>>> {
    let found = tokio::time::timeout(LIMIT, redis::essentials(config)).await;
    let findings = found.unwrap_or(Ok(None))?;
    Ok(findings.map(|findings| findings.into_iter().filter(|finding| finding.loses_jobs).collect()))
}

fn warn(losses: &[Finding]) {
    for finding in losses {
        tracing::warn!(
            check = finding.check,
            place = finding.place,
            found = finding.found,
            change = finding.change,
            "this redis would lose jobs; accepted by ACCEPT_LOSS"
        );
    }
}
