//! A part of the work in a process of its own, started and waited for; and what it took.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{self, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::Context;

use super::work::Half;
use crate::bench::facts;

/// A process that is ready to work, or works; it does not outlive its handle.
#[derive(Debug)]
pub(super) struct Child {
    process: process::Child,
    name: String,
    go: Option<ChildStdin>,
    says: BufReader<ChildStdout>,
    cpu_before: u64,
}

/// What its work took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Took {
    pub(super) seconds: f64,
    /// Processor time.
    pub(super) cpu_us: u64,
    /// How often it asked for jobs.
    pub(super) claims: u64,
}

impl Child {
    /// Starts a process, and waits until it has found the queue.
    ///
    /// # Errors
    /// When it cannot use the queue; with what it says.
    pub(super) fn start(half: Half, queue: &str, jobs: u64, settings: &[&str]) -> anyhow::Result<Self> {
        let name = half.name();
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bench", "queue-work", &name, queue, &jobs.to_string()]);
        command.args(settings.iter().map(|setting| format!("--set={setting}")));
        // What it says of a failure goes into the report.
        command.env("RUST_LIB_BACKTRACE", "0").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let (go, says) = (process.stdin.take(), process.stdout.take());
        let says = BufReader::new(says.context("it has no output")?);
        let mut child = Self { process, name, go, says, cpu_before: 0 };
        let said = child.line()?;
        anyhow::ensure!(said == "ready", "{} says {said}", child.name);
        Ok(child)
    }

    /// Lets it work.
    ///
    /// # Errors
    /// When it has ended.
    pub(super) fn go(&mut self) -> anyhow::Result<()> {
        self.cpu_before = facts::cpu_us(self.process.id());
        let mut go = self.go.take().context("it works already")?;
        Ok(go.write_all(b"\n")?)
    }

    /// Waits until its work is done.
    ///
    /// # Errors
    /// When it failed; with what it says.
    pub(super) fn done(mut self) -> anyhow::Result<Took> {
        let seconds = self.line()?.parse()?;
        let cpu_us = facts::cpu_us(self.process.id()).saturating_sub(self.cpu_before);
        let claims = self.line()?.parse()?;
        // A file's queue is closed in order, so that the next process finds it free.
        let ended = self.process.wait()?;
        anyhow::ensure!(ended.success(), "{} ended with {ended}", self.name);
        Ok(Took { seconds, cpu_us, claims })
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        if self.says.read_line(&mut line)? == 0 {
            let mut why = String::new();
            if let Some(mut stderr) = self.process.stderr.take() {
                stderr.read_to_string(&mut why)?;
            }
            let why = why.lines().next().unwrap_or_default();
            anyhow::bail!("{} ended early: {}", self.name, why.strip_prefix("Error: ").unwrap_or(why));
        }
        Ok(line.trim().to_owned())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Both fail where it has ended, and that is well.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Does a part of the work from beginning to end.
///
/// # Errors
/// When it cannot be done.
pub(super) fn work(half: Half, queue: &str, jobs: u64, settings: &[&str]) -> anyhow::Result<Took> {
    let mut child = Child::start(half, queue, jobs, settings)?;
    child.go()?;
    child.done()
}
