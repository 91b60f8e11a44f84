//! A real master with two replicas, and the three sentinels that watch it.

use std::fs;
use std::process::{Command, Stdio};

use super::redis::{answers, connect, free_port};
use super::{Process, tool, until};

const NAME: &str = "main";

/// The servers and their sentinels; all end with it.
#[derive(Debug)]
pub(crate) struct RedisSentinel {
    servers: Vec<Server>,
    sentinels: Vec<Server>,
}

#[derive(Debug)]
struct Server {
    process: Process,
    port: u16,
    _dir: tempfile::TempDir,
}

impl RedisSentinel {
    /// Starts them all, and waits until the replicas follow and every sentinel knows all others.
    pub(crate) async fn start() -> Self {
        let master = Server::start(&[]).await;
        let at = master.port.to_string();
        let mut servers = vec![master];
        for _ in 0..2 {
            servers.push(Server::start(&["--replicaof", "127.0.0.1", &at]).await);
        }
        for replica in &servers[1..] {
            until("a replica that follows", || async {
                replica.info("replication").await.contains("master_link_status:up").then_some(())
            })
            .await;
        }
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            sentinels.push(Server::sentinel(&at).await);
        }
        for sentinel in &sentinels {
            until("a sentinel that knows all others", || async {
                let seen = sentinel.info("sentinel").await;
                seen.contains("status=ok").then_some(())?;
                seen.contains("slaves=2,sentinels=3").then_some(())
            })
            .await;
        }
        Self { servers, sentinels }
    }

    /// `REDIS_URL` with all sentinels.
    pub(crate) fn url(&self) -> String {
        let hosts: Vec<String> = self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port)).collect();
        format!("redis+sentinel://{}/{NAME}", hosts.join(","))
    }

    /// A connection to the master of the beginning.
    pub(crate) async fn master(&self) -> redis::aio::MultiplexedConnection {
        self.servers[0].connection().await
    }

    /// Kills all sentinels but the first.
    pub(crate) fn stop_sentinels(&mut self) {
        self.sentinels[1..].iter_mut().for_each(|sentinel| sentinel.process.kill());
    }

    /// Kills the master of the beginning, and waits until the sentinels have another.
    pub(crate) async fn fail_over(&mut self) {
        self.servers[0].process.kill();
        let old = self.servers[0].port.to_string();
        until("a new master", || async {
            let mut connection = self.sentinels[0].connection().await;
            let mut ask = redis::cmd("SENTINEL");
            ask.arg("GET-MASTER-ADDR-BY-NAME").arg(NAME);
            let (_, port): (String, String) = ask.query_async(&mut connection).await.ok()?;
            (port != old).then_some(())
        })
        .await;
    }
}

impl Server {
    async fn start(more: &[&str]) -> Self {
        Self::try_ports(|port, dir| {
            let mut command = Command::new(tool("REDIS_SERVER_BIN"));
            command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--repl-diskless-sync-delay", "0"]);
            command.args(["--appendonly", "yes", "--appendfsync", "always"]).args(more).arg("--dir").arg(dir);
            command
        })
        .await
    }

    async fn sentinel(master: &str) -> Self {
        Self::try_ports(|port, dir| {
            // A sentinel rewrites its file.
            let file = dir.join("sentinel.conf");
            let lines = [
                format!("port {port}"),
                "bind 127.0.0.1".to_owned(),
                format!("sentinel monitor {NAME} 127.0.0.1 {master} 2"),
                // A busy machine must not look like a dead master.
                format!("sentinel down-after-milliseconds {NAME} 3000"),
                format!("sentinel failover-timeout {NAME} 3000"),
            ];
            fs::write(&file, lines.join("\n") + "\n").unwrap();
            let mut command = Command::new(tool("REDIS_SERVER_BIN"));
            command.arg(file).arg("--sentinel");
            command
        })
        .await
    }

    async fn try_ports(command: impl Fn(u16, &std::path::Path) -> Command) -> Self {
        // Between finding a free port and Redis taking it, another test may: then the next one.
        for _ in 0..10 {
            let port = free_port();
            let dir = tempfile::tempdir().unwrap();
            let process = Process::start(command(port, dir.path()).stdout(Stdio::null()));
            let mut server = Self { process, port, _dir: dir };
            if answers(&mut server.process, port).await {
                return server;
            }
        }
        panic!("redis-server does not start")
    }

    async fn connection(&self) -> redis::aio::MultiplexedConnection {
        connect(self.port).await
    }

    async fn info(&self, section: &str) -> String {
        redis::cmd("INFO").arg(section).query_async(&mut self.connection().await).await.unwrap()
    }
}
