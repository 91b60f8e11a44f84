//! Redis dies, comes back with its data or without, and is replaced by a replica.

use std::time::{Duration, Instant};

use super::book::{Account, Book, CALLERS};
use super::rig::{Rig, models, nothing, reading, serve, settled, told};
use crate::support::native::Native;
use crate::support::redis_sentinel::RedisSentinel;
use crate::support::until;

#[tokio::test(flavor = "multi_thread")]
async fn redis_is_killed_and_restarted_on_its_append_only_file() {
    let mut rig = Rig::start().await;
    let native = rig.all().await;
    let (base, book) = (native.url(""), std::mem::take(&mut rig.book));
    let back = book
        .under_load(&base, async {
            book.more(100).await;
            rig.redis.stop();
            book.more_refused(10).await;
            rig.redis.start_again(&[]).await;
            let back = book.runs_again(&base).await;
            book.more(50).await;
            back
        })
        .await;
    let account = book.close(&base, &nothing()).await;
    account.tell("4", "Redis killed, restarted on its append-only file", Some(back), "appendfsync always");
    account.assert_whole();
}

/// After all data are gone: what was lost is what was handed in before, and it is counted.
async fn closed_after_loss(rig: &Rig, native: &Native, gone_at: Instant) -> (Account, u64) {
    let base = native.url("");
    let counted = until("the loss to be counted", || async {
        Some(rig.book.metric(&base, "router_jobs_lost_total").await).filter(|lost| *lost > 0)
    })
    .await;
    told(native, "accepted jobs are gone").await;
    let account = rig.book.close(&base, &settled(native)).await;
    assert!(!account.lost.is_empty(), "the backlog is gone: {account:?}");
    assert!(account.lost.iter().all(|one| one.sent < gone_at), "none that came later is: {account:?}");
    assert_eq!(account.doubled, 0, "{account:?}");
    // But for what was on its way at that moment, the count is exact.
    let off = counted.abs_diff(account.lost.len() as u64);
    assert!(off <= 2 * CALLERS as u64, "{counted} counted: {account:?}");
    (account, counted)
}

/// Settings with which a backlog grows: one job at a time.
const SLOW: [(&str, &str); 2] = [("CONSUMER_CONCURRENCY", "1"), ("CLAIM_BATCH", "1")];

#[tokio::test(flavor = "multi_thread")]
async fn redis_is_restarted_without_its_data() {
    let (mut rig, native, base) = with_backlog().await;
    rig.redis.stop();
    let gone_at = Instant::now();
    rig.redis.start_again(&["--appenddirname", "another"]).await;
    let back = rig.book.runs_again(&base).await;
    rig.book.accept(&base, 50, &reading()).await;
    let (account, counted) = closed_after_loss(&rig, &native, gone_at).await;
    account.tell("5", "Redis restarted without its data", Some(back), &format!("{counted} counted as lost"));
}

/// A service at which jobs wait, since more are handed in than it runs; with its address.
async fn with_backlog() -> (Rig, Native, String) {
    let rig = Rig::start().await;
    let native = rig.service("all", &SLOW).await;
    let base = native.url("");
    rig.book.accept(&base, 200, &reading()).await;
    until("a backlog", || async {
        rig.book.accept(&base, 20, &reading()).await;
        (rig.book.metric(&base, "router_backlog_jobs").await >= 20).then_some(())
    })
    .await;
    (rig, native, base)
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_flushed_under_load() {
    let (rig, native, base) = with_backlog().await;
    let (gone_at, back) = rig
        .book
        .under_load(&base, async {
            rig.book.more(50).await;
            rig.tell("FLUSHALL").await;
            let gone_at = Instant::now();
            let back = rig.book.runs_again(&base).await;
            rig.book.more(50).await;
            (gone_at, back)
        })
        .await;
    let (account, counted) = closed_after_loss(&rig, &native, gone_at).await;
    account.tell("6", "FLUSHALL under load", Some(back), &format!("{counted} counted as lost"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_takes_over_under_load() {
    let mut redis = RedisSentinel::start().await;
    let (models, book) = (models(), Book::default());
    let native = serve(&redis.url(), &models, "all", &[]).await;
    let base = native.url("");
    let ((failed_at, promoted_at), back) = book
        .under_load(&base, async {
            book.more(100).await;
            let failed_at = Instant::now();
            redis.fail_over().await;
            let promoted_at = Instant::now();
            let back = book.runs_again(&base).await;
            book.more(50).await;
            ((failed_at, promoted_at), back)
        })
        .await;
    let account = book.close(&base, &settled(&native)).await;
    account.tell(
        "19",
        "master killed, Sentinel promotes a replica",
        Some(back),
        "after the promotion; replication is asynchronous",
    );
    // What the replica had not got is gone; that can only be of the last moment.
    let long_before = failed_at - Duration::from_secs(1);
    assert!(account.lost.iter().all(|one| one.sent > long_before && one.sent < promoted_at), "{account:?}");
    assert_eq!(account.doubled, 0, "{account:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_comes_back_with_older_data() {
    const LATER: usize = 60;
    let mut rig = Rig::start().await;
    let native = rig.all().await;
    let base = native.url("");
    rig.book.accept(&base, 100, &reading()).await;
    rig.redis.stop();
    rig.redis.copy_file("older");
    let copied_at = Instant::now();
    rig.redis.start_again(&[]).await;
    rig.book.accept(&base, LATER, &reading()).await;
    rig.redis.stop();
    let gone_at = Instant::now();
    rig.redis.start_again(&["--appenddirname", "older"]).await;
    let back = rig.book.runs_again(&base).await;
    rig.book.accept(&base, 50, &reading()).await;
    let account = rig.book.close(&base, &nothing()).await;
    account.tell(
        "21",
        "Redis comes back with older data (a stale replica, a backup)",
        Some(back),
        "not counted: the data do not know what they lack",
    );
    // What was there in time is run, a second time where it had ended later; what came later is gone.
    assert_eq!((account.lost.len(), account.doubled), (LATER, 0), "{account:?}");
    assert!(account.lost.iter().all(|one| one.sent > copied_at && one.sent < gone_at), "{account:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_is_away_and_the_spool_takes_jobs() {
    let mut rig = Rig::start().await;
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool.sqlite");
    let settings = [("SPOOL_FILE", spool.to_str().unwrap()), ("SPOOL_MAX_BYTES", "1000000")];
    let native = rig.service("all", &settings).await;
    let (base, book) = (native.url(""), std::mem::take(&mut rig.book));
    let back = book
        .under_load(&base, async {
            book.more(50).await;
            rig.redis.stop();
            book.more(100).await;
            rig.redis.start_again(&[]).await;
            let back = book.runs_again(&base).await;
            book.more(50).await;
            back
        })
        .await;
    let account = book.close(&base, &nothing()).await;
    account.tell("20", "Redis away, SPOOL_MAX_BYTES set", Some(back), "accepted while it was away");
    account.assert_whole();
}
