//! What processes tell one another while they share a queue: who works for which task, what they
//! measured, and whose plans are still made.
//!
//! A line a process among the facts of routing that belong to every task, written anew every second,
//! by who makes plans with every round: one write then says of all of them that they hold. A line
//! that has not changed for a while is of a process that is gone. No clock is compared with another.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Whoever told nothing new for so long is gone.
pub(super) const SILENCE: Duration = Duration::from_secs(5);
/// A line that nobody renewed for so long is taken away.
const FORGET: Duration = Duration::from_secs(60);
/// More processes than these are not counted.
const MOST: usize = 1_024;
/// Nor more tasks of one process.
const MOST_TASKS: usize = 1_024;
/// What the field of a process begins with.
const FIELD: &str = "process.";

/// What a process tells of a task.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Told {
    /// Its workers for the task; 0 where it has no consumers.
    pub(super) workers: u32,
    /// The share of their time that they ran, 0..=1.
    pub(super) busy: f32,
    /// Readings a second that it answers itself, past the queue, or turns away.
    pub(super) rate: f32,
    /// What it learned of the chance on time; 1 for nothing.
    pub(super) kappa: f32,
    /// Keepers of snapshots that it heard of lately.
    pub(super) keepers: u32,
    /// The 10th percentile and the median of the deadlines that it saw, in milliseconds; 0 for none.
    pub(super) deadlines_ms: [u32; 2],
    /// How many plans of the task it made so far; 0 where the plan is another's to make.
    pub(super) made: u32,
}

impl Told {
    fn to_text(self) -> String {
        let Self { workers, busy, rate, kappa, keepers, deadlines_ms: [tenth, median], made } = self;
        format!("{workers}:{busy:.3}:{rate:.1}:{kappa:.3}:{keepers}:{tenth}:{median}:{made}")
    }

    /// What cannot be read tells nothing.
    fn from_text(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let float = |parts: &mut std::str::Split<'_, char>| -> Option<f32> {
            parts.next()?.parse::<f32>().ok().filter(|value| value.is_finite() && *value >= 0.0)
        };
        let workers = parts.next()?.parse().ok()?;
        let (busy, rate, kappa) = (float(&mut parts)?.min(1.0), float(&mut parts)?, float(&mut parts)?);
        let keepers = parts.next()?.parse().ok()?;
        let deadlines_ms = [parts.next()?.parse().ok()?, parts.next()?.parse().ok()?];
        let made = parts.next()?.parse().ok()?;
        Some(Self { workers, busy, rate, kappa, keepers, deadlines_ms, made })
    }
}

/// A process's line: a number that changes with each, then its tasks.
fn line<'t>(serial: u64, tasks: impl Iterator<Item = (&'t str, Told)>) -> String {
    tasks.fold(serial.to_string(), |line, (task, told)| format!("{line};{task}={}", told.to_text()))
}

fn read(line: &str) -> BTreeMap<String, Told> {
    let task = |part: &str| {
        let (task, told) = part.split_once('=')?;
        Some((task.to_owned(), Told::from_text(told)?))
    };
    line.split(';').skip(1).take(MOST_TASKS).filter_map(task).collect()
}

#[derive(Debug)]
struct Peer {
    line: String,
    changed: Instant,
    told: BTreeMap<String, Told>,
}

/// The other processes as this one knows them, and when it told of itself last.
#[derive(Debug)]
pub(super) struct Peers {
    peers: BTreeMap<String, Peer>,
    told_at: Option<Instant>,
    serial: u64,
}

/// A line to write, or with none to take away.
pub(super) type Line = (String, Option<String>);

impl Peers {
    pub(super) const fn new() -> Self {
        Self { peers: BTreeMap::new(), told_at: None, serial: 0 }
    }

    /// Takes in the shared facts.
    pub(super) fn heard(&mut self, own: &str, facts: &[(String, String)], now: Instant) {
        let lines = || facts.iter().filter_map(|(field, line)| Some((field.strip_prefix(FIELD)?, line)));
        self.peers.retain(|id, _| lines().any(|(known, _)| known == id));
        for (id, line) in lines().filter(|(id, _)| *id != own) {
            let room = self.peers.len() < MOST;
            let peer = || Peer { line: line.clone(), changed: now, told: read(line) };
            match self.peers.get_mut(id) {
                Some(known) if known.line == *line => {}
                Some(known) => *known = peer(),
                None if room => drop(self.peers.insert(id.to_owned(), peer())),
                None => {}
            }
        }
    }

