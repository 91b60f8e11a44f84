//! A real Redis with append-only persistence, in a folder of its own.

use std::net::TcpListener;
use std::process::{Command, Stdio};

use super::{LIMIT, Process, tool, until};

#[derive(Debug)]
pub(crate) struct Redis {
    process: Process,
    pub(crate) port: u16,
    dir: tempfile::TempDir,
    tls_port: u16,
}

impl Redis {
    pub(crate) async fn start() -> Self {
        Self::start_with(0).await
    }

    /// One that also speaks TLS, with a certificate that only its own folder vouches for.
    pub(crate) async fn start_tls() -> Self {
        Self::start_with(free_port()).await
    }

    async fn start_with(tls_port: u16) -> Self {
        // Between finding a free port and Redis taking it, another test may: then the next one.
        for _ in 0..10 {
            let port = free_port();
            let dir = tempfile::tempdir().unwrap();
            let process = spawn(port, tls_port, dir.path(), &[]);
            let mut redis = Self { process, port, dir, tls_port };
            if answers(&mut redis.process, port).await {
                return redis;
            }
        }
        panic!("redis-server does not start")
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The way in by TLS, with the certificate to trust.
    pub(crate) fn tls_url(&self) -> String {
        let trusted = self.dir.path().join("cert.pem");
        format!("rediss://127.0.0.1:{}?ssl_ca_certs={}", self.tls_port, trusted.display())
    }

    pub(crate) fn client(&self) -> redis::Client {
        redis::Client::open(self.url()).unwrap()
    }

    pub(crate) async fn connection(&self) -> redis::aio::MultiplexedConnection {
        connect(self.port).await
    }

    /// Kills it without warning and starts it again on its append-only file.
    pub(crate) async fn crash_and_restart(&mut self) {
        self.process.kill();
        self.start_again(&[]).await;
    }

    /// Starts it again after [`Self::stop`], with more on its command line.
    pub(crate) async fn start_again(&mut self, more: &[&str]) {
        self.process = spawn(self.port, self.tls_port, self.dir.path(), more);
        let client = self.client();
        until("redis after its restart", || async { client.get_multiplexed_async_connection().await.ok() }).await;
    }

    /// `CONFIG SET`.
    pub(crate) async fn configure(&self, name: &str, value: &str) {
        let mut command = redis::cmd("CONFIG");
        command.arg("SET").arg(name).arg(value);
        let () = command.query_async(&mut self.connection().await).await.unwrap();
    }

    pub(crate) fn stop(&mut self) {
        self.process.kill();
    }

    /// Copies the append-only file of a server that is stopped, to be started on with `--appenddirname NAME`.
    pub(crate) fn copy_file(&self, name: &str) {
        let from = self.dir.path().join("appendonlydir");
        assert!(Command::new("cp").arg("-r").arg(from).arg(self.dir.path().join(name)).status().unwrap().success());
    }
}

fn spawn(port: u16, tls_port: u16, dir: &std::path::Path, more: &[&str]) -> Process {
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
    if tls_port > 0 {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        for (file, text) in [("cert.pem", made.cert.pem()), ("key.pem", made.signing_key.serialize_pem())] {
            std::fs::write(dir.join(file), text).unwrap();
        }
        command.args(["--tls-port", &tls_port.to_string(), "--tls-auth-clients", "no"]);
        command.arg("--tls-cert-file").arg(dir.join("cert.pem")).arg("--tls-key-file").arg(dir.join("key.pem"));
        command.arg("--tls-ca-cert-file").arg(dir.join("cert.pem"));
    }
    command.arg("--dir").arg(dir).args(more).stdout(Stdio::null());
    Process::start(&mut command)
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A connection to a server that may be slow: each write waits for its disk, the client's own limit is half a second.
pub(crate) async fn connect(port: u16) -> redis::aio::MultiplexedConnection {
    let config =
        redis::AsyncConnectionConfig::new().set_connection_timeout(Some(LIMIT)).set_response_timeout(Some(LIMIT));
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}")).unwrap();
    client.get_multiplexed_async_connection_with_config(&config).await.unwrap()
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
