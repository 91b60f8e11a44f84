//! The progress bar on standard error, and the collecting of answers behind it.

use std::collections::VecDeque;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::answer::{Answer, Outcome};
use super::replay::Watch;
use super::tally::Tally;

/// Counts every answer, keeps it where a file wants it, and shows how far things are.
#[derive(Debug)]
pub(super) struct Collector {
    pub(super) tally: Tally,
    /// Every answer, if the run is written to a file.
    pub(super) answers: Option<Vec<Answer>>,
    pub(super) sent: u64,
    open: u64,
    bar: ProgressBar,
}

impl Collector {
    /// A collector for that many readings.
    pub(super) fn new(planned: u64, tally: Tally, keep: bool, quiet: bool) -> Self {
        // Hidden by indicatif itself where standard error is no terminal.
        let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr_with_hz(5) };
        let bar = ProgressBar::with_draw_target(Some(planned), target);
        set_style(&bar, "sent");
        Self { tally, answers: keep.then(Vec::new), sent: 0, open: 0, bar }
    }

    /// Says that results are being read back from here on.
    pub(super) fn reading_back(&self, open: &VecDeque<Answer>) {
        set_style(&self.bar, "results");
        self.bar.reset();
        self.bar.set_length(u64::try_from(open.len()).unwrap_or(u64::MAX));
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn show(&self) {
        let ended: u64 = Outcome::ALL.iter().map(|outcome| self.tally.count(*outcome)).sum();
        let in_flight = self.sent.saturating_sub(ended + self.open);
        self.bar.set_message(format!(
            "{:.0}/s, {} answered, {} refused, {} failed, {in_flight} in flight, {} open jobs",
            self.bar.per_sec(),
            self.tally.count(Outcome::Answered),
            self.tally.count(Outcome::Refused),
            self.tally.count(Outcome::Failed),
            self.open
        ));
    }
}

fn set_style(bar: &ProgressBar, counted: &str) {
    let template = format!("{{bar:24}} {{pos}}/{{len}} {counted} {{msg}} [{{elapsed}} < {{eta}}]");
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style);
    }
}

impl Watch for Collector {
    fn sent(&mut self) {
        self.sent += 1;
        self.bar.inc(1);
        self.show();
    }

    fn accepted(&mut self, _answer: &Answer) {
        self.open += 1;
        self.show();
    }

    fn ended(&mut self, answer: Answer) {
        self.tally.add(&answer);
        if answer.job_id.is_some() {
            self.open = self.open.saturating_sub(1);
            self.bar.inc(1);
        }
        self.show();
        if let Some(answers) = &mut self.answers {
            answers.push(answer);
        }
    }
}
