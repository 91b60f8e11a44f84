//! What processes tell one another of a task while they share its queue: who works, and what they measured.
//!
//! A line a process among the shared facts of routing, written anew every second; a line that has
//! not changed for a while is of a process that is gone. No clock is compared with another.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How often a process tells.
pub(super) const TELL: Duration = Duration::from_secs(1);
/// Whoever told nothing new for so long is gone.
const SILENCE: Duration = Duration::from_secs(5);
/// A line that nobody renewed for so long is taken away.
const FORGET: Duration = Duration::from_secs(60);
/// More processes than these are not counted.
const MOST: usize = 1_024;
/// What the field of a process begins with.
const FIELD: &str = "process.";

/// What a process tells.
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
}

impl Told {
    fn to_text(self, serial: u64) -> String {
        let Self { workers, busy, rate, kappa, keepers, deadlines_ms: [tenth, median] } = self;
        format!("{workers}:{busy:.3}:{rate:.1}:{kappa:.3}:{keepers}:{tenth}:{median}:{serial}")
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
        Some(Self { workers, busy, rate, kappa, keepers, deadlines_ms })
    }
}

#[derive(Debug)]
struct Peer {
    line: String,
    changed: Instant,
    told: Option<Told>,
}

/// The other processes as this one knows them, and when it told of itself last.
#[derive(Debug, Default)]
pub(super) struct Peers {
    peers: BTreeMap<String, Peer>,
    told_at: Option<Instant>,
    serial: u64,
}

/// A line to write, or with none to take away.
pub(super) type Line = (String, Option<String>);

impl Peers {
    /// Takes in the shared facts.
    pub(super) fn heard(&mut self, own: &str, facts: &[(String, String)], now: Instant) {
        let lines = || facts.iter().filter_map(|(field, line)| Some((field.strip_prefix(FIELD)?, line)));
        self.peers.retain(|id, _| lines().any(|(known, _)| known == id));
        for (id, line) in lines().filter(|(id, _)| *id != own) {
            let room = self.peers.len() < MOST;
            let peer = || Peer { line: line.clone(), changed: now, told: Told::from_text(line) };
            match self.peers.get_mut(id) {
                Some(known) if known.line == *line => {}
                Some(known) => *known = peer(),
                None if room => drop(self.peers.insert(id.to_owned(), peer())),
                None => {}
            }
        }
    }

    /// What all live processes tell, this one first.
    pub(super) fn all(&self, own: Told, now: Instant) -> impl Iterator<Item = Told> {
        let alive = move |peer: &&Peer| now.saturating_duration_since(peer.changed) < SILENCE;
        std::iter::once(own).chain(self.peers.values().filter(alive).filter_map(|peer| peer.told))
    }

    /// The lines to write now: this process's own, when it is time, and without those of the dead.
    pub(super) fn lines(&mut self, id: &str, own: Told, now: Instant) -> Vec<Line> {
        if self.told_at.is_some_and(|at| now.saturating_duration_since(at) < TELL) {
            return Vec::new();
        }
        self.told_at = Some(now);
        self.serial = self.serial.wrapping_add(1);
        let gone = |peer: &Peer| now.saturating_duration_since(peer.changed) >= FORGET;
        let gone = self.peers.iter().filter(|(_, peer)| gone(peer)).map(|(id, _)| (format!("{FIELD}{id}"), None));
        let mut lines: Vec<Line> = gone.collect();
        lines.push((format!("{FIELD}{id}"), Some(own.to_text(self.serial))));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Told = Told { workers: 2, busy: 0.5, rate: 1.5, kappa: 1.0, keepers: 3, deadlines_ms: [100, 200] };

    #[test]
    fn what_is_told_is_heard_and_nonsense_is_not() {
        assert_eq!(Told::from_text(&OWN.to_text(9)), Some(OWN));
        for wrong in ["", "1", "x:0:0:1:0:0:0:1", "1:NaN:0:1:0:0:0:1", "1:-1:0:1:0:0:0:1"] {
            assert_eq!(Told::from_text(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_process_counts_until_it_falls_silent_and_is_forgotten_later() {
        let (now, mut peers) = (Instant::now(), Peers::default());
        let facts = vec![("process.b".to_owned(), OWN.to_text(1)), ("plan".to_owned(), String::new())];
        peers.heard("a", &facts, now);
        assert_eq!(peers.all(OWN, now).count(), 2);
        peers.heard("a", &facts, now + SILENCE);
        assert_eq!(peers.all(OWN, now + SILENCE).count(), 1);
        let later = [("process.b".to_owned(), OWN.to_text(2))];
        peers.heard("a", &later, now + SILENCE);
        assert_eq!(peers.all(OWN, now + SILENCE).count(), 2);
        assert_eq!(peers.lines("a", OWN, now).len(), 1);
        assert_eq!(peers.lines("a", OWN, now).len(), 0, "once a second");
        let lines = peers.lines("a", OWN, now + SILENCE + FORGET);
        assert_eq!(lines[0], ("process.b".to_owned(), None));
        peers.heard("a", &[], now);
        assert_eq!(peers.all(OWN, now).count(), 1);
    }
}
