//! The edge's only clock; pure code gets `now_ms` as an argument.
//!
//! `std::time` panics on this target. On Cloudflare the clock stands still between two IO events,
//! so only times around a fetch mean anything.

use worker::js_sys;

/// Unix milliseconds.
pub(crate) fn now_ms() -> u64 {
    js_sys::Date::now() as u64
}
