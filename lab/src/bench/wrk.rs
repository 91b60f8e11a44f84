//! The load on every HTTP server: wrk, with requests from a file.
//!
//! One generator for all, in a closed loop: each connection waits for its answer before it asks
//! again. The requests are made before, so that making them costs no one.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::process;

/// What one load saw.
#[derive(Debug, Clone, Copy, Deserialize, Serialize)]
pub(crate) struct Seen {
    pub(crate) requests: u64,
    duration_us: u64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) max_us: f64,
    /// Answers above 399.
    pub(crate) not_ok: u64,
    /// Connections that could not be made, or broke, or timed out.
    pub(crate) broken: u64,
}

impl Seen {
    pub(crate) fn per_second(&self) -> f64 {
        self.requests as f64 / (self.duration_us.max(1) as f64 / 1e6)
    }
}

/// Requests to one server, in a file.
#[derive(Debug)]
pub(crate) struct Requests {
    pub(crate) first: Vec<u8>,
    file: PathBuf,
    script: PathBuf,
    _dir: TempDir,
}

/// One request as it goes out.
pub(crate) fn post(port: u16, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

impl Requests {
    /// Writes requests down.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn write(requests: impl Iterator<Item = Vec<u8>>) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let (file, script) = (dir.path().join("requests"), dir.path().join("load.lua"));
        std::fs::write(&script, include_str!("load.lua"))?;
        let mut out = std::io::BufWriter::new(std::fs::File::create(&file)?);
        let mut first = Vec::new();
        for request in requests {
            out.write_all(&u32::try_from(request.len())?.to_be_bytes())?;
            out.write_all(&request)?;
            if first.is_empty() {
                first = request;
            }
        }
        out.flush()?;
        Ok(Self { first, file, script, _dir: dir })
    }

    fn command(&self, port: u16, connections: usize, seconds: u64) -> Command {
        let mut command = Command::new("wrk");
        command.args(["-t1", "--timeout", "10s", &format!("-c{connections}"), &format!("-d{seconds}s"), "-s"]);
        command.arg(&self.script).arg(format!("http://127.0.0.1:{port}")).arg("--").arg(&self.file);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Loads a server for a while.
    ///
    /// # Errors
    /// When wrk cannot be run.
    pub(crate) fn load(&self, port: u16, connections: usize, seconds: u64) -> anyhow::Result<Seen> {
        let child = self.command(port, connections, seconds).spawn().context("cannot run wrk")?;
        read(child)
    }

    /// Loads a server until [`Endless::end`].
    ///
    /// # Errors
    /// When wrk cannot be run.
    pub(crate) fn load_until_told(&self, port: u16, connections: usize) -> anyhow::Result<Endless> {
        Ok(Endless(self.command(port, connections, 86_400).spawn().context("cannot run wrk")?))
    }
}

fn read(child: Child) -> anyhow::Result<Seen> {
    let done = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&done.stdout);
    let line = text.lines().find_map(|line| line.strip_prefix("result "));
    let said = || format!("wrk said nothing of use: {text}{}", String::from_utf8_lossy(&done.stderr));
    Ok(serde_json::from_str(line.with_context(said)?)?)
}

/// A load that goes on.
#[derive(Debug)]
pub(crate) struct Endless(Child);

impl Endless {
    /// Ends it.
    ///
    /// # Errors
    /// When wrk ended before, or says nothing.
    pub(crate) fn end(self) -> anyhow::Result<Seen> {
        process::signal("INT", self.0.id());
        read(self.0)
    }
}
