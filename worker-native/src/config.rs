//! What the operator may set: read once, checked whole, handed on as one struct a concern.
//!
//! Owns the names, defaults and limits of all settings; nothing else reads the environment. A
//! setting comes from the environment or from `infer-router.toml` (the same name in lower case);
//! the environment wins. All faults are told at once, each with name, value and rule.

mod cache;
mod decisions;
mod http;
mod learning;
mod log;
mod models;
mod oip;
mod queue;
mod routing;
mod source;
mod webhook;

use std::time::Duration;

use crate::cache::CacheConfig;
use crate::webhook::WebhookConfig;
pub use decisions::DecisionsConfig;
pub use http::HttpConfig;
pub use learning::LearningConfig;
pub use log::LogConfig;
pub use models::ModelsConfig;
pub use oip::OipConfig;
pub use queue::{FileSync, QueueConfig};
pub use routing::RoutingConfig;
use source::Reader;
pub use source::{ConfigError, Secret, Setting, Source};

/// The service's whole configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Which parts this process runs.
    pub role: Role,
    /// The HTTP doors.
    pub http: HttpConfig,
    /// The Open Inference Protocol's paths.
    pub oip: OipConfig,
    /// Redis and the promises of the queue.
    pub queue: QueueConfig,
    /// Results sent to where callers asked.
    pub webhook: WebhookConfig,
    /// Where models lie and how they are run.
    pub models: ModelsConfig,
    /// Answers that were computed before.
    pub cache: CacheConfig,
    /// How decisions are made.
    pub routing: RoutingConfig,
    /// Which decisions are logged.
    pub decisions: DecisionsConfig,
    /// What is learned from labels.
    pub learning: LearningConfig,
    /// How logs look.
    pub log: LogConfig,
    /// Every setting as read, for `--print-config`.
    pub settings: Vec<Setting>,
}

/// Which parts a process runs; several processes meet in Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// API and consumer in one process.
    All,
    /// The API only: runs no readings; they go through the queue to others, also those that are answered at once.
    Api,
    /// The consumer only, with the health routes.
    Worker,
}

impl Role {
    /// Does this role take readings over HTTP?
    #[must_use]
    pub const fn serves_api(self) -> bool {
        matches!(self, Self::All | Self::Api)
    }

    /// Does this role run queued jobs?
    #[must_use]
    pub const fn consumes(self) -> bool {
        matches!(self, Self::All | Self::Worker)
    }
}

impl Config {
    /// Reads and checks every setting.
    ///
    /// # Errors
    /// [`ConfigError`] with every fault: wrong values, and names in the file that are no settings.
    pub fn read(source: Source) -> Result<Self, ConfigError> {
        let mut read = Reader::new(source);
        let role = read.one_of(
            "ROLE",
            "all",
            &["all", "api", "worker"],
            "which parts this process runs: all, api (HTTP only) or worker (queued jobs, and the health routes)",
        );
        let http = http::read(&mut read);
        let oip = oip::read(&mut read);
        let queue = queue::read(&mut read);
        let webhook = webhook::read(&mut read);
        let mut models = models::read(&mut read);
        let cache = cache::read(&mut read, &queue);
        let routing = routing::read(&mut read);
        let decisions = decisions::read(&mut read);
        let learning = learning::read(&mut read, &queue);
        let log = log::read(&mut read);
        if usize::try_from(queue.claim_batch).is_ok_and(|claimed| claimed > models.max_waiting) {
            read.fault(
                "CLAIM_BATCH must not be above MODEL_MAX_WAITING: what is claimed at once waits for one model at worst",
            );
        }
        if role != "all" && !queue.is_shared() {
            read.fault(
                "ROLE=api and ROLE=worker need REDIS_URL: processes meet in Redis; a queue file is for ROLE=all alone",
            );
        }
        if cache.backend == crate::cache::CacheBackend::Redis && !queue.is_shared() {
            read.fault("CACHE_BACKEND=redis needs REDIS_URL");
        }
        let settings = read.finish()?;
        let role = match role.as_str() {
            "api" => Role::Api,
            "worker" => Role::Worker,
            _ => Role::All,
        };
        // Its readings are run elsewhere; what cannot be (tensors of /v2, texts made step by step) is loaded when asked for.
        models.load_all &= role != Role::Api;
        Ok(Self { role, http, oip, queue, webhook, models, cache, routing, decisions, learning, log, settings })
    }
}

