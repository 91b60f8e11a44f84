//! The real native service, its log at hand.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::{Process, root, until};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_infer-router");

#[derive(Debug)]
pub(crate) struct Native {
    pub(crate) process: Process,
    pub(crate) port: u16,
    log: Arc<Mutex<Vec<String>>>,
}

impl Native {
    /// Starts `infer-router serve` on a free port and waits until it says that it is ready.
    pub(crate) async fn start(redis_url: &str, settings: &[(&str, &str)]) -> Self {
        Self::start_as(Command::new(BINARY), redis_url, settings).await
    }

    /// The same with a command that becomes the service, called with `serve`.
    pub(crate) async fn start_as(mut command: Command, redis_url: &str, settings: &[(&str, &str)]) -> Self {
        command.arg("serve").current_dir(root()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
            .env("REDIS_URL", redis_url)
            .env("API_PORT", "0")
            .env("API_HOST", "127.0.0.1")
            .env("MODEL_DIR", "models");
        // One session each: debug builds on small machines start quicker.
        command
            .env("MODEL_SESSIONS", "1")
            // A tier chosen by chance, two times in a hundred, would be a test that fails as often.
            .env("ROUTING_EXPLORATION", "0")
            .env("LOG_LEVEL", "info")
            .env("DRAIN_DELAY_MS", "0")
            // Tests count runs.
            .env("PAIR_SHARE", "0")
            .envs(settings.iter().copied());
        let mut process = Process::start(&mut command);
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = BufReader::new(process.0.stderr.take().unwrap()).lines();
        let sink = Arc::clone(&log);
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| sink.lock().unwrap().push(line)));
        let mut native = Self { process, port: 0, log };
        native.port = native.bound_port().await;
        native
    }

    async fn bound_port(&mut self) -> u16 {
        until("the native service's `ready`", || {
            if let Some(status) = self.process.0.try_wait().unwrap() {
                panic!("the native service ended with {status}:\n{}", self.log.lock().unwrap().join("\n"));
            }
            let line = self.log_lines().into_iter().find(|line| line["message"] == "ready");
            let port = line.and_then(|line| line["address"].as_str()?.rsplit(':').next()?.parse().ok());
            async move { port }
        })
        .await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Every log line so far; each must be JSON.
    pub(crate) fn log_lines(&self) -> Vec<Value> {
        let lines = self.log.lock().unwrap();
        lines.iter().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"))).collect()
    }

    /// SIGTERM, as an orchestrator sends it; gives the exit status and how the log ends.
    pub(crate) async fn terminate(mut self) -> (std::process::ExitStatus, String) {
        let kill = Command::new("kill").args(["-TERM", &self.process.id().to_string()]).status().unwrap();
        assert!(kill.success());
        let status = until("the native service's end", || {
            let status = self.process.0.try_wait().unwrap();
            async move { status }
        })
        .await;
        let last = self.log.lock().unwrap().last().cloned().unwrap_or_default();
        (status, last)
    }
}
