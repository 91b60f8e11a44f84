//! Everything an isolate keeps between requests: a cache that may vanish at any time.
//!
//! Plain Rust data only: a JavaScript object belongs to the request that made it. It is reached by
//! closures that are not async, so that no borrow can be held across an await and no request can
//! wait for what another one owns; the runtime would cancel it.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;

use shared::snapshot::cache::SnapshotCache;
use worker::Env;

use crate::catalog::CatalogKeeper;
use crate::config::EdgeConfig;
use crate::log;

/// The checked settings, or every fault in them.
pub(crate) type Settings = Rc<Result<EdgeConfig, Vec<String>>>;

thread_local! {
    static SNAPSHOTS: RefCell<SnapshotCache> = const { RefCell::new(SnapshotCache::new()) };
    static CATALOG: RefCell<CatalogKeeper> = const { RefCell::new(CatalogKeeper::new()) };
    static KEEPER: Cell<u64> = const { Cell::new(0) };
    static SETTINGS: OnceCell<Settings> = const { OnceCell::new() };
}

/// Works on the snapshots.
pub(crate) fn snapshots<T>(work: impl FnOnce(&mut SnapshotCache) -> T) -> T {
    SNAPSHOTS.with_borrow_mut(work)
}

/// Works on the catalog.
pub(crate) fn catalog<T>(work: impl FnOnce(&mut CatalogKeeper) -> T) -> T {
    CATALOG.with_borrow_mut(work)
}

/// The number of this isolate among all keepers of snapshots: drawn from its first request's id, since a wasm has no
/// chance of its own.
pub(crate) fn keeper(request_id: &str) -> u64 {
    if KEEPER.get() == 0 {
        KEEPER.set(shared::policy::draw::hash64(request_id.as_bytes(), 1) | 1);
    }
    KEEPER.get()
}

/// The settings, read once an isolate: each look into the environment is a call into JavaScript.
pub(crate) fn settings(env: &Env) -> Settings {
    SETTINGS.with(|cell| {
        Rc::clone(cell.get_or_init(|| {
            let settings = EdgeConfig::read(env);
            if let Err(faults) = &settings {
                log::fault(&format!("settings: {}", faults.join("; ")));
            }
            Rc::new(settings)
        }))
    })
}