    /// What all live processes tell of a task, this one first.
    pub(super) fn all(&self, task: &str, own: Told, now: Instant) -> impl Iterator<Item = Told> {
        let alive = move |peer: &&Peer| now.saturating_duration_since(peer.changed) < SILENCE;
        std::iter::once(own)
            .chain(self.peers.values().filter(alive).filter_map(move |peer| peer.told.get(task).copied()))
    }

    /// How many plans of a task another process tells to have made; none where it makes none, or tells nothing.
    pub(super) fn made(&self, id: &str, task: &str) -> Option<u32> {
        self.peers.get(id)?.told.get(task).map(|told| told.made).filter(|made| *made > 0)
    }

    /// The lines to write now: this process's own, when the last is `every` old, and without those of the dead.
    pub(super) fn lines<'t>(
        &mut self,
        id: &str,
        own: impl Iterator<Item = (&'t str, Told)>,
        (every, now): (Duration, Instant),
    ) -> Vec<Line> {
        if self.told_at.is_some_and(|at| now.saturating_duration_since(at) < every) {
            return Vec::new();
        }
        self.told_at = Some(now);
        self.serial = self.serial.wrapping_add(1);
        let gone = |peer: &Peer| now.saturating_duration_since(peer.changed) >= FORGET;
        let gone = self.peers.iter().filter(|(_, peer)| gone(peer)).map(|(id, _)| (format!("{FIELD}{id}"), None));
        let mut lines: Vec<Line> = gone.collect();
        lines.push((format!("{FIELD}{id}"), Some(line(self.serial, own))));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const OWN: Told =
        Told { workers: 2, busy: 0.5, rate: 1.5, kappa: 1.0, keepers: 3, deadlines_ms: [100, 200], made: 7 };

    fn facts(id: &str, serial: u64, told: Told) -> Vec<(String, String)> {
        vec![
            (format!("process.{id}"), line(serial, [("pump", told), ("valve", Told::default())].into_iter())),
            ("policy".to_owned(), String::new()),
        ]
    }

    #[test]
    fn what_is_told_is_heard_and_nonsense_is_not() {
        assert_eq!(Told::from_text(&OWN.to_text()), Some(OWN));
        for wrong in ["", "1", "x:0:0:1:0:0:0:1", "1:NaN:0:1:0:0:0:1", "1:-1:0:1:0:0:0:1", "1:0:0:1:0:0:0"] {
            assert_eq!(Told::from_text(wrong), None, "{wrong}");
        }
        let told = read(&format!("9;pump={};;nonsense;valve=1:2", OWN.to_text()));
        assert_eq!(told, BTreeMap::from([("pump".to_owned(), OWN)]));
        assert!(read("").is_empty());
    }

    #[test]
    fn a_process_counts_until_it_falls_silent_and_is_forgotten_later() {
        let (now, mut peers) = (Instant::now(), Peers::new());
        peers.heard("a", &facts("b", 1, OWN), now);
        let count = |peers: &Peers, task, now| peers.all(task, OWN, now).count();
        assert_eq!((count(&peers, "pump", now), count(&peers, "other", now)), (2, 1));
        peers.heard("a", &facts("b", 1, OWN), now + SILENCE);
        assert_eq!(count(&peers, "pump", now + SILENCE), 1);
        peers.heard("a", &facts("b", 2, OWN), now + SILENCE);
        assert_eq!(count(&peers, "pump", now + SILENCE), 2);
        let own = || [("pump", OWN)].into_iter();
        assert_eq!(peers.lines("a", own(), (SECOND, now)).len(), 1);
        assert_eq!(peers.lines("a", own(), (SECOND, now)).len(), 0, "once a second");
        assert_eq!(peers.lines("a", own(), (Duration::ZERO, now)).len(), 1, "with each round");
        let lines = peers.lines("a", own(), (SECOND, now + SILENCE + FORGET));
        assert_eq!(lines[0], ("process.b".to_owned(), None));
        peers.heard("a", &[], now);
        assert_eq!(count(&peers, "pump", now), 1);
    }

    #[test]
    fn who_makes_a_plan_says_so() {
        let (now, mut peers) = (Instant::now(), Peers::new());
        peers.heard("a", &facts("b", 1, OWN), now);
        assert_eq!(peers.made("b", "pump"), Some(7));
        assert_eq!((peers.made("b", "valve"), peers.made("c", "pump")), (None, None));
    }
}
