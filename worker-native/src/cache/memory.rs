//! The first level: rows in this process, bounded in number, bytes and age.
//!
//! Which row goes when there is no room is the library's (W-TinyLFU). Whether a row is still to be
//! served is decided here, on the cache's clock.

use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache as Store;

use super::{CacheConfig, Clock, Key, Row};

/// What a row costs besides its numbers: key, counters, and the library's own records (measured: about 400 bytes with a short row).
const OVERHEAD: u64 = 400;

/// The library refuses lives of more than a thousand years; nobody needs one of more than ten.
const LONGEST_TTL: Duration = Duration::from_secs(10 * 365 * 86_400);

#[derive(Clone)]
struct Kept {
    row: Row,
    until: u64,
}

pub(super) struct Memory {
    store: Store<Key, Kept>,
    ttl: Duration,
    clock: Clock,
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory").field("entries", &self.store.entry_count()).finish_non_exhaustive()
    }
}

impl Memory {
    pub(super) fn new(config: &CacheConfig, clock: Clock) -> Self {
        // One weight holds two limits: where each row weighs at least its share of the bytes, the bytes run out no
        // later than the number does.
        let share = config.max_bytes.div_ceil(config.max_entries.max(1));
        let ttl = config.ttl.min(LONGEST_TTL);
        let store = Store::builder()
            .max_capacity(config.max_bytes)
            .weigher(move |_, kept: &Kept| {
                let bytes = u64::try_from(size_of_val(&*kept.row)).unwrap_or(u64::MAX).saturating_add(OVERHEAD);
                u32::try_from(bytes.max(share)).unwrap_or(u32::MAX)
            })
            // Frees what nobody asks for again; `until` is what decides.
            .time_to_live(ttl)
            .build();
        Self { store, ttl, clock }
    }

    pub(super) fn get(&self, key: &Key) -> Option<Row> {
        let kept = self.store.get(key)?;
        // An old row is not removed here: another request may just have put a new one in its place.
        (kept.until > (self.clock)()).then_some(kept.row)
    }

    /// Keeps a row for the configured time, or for what is `left` of it.
    pub(super) fn put(&self, key: &Key, row: &Row, left: Duration) {
        let life = u64::try_from(left.min(self.ttl).as_millis()).unwrap_or(u64::MAX);
        let until = (self.clock)().saturating_add(life);
        self.store.insert(*key, Kept { row: Arc::clone(row), until });
    }

    /// Rows and their weight.
    pub(super) fn size(&self) -> (u64, u64) {
        (self.store.entry_count(), self.store.weighted_size())
    }

    /// Does now what the library otherwise does every few hundred calls.
    #[cfg(test)]
    pub(super) fn tidy(&self) {
        self.store.run_pending_tasks();
    }
}
