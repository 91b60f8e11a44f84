//! What the operator may set: read once, checked whole, handed on as one struct a concern.
//!
//! Owns the names, defaults and limits of all settings; nothing else reads the environment. A
//! setting comes from the environment or from `infer-router.toml` (the same name in lower case);
//! the environment wins. All faults are told at once, each with name, value and rule.

mod oip;
mod source;

use std::path::PathBuf;
use std::time::Duration;

use shared::policy::{DEFAULT_ACCURACY_FLOOR, DEFAULT_QUEUE_THRESHOLD, Policy, PolicyKind};

use crate::cache::{CacheBackend, CacheConfig};
use crate::rollout::CanarySetting;
pub use oip::OipConfig;
use source::Reader;
pub use source::{ConfigError, Setting, Source};

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
    /// Where models lie and how they are run.
    pub models: ModelsConfig,
    /// Answers that were computed before.
    pub cache: CacheConfig,
    /// How decisions are made.
    pub routing: RoutingConfig,
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
    /// The API only: answers `/predict` itself, leaves queued jobs to others.
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

/// The HTTP doors.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// Address to listen on.
    pub host: std::net::IpAddr,
    /// Port to listen on; 0 takes a free one, which is then logged.
    pub port: u16,
    /// Largest body, in bytes.
    pub max_body_bytes: usize,
    /// How long a body may take to arrive.
    pub body_timeout: Duration,
    /// How long a connection may be idle, or take to send a request's head.
    pub header_timeout: Duration,
    /// Connections open at once; further ones wait to be accepted.
    pub max_connections: usize,
    /// How long `/predict` waits for a model when the caller names no deadline.
    pub predict_timeout: Duration,
    /// Texts, series and streams under way at once; beyond it 503.
    pub stream_max_active: usize,
    /// How long one of them may take.
    pub stream_timeout: Duration,
    /// How long a shutdown waits for what is under way.
    pub drain_timeout: Duration,
}

/// Redis and the promises of the queue.
#[derive(Debug, Clone)]
pub struct QueueConfig {
    /// Where Redis is; may hold a password, so it is never printed.
    pub redis_url: String,
    /// First part of every key.
    pub prefix: String,
    /// Jobs a task may have accepted and unsettled; beyond it 503.
    pub max_depth: u32,
    /// A job not settled for this long is given to another consumer.
    pub lease: Duration,
    /// How often a job may be started; then it is set aside as `dead`.
    pub max_attempts: u32,
    /// How long a result can be read by its job id.
    pub result_ttl: Duration,
    /// Results kept for `/results`, for each task.
    pub history: u32,
    /// Jobs one consumer claims at once.
    pub claim_batch: u32,
    /// How long a Redis command may take before the caller is told 503.
    pub command_timeout: Duration,
}

/// Where models lie and how they are run.
#[derive(Debug, Clone)]
pub struct ModelsConfig {
    /// The model repository.
    pub dir: PathBuf,
    /// The ONNX Runtime library; empty: searched for.
    pub onnxruntime: Option<PathBuf>,
    /// The task of a body that names none and fits several.
    pub default_task: Option<String>,
    /// The version that answers of every model that has it, instead of its own default.
    pub default_version: Option<u32>,
    /// Load every version at start; else each on its first use.
    pub load_all: bool,
    /// With `load_all` off: a version nobody asked for this long leaves memory.
    pub idle: Option<Duration>,
    /// How often the repository is looked at for changes.
    pub poll: Option<Duration>,
    /// A run that takes longer is interrupted.
    pub max_run: Duration,
    /// A version that gets part of the traffic, of models without a plan of their own.
    pub canary: CanarySetting,
    /// Sessions for each model version.
    pub sessions: usize,
    /// Most readings in one run; less where the timing at warm-up finds no gain in more.
    pub max_batch: usize,
    /// Readings that may wait for one model; beyond it 503.
    pub max_waiting: usize,
}

