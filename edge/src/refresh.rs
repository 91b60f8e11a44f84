//! Fetching snapshot and catalog behind an answer.
//!
//! Nobody waits for these: a request that finds the snapshot old or the catalog missing is served
//! with what there is, and the next one is better off. Whose turn it is, the leases in
//! [`crate::state`] say.

use shared::catalog::Catalog;
use worker::{Context, Headers, Method};

use crate::log;
use crate::origin::{Answer, Call, Limit, Origin};
use crate::{clock, state};

/// A snapshot that takes longer is overtaken by the next request's own answer.
const SNAPSHOT_TIMEOUT_MS: u32 = 250;
/// Larger and rarer than a snapshot.
const CATALOG_TIMEOUT_MS: u32 = 2_000;

/// Refreshes the snapshots, if it is this request's turn.
pub(crate) fn snapshots(ctx: &Context, origin: &Origin) {
    if state::snapshots(|cache| cache.lease_refresh(clock::now_ms())) {
        behind(ctx, origin, Want::Snapshots);
    }
}

/// Fetches the catalog, if an answer named another one and it is this request's turn.
pub(crate) fn catalog(ctx: &Context, origin: &Origin, answer: &Answer) {
    if answer.catalog_wanted {
        behind(ctx, origin, Want::Catalog);
    }
}

#[derive(Clone, Copy)]
enum Want {
    Snapshots,
    Catalog,
}

/// One future for both: every kind of future handed to the runtime costs its own glue in the wasm.
fn behind(ctx: &Context, origin: &Origin, want: Want) {
    let origin = origin.clone();
    ctx.wait_until(async move {
        let catalog_wanted = match want {
            Want::Snapshots => fetch_snapshots(&origin).await,
            Want::Catalog => true,
        };
        if catalog_wanted {
            fetch_catalog(&origin).await;
        }
    });
}

/// Says whether the answer named another catalog.
async fn fetch_snapshots(origin: &Origin) -> bool {
    // A failure is no news: the request that started this meets the same origin and reports it.
    let Ok(answer) = origin.send(get("/v1/snapshot", SNAPSHOT_TIMEOUT_MS)).await else {
        return false;
    };
    let catalog_wanted = answer.catalog_wanted;
    // Its header had all there is to know; a body left unread would hold the connection.
    drop(answer.text().await);
    catalog_wanted
}

async fn fetch_catalog(origin: &Origin) {
    match read_catalog(origin).await {
        Ok(catalog) => state::catalog(|keeper| keeper.keep(catalog, clock::now_ms())),
        Err(error) => log::fault(&format!("catalog: {error}")),
    }
}

async fn read_catalog(origin: &Origin) -> Result<Catalog, String> {
    let answer = origin.send(get("/v1/catalog", CATALOG_TIMEOUT_MS)).await.map_err(|error| error.to_string())?;
    if answer.status() != 200 {
        return Err(format!("status {}", answer.status()));
    }
    let body = answer.text().await.map_err(|error| error.to_string())?;
    Catalog::from_json(&body).map_err(|field| format!("cannot read {field}"))
}

fn get(target: &str, timeout_ms: u32) -> Call<'_> {
    Call { method: Method::Get, target, headers: Headers::new(), body: None, limit: Limit::Timeout(timeout_ms) }
}
