//! The queue's file, where there is no Redis: looked at and not changed, also while a service has it open.

use std::fs::{self, OpenOptions};
use std::path::Path;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::finding::Finding;
use super::judge::bytes;

/// Below it a backlog of some size would fill the disk.
const LITTLE_ROOM: u64 = 1 << 30;

/// Looks at `QUEUE_FILE`.
pub(super) fn look(file: &Path) -> Vec<Finding> {
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut findings = vec![writable(file, folder)];
    findings.extend(room(folder));
    if file.exists() {
        findings.extend(contents(file));
    }
    let place = file.display().to_string();
    findings.into_iter().map(|finding| finding.at(&place)).collect()
}

fn writable(file: &Path, folder: &Path) -> Finding {
    let change = "let QUEUE_FILE name a file in a folder that this user may write to";
    if file.exists() {
        return match OpenOptions::new().append(true).open(file) {
            Ok(_) => Finding::ok("file", "it can be written to"),
            Err(error) => Finding::fault("file", format!("it cannot be written to: {error}"), change),
        };
    }
    // The first folder there is: the service makes the others.
    let Some(there) = folder.ancestors().map(or_here).find(|path| path.is_dir()) else {
        return Finding::fault("file", "none of its folders is there", change);
    };
    let probe = there.join(format!(".infer-router-doctor-{}", std::process::id()));
    match OpenOptions::new().write(true).create_new(true).open(&probe).and_then(|_| fs::remove_file(&probe)) {
        Ok(()) => Finding::ok("file", "it is not there yet; serve will make it"),
        Err(error) => Finding::fault("file", format!("it cannot be made: {error}"), change),
    }
}

fn or_here(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

#[cfg(unix)]
fn room(folder: &Path) -> Option<Finding> {
    let there = folder.ancestors().map(or_here).find(|path| path.is_dir())?;
    let change = "make room on its disk, or let QUEUE_FILE name a file on another";
    let finding = match rustix::fs::statvfs(there) {
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            let found = format!("{} free on its disk", bytes(free));
            if free < LITTLE_ROOM { Finding::warn("disk", found, change) } else { Finding::ok("disk", found) }
        }
        Err(error) => Finding::unknown("disk", format!("how much is free cannot be told: {error}"), "df"),
    };
    Some(finding)
}

#[cfg(not(unix))]
fn room(_folder: &Path) -> Option<Finding> {
    None
}

fn contents(file: &Path) -> Vec<Finding> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(file, flags);
    let connection = match opened.and_then(|connection| {
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        Ok(connection)
    }) {
        Ok(connection) => connection,
        Err(error) => return vec![unread(&error)],
    };
    let one = |pragma: &str| connection.query_row(pragma, [], |row| row.get::<_, String>(0));
    let journal = match one("PRAGMA journal_mode") {
        Ok(mode) if mode == "wal" => Finding::ok("journal", "wal: readers and the writer do not wait for each other"),
        Ok(mode) => Finding::warn("journal", format!("{mode}, and not wal"), "serve changes it when it opens the file"),
        Err(error) => return vec![unread(&error)],
    };
    let integrity = match one("PRAGMA quick_check(1)") {
        Ok(said) if said == "ok" => Finding::ok("integrity", "quick_check finds no fault"),
        Ok(said) => damaged(&said),
        Err(error) => unread(&error),
    };
    vec![journal, integrity]
}

fn unread(error: &rusqlite::Error) -> Finding {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            Finding::unknown("integrity", "a service holds it locked", "look again when that is stopped")
        }
        _ => damaged(&error.to_string()),
    }
}

fn damaged(said: &str) -> Finding {
    let change = "stop the service, keep a copy of the file with its -wal, and save what can be read: \
                  sqlite3 FILE .recover | sqlite3 NEW";
    Finding::fault("integrity", format!("it cannot be read: {said}"), change)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::State;

    fn states(file: &Path) -> Vec<(&'static str, State)> {
        // How much is free is the machine's.
        look(file).iter().filter(|f| f.check != "disk").map(|f| (f.check, f.state)).collect()
    }

    #[test]
    fn a_file_to_be_made_a_good_one_and_a_damaged_one() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("new/queue.sqlite");
        assert_eq!(states(&file), [("file", State::Ok)]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");

        let file = dir.path().join("queue.sqlite");
        let writer = Connection::open(&file).unwrap();
        writer
            .execute_batch("PRAGMA journal_mode=wal; CREATE TABLE a (b); BEGIN IMMEDIATE; INSERT INTO a VALUES (1)")
            .unwrap();
        let good = [("file", State::Ok), ("journal", State::Ok), ("integrity", State::Ok)];
        assert_eq!(states(&file), good, "also while it is written to");

        let file = dir.path().join("other.sqlite");
        fs::write(&file, "no database at all, but long enough to be taken for the head of one, or nearly so ........")
            .unwrap();
        assert_eq!(states(&file), [("file", State::Ok), ("integrity", State::Fault)]);
        assert_eq!(states(dir.path()), [("file", State::Fault), ("integrity", State::Fault)]);
    }
}