/// How decisions are made.
#[derive(Debug, Clone)]
pub struct RoutingConfig {
    /// Policy where the edge gave no advice.
    pub policy: Policy,
    /// How often load and accuracies are read from Redis.
    pub snapshot_interval: Duration,
}

/// How logs look.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// Filter, as `tracing` understands it: `info`, `worker_native=debug`.
    pub level: String,
    /// JSON lines, or text for eyes.
    pub json: bool,
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
        let http = http(&mut read);
        let oip = oip::read(&mut read);
        let queue = queue(&mut read);
        let models = models(&mut read);
        let cache = cache(&mut read, &queue);
        let routing = routing(&mut read);
        let log = log(&mut read);
        if usize::try_from(queue.claim_batch).is_ok_and(|claimed| claimed > models.max_waiting) {
            read.fault(
                "CLAIM_BATCH must not be above MODEL_MAX_WAITING: what is claimed at once waits for one model at worst",
            );
        }
        let settings = read.finish()?;
        let role = match role.as_str() {
            "api" => Role::Api,
            "worker" => Role::Worker,
            _ => Role::All,
        };
        Ok(Self { role, http, oip, queue, models, cache, routing, log, settings })
    }
}

fn http(read: &mut Reader) -> HttpConfig {
    let port_help = "port of the native service; 0 takes a free one";
    // PORT is what hosting platforms set; API_PORT is ours and wins.
    let port_default = read.number("PORT", 8080, 0..=65_535, "port, where API_PORT is not set");
    HttpConfig {
        host: read.parsed(
            "API_HOST",
            "127.0.0.1",
            "an IP address such as 127.0.0.1 or 0.0.0.0",
            "address to listen on",
        ),
        port: to_u16(read.number("API_PORT", port_default, 0..=65_535, port_help)),
        max_body_bytes: to_usize(read.number(
            "MAX_BODY_BYTES",
            262_144,
            1_024..=16_777_216,
            "largest request body, in bytes",
        )),
        body_timeout: millis(read.number(
            "BODY_TIMEOUT_MS",
            10_000,
            100..=300_000,
            "how long a request body may take to arrive",
        )),
        predict_timeout: millis(read.number(
            "PREDICT_TIMEOUT_MS",
            2_000,
            1..=600_000,
            "the longest /predict waits for a model; a shorter deadline_ms of the reading wins",
        )),
        stream_max_active: to_usize(read.number(
            "STREAM_MAX_ACTIVE",
            256,
            1..=100_000,
            "texts, series and streams of /v1/infer under way at once; beyond it 503",
        )),
        stream_timeout: millis(read.number(
            "STREAM_TIMEOUT_MS",
            120_000,
            1..=3_600_000,
            "the longest a text, a series or a stream may take; a shorter deadline_ms wins",
        )),
        header_timeout: millis(read.number(
            "HEADER_TIMEOUT_MS",
            30_000,
            100..=600_000,
            "how long a connection may be idle, or take to send a request's head",
        )),
        max_connections: to_usize(read.number(
            "MAX_CONNECTIONS",
            10_000,
            1..=1_000_000,
            "connections open at once; further ones wait to be accepted",
        )),
        drain_timeout: millis(read.number(
            "DRAIN_TIMEOUT_MS",
            20_000,
            0..=600_000,
            "how long a shutdown waits for what is under way",
        )),
    }
}

