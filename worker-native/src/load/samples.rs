//! What the tests of `load` share: a task, a CSV on disk, a command line.

use std::io::Write;

use clap::Parser;
use shared::schema::{Field, FieldKind, TaskKind, TaskSchema};
use tempfile::NamedTempFile;

use super::args::{LoadArgs, Pair};
use super::source::Table;

/// A field of that many numbers.
pub(super) fn field(name: &str, length: usize) -> Field {
    Field {
        name: name.to_owned(),
        unit: String::new(),
        description: String::new(),
        kind: FieldKind::Number,
        length,
        min: None,
        max: None,
        values: vec![],
        default: None,
        max_length: None,
    }
}

/// The task `t`, which tells anomalies.
pub(super) fn schema(fields: Vec<Field>) -> TaskSchema {
    TaskSchema {
        name: "t".to_owned(),
        title: String::new(),
        description: String::new(),
        kind: TaskKind::Anomaly,
        tiers: vec![],
        classes: vec![],
        normal: vec![],
        target: None,
        fields,
    }
}

/// A file that lives as long as the value.
pub(super) fn file(bytes: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// A CSV; the table reads the file again, so keep both.
pub(super) fn table(text: &str) -> (NamedTempFile, Table) {
    let file = file(text.as_bytes());
    let table = Table::open(file.path(), None).unwrap();
    (file, table)
}

/// `a=b,c=d`
pub(super) fn pairs(text: &str) -> Vec<Pair> {
    text.split(',').filter(|pair| !pair.is_empty()).map(|pair| pair.parse().unwrap()).collect()
}

/// The flags of a command line without spaces in its values.
pub(super) fn args(flags: &str) -> Result<LoadArgs, String> {
    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        load: LoadArgs,
    }
    let words = ["load", "--csv", "a.csv"].into_iter().chain(flags.split_whitespace());
    Cli::try_parse_from(words).map(|cli| cli.load).map_err(|error| error.to_string())
}
