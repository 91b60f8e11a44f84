//! Without Redis: the queue's file, its only process killed, and no room for it.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use super::book::Book;
use super::rig::{models, nothing, serve};
use crate::support::native::{BINARY, Native};

#[tokio::test(flavor = "multi_thread")]
async fn the_only_process_is_killed_under_load() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("queue.sqlite");
    let settings = [("QUEUE_FILE", file.to_str().unwrap()), ("MAX_ATTEMPTS", "50")];
    let (models, book) = (models(), Book::default());
    let mut native = serve("", &models, "all", &settings).await;
    let mut slowest = std::time::Duration::ZERO;
    for _ in 0..3 {
        book.under_load(&native.url(""), async {
            book.more(60).await;
            native.process.kill();
        })
        .await;
        let killed = Instant::now();
        native = serve("", &models, "all", &settings).await;
        book.runs_again(&native.url("")).await;
        slowest = slowest.max(killed.elapsed());
    }
    let account = book.close(&native.url(""), &nothing()).await;
    account.tell("17", "SQLite: the only process killed under load, three times", Some(slowest), "with its start");
    account.assert_whole();
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |file| file.len())
}

/// Bounds the size of files that a process may write to, or no more.
fn limit_files(native: &Native, limit: &str) {
    let mut command = Command::new("prlimit");
    command.args(["--pid", &native.process.id().to_string(), &format!("--fsize={limit}:unlimited")]);
    assert!(command.status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_cannot_grow() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("queue.sqlite");
    let (models, book) = (models(), Book::default());
    // A disk that is full sends no signal; a bound on the size of files does, unless it is ignored.
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\"", BINARY]);
    let dir = models.path().to_str().unwrap();
    let settings = [("MODEL_DIR", dir), ("CACHE_BACKEND", "off"), ("QUEUE_FILE", file.to_str().unwrap())];
    let native = Native::start_as(command, "", &settings).await;
    let base = native.url("");
    let back = book
        .under_load(&base, async {
            book.more(60).await;
            let log = folder.path().join("queue.sqlite-wal");
            limit_files(&native, &length(&file).min(length(&log)).to_string());
            book.more_refused(20).await;
            limit_files(&native, "unlimited");
            let back = book.runs_again(&base).await;
            book.more(50).await;
            back
        })
        .await;
    let account = book.close(&base, &nothing()).await;
    account.tell("18", "SQLite: the file cannot grow for a while", Some(back), "");
    account.assert_whole();
    assert_eq!(account.unanswered, 0, "{account:?}");
}
