//! The real stack for one run: the queue's store, the service, the edge before it.
//!
//! Owns the processes and the settings they get; nothing of a stack outlives its handle. What is
//! sent to it is `drive`'s.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use tempfile::TempDir;

use super::args::LiveArgs;
use crate::bench::process::{Server, ask, free_port};
use crate::bench::service::{Persistence, Redis};

const LIMIT: Duration = Duration::from_secs(120);

/// Rows a run of a model takes at most.
pub(crate) const BATCH: usize = 8;

/// Over the defaults: one session a model, so that the models and not HTTP are the bound; no cache, since the cycles
/// come again and again.
const SETTINGS: [(&str, &str); 8] = [
    ("MODEL_SESSIONS", "1"),
    ("BATCH_MAX_SIZE", "8"),
    ("CACHE_BACKEND", "off"),
    ("RESULTS_HISTORY", "1000000"),
    ("QUEUE_FILE_SYNC", "normal"),
    ("DEFAULT_TASK", super::TASK),
    ("DRAIN_DELAY_MS", "0"),
    ("LOG_LEVEL", "error"),
];

/// A stack that is ready. The edge ends first and the store last.
#[derive(Debug)]
pub(crate) struct Stack {
    edge: u16,
    native: u16,
    _edge: Server,
    _service: Server,
    _redis: Option<Redis>,
    _dir: TempDir,
}

impl Stack {
    /// Starts a store, a service and an edge under a policy; nothing is in the queue.
    ///
    /// # Errors
    /// When a part does not become ready.
    pub(crate) fn start(args: &LiveArgs, policy: &str) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let redis = args.redis.as_deref().map(|binary| Redis::start(binary, Persistence::EverySecond)).transpose()?;
        let (edge, native) = (free_port()?, free_port()?);
        let mut command = Command::new(service(args)?);
        command.arg("serve").current_dir(dir.path()).stdout(Stdio::null());
        command.env("API_HOST", "127.0.0.1").env("API_PORT", native.to_string()).env("ROUTING_POLICY", policy);
        command.env("MODEL_DIR", found(&args.models)?).envs(SETTINGS);
        if let Some(library) = &args.onnxruntime {
            command.env("ORT_DYLIB_PATH", found(library)?);
        }
        match &redis {
            Some(redis) => command.env("REDIS_URL", redis.url()),
            None => command.env_remove("REDIS_URL").env("QUEUE_FILE", dir.path().join("queue.sqlite")),
        };
        let started = Instant::now();
        let mut server = Server::start("infer-router", &mut command)?;
        server.answers(native, &request("/readyz"), started, LIMIT)?;

        let mut command = Command::new(found(&args.workerd)?);
        command.arg("serve").arg(found(&args.edge)?).current_dir(dir.path());
        command.arg(format!("--socket-addr=http=127.0.0.1:{edge}"));
        command.arg(format!("--external-addr=origin=127.0.0.1:{native}"));
        command.env("EDGE_POLICY", policy).stdout(Stdio::null()).stderr(Stdio::null());
        let mut front = Server::start("workerd", &mut command)?;
        front.answers(edge, &request("/health"), Instant::now(), LIMIT)?;
        Ok(Self { edge, native, _edge: front, _service: server, _redis: redis, _dir: dir })
    }

    /// Where readings go, and where `/results` is asked for.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.edge)
    }

    /// The service's metrics.
    ///
    /// # Errors
    /// When it does not answer.
    pub(crate) fn metrics(&self) -> anyhow::Result<String> {
        ask(self.native, &request("/metrics"))
    }
}

/// The service's binary.
///
/// # Errors
/// When there is none.
pub(crate) fn service(args: &LiveArgs) -> anyhow::Result<std::path::PathBuf> {
    let path = match &args.service {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("infer-router"),
    };
    found(&path)
}

fn found(path: &Path) -> anyhow::Result<std::path::PathBuf> {
    path.canonicalize()
        .with_context(|| format!("{} is not there; `script/bench live` makes what is missing", path.display()))
}

fn request(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").into_bytes()
}