fn queue(read: &mut Reader) -> QueueConfig {
    QueueConfig {
        redis_url: read.secret("REDIS_URL", "redis://127.0.0.1:6379", "where Redis is"),
        prefix: read.text("QUEUE_PREFIX", "ir", "first part of every Redis key; two deployments on one Redis need two"),
        max_depth: to_u32(read.number(
            "QUEUE_MAX_DEPTH",
            100_000,
            1..=100_000_000,
            "jobs a task may have accepted and unsettled; beyond it 503",
        )),
        lease: millis(read.number(
            "LEASE_MS",
            15_000,
            100..=3_600_000,
            "a job not settled for this long is given to another consumer",
        )),
        max_attempts: to_u32(read.number(
            "MAX_ATTEMPTS",
            5,
            1..=100,
            "how often a job may be started before it is set aside as dead",
        )),
        result_ttl: Duration::from_secs(read.number(
            "RESULT_TTL_SECONDS",
            86_400,
            1..=31_536_000,
            "how long a result can be read by its job id",
        )),
        history: to_u32(read.number(
            "RESULTS_HISTORY",
            10_000,
            1..=1_000_000,
            "results kept for /results, for each task",
        )),
        claim_batch: to_u32(read.number("CLAIM_BATCH", 64, 1..=1_000, "jobs one consumer claims at once")),
        command_timeout: millis(read.number(
            "REDIS_TIMEOUT_MS",
            500,
            10..=60_000,
            "how long a Redis command may take before the caller is told 503",
        )),
    }
}

fn models(read: &mut Reader) -> ModelsConfig {
    ModelsConfig {
        dir: PathBuf::from(read.text("MODEL_DIR", "models", "the model repository")),
        onnxruntime: read
            .optional("ORT_DYLIB_PATH", "the ONNX Runtime library; searched for where not set")
            .map(PathBuf::from),
        default_task: read.optional("DEFAULT_TASK", "the task of a reading that names none and fits several, or none"),
        default_version: read
            .optional_number(
                "DEFAULT_MODEL_VERSION",
                1..=u64::from(u32::MAX),
                "the version that answers, of every model that has it",
            )
            .map(to_u32),
        canary: canary(read),
        load_all: read.flag(
            "LOAD_ALL_MODELS",
            true,
            "load every model version at start; false loads each on its first use",
        ),
        idle: some_millis(
            read.number(
                "MODEL_IDLE_SECONDS",
                0,
                0..=31_536_000,
                "with LOAD_ALL_MODELS=false: a version nobody asked for this long leaves memory; 0 keeps it",
            ) * 1_000,
        ),
        poll: some_millis(read.number(
            "MODEL_POLL_MS",
            5_000,
            0..=86_400_000,
            "how often MODEL_DIR is looked at for new and changed models; 0 never",
        )),
        max_run: millis(read.number(
            "MODEL_MAX_RUN_MS",
            10_000,
            10..=3_600_000,
            "a model's run that takes longer is interrupted",
        )),
        sessions: to_usize(read.number(
            "MODEL_SESSIONS",
            cores(),
            1..=256,
            "sessions for each model version (default: one a core)",
        )),
        max_batch: to_usize(read.number(
            "BATCH_MAX_SIZE",
            256,
            1..=1_024,
            "most readings in one run of a model; less where more gains nothing",
        )),
        max_waiting: to_usize(read.number(
            "MODEL_MAX_WAITING",
            4_096,
            1..=1_000_000,
            "readings that may wait for one model; beyond it 503",
        )),
    }
}

fn canary(read: &mut Reader) -> CanarySetting {
    let version = read.text(
        "CANARY_VERSION",
        "",
        "a version on trial: 2 for every model that has it, or task/model=2, several with commas",
    );
    let percent = read.number("CANARY_PERCENT", 10, 0..=100, "the canary's part of the traffic that names no version");
    CanarySetting::read(&version, to_f64(percent)).unwrap_or_else(|faults| {
        faults.iter().for_each(|fault| read.fault(fault));
        CanarySetting::default()
    })
}

