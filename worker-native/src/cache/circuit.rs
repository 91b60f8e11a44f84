//! When to leave Redis alone, and when to try it again.
//!
//! A machine of states without a clock or a connection: whoever uses it brings the time. A use is
//! told by the number of its connection, so that late failures of an old one do not count.

/// The first pause after a failure.
const FIRST_PAUSE_MS: u64 = 250;
/// Pauses double up to this.
const LONGEST_PAUSE_MS: u64 = 30_000;
/// A connection that failed sooner than this after its repair was not really repaired: pauses go on growing.
const PROBATION_MS: u64 = 30_000;

/// Whether Redis is used.
#[derive(Debug)]
pub(super) struct Circuit {
    state: State,
    pause_ms: u64,
    /// Counts connections.
    generation: u64,
    /// Has it been told that Redis is away?
    told: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Up { since: u64 },
    Paused { until: u64 },
    Repairing,
}

impl Circuit {
    /// A circuit whose first connection is still to be made.
    pub(super) const fn new() -> Self {
        Self { state: State::Paused { until: 0 }, pause_ms: 0, generation: 0, told: false }
    }

    pub(super) const fn is_up(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }

    /// May the caller make a new connection now? One is told so, until it says how that went.
    pub(super) fn may_repair(&mut self, now: u64) -> bool {
        let due = matches!(self.state, State::Paused { until } if now >= until);
        if due {
            self.state = State::Repairing;
        }
        due
    }

    /// The new connection works; gives its number.
    pub(super) const fn repaired(&mut self, now: u64) -> u64 {
        self.state = State::Up { since: now };
        self.told = false;
        self.generation = self.generation.wrapping_add(1);
        self.generation
    }

    /// There is no new connection; true where nobody was told yet that Redis is away.
    pub(super) fn repair_failed(&mut self, now: u64) -> bool {
        self.pause(now);
        !std::mem::replace(&mut self.told, true)
    }

    /// A use of connection `generation` failed; true where that takes Redis out of use.
    pub(super) fn failed(&mut self, generation: u64, now: u64) -> bool {
        let State::Up { since } = self.state else { return false };
        if generation != self.generation {
            return false;
        }
        if now.saturating_sub(since) >= PROBATION_MS {
            self.pause_ms = 0;
        }
        self.pause(now);
        self.told = true;
        true
    }

    fn pause(&mut self, now: u64) {
        self.pause_ms = self.pause_ms.saturating_mul(2).clamp(FIRST_PAUSE_MS, LONGEST_PAUSE_MS);
        self.state = State::Paused { until: now.saturating_add(self.pause_ms) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_repairs_at_a_time_and_pauses_grow() {
        let mut circuit = Circuit::new();
        assert!(circuit.may_repair(0), "the first connection is made at once");
        assert!(!circuit.may_repair(0), "by one caller");
        let mut now = 0;
        for pause in [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000] {
            assert_eq!(circuit.repair_failed(now), now == 0, "told once");
            assert!(!circuit.is_up() && !circuit.may_repair(now + pause - 1));
            now += pause;
            assert!(circuit.may_repair(now), "after {pause} ms");
        }
        circuit.repaired(now);
        assert!(circuit.is_up() && !circuit.may_repair(now));
    }

    #[test]
    fn a_late_failure_of_an_old_connection_does_not_count() {
        let mut circuit = Circuit::new();
        assert!(circuit.may_repair(0));
        let old = circuit.repaired(0);
        assert!(circuit.failed(old, 10));
        assert!(!circuit.failed(old, 10), "told once");
        assert!(circuit.may_repair(260));
        assert!(!circuit.failed(old, 261), "not while it is repaired");
        let new = circuit.repaired(300);
        assert!(!circuit.failed(old, 301) && circuit.is_up());
        assert!(circuit.failed(new, 302));
        assert!(circuit.may_repair(802) && !circuit.repair_failed(802), "told already");
    }

    #[test]
    fn a_connection_that_comes_and_goes_is_left_alone_for_longer_and_longer() {
        let mut circuit = Circuit::new();
        assert!(circuit.may_repair(0));
        let first = circuit.repaired(0);
        circuit.failed(first, 100);
        assert!(circuit.may_repair(350));
        let second = circuit.repaired(350);
        circuit.failed(second, 400);
        assert!(!circuit.may_repair(899) && circuit.may_repair(900), "500 ms, not 250 again");
        let third = circuit.repaired(900);
        circuit.failed(third, 40_000);
        assert!(!circuit.may_repair(40_249) && circuit.may_repair(40_250), "after a long good time: 250 again");
    }
}
