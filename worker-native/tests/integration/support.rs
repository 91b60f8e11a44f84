//! What the tests start, and how they wait.

pub(crate) mod edge;
pub(crate) mod events;
pub(crate) mod models;
pub(crate) mod native;
pub(crate) mod origin;
pub(crate) mod proxy;
pub(crate) mod readings;
pub(crate) mod redis;
pub(crate) mod redis_cluster;
pub(crate) mod redis_sentinel;

use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// Only a broken service needs longer.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// What `script/test` says in the environment.
#[expect(clippy::disallowed_methods, reason = "tests have no configuration of their own")]
pub(crate) fn setting(variable: &str) -> Option<String> {
    std::env::vars_os().find(|(name, _)| name == variable).and_then(|(_, value)| value.into_string().ok())
}

/// A tool that `script/test` names in the environment.
pub(crate) fn tool(variable: &str) -> String {
    setting(variable).unwrap_or_else(|| {
        panic!("{variable} is not set: run the tests with script/test, or source script/env.sh first")
    })
}

/// A child process that does not outlive its test.
#[derive(Debug)]
pub(crate) struct Process(pub(crate) Child);

impl Process {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// SIGKILL: no destructor, no drain.
    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; what counts is that it is gone.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Asks again until the answer is there.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < end, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
