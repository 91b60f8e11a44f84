//! Runs that hang: interrupted after a while, and their workers replaced when that does not help.
//!
//! The library looks for an interruption between the nodes of a graph, so a run inside one long
//! kernel goes on; its worker then counts as lost, a new one takes over its queue, and the old one
//! ends when it comes back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::backend::StopSwitch;

/// How much longer than the limit a run may stay away after its interruption.
const LOST_AFTER: u32 = 10;

/// The watch on one worker.
#[derive(Debug)]
pub(super) struct Watch {
    switch: Option<Arc<dyn StopSwitch>>,
    state: Mutex<State>,
    given_up: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    started: Option<Instant>,
    stopped: bool,
}

/// What a look at a worker found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Idle, or running no longer than it may.
    Well,
    /// Its run was interrupted just now.
    Stopped,
    /// It does not come back; it was given up just now.
    Lost,
}

impl Watch {
    pub(super) fn new(switch: Option<Arc<dyn StopSwitch>>) -> Self {
        Self { switch, state: Mutex::default(), given_up: AtomicBool::new(false) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A run begins.
    pub(super) fn begin(&self) {
        self.state().started = Some(Instant::now());
    }

    /// The run is over, however it ended; says whether it had to be interrupted.
    pub(super) fn end(&self) -> bool {
        let mut state = self.state();
        state.started = None;
        // Under the lock: a late interruption of this run must not end the next one.
        let stopped = std::mem::take(&mut state.stopped);
        if stopped && let Some(switch) = &self.switch {
            switch.reset();
        }
        stopped
    }

    /// Does the worker run now?
    pub(super) fn is_running(&self) -> bool {
        self.state().started.is_some()
    }

    /// Was the worker replaced while it was away?
    pub(super) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
    }

    /// Looks after the worker.
    pub(super) fn look(&self, now: Instant, limit: Duration) -> Seen {
        let mut state = self.state();
        let Some(started) = state.started else { return Seen::Well };
        let away = now.saturating_duration_since(started);
        if away > limit * LOST_AFTER && !self.is_given_up() {
            self.given_up.store(true, Ordering::Relaxed);
            return Seen::Lost;
        }
        if away > limit && !state.stopped {
            state.stopped = true;
            if let Some(switch) = &self.switch {
                switch.stop();
            }
            return Seen::Stopped;
        }
        Seen::Well
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicI32;

    use super::*;

    #[derive(Debug, Default)]
    struct Switch(AtomicI32);

    impl StopSwitch for Switch {
        fn stop(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
        fn reset(&self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_run_is_interrupted_once_and_then_given_up_once() {
        let switch = Arc::new(Switch::default());
        let watch = Watch::new(Some(Arc::clone(&switch) as Arc<dyn StopSwitch>));
        let limit = Duration::from_secs(1);
        assert_eq!(watch.look(Instant::now() + limit * 100, limit), Seen::Well);
        watch.begin();
        let begun = Instant::now();
        assert_eq!(watch.look(begun, limit), Seen::Well);
        assert_eq!(watch.look(begun + limit * 2, limit), Seen::Stopped);
        assert_eq!(watch.look(begun + limit * 3, limit), Seen::Well);
        assert_eq!(switch.0.load(Ordering::Relaxed), 1);
        assert_eq!(watch.look(begun + limit * 11, limit), Seen::Lost);
        assert_eq!(watch.look(begun + limit * 12, limit), Seen::Well);
        assert!(watch.is_running() && watch.end() && !watch.is_running());
        assert_eq!(switch.0.load(Ordering::Relaxed), 0, "the next run must be possible");
        assert!(watch.is_given_up());
    }
}
