//! Names of the headers that carry facts between the edge, the native service and callers.

/// Follows one request through edge, queue and consumer; a caller may send its own.
pub const REQUEST_ID: &str = "x-request-id";
/// The edge's advice: a tier's name, or [`ROUTE_AUTO`]. Never binding for the native side.
pub const ROUTE: &str = "x-route";
/// Value of [`ROUTE`] when the edge had no usable snapshot and leaves the decision to the origin.
pub const ROUTE_AUTO: &str = "auto";
/// Why the edge decided so: the name of a [`crate::policy::Reason`].
pub const ROUTE_REASON: &str = "x-route-reason";
/// The backlog the edge's decision was based on, in jobs.
pub const ROUTE_DEPTH: &str = "x-route-depth";
/// How old the edge's snapshot was when it decided, in milliseconds.
pub const ROUTE_SNAPSHOT_AGE: &str = "x-route-snapshot-age-ms";
/// How much the edge knew: the number of a [`crate::policy::Mode`].
pub const ROUTE_MODE: &str = "x-route-mode";
/// With which probability a reading like this one gets the advised tier, in 1/[`SHARE_UNITS`].
pub const ROUTE_PROPENSITY: &str = "x-route-propensity";
/// The share of the dearer tier that the edge aimed at, in 1/[`SHARE_UNITS`].
pub const ROUTE_SHARE: &str = "x-route-share";
/// Which keeper of snapshots decided: a number in hex that an isolate of the edge keeps for its life.
pub const ROUTE_KEEPER: &str = "x-route-keeper";
/// The parts of 1 in which shares and probabilities are written: whole numbers cost the edge no code for decimals.
pub const SHARE_UNITS: u16 = 10_000;
/// The tier that was really taken; on every answer that ran or queued a reading.
pub const ROUTE_APPLIED: &str = "x-route-applied";
/// The newest snapshot, as text ([`crate::snapshot`]); on every answer of the native service.
pub const SNAPSHOT: &str = "x-infer-snapshot";
/// The catalog's entity tag; on every answer of the native service.
pub const CATALOG: &str = "x-infer-catalog";
/// The task a reading was given to; on answers that ran or queued a reading.
pub const TASK: &str = "x-infer-task";
/// Which side decided: `edge` or `native`.
pub const DECIDED_BY: &str = "x-decided-by";

/// The caller's name for one hand-in or call, so that sent again it counts once
/// (draft-ietf-httpapi-idempotency-key-header).
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// `true` on an answer that was given before, to the same request under the same [`IDEMPOTENCY_KEY`].
pub const IDEMPOTENCY_REPLAYED: &str = "idempotency-replayed";
/// Whose request it is: tenants get equal shares of the queue. It is believed, not proven.
pub const TENANT: &str = "x-tenant";
/// Where a stream of events goes on (WHATWG HTML).
pub const LAST_EVENT_ID: &str = "last-event-id";

/// Internal headers that only the edge may set; a caller's own are dropped at the edge.
pub const EDGE_ONLY: [&str; 8] =
    [ROUTE, ROUTE_REASON, ROUTE_DEPTH, ROUTE_SNAPSHOT_AGE, ROUTE_MODE, ROUTE_PROPENSITY, ROUTE_SHARE, ROUTE_KEEPER];
