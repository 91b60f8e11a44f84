//! The file itself: who may use it, how it is opened, which version of the tables it has.
//!
//! A file belongs to one process at a time: an operating system's lock on `<file>.lock` says so, and is gone with the
//! process, however that ends. Used by the queue and by the spool, which have tables of their own. Owns no table.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, ffi};

use crate::config::FileSync;
use crate::queue::contract::QueueError;

/// Somebody may look at the file with a tool of theirs; a writer waits for it this long.
const BUSY: Duration = Duration::from_secs(5);
/// Pages of the log after which a commit copies it back into the file (16 MiB).
const CHECKPOINT_PAGES: u32 = 4_096;
/// What is left of the log after that; see [`keep_log_short`].
const LOG_LIMIT: u64 = 64 << 20;
/// Memory for pages of the connection that writes, in KiB.
const CACHE_KIB: u32 = 32_768;
const STATEMENTS: usize = 128;

/// What a file is for: its mark, its tables, and the setting that names it.
#[derive(Debug, Clone, Copy)]
pub(in crate::queue) struct Kind {
    /// The setting, for errors.
    pub(in crate::queue) setting: &'static str,
    /// SQLite's `application_id`: another program's file is left alone.
    pub(in crate::queue) mark: i32,
    /// What makes each version of the tables out of the one before.
    pub(in crate::queue) versions: &'static [&'static str],
    /// What to do where another process has the file.
    pub(in crate::queue) way_out: &'static str,
}

/// A file opened for this process alone.
#[derive(Debug)]
pub(in crate::queue) struct Opened {
    /// The connection that writes.
    pub(in crate::queue) connection: Connection,
    /// Where the file is.
    pub(in crate::queue) path: PathBuf,
    /// Given up last.
    pub(in crate::queue) lock: Lock,
}

/// Says that the file is this process's; dropping it gives it up.
#[derive(Debug)]
pub(in crate::queue) struct Lock(#[expect(dead_code, reason = "held, not read")] File);

/// An error of ours about the file.
pub(in crate::queue) fn fault(text: String) -> QueueError {
    failed(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_CANTOPEN), Some(text)))
}

/// An error of SQLite's.
pub(in crate::queue) fn failed(error: rusqlite::Error) -> QueueError {
    QueueError::File(Arc::new(error))
}

/// Opens the file for writing; makes it, its folder and its tables where they are missing.
pub(in crate::queue) fn open(path: &Path, kind: &Kind, sync: FileSync) -> Result<Opened, QueueError> {
    let named = |what: String| fault(format!("{} {}: {what}", kind.setting, path.display()));
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|error| named(format!("its folder cannot be made: {error}")))?;
    }
    let lock = lock(path, kind)?;
    // Not as a URI: a file's name may have any letters.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|error| named(error.to_string()))?;
    prepare(&connection, kind, sync).map_err(|error| match error {
        QueueError::File(error) => named(error.to_string()),
        other => other,
    })?;
    Ok(Opened { connection, path: path.to_owned(), lock })
}

/// Opens the file for looking only.
pub(in crate::queue) fn open_to_read(path: &Path) -> Result<Connection, QueueError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(BUSY).map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

fn lock(path: &Path, kind: &Kind) -> Result<Lock, QueueError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let cannot = |error: std::io::Error| fault(format!("{} {}: {error}", kind.setting, name.display()));
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&name).map_err(cannot)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // What it says is for eyes only; the lock is what counts.
            let told = file.read_to_string(&mut holder).is_ok() && !holder.trim().is_empty();
            let holder = if told { format!("process {}", holder.trim()) } else { "another process".to_owned() };
            let (setting, way_out) = (kind.setting, kind.way_out);
            return Err(fault(format!("{setting} {} is in use by {holder}; {way_out}", path.display())));
        }
        Err(TryLockError::Error(error)) => return Err(cannot(error)),
    }
    file.set_len(0).and_then(|()| write!(file, "{}", std::process::id())).map_err(cannot)?;
    Ok(Lock(file))
}

fn prepare(connection: &Connection, kind: &Kind, sync: FileSync) -> Result<(), QueueError> {
    connection.busy_timeout(BUSY).map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    let number = |pragma: &str| connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get::<_, i64>(0));
    let tables = "SELECT count(*) FROM sqlite_schema";
    let known = usize::try_from(number("user_version").map_err(failed)?).unwrap_or(usize::MAX);
    let empty = connection.query_row(tables, [], |row| row.get::<_, i64>(0)).map_err(failed)? == 0;
    if !empty && number("application_id").map_err(failed)? != i64::from(kind.mark) {
        return Err(fault("is a database of another program; name another file".to_owned()));
    }
    let newest = kind.versions.len();
    if known > newest {
        return Err(fault(format!(
            "was written by a newer version of Infer Router (tables of version {known}; this one knows up to {newest}); \
             use that version, or another file"
        )));
    }
    // Before the first table: it cannot be changed later.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL").map_err(failed)?;
    let mode = "PRAGMA journal_mode = WAL";
    let mode: String = connection.query_row(mode, [], |row| row.get(0)).map_err(failed)?;
    if !mode.eq_ignore_ascii_case("wal") {
        return Err(fault("is where SQLite can keep no write-ahead log; use a local disk".to_owned()));
    }
    let sync = match sync {
        FileSync::Full => "FULL",
        FileSync::Normal => "NORMAL",
    };
    let set = |pragma: &str, value: &dyn rusqlite::ToSql| connection.pragma_update(None, pragma, value);
    set("synchronous", &sync).map_err(failed)?;
    set("wal_autocheckpoint", &CHECKPOINT_PAGES).map_err(failed)?;
    set("journal_size_limit", &(LOG_LIMIT / 2)).map_err(failed)?;
    set("cache_size", &-i64::from(CACHE_KIB)).map_err(failed)?;
    set("temp_store", &"MEMORY").map_err(failed)?;
    migrate(connection, kind, known).map_err(failed)
}

/// Each version in a transaction with its number: a process that dies here goes on here.
fn migrate(connection: &Connection, kind: &Kind, known: usize) -> rusqlite::Result<()> {
    for (version, tables) in (1..).zip(kind.versions).skip(known) {
        let transaction = connection.unchecked_transaction()?;
        transaction.execute_batch(tables)?;
        transaction.pragma_update(None, "application_id", kind.mark)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    Ok(())
}

/// Copies the log back and cuts it off, where readers kept commits from doing so for too long.
pub(in crate::queue) fn keep_log_short(connection: &Connection, path: &Path) {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let length = std::fs::metadata(log).map_or(0, |log| log.len());
    if length <= LOG_LIMIT {
        return;
    }
    // Readers may be in the way: writers must not wait long for them.
    let cut = connection
        .busy_timeout(Duration::from_millis(50))
        .and_then(|()| connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())))
        .and_then(|()| connection.busy_timeout(BUSY));
    if let Err(error) = cut {
        tracing::debug!(%error, length, "the log of the queue's file stays long for now");
    }
}
