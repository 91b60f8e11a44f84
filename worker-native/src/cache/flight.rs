//! Identical readings at the same time: one runs, the others wait for its row.
//!
//! A flight is a key and those who wait for its row. It exists only while somebody is on board, so
//! there are never more flights than requests under way.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OnceCell;

use super::{Key, Row};

/// All flights under way.
#[derive(Debug, Default)]
pub(super) struct Flights(Mutex<HashMap<Key, Arc<Flight>>>);

#[derive(Debug, Default)]
struct Flight {
    // The cell lets one at a time try; where that one fails, panics or is dropped, the next one's turn comes.
    row: OnceCell<Row>,
    failures: AtomicU32,
}

/// A place on a flight; given up when dropped.
#[derive(Debug)]
pub(super) struct Seat<'f> {
    flights: &'f Flights,
    key: Key,
    // None only while it is dropped.
    flight: Option<Arc<Flight>>,
}

impl Flights {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arc<Flight>>> {
        // No code that can panic runs under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place on the key's flight, which is made where there is none.
    pub(super) fn board(&self, key: &Key) -> Seat<'_> {
        let flight = Arc::clone(self.lock().entry(*key).or_default());
        Seat { flights: self, key: *key, flight: Some(flight) }
    }

    #[cfg(test)]
    pub(super) fn under_way(&self) -> usize {
        self.lock().len()
    }
}

impl Seat<'_> {
    /// The flight's row: that of another on board, or of `lead` where it is this one's turn.
    pub(super) async fn row<E>(&self, lead: impl Future<Output = Result<Row, E>>) -> Result<Row, E> {
        match &self.flight {
            Some(flight) => flight.row.get_or_try_init(|| lead).await.map(Arc::clone),
            None => lead.await,
        }
    }

    pub(super) fn failures(&self) -> u32 {
        self.flight.as_ref().map_or(0, |flight| flight.failures.load(Ordering::Relaxed))
    }

    pub(super) fn count_failure(&self) {
        if let Some(flight) = &self.flight {
            flight.failures.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut flights = self.flights.lock();
        let Some(flight) = self.flight.take() else { return };
        let (mine, landed) =
            (flights.get(&self.key).is_some_and(|known| Arc::ptr_eq(known, &flight)), flight.row.initialized());
        // Under the lock, so that of two who leave at once the second sees that nobody is left. Others board under the
        // lock only. A landed flight goes at once: who comes now is to look into the cache, where rows grow old.
        drop(flight);
        if mine && (landed || flights.get(&self.key).is_some_and(|known| Arc::strong_count(known) == 1)) {
            flights.remove(&self.key);
        }
    }
}
