//! What an isolate remembers of the catalog, and when it should be fetched again.
//!
//! The origin names its catalog's entity tag on every answer, so the edge's own traffic says
//! whether the kept one still holds. How long ago that was said matters: an isolate that only
//! ever turns readings away would otherwise never hear that they have become right.

use std::rc::Rc;

use shared::catalog::Catalog;
use shared::snapshot::cache::REFRESH_LEASE_MS;

/// The catalog an isolate holds, and the turn to fetch it.
#[derive(Debug)]
pub(crate) struct CatalogKeeper {
    kept: Option<Rc<Catalog>>,
    confirmed_ms: u64,
    leased_at: Option<u64>,
}

/// A catalog, and how long ago the origin last said that it holds.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    /// The catalog.
    pub(crate) catalog: Rc<Catalog>,
    /// Milliseconds since the origin named its entity tag.
    pub(crate) age_ms: u64,
}

impl CatalogKeeper {
    /// A keeper without a catalog.
    pub(crate) const fn new() -> Self {
        Self { kept: None, confirmed_ms: 0, leased_at: None }
    }

    /// The catalog, where there is one.
    pub(crate) fn known(&self, now_ms: u64) -> Option<Known> {
        let catalog = Rc::clone(self.kept.as_ref()?);
        Some(Known { catalog, age_ms: now_ms.saturating_sub(self.confirmed_ms) })
    }

    /// Takes in a catalog that was fetched.
    pub(crate) fn keep(&mut self, catalog: Catalog, now_ms: u64) {
        self.kept = Some(Rc::new(catalog));
        self.confirmed_ms = now_ms;
    }

    /// Takes in the tag an answer named. True where the caller should now fetch that catalog: at most one caller in
    /// [`REFRESH_LEASE_MS`]. A lease by time, since a request that dies at the edge would never give a flag back.
    pub(crate) fn heard(&mut self, etag: &str, now_ms: u64) -> bool {
        if self.kept.as_ref().is_some_and(|catalog| catalog.etag == etag) {
            self.confirmed_ms = self.confirmed_ms.max(now_ms);
            return false;
        }
        let free = self.leased_at.is_none_or(|at| now_ms.saturating_sub(at) >= REFRESH_LEASE_MS);
        if free {
            self.leased_at = Some(now_ms);
        }
        free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog(etag: &str) -> Catalog {
        Catalog { etag: etag.to_owned(), default_task: None, tasks: vec![] }
    }

    #[test]
    fn another_tag_is_fetched_by_one_caller_a_lease() {
        let mut keeper = CatalogKeeper::new();
        assert!(keeper.heard("a", 0));
        assert!(!keeper.heard("a", 1_999));
        assert!(keeper.heard("a", 2_000));
        keeper.keep(catalog("a"), 2_010);
        assert!(!keeper.heard("a", 9_000));
        assert!(keeper.heard("b", 9_000));
    }

    #[test]
    fn the_age_counts_from_the_last_confirmation() {
        let mut keeper = CatalogKeeper::new();
        assert!(keeper.known(5).is_none());
        keeper.keep(catalog("a"), 100);
        assert_eq!(keeper.known(400).unwrap().age_ms, 300);
        assert!(!keeper.heard("a", 400));
        assert_eq!(keeper.known(450).unwrap().age_ms, 50);
        assert!(keeper.heard("b", 500));
        assert_eq!(keeper.known(500).unwrap().age_ms, 100, "another tag confirms nothing");
    }
}