fn cache(read: &mut Reader, queue: &QueueConfig) -> CacheConfig {
    let kinds = ["memory", "redis", "off"];
    let backend =
        read.one_of("CACHE_BACKEND", "memory", &kinds, "where answers are kept: memory, redis (and memory), off");
    CacheConfig {
        backend: match backend.as_str() {
            "redis" => CacheBackend::Redis,
            "off" => CacheBackend::Off,
            _ => CacheBackend::Memory,
        },
        max_entries: read.number("CACHE_MAX_SIZE", 10_000, 1..=100_000_000, "answers kept in memory at most"),
        max_bytes: read.number(
            "CACHE_MAX_BYTES",
            64 << 20,
            1_024..=1 << 40,
            "bytes that the answers kept in memory may take",
        ),
        ttl: Duration::from_secs(read.number(
            "CACHE_DEFAULT_TTL",
            60,
            1..=31_536_000,
            "seconds for which an answer is kept",
        )),
        redis_url: queue.redis_url.clone(),
        prefix: queue.prefix.clone(),
        redis_timeout: millis(read.number(
            "CACHE_REDIS_TIMEOUT_MS",
            50,
            1..=10_000,
            "how long a look into Redis may take before the model is run instead",
        )),
        redis_worth: Duration::from_micros(read.number(
            "CACHE_REDIS_WORTH_US",
            500,
            0..=60_000_000,
            "Redis is asked for models whose run takes at least so many microseconds",
        )),
    }
}

fn routing(read: &mut Reader) -> RoutingConfig {
    let kinds: Vec<&str> = PolicyKind::ALL.iter().map(|kind| kind.name()).collect();
    let policy = read.one_of(
        "ROUTING_POLICY",
        PolicyKind::Adaptive.name(),
        &kinds,
        "how a tier is chosen where the edge gave no advice, or advice from before a burst",
    );
    RoutingConfig {
        policy: Policy {
            kind: PolicyKind::from_name(&policy).unwrap_or(PolicyKind::Adaptive),
            queue_threshold: to_u32(read.number(
                "QUEUE_THRESHOLD",
                u64::from(DEFAULT_QUEUE_THRESHOLD),
                1..=1_000_000,
                "backlog, in jobs, at which the policy steps one tier down",
            )),
            accuracy_floor: read.ratio(
                "ACCURACY_FLOOR",
                DEFAULT_ACCURACY_FLOOR,
                "accuracy, measured or stated, below which `adaptive` leaves a tier",
            ),
        },
        snapshot_interval: millis(read.number(
            "SNAPSHOT_INTERVAL_MS",
            250,
            10..=60_000,
            "how often load and accuracies are read from Redis",
        )),
    }
}

fn log(read: &mut Reader) -> LogConfig {
    LogConfig {
        level: read.log_filter(
            "LOG_LEVEL",
            "info",
            "log filter: error, warn, info, debug, or per module such as worker_native=debug",
        ),
        json: read.one_of("LOG_FORMAT", "json", &["json", "text"], "JSON lines, or text for eyes") == "json",
    }
}

fn cores() -> u64 {
    std::thread::available_parallelism().map_or(1, |n| u64::try_from(n.get()).unwrap_or(1)).min(4)
}

const fn some_millis(value: u64) -> Option<Duration> {
    if value == 0 { None } else { Some(millis(value)) }
}

const fn millis(value: u64) -> Duration {
    Duration::from_millis(value)
}

#[expect(clippy::cast_precision_loss, reason = "a percentage")]
const fn to_f64(value: u64) -> f64 {
    value as f64
}

// The three below take numbers that `Reader::number` has bounded; the fallback is never met.
fn to_u16(value: u64) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}

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
        assert!(!format!("{:?}", config.settings).contains("hunter2"));
    }

    #[test]
    fn the_document_lists_every_setting_and_no_other() {
        let document = include_str!("../../docs/configuration.md");
        let rows = document.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(name, _)| name));
        let listed: std::collections::BTreeSet<&str> = rows.filter(|name| !name.starts_with("EDGE:")).collect();
        let known = read(&[], "").unwrap().settings.iter().map(|setting| setting.name).collect();
        assert_eq!(listed, known);
    }
}
