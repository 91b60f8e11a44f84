//! The rows of a CSV, plain or gzip, as the groups that become readings.
//!
//! Owns the file: its delimiter, its header, and rows whose cells do not match the header. Which
//! column means what is [`super::mapping`]'s and [`super::labels`]'s. Streams: at most one group
//! is in memory, so a file may be larger than it.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use csv::StringRecord;
use flate2::read::MultiGzDecoder;
use shared::schema::MAX_WIDTH;

/// Delimiters tried when none is given, in order of preference.
const DELIMITERS: [u8; 3] = *b",;\t";

/// A CSV file whose header was read.
#[derive(Debug, Clone)]
pub(super) struct Table {
    path: PathBuf,
    delimiter: u8,
    /// The columns' names, trimmed.
    pub(super) columns: Vec<String>,
}

/// The rows that become one reading: one, or all consecutive ones with the same key.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Group {
    /// The value of the group column, where there is one.
    pub(super) key: Option<String>,
    /// The rows, at least one unless `fault` is set.
    pub(super) rows: Vec<StringRecord>,
    /// Why the rows cannot become a reading.
    pub(super) fault: Option<String>,
}

impl Table {
    /// Opens the file and reads its header.
    ///
    /// # Errors
    /// When it is not a regular file, cannot be read, or has no header.
    pub(super) fn open(path: &Path, delimiter: Option<u8>) -> Result<Self> {
        // It is read twice: counted, then sent. A pipe would be empty the second time.
        let metadata = std::fs::metadata(path).with_context(|| format!("cannot open {}", path.display()))?;
        if !metadata.is_file() {
            bail!("{} is not a regular file", path.display());
        }
        let delimiter = match delimiter {
            Some(byte) => byte,
            None => {
                let mut header = Vec::new();
                let mut text = BufReader::new(text_of(path)?);
                text.read_until(b'\n', &mut header).with_context(|| format!("cannot read {}", path.display()))?;
                detect(&header)
            }
        };
        let mut table = Self { path: path.to_owned(), delimiter, columns: Vec::new() };
        let mut reader = table.reader()?;
        let header = reader.headers().with_context(|| format!("cannot read the header of {}", path.display()))?;
        // Spreadsheets write a byte order mark, which would become part of the first name.
        table.columns = header.iter().map(|name| name.trim_start_matches('\u{feff}').trim().to_owned()).collect();
        if table.columns.iter().all(String::is_empty) {
            bail!("{} has no header line", path.display());
        }
        Ok(table)
    }

    /// Position of a column, or the fault in words.
    pub(super) fn column(&self, name: &str) -> Result<usize, String> {
        let mut found = self.columns.iter().enumerate().filter(|(_, column)| *column == name).map(|(i, _)| i);
        match (found.next(), found.next()) {
            (Some(index), None) => Ok(index),
            (Some(_), Some(_)) => Err(format!("column `{name}` is twice in {}", self.path.display())),
            (None, _) => {
                Err(format!("column `{name}` is not in {}; it has: {}", self.path.display(), self.columns.join(", ")))
            }
        }
    }

    /// The groups of the file, from its beginning.
    ///
    /// # Errors
    /// When the file cannot be opened again.
    pub(super) fn groups(&self, group_by: Option<usize>) -> Result<Groups> {
        Ok(Groups {
            reader: self.reader()?,
            path: self.path.clone(),
            width: self.columns.len(),
            group_by,
            held: None,
            broken: false,
        })
    }

    fn reader(&self) -> Result<csv::Reader<Box<dyn Read + Send>>> {
        Ok(csv::ReaderBuilder::new().delimiter(self.delimiter).flexible(true).from_reader(text_of(&self.path)?))
    }
}

/// The file's text, unpacked where it is gzip.
fn text_of(path: &Path) -> Result<Box<dyn Read + Send>> {
    let open = || -> std::io::Result<Box<dyn Read + Send>> {
        let mut file = File::open(path)?;
        let mut magic = Vec::new();
        (&mut file).take(2).read_to_end(&mut magic)?;
        file.rewind()?;
        Ok(if magic == [0x1f, 0x8b] { Box::new(MultiGzDecoder::new(BufReader::new(file))) } else { Box::new(file) })
    };
    open().with_context(|| format!("cannot read {}", path.display()))
}

/// The candidate found most often in the header outside quotes.
fn detect(header: &[u8]) -> u8 {
    let mut counts = DELIMITERS.map(|delimiter| (delimiter, 0_usize));
    let mut quoted = false;
    for byte in header {
        quoted ^= *byte == b'"';
        for (delimiter, count) in &mut counts {
            *count += usize::from(!quoted && *delimiter == *byte);
        }
    }
    // `max_by_key` takes the last of equals; reversed, that is the comma.
    counts.into_iter().rev().max_by_key(|(_, count)| *count).map_or(b',', |(delimiter, _)| delimiter)
}

/// Iterator over the groups of a file.
pub(super) struct Groups {
    reader: csv::Reader<Box<dyn Read + Send>>,
    path: PathBuf,
    width: usize,
    group_by: Option<usize>,
    /// The first row of the next group.
    held: Option<Row>,
    broken: bool,
}

type Row = Result<StringRecord, String>;

