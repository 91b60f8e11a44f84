//! The log's file: two of them at most, this one and the one before, with a bound on both together.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// What one write may add behind the bound of a file.
const ROOM: u64 = 128 << 10;

/// A file that is continued, and moved aside when it is full.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    most: u64,
    file: Option<File>,
    size: u64,
    // Nothing was written to it by this process.
    fresh: bool,
}

impl LogFile {
    /// Opens a file, or makes it; together with the one before it, it stays below `max_bytes`.
    ///
    /// # Errors
    /// It cannot be opened for writing.
    pub fn open(path: PathBuf, max_bytes: u64) -> io::Result<Self> {
        let mut log = Self { path, most: (max_bytes / 2).saturating_sub(ROOM), file: None, size: 0, fresh: true };
        log.reopen()?;
        Ok(log)
    }

    fn reopen(&mut self) -> io::Result<&mut File> {
        let mut options = OpenOptions::new();
        options.create(true).append(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o640);
        let file = options.open(&self.path)?;
        self.size = file.metadata()?.len();
        self.fresh = true;
        Ok(self.file.insert(file))
    }

    /// Does the next write go to a new file?
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.size >= self.most
    }

    /// Does the next write begin what this process writes to a file?
    #[must_use]
    pub const fn is_fresh(&self) -> bool {
        self.fresh || self.is_full()
    }

    /// Writes whole lines; gives itself back, since it is called where blocking is allowed.
    pub(super) fn append(mut self, lines: &[u8]) -> (Self, io::Result<()>) {
        let written = self.write(lines);
        if written.is_err() {
            // The disk may be full, the folder gone: the next write begins anew.
            (self.file, self.fresh) = (None, true);
        }
        (self, written)
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.is_full() {
            self.file = None;
            match std::fs::rename(&self.path, before(&self.path)) {
                // Somebody took it away: there is room again.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                moved => moved?,
            }
        }
        if self.file.is_none() {
            self.reopen()?;
        }
        let Some(file) = &mut self.file else { return Err(io::Error::other("it is not open")) };
        if self.fresh && self.size > 0 {
            // Who wrote here before may have been stopped in the middle of a line.
            file.write_all(b"\n")?;
        }
        file.write_all(lines)?;
        self.size += u64::try_from(lines.len()).unwrap_or(u64::MAX);
        self.fresh = false;
        Ok(())
    }
}

/// Where the full file goes; the one that lay there goes with that.
fn before(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    PathBuf::from(name)
}
