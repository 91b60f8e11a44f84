//! A real Redis with append-only persistence, in a folder of its own.

use std::net::TcpListener;
use std::process::{Command, Stdio};

use super::{Process, tool, until};

#[derive(Debug)]
pub(crate) struct Redis {
    process: Process,
    pub(crate) port: u16,
    dir: tempfile::TempDir,
}

impl Redis {
    pub(crate) async fn start() -> Self {
        // Between finding a free port and Redis taking it, another test may: then the next one.
        for _ in 0..10 {
            let port = free_port();
            let dir = tempfile::tempdir().unwrap();
            let process = spawn(port, dir.path());
            let mut redis = Self { process, port, dir };
            if answers(&mut redis.process, port).await {
                return redis;
            }
        }
        panic!("redis-server does not start")
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn client(&self) -> redis::Client {
        redis::Client::open(self.url()).unwrap()
    }

    pub(crate) async fn connection(&self) -> redis::aio::MultiplexedConnection {
        self.client().get_multiplexed_async_connection().await.unwrap()
    }

    /// Kills it without warning and starts it again on its append-only file.
    pub(crate) async fn crash_and_restart(&mut self) {
        self.process.kill();
        self.process = spawn(self.port, self.dir.path());
        let client = self.client();
        until("redis after its restart", || async { client.get_multiplexed_async_connection().await.ok() }).await;
    }

    pub(crate) fn stop(&mut self) {
        self.process.kill();
    }
}

fn spawn(port: u16, dir: &std::path::Path) -> Process {
    let mut command = Command::new(tool("REDIS_SERVER_BIN"));
    command.args([
        "--port",
        &port.to_string(),
        "--bind",
        "127.0.0.1",
        "--appendonly",
        "yes",
        "--appendfsync",
        "always",
    ]);
    command.arg("--dir").arg(dir).stdout(Stdio::null());
    Process::start(&mut command)
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits until a server answers; `false` where it has ended instead.
pub(crate) async fn answers(process: &mut Process, port: u16) -> bool {
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}")).unwrap();
    for _ in 0..500 {
        if process.0.try_wait().unwrap().is_some() {
            return false;
        }
        if let Ok(mut connection) = client.get_multiplexed_async_connection().await
            && redis::cmd("PING").query_async::<String>(&mut connection).await.is_ok()
        {
            return true;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    false
}