impl Groups {
    /// The next row, or why that row is none; an outer error ends the file.
    fn next_row(&mut self) -> Result<Option<Row>> {
        let mut record = StringRecord::new();
        match self.reader.read_record(&mut record) {
            Ok(false) => Ok(None),
            Ok(true) if record.len() != self.width => {
                let line = record.position().map_or(0, csv::Position::line);
                let fault = format!("line {line} has {} cells, the header has {}", record.len(), self.width);
                Ok(Some(Err(fault)))
            }
            Ok(true) => Ok(Some(Ok(record))),
            Err(error) if matches!(error.kind(), csv::ErrorKind::Utf8 { .. }) => Ok(Some(Err(error.to_string()))),
            Err(error) => Err(error).with_context(|| format!("cannot read {} to its end", self.path.display())),
        }
    }

    fn key(&self, row: &StringRecord) -> Option<String> {
        self.group_by.and_then(|column| row.get(column)).map(|key| key.trim().to_owned())
    }

    fn next_group(&mut self) -> Result<Option<Group>> {
        let first = match self.held.take() {
            Some(row) => row,
            None => match self.next_row()? {
                Some(row) => row,
                None => return Ok(None),
            },
        };
        let mut group = match first {
            Ok(row) => Group { key: self.key(&row), rows: vec![row], fault: None },
            Err(fault) => return Ok(Some(Group { key: None, rows: vec![], fault: Some(fault) })),
        };
        if self.group_by.is_none() {
            return Ok(Some(group));
        }
        while let Some(row) = self.next_row()? {
            match row {
                Ok(row) if self.key(&row) == group.key => {
                    if group.rows.len() < MAX_WIDTH {
                        group.rows.push(row);
                    } else {
                        group.fault = Some(format!("more than {MAX_WIDTH} rows, over any task's width"));
                    }
                }
                // Where a cell is missing the key may have shifted, so the row is laid to the group it follows.
                Err(fault) => group.fault = Some(fault),
                Ok(row) => {
                    self.held = Some(Ok(row));
                    break;
                }
            }
        }
        Ok(Some(group))
    }
}

impl Iterator for Groups {
    type Item = Result<Group>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.broken {
            return None;
        }
        let group = self.next_group();
        self.broken = group.is_err();
        group.transpose()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::samples::{file, table};
    use super::*;

    fn groups(text: &str, group_by: Option<&str>) -> Vec<(Option<String>, usize, Option<String>)> {
        let (_file, table) = table(text);
        let group_by = group_by.map(|name| table.column(name).unwrap());
        let groups = table.groups(group_by).unwrap();
        groups.map(|group| group.unwrap()).map(|group| (group.key, group.rows.len(), group.fault)).collect()
    }

    #[test]
    fn delimiters_are_found_outside_quotes() {
        assert_eq!(detect(b"a;b;c\n"), b';');
        assert_eq!(detect(b"a\tb\n"), b'\t');
        assert_eq!(detect(b"\"a;b;c\",d\n"), b',');
        assert_eq!(detect(b"alone\n"), b',');
    }

    #[test]
    fn headers_lose_spaces_and_the_byte_order_mark() {
        let file = file(b"\xef\xbb\xbfa; b ;b\n1;2;3\n");
        let table = Table::open(file.path(), None).unwrap();
        assert_eq!(table.columns, ["a", "b", "b"]);
        assert_eq!(table.column("a"), Ok(0));
        assert!(table.column("b").unwrap_err().contains("twice"));
        assert!(table.column("c").unwrap_err().contains("it has: a, b, b"));
    }

    #[test]
    fn gzip_is_known_by_its_first_bytes() {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(b"a,b\n1,2\n3,4\n").unwrap();
        let packed = file(&packed.finish().unwrap());
        let table = Table::open(packed.path(), None).unwrap();
        assert_eq!(table.groups(None).unwrap().count(), 2);

        let cut = file(&std::fs::read(packed.path()).unwrap()[..20]);
        let broken = Table::open(cut.path(), None).and_then(|table| table.groups(None)?.collect::<Result<Vec<_>>>());
        assert!(broken.is_err(), "a cut file is an error, not a shorter file");
    }

    #[test]
    fn consecutive_rows_of_one_key_are_one_group() {
        let text = "cycle,x\n1,a\n1,b\n2,c\n1,d\n";
        let key = |key: &str, rows| (Some(key.to_owned()), rows, None);
        assert_eq!(groups(text, Some("cycle")), [key("1", 2), key("2", 1), key("1", 1)]);
        assert_eq!(groups(text, None).len(), 4);
    }

    #[test]
    fn a_ragged_row_is_a_fault_with_its_line_and_the_file_goes_on() {
        let found = groups("a,b\n1,2\n3\n4,5\n", None);
        assert_eq!(found.len(), 3);
        assert_eq!(found[1].2.as_deref(), Some("line 3 has 1 cells, the header has 2"));
        let found = groups("a,b\n1,2\n1\n1,5\n2,6\n", Some("a"));
        assert_eq!(found.len(), 2, "the broken row spoils its group only");
        assert!(found[0].2.is_some() && found[1].2.is_none());
    }

    #[test]
    fn empty_files_and_folders_are_errors() {
        assert!(Table::open(file(b"").path(), None).is_err());
        assert!(Table::open(Path::new("/"), None).is_err());
    }
}
