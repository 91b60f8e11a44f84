//! The service's processes: started without waiting, killed without warning, on ports of their own.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use worker_native::config::{Config, Source};
use worker_native::queue::Queue;

use crate::support::models::Models;
use crate::support::{Process, root, until};

/// Where the queue and the models are, for all processes.
#[derive(Debug, Clone)]
pub(crate) struct Place(BTreeMap<String, String>);

impl Place {
    pub(crate) fn redis(url: &str, models: &Models) -> Self {
        Self::new("REDIS_URL", url, models)
    }

    pub(crate) fn sqlite(file: &Path, models: &Models) -> Self {
        Self::new("QUEUE_FILE", file.to_str().unwrap(), models)
    }

    fn new(name: &str, value: &str, models: &Models) -> Self {
        let settings = [
            (name, value),
            ("API_HOST", "127.0.0.1"),
            ("MODEL_DIR", models.path().to_str().unwrap()),
            ("MODEL_SESSIONS", "1"),
            ("CACHE_BACKEND", "off"),
            ("ROUTING_POLICY", "always-fast"),
            // Everything that was accepted can be listed in the end.
            ("RESULTS_HISTORY", "1000000"),
            ("QUEUE_MAX_DEPTH", "1000000"),
            // A killed process's jobs come back soon, and as often as it takes: here the jobs are not to blame.
            ("LEASE_MS", "1500"),
            ("MAX_ATTEMPTS", "100"),
            ("LOG_LEVEL", "warn"),
        ];
        Self(settings.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// The queue itself, past all chaos.
    pub(crate) fn queue(&self, redis_url: &str) -> Arc<dyn Queue> {
        let mut settings = self.0.clone();
        settings.insert("REDIS_URL".to_owned(), redis_url.to_owned());
        worker_native::queue::open(&Config::read(Source::new(settings, None).unwrap()).unwrap().queue).unwrap()
    }
}

/// One process after the other on one port.
#[derive(Debug)]
pub(crate) struct Service {
    place: Place,
    role: &'static str,
    port: u16,
    process: Option<Process>,
}

impl Service {
    pub(crate) fn new(place: &Place, role: &'static str, port: u16) -> Self {
        Self { place: place.clone(), role, port, process: None }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn start(&mut self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_infer-router"));
        command.arg("serve").args(["--role", self.role]).current_dir(root()).stdout(Stdio::null());
        command.envs(&self.place.0).env("API_PORT", self.port.to_string()).stderr(Stdio::null());
        self.process = Some(Process::start(&mut command));
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Waits until it answers; starts it again where it could not even begin, as an orchestrator would.
    pub(crate) async fn is_ready(&mut self) {
        let url = format!("{}/readyz", self.url());
        for _ in 0..600 {
            if reqwest::get(&url).await.is_ok_and(|answer| answer.status().is_success()) {
                return;
            }
            let ended = self.process.as_mut().is_none_or(|process| process.0.try_wait().unwrap().is_some());
            if ended {
                self.start();
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        until("a service that is ready", || async { None::<()> }).await;
    }
}
