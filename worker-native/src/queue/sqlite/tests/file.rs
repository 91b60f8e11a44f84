//! Whose file it is, and which version.

use std::fs;

use super::*;

fn refusal(config: &QueueConfig) -> String {
    SqliteQueue::open(config).unwrap_err().to_string()
}

#[tokio::test]
async fn a_file_is_for_one_process() {
    let bench = Bench::new(&[]);
    let error = refusal(&bench.config);
    for word in ["QUEUE_FILE", "queue.sqlite", "REDIS_URL", &std::process::id().to_string()] {
        assert!(error.contains(word), "{word} missing: {error}");
    }
    let bench = bench.reopen();
    bench.queue.close().await;
    assert!(matches!(bench.queue.check_writable(&[TASK]).await, Err(QueueError::Closed)));
    // Closed is given up, also while somebody still has a handle.
    SqliteQueue::open(&bench.config).unwrap();
}

#[test]
fn a_file_of_somebody_else_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("queue.sqlite");
    let config = config(&file, &[]);
    drop(SqliteQueue::open(&config).unwrap());
    let mine = rusqlite::Connection::open(&file).unwrap();
    mine.pragma_update(None, "user_version", 99).unwrap();
    drop(mine);
    let error = refusal(&config);
    assert!(error.contains("newer version") && error.contains("99") && error.contains("QUEUE_FILE"), "{error}");

    fs::remove_file(&file).unwrap();
    let other = rusqlite::Connection::open(&file).unwrap();
    other.execute_batch("CREATE TABLE notes (text TEXT)").unwrap();
    drop(other);
    assert!(refusal(&config).contains("another program"));
    let other = rusqlite::Connection::open(&file).unwrap();
    assert_eq!(other.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0)).unwrap(), 1);
    drop(other);

    fs::write(&file, "what a fine day it is, and no database at all").unwrap();
    assert!(refusal(&config).contains("QUEUE_FILE"));
    fs::write(&file, "").unwrap();
    drop(SqliteQueue::open(&config).unwrap());
    // A folder where the file should be.
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    assert!(refusal(&config).contains("QUEUE_FILE"));
}

#[tokio::test]
async fn the_file_is_set_up_as_promised() {
    for (setting, synchronous) in [("full", 2), ("normal", 1)] {
        let bench = Bench::new(&[("QUEUE_FILE_SYNC", setting)]);
        let look = |books: &mut Books| {
            let file = crate::queue::sqlite::group::Ledger::connection(books);
            let number = |pragma: &str| file.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get::<_, i64>(0));
            let mode: String = file.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
            Ok((mode, number("synchronous")?, number("auto_vacuum")?, number("user_version")?))
        };
        let found = bench.queue.0.writer.write(1, look).await.unwrap();
        assert_eq!(found, ("wal".to_owned(), synchronous, 2, 2));
    }
}

#[tokio::test]
async fn a_file_of_the_first_version_gets_what_is_new_and_keeps_its_jobs() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder.path().join("queue.sqlite"), &[]);
    let old = rusqlite::Connection::open(&config.file).unwrap();
    old.execute_batch(include_str!("../schema/1.sql")).unwrap();
    old.execute_batch("INSERT INTO task (name, settled) VALUES ('t', 7)").unwrap();
    old.pragma_update(None, "application_id", KIND.mark).unwrap();
    old.pragma_update(None, "user_version", 1).unwrap();
    drop(old);
    let queue = SqliteQueue::open(&config).unwrap();
    assert_eq!(queue.counts("t").await.unwrap().settled, 7);
    queue.keep_answers("t", vec![("r".to_owned(), "x".to_owned())]).await.unwrap();
    assert_eq!(queue.kept_answer("t", "r").await.unwrap().as_deref(), Some("x"));
}
