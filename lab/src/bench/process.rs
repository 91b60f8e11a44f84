//! Servers that the run starts, and ends: by process id, with all that they started themselves.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;

use super::facts;

/// Sends a signal to one process.
pub(crate) fn signal(name: &str, pid: u32) {
    let mut kill = Command::new("kill");
    kill.args([&format!("-{name}"), &pid.to_string()]).stderr(Stdio::null());
    // It may have ended by itself in the meantime.
    drop(kill.status());
}

/// A pause: what was just started or stopped comes to rest.
pub(crate) fn rest(time: Duration) {
    // Nobody unparks it, and a pause that ends too soon does no harm.
    std::thread::park_timeout(time);
}

/// A port that was free a moment ago.
///
/// # Errors
/// When there is none.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// A process that does not outlive the run.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) child: Child,
    name: String,
}

impl Server {
    /// Starts a program.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start(name: &str, command: &mut Command) -> anyhow::Result<Self> {
        let child =
            command.stdin(Stdio::null()).spawn().with_context(|| format!("cannot start {name}: {command:?}"))?;
        Ok(Self { child, name: name.to_owned() })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident KiB of it and all that it started.
    pub(crate) fn memory(&self) -> u64 {
        facts::proportional(&facts::family(self.pid()).into_iter().map(|(pid, _)| pid).collect::<Vec<_>>())
    }

    /// Waits for a 200 to a request; gives the time since `started`.
    ///
    /// # Errors
    /// When it ends, or does not answer in time.
    pub(crate) fn answers(
        &mut self,
        port: u16,
        request: &[u8],
        started: Instant,
        limit: Duration,
    ) -> anyhow::Result<Duration> {
        loop {
            if let Ok(answer) = ask(port, request)
                && answer.starts_with("HTTP/1.1 200")
            {
                return Ok(started.elapsed());
            }
            if let Some(status) = self.child.try_wait()? {
                anyhow::bail!("{} ended with {status}", self.name);
            }
            anyhow::ensure!(started.elapsed() < limit, "{} does not answer", self.name);
            rest(Duration::from_micros(500));
        }
    }

    fn end(&mut self) {
        let family = facts::family(self.pid());
        signal("TERM", self.pid());
        let asked = Instant::now();
        while asked.elapsed() < Duration::from_secs(10) && self.child.try_wait().is_ok_and(|status| status.is_none()) {
            rest(Duration::from_millis(20));
        }
        // What it started may go on alone.
        family.into_iter().filter(|one| facts::still_runs(*one)).for_each(|(pid, _)| signal("KILL", pid));
        drop(self.child.wait());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// Sends one request on a connection of its own; gives the head and what came with it.
///
/// # Errors
/// When nobody answers.
pub(crate) fn ask(port: u16, request: &[u8]) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(request)?;
    let (mut answer, mut part) = (Vec::new(), [0; 4_096]);
    loop {
        let count = stream.read(&mut part)?;
        answer.extend_from_slice(&part[..count]);
        let text = String::from_utf8_lossy(&answer);
        if count == 0 || is_whole(&text) {
            return Ok(text.into_owned());
        }
    }
}

fn is_whole(answer: &str) -> bool {
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    match length {
        Some(length) => body.len() >= length,
        None => body.ends_with("0\r\n\r\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_body_is() {
        assert!(!is_whole("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{"));
        assert!(is_whole("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"));
        assert!(is_whole("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"));
    }

    #[test]
    fn a_server_does_not_outlive_its_handle() {
        let server = Server::start("a shell", Command::new("sh").args(["-c", "sleep 60 & wait"])).unwrap();
        // The shell needs a moment to start its child.
        while facts::family(server.pid()).len() < 2 {
            rest(Duration::from_millis(1));
        }
        let family = facts::family(server.pid());
        drop(server);
        let end = Instant::now() + Duration::from_secs(5);
        while family.iter().any(|one| facts::still_runs(*one)) {
            assert!(Instant::now() < end, "it still runs");
            rest(Duration::from_millis(5));
        }
    }
}
