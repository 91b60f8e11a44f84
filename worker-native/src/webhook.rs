//! Webhooks: a job's result, sent to where its caller asked.
//!
//! Owns what a callback's URL may be (`guard`, `address`), which addresses its host may have (`resolve`), what is sent
//! (`event`) and how it is signed (`sign`), one try (`send`) and the loop of tries (`deliver`). It follows Standard
//! Webhooks, so that receivers can use any library of theirs. Which callbacks are due is the queue's to keep: nothing
//! here outlives a process. It never tells what a receiver answered beyond the status: an answer may be of a machine
//! that the caller could not ask itself.

mod address;
mod deliver;
mod event;
mod guard;
mod resolve;
mod send;
mod sign;

use std::sync::Arc;
use std::time::Duration;

pub use deliver::run;
pub use guard::HostPattern;
pub use send::Verdict;
pub use sign::{SIGNATURE_HEADERS, Secrets};

use crate::queue::Callback;
use guard::Guard;
use resolve::{Lookup, SystemLookup};
use send::Sender;

/// How callbacks are signed, where they may go, and how many at once.
#[derive(Debug, Clone)]
pub struct WebhookConfig {
    /// What they are signed with; none: there are no callbacks.
    pub secrets: Secrets,
    /// Is plain `http://` taken, too?
    pub allow_http: bool,
    /// May they go to private and loopback addresses?
    pub allow_private: bool,
    /// The only hosts they may go to; none: any public one.
    pub allowed_hosts: Vec<HostPattern>,
    /// How long one try may take, from the look-up of its host to the answer's head.
    pub timeout: Duration,
    /// Tries under way at once.
    pub concurrency: usize,
}

/// Sends callbacks; cheap to clone.
#[derive(Debug, Clone)]
pub struct Webhooks(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: WebhookConfig,
    sender: Sender,
}

impl Webhooks {
    /// Makes the client that sends.
    ///
    /// # Errors
    /// When there is no TLS to be had.
    pub fn new(config: &WebhookConfig) -> Result<Self, String> {
        Self::with_lookup(config, Arc::new(SystemLookup))
    }

    fn with_lookup(config: &WebhookConfig, lookup: Arc<dyn Lookup>) -> Result<Self, String> {
        let guard = Guard::new(config);
        let sender = Sender::new(config, guard, lookup)?;
        Ok(Self(Arc::new(Inner { config: config.clone(), sender })))
    }

    /// Are there callbacks at all? Without a secret there are none.
    #[must_use]
    pub fn are_on(&self) -> bool {
        !self.0.config.secrets.is_empty()
    }

    /// May a job ask for a callback to this URL? Looks nothing up: what its host's addresses are, is asked at each try.
    ///
    /// # Errors
    /// What is wrong, in words for the caller, and which setting allows it where one does.
    pub fn check(&self, url: &str) -> Result<(), String> {
        if !self.are_on() {
            return Err("callbacks are off here: WEBHOOK_SECRET is not set".to_owned());
        }
        self.0.sender.guard().check_url(url).map(drop)
    }

    fn config(&self) -> &WebhookConfig {
        &self.0.config
    }

    /// Makes one try.
    pub async fn send(&self, callback: &Callback) -> Verdict {
        self.0.sender.send(callback).await
    }
}

#[cfg(test)]
mod tests;
