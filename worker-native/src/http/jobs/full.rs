//! What a caller is told whose job did not fit: which bound, by how much, and when to come back.

use std::time::Duration;

use shared::problem::ErrorCode;

use crate::app::App;
use crate::http::error::ApiError;
use crate::queue::{Bound, Entry, Full};

/// A job that was turned away.
#[derive(Debug)]
pub(super) struct Refused<'a> {
    pub(super) task: &'a str,
    pub(super) tenant: Option<&'a str>,
    /// About its size, in bytes.
    pub(super) size: u64,
    pub(super) left: Option<Duration>,
    /// The room it was given.
    pub(super) room: Option<u32>,
}

/// About the size of a job as the queue counts it; exact enough to tell how much is too much.
pub(super) fn size(entry: &Entry) -> u64 {
    match &entry.input {
        shared::reading::Input::Features(features) => 600 + 4 * features.len() as u64,
        shared::reading::Input::Text(text) => 600 + text.len() as u64,
    }
}

impl Refused<'_> {
    /// The refusal; `luck`, 0 to 1, spreads the times at which callers come back.
    pub(super) fn error(&self, app: &App, full: &Full, luck: f64) -> ApiError {
        let code = match full.bound {
            Bound::Tenant => ErrorCode::TenantQueueFull,
            Bound::Jobs | Bound::Bytes | Bound::Wait => ErrorCode::QueueFull,
        };
        let seconds = app.admission.retry_after(self.task, self.too_much(app, full), luck);
        ApiError::new(code, format!("{}; nothing was stored", self.reason(app, full))).retry_after(seconds)
    }

    /// Jobs that must go before this one fits.
    fn too_much(&self, app: &App, full: &Full) -> u64 {
        let (config, depth) = (&app.config.queue, u64::from(full.depth));
        let over = match full.bound {
            Bound::Jobs => (depth + 1).saturating_sub(u64::from(config.max_depth)),
            Bound::Bytes => {
                let one = full.bytes.checked_div(depth).unwrap_or(self.size);
                let bytes = full.bytes.saturating_add(self.size).saturating_sub(config.max_bytes);
                bytes.div_ceil(one.max(1))
            }
            Bound::Wait => (depth + 1).saturating_sub(self.room.unwrap_or(u32::MAX).into()),
            // What the tenant has of it, the queue does not say.
            Bound::Tenant => 1,
        };
        over.max(1)
    }

    fn reason(&self, app: &App, full: &Full) -> String {
        let (config, task) = (&app.config.queue, self.task);
        let Full { bound, depth, bytes } = full;
        match bound {
            Bound::Jobs => {
                format!("task `{task}` has {depth} unsettled jobs of {} (QUEUE_MAX_DEPTH)", config.max_depth)
            }
            Bound::Bytes => format!(
                "task `{task}` has unsettled jobs of {bytes} bytes, and of {} at most with this one (QUEUE_MAX_BYTES)",
                config.max_bytes
            ),
            Bound::Wait => {
                let wait = app.admission.drain_time(task, (*depth).into()).unwrap_or_default().as_millis();
                let longest = app.admission.longest(self.left).unwrap_or_default();
                let whose = if self.left == Some(longest) { "its deadline_ms" } else { "QUEUE_MAX_WAIT_MS" };
                let longest = longest.as_millis();
                format!(
                    "a job of task `{task}` would wait about {wait} ms behind {depth} others, and may wait {longest} ms \
                     ({whose})"
                )
            }
            Bound::Tenant => {
                let percent = config.tenant_max_percent;
                let jobs = u64::from(config.max_depth) * u64::from(percent) / 100;
                let bytes = config.max_bytes / 100 * u64::from(percent);
                format!(
                    "tenant `{}` has its {percent} % of task `{task}`'s queue, {jobs} jobs or {bytes} bytes \
                     (TENANT_MAX_PERCENT of QUEUE_MAX_DEPTH and QUEUE_MAX_BYTES)",
                    self.tenant.unwrap_or_default()
                )
            }
        }
    }
}
