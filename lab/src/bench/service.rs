//! The native service with a Redis of its own, on free ports.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::EngineArgs;
use super::process::{Server, ask, free_port, rest};

const LIMIT: Duration = Duration::from_secs(60);
const READY: &[u8] = b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";

/// A Redis without a disk: nothing here outlives the run.
#[derive(Debug)]
pub(crate) struct Redis {
    port: u16,
    _server: Server,
    _dir: TempDir,
}

impl Redis {
    /// Starts it.
    ///
    /// # Errors
    /// When it does not come up.
    pub(crate) fn start(args: &EngineArgs) -> anyhow::Result<Self> {
        let (port, dir) = (free_port()?, tempfile::tempdir()?);
        let mut command = Command::new(&args.redis);
        command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port", &port.to_string()]);
        let server = Server::start("redis", command.arg("--dir").arg(dir.path()).stdout(Stdio::null()))?;
        let started = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            anyhow::ensure!(started.elapsed() < LIMIT, "redis does not answer");
            rest(Duration::from_millis(5));
        }
        Ok(Self { port, _server: server, _dir: dir })
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
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
        args: &EngineArgs,
        redis: &Redis,
        models: &Path,
        settings: &[(&str, &str)],
        log: Stdio,
    ) -> anyhow::Result<Self> {
        let (port, dir) = (free_port()?, tempfile::tempdir()?);
        let mut command = Command::new(args.service()?);
        command.arg("serve").current_dir(dir.path()).stdout(Stdio::null()).stderr(log);
        command.env("API_HOST", "127.0.0.1").env("API_PORT", port.to_string()).env("REDIS_URL", redis.url());
        command.env("ORT_DYLIB_PATH", args.onnxruntime.canonicalize()?).env("MODEL_DIR", models.canonicalize()?);
        // That Redis keeps nothing, which `serve` refuses unless it is meant.
        command.env("ACCEPT_LOSS", "true").envs(settings.iter().copied());
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
