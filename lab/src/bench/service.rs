//! The native service with a Redis of its own, on free ports.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use tempfile::TempDir;

use super::process::{Server, ask, free_port, rest};
use super::{Setup, facts};

const LIMIT: Duration = Duration::from_secs(60);
const READY: &[u8] = b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";

/// What a Redis keeps on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Persistence {
    /// Nothing: what is measured does not depend on it.
    Off,
    /// Every command, on the disk within a second.
    EverySecond,
    /// Every command, on the disk before its answer.
    Always,
}

/// A Redis of the run's own, in a folder of its own: nothing in it outlives the run.
#[derive(Debug)]
pub(crate) struct Redis {
    port: u16,
    persistence: Persistence,
    server: Server,
    _dir: TempDir,
}

impl Redis {
    /// Starts it.
    ///
    /// # Errors
    /// When it does not come up.
    pub(crate) fn start(binary: &Path, persistence: Persistence) -> anyhow::Result<Self> {
        Self::start_with(binary, persistence, &[])
    }

    /// Starts it with more arguments.
    ///
    /// # Errors
    /// When it does not come up.
    pub(crate) fn start_with(binary: &Path, persistence: Persistence, more: &[&str]) -> anyhow::Result<Self> {
        let (port, dir) = (free_port()?, tempfile::tempdir()?);
        let mut command = Command::new(binary);
        command.args(["--bind", "127.0.0.1", "--save", "", "--port", &port.to_string()]);
        command.args(match persistence {
            Persistence::Off => ["--appendonly", "no", "--appendfsync", "no"],
            Persistence::EverySecond => ["--appendonly", "yes", "--appendfsync", "everysec"],
            Persistence::Always => ["--appendonly", "yes", "--appendfsync", "always"],
        });
        let server = Server::start("redis", command.args(more).arg("--dir").arg(dir.path()).stdout(Stdio::null()))?;
        let started = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            anyhow::ensure!(started.elapsed() < LIMIT, "redis does not answer");
            rest(Duration::from_millis(5));
        }
        Ok(Self { port, persistence, server, _dir: dir })
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Microseconds of processor time so far.
    pub(crate) fn cpu_us(&self) -> u64 {
        facts::cpu_us(self.server.pid())
    }

    /// A section of `INFO`.
    ///
    /// # Errors
    /// When it does not answer.
    pub(crate) fn info(&self, section: &str) -> anyhow::Result<String> {
        let mut connection = redis::Client::open(self.url())?.get_connection_with_timeout(LIMIT)?;
        redis::cmd("INFO").arg(section).query(&mut connection).context("redis does not answer")
    }

    /// Its name and version.
    ///
    /// # Errors
    /// When it does not answer.
    pub(crate) fn version(&self) -> anyhow::Result<String> {
        let info = self.info("server")?;
        let version = info.lines().find_map(|line| line.strip_prefix("redis_version:"));
        Ok(format!("Redis {}", version.context("redis does not tell its version")?))
    }
}

/// A service that is ready.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) server: Server,
    pub(crate) port: u16,
    /// From the process's start to the first 200 of `/readyz`.
    pub(crate) ready_after: Duration,
    // Its working folder: no settings file of the user's lies there.
    _dir: TempDir,
}

impl Service {
    /// Starts it with these settings over the defaults; its log goes nowhere unless `log` says so.
    ///
    /// # Errors
    /// When it does not become ready.
    pub(crate) fn start(
        setup: &Setup,
        redis: &Redis,
        models: &Path,
        settings: &[(&str, &str)],
        log: Stdio,
    ) -> anyhow::Result<Self> {
        let (port, dir) = (free_port()?, tempfile::tempdir()?);
        let mut command = Command::new(setup.service()?);
        command.arg("serve").current_dir(dir.path()).stdout(Stdio::null()).stderr(log);
        command.env("API_HOST", "127.0.0.1").env("API_PORT", port.to_string()).env("REDIS_URL", redis.url());
        command.env("ORT_DYLIB_PATH", setup.onnxruntime.canonicalize()?).env("MODEL_DIR", models.canonicalize()?);
        // A Redis without a disk loses jobs; who measures something else does not mind.
        command.env("ACCEPT_LOSS", (redis.persistence == Persistence::Off).to_string()).envs(settings.iter().copied());
        let started = Instant::now();
        let mut server = Server::start("infer-router", &mut command)?;
        let ready_after = server.answers(port, READY, started, LIMIT)?;
        Ok(Self { server, port, ready_after, _dir: dir })
    }

    /// Is there something at this path?
    pub(crate) fn takes(&self, request: &[u8]) -> bool {
        ask(self.port, request).is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }
}
