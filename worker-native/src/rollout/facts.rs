//! What other processes must know of a rollout, as a small JSON text.
//!
//! Owns the text and the rule for two that differ: the newer one holds, and of two of the same age
//! the one that was taken out of traffic. Where the text is kept is the caller's
//! (`docs/versions.md` says how the feed carries it).

use serde::{Deserialize, Serialize};

use super::state::RolledBack;

/// Longest text that is read.
const MAX_LEN: usize = 4_096;
/// The form of the text; another number is not read.
const FORM: u32 = 1;

/// The part of a rollout's state that all processes share.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SharedState {
    /// The form of the text.
    v: u32,
    /// When it was changed last, in Unix milliseconds; later than the state it replaced, whatever the clocks say.
    pub changed_at: u64,
    /// The canary's percent in force; none for arms.
    pub percent: Option<f64>,
    /// Set while the plan is out of traffic.
    pub rolled_back: Option<RolledBack>,
}

impl SharedState {
    pub(super) const fn new(changed_at: u64, percent: Option<f64>, rolled_back: Option<RolledBack>) -> Self {
        Self { v: FORM, changed_at, percent, rolled_back }
    }

    /// The text for other processes.
    #[must_use]
    pub fn to_text(&self) -> String {
        // Strings and numbers into memory: no failing case. An empty text would be refused by `from_text`.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads another process's text.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_text(text: &str) -> Result<Self, String> {
        if text.len() > MAX_LEN {
            return Err(format!("a rollout's state has {} bytes, at most {MAX_LEN} are read", text.len()));
        }
        let state: Self =
            serde_json::from_str(text).map_err(|error| format!("a rollout's state cannot be read: {error}"))?;
        if state.v != FORM {
            return Err(format!("a rollout's state has form {}, this version reads {FORM}", state.v));
        }
        if state.percent.is_some_and(|percent| !(0.0..=100.0).contains(&percent)) {
            return Err("a rollout's percent must be from 0 to 100".to_owned());
        }
        Ok(state)
    }

    /// Does this state replace the other?
    #[must_use]
    pub fn is_newer_than(&self, other: &Self) -> bool {
        let age = |state: &Self| (state.changed_at, state.rolled_back.is_some());
        // Two changes in one millisecond: any order does, as long as all processes find the same one.
        age(self) > age(other) || age(self) == age(other) && self.to_text() > other.to_text()
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::By;
    use super::*;

    fn rolled_back() -> RolledBack {
        RolledBack { at: 5, by: By::Operator, reason: "by hand".to_owned(), finding: None }
    }

    #[test]
    fn the_text_is_read_as_it_was_written() {
        let state = SharedState::new(7, Some(10.0), Some(rolled_back()));
        assert_eq!(SharedState::from_text(&state.to_text()), Ok(state));
    }

    #[test]
    fn nonsense_is_refused() {
        let good = SharedState::new(7, Some(10.0), None).to_text();
        let long = " ".repeat(5_000);
        for bad in ["", "{}", "null", &good.replace("10.0", "101"), &good.replace("\"v\":1", "\"v\":2"), &long] {
            assert!(SharedState::from_text(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn of_the_same_age_the_careful_one_holds() {
        let at = |changed_at, out: bool| SharedState::new(changed_at, None, out.then(rolled_back));
        assert!(at(2, false).is_newer_than(&at(1, true)));
        assert!(at(1, true).is_newer_than(&at(1, false)));
        assert!(!at(1, false).is_newer_than(&at(1, true)));
        assert!(!at(1, true).is_newer_than(&at(1, true)));
        let (one, other) = (SharedState::new(1, Some(10.0), None), SharedState::new(1, Some(20.0), None));
        assert!(one.is_newer_than(&other) != other.is_newer_than(&one));
    }
}