const fn millis(value: u64) -> Duration {
    Duration::from_millis(value)
}

// The two below take numbers that `Reader::number` has bounded; the fallback is never met.
fn to_u32(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn to_usize(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)], file: &str) -> Result<Config, ConfigError> {
        let env = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Config::read(Source::new(env, Some(("infer-router.toml".into(), file.to_owned())))?)
    }

    #[test]
    fn defaults_work_and_the_environment_wins_over_the_file() {
        let config = read(&[("QUEUE_THRESHOLD", "7")], "queue_threshold = 9\napi_port = 9000").unwrap();
        assert_eq!(config.routing.policy.queue_threshold, 7);
        assert_eq!(config.http.port, 9000);
        assert_eq!(config.queue.max_attempts, 5);
        assert_eq!(read(&[("PORT", "1234")], "").unwrap().http.port, 1234);
        assert!(!config.oip.model_control);
        assert!(read(&[("OIP_MODEL_CONTROL", "on")], "oip_model_control = false").unwrap().oip.model_control);
    }

    #[test]
    fn every_fault_is_told_at_once() {
        let error = read(
            &[
                ("API_PORT", "high"),
                ("ROUTING_POLICY", "psychic"),
                ("ACCURACY_FLOOR", "1.5"),
                ("API_HOST", "nowhere"),
                ("LOG_LEVEL", "loud"),
            ],
            "queue_treshold = 3",
        )
        .unwrap_err()
        .to_string();
        for word in
            ["API_PORT", "high", "ROUTING_POLICY", "always-fast", "ACCURACY_FLOOR", "API_HOST", "queue_treshold"]
        {
            assert!(error.contains(word), "{word} missing in:\n{error}");
        }
    }

    #[test]
    fn a_password_is_not_printed() {
        let config = read(&[("REDIS_URL", "redis://:hunter2@127.0.0.1:6379")], "").unwrap();
        let setting = config.settings.iter().find(|setting| setting.name == "REDIS_URL").unwrap();
        assert!(!setting.value.contains("hunter2"), "{}", setting.value);
        assert!(!format!("{config:?}").contains("hunter2"));
        assert!(config.queue.is_shared() && config.queue.redis_url.contains("hunter2"), "it is used");
    }

    #[test]
    fn callbacks_are_checked_and_their_secret_is_not_printed() {
        let good = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
        let config =
            read(&[("WEBHOOK_SECRET", good), ("WEBHOOK_ALLOWED_HOSTS", "a.example, *.b.example")], "").unwrap();
        assert!(!config.webhook.secrets.is_empty());
        assert_eq!(config.webhook.allowed_hosts.len(), 2);
        assert!(!format!("{config:?}").contains("C2FVsBQI"), "{config:?}");
        let error =
            read(&[("WEBHOOK_SECRET", "hunter2"), ("WEBHOOK_ALLOWED_HOSTS", "https://a.example")], "").unwrap_err();
        let error = error.to_string();
        for word in ["2 settings", "WEBHOOK_SECRET: secret 1 must begin with whsec_", "`https://a.example` is neither"]
        {
            assert!(error.contains(word), "{word} missing in:\n{error}");
        }
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn the_document_lists_every_setting_and_no_other() {
        let document = include_str!("../../docs/configuration.md");
        let rows = document.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(name, _)| name));
        // Other tables of the page begin with other things: forms of a URL, the edge's settings.
        let is_ours = |name: &&str| name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
        let listed: std::collections::BTreeSet<&str> = rows.filter(is_ours).collect();
        let known = read(&[], "").unwrap().settings.iter().map(|setting| setting.name).collect();
        assert_eq!(listed, known);
    }
}
