//! What `infer-router load` is told: its flags, their words, and the small parsers of their values.
//!
//! Only the form of a value is checked here. Whether a column, field, class or model exists is
//! known later, from the file and the catalog ([`super::mapping`], [`super::labels`]).

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use serde::{Serialize, Serializer};

/// Examples below `--help`; `$SENSOR_DATA_DIR` is where the public data sets lie.
const EXAMPLES: &str = "\
Examples:

Generated pump readings that come with the repository -> pump-anomaly:
  infer-router load --task pump-anomaly --label label \\
    --csv models/pump-anomaly/sample.csv --rate 100

The rest read public data sets: set SENSOR_DATA_DIR to the folder that holds them.

Hydraulic cycles, one row each, columns named as the fields -> hydraulic-leak:
  infer-router load --task hydraulic-leak \\
    --csv $SENSOR_DATA_DIR/hydraulic/hydraulic_cycles.csv \\
    --label pump_leak --label-map 0=none,1=leak,2=leak

Raw cycles of 60 rows, grouped into arrays, labels in another file -> hydraulic-valve:
  infer-router load --task hydraulic-valve --rate 20 \\
    --csv $SENSOR_DATA_DIR/hydraulic/hydraulic_1hz.csv.gz --group-by cycle \\
    --labels $SENSOR_DATA_DIR/hydraulic/hydraulic_cycles.csv --label valve_pct

One SKAB file, other column names and no duty cycle -> pump-anomaly (another pump than the
model's generator knows, so it calls every row an anomaly: this shows --map, not quality):
  infer-router load --task pump-anomaly --csv $SENSOR_DATA_DIR/skab/valve1/0.csv \\
    --map Temperature=temperature,Accelerometer1RMS=vibration \\
    --map Pressure=pressure,Current=current --map 'Volume Flow RateRMS=flow_rate' \\
    --constant duty_cycle=0.75 --label anomaly --label-map 0=normal,1=anomaly

Texts with a verdict, one a row -> a task that takes a text (--map says which column it is):
  infer-router load --task sentiment --mode predict --csv reviews.csv \\
    --map review=text --label verdict --label-map 0=negative,1=positive

The bursts of a recorded trace at a mean of 80 a second, each answer waited for:
  infer-router load --task hydraulic-leak --mode predict --json run.json \\
    --csv $SENSOR_DATA_DIR/hydraulic/hydraulic_cycles.csv \\
    --trace $SENSOR_DATA_DIR/../traces/azure-llm-conv/arrivals_ms.txt --rate 80

Every row ends as one of three, and the three add up to the rows:
  answered  a prediction came back
  refused   the service said no and why: the problem's code and the first field at
            fault, or a job's end other than `done` (failed, expired, dead)
  failed    no word from the service: transport error, timeout, a job not done within
            --wait-s, an answer that cannot be read, or a row whose cells do not match
            the header (never sent)
Refused and failed rows are results: the exit code is 0. It is not 0 for arguments, a
file or a URL that cannot be used. Ctrl-C stops the sending and reports what was sent.";

/// Replays the rows of a CSV as readings, open loop, and tells what became of each
///
/// Open loop: each row has an intended start that does not wait for earlier answers, and its latency is
/// counted from there, so a service that stalls cannot hide the wait it causes (no coordinated omission).
#[derive(Debug, Clone, Args, Serialize)]
#[command(after_help = EXAMPLES)]
pub struct LoadArgs {
    /// The rows: a CSV file with a header line, plain or gzip
    #[arg(long, value_name = "FILE", help_heading = "Rows")]
    pub(super) csv: PathBuf,

    /// What separates the cells: one character, or `tab` [default: found in the header among , ; tab]
    #[arg(long, value_name = "CHAR", value_parser = delimiter, help_heading = "Rows")]
    pub(super) delimiter: Option<u8>,

    /// Consecutive rows with one value in this column become one reading, each mapped column an array
    ///
    /// A field that takes a single value gets that of the group's first row. A group of the wrong length is
    /// sent as it is, so that the service refuses it and the reason shows.
    #[arg(long, value_name = "COLUMN", help_heading = "Rows")]
    pub(super) group_by: Option<String>,

    /// At most this many readings of the file
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), help_heading = "Rows")]
    pub(super) limit: Option<u64>,

    /// How many times the file is replayed, one after another
    #[arg(long, value_name = "TIMES", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..), help_heading = "Rows")]
    pub(super) repeat: u64,

    /// The task the readings are for [default: the only one, else the catalog's default task]
    #[arg(long, value_name = "TASK", help_heading = "Readings")]
    pub(super) task: Option<String>,

    /// Which column fills which field; repeatable. Other columns are ignored
    ///
    /// Without it, columns named as the task's fields are taken. Several columns for one array field fill it
    /// in the order given here.
    #[arg(long, value_name = "COLUMN=FIELD,…", value_delimiter = ',', help_heading = "Readings")]
    pub(super) map: Vec<Pair>,

    /// A field with the same value in every reading, e.g. duty_cycle=0.75; repeatable
    #[arg(long, value_name = "FIELD=VALUE,…", value_delimiter = ',', help_heading = "Readings")]
    pub(super) constant: Vec<Pair>,

    /// Multiplies a column's numbers, e.g. Pressure=0.1 for another unit; repeatable
    #[arg(long, value_name = "COLUMN=FACTOR,…", value_delimiter = ',', help_heading = "Readings")]
    pub(super) scale: Vec<Pair>,

    /// Forces a model, by its name or its tier's [default: the service decides]
    #[arg(long, value_name = "NAME", help_heading = "Readings")]
    pub(super) model: Option<String>,

    /// How long each reading's answer is of use
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=shared::reading::MAX_DEADLINE_MS), help_heading = "Readings")]
    pub(super) deadline_ms: Option<u64>,

    /// Beginning of the sensor ids `<PREFIX>-<n>`
    #[arg(long, value_name = "PREFIX", default_value = "load", value_parser = sensor_prefix, help_heading = "Readings")]
    pub(super) sensor_id: String,

    /// Over how many sensor ids the readings are spread, in turn
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..), help_heading = "Readings")]
    pub(super) sensors: u64,

    /// The column with the truth, compared with the prediction; of a group, its first row's
    #[arg(long, value_name = "COLUMN", help_heading = "Truth")]
    pub(super) label: Option<String>,

    /// Another CSV that holds --label, joined on the --group-by column
    #[arg(long, value_name = "FILE", requires_all = ["label", "group_by"], help_heading = "Truth")]
    pub(super) labels: Option<PathBuf>,

    /// What a label means in the task's words, e.g. 0=normal,1=anomaly; numbers compare as numbers
    #[arg(long, value_name = "VALUE=CLASS,…", value_delimiter = ',', requires = "label", help_heading = "Truth")]
    pub(super) label_map: Vec<Pair>,

    /// Readings a second; with --trace, the trace is scaled to this mean [default: 50, or the trace's own]
    #[arg(long, value_name = "N", value_parser = rate, help_heading = "Pace")]
    pub(super) rate: Option<f64>,

    /// When readings start: a file of offsets from the first in milliseconds, one a line, ascending
    ///
    /// A trace shorter than the rows begins again one mean gap after its end.
    #[arg(long, value_name = "FILE", help_heading = "Pace")]
    pub(super) trace: Option<PathBuf>,

    /// Divides the trace's offsets: 10 is ten times as fast
    #[arg(long, value_name = "X", value_parser = positive, requires = "trace", conflicts_with = "rate", help_heading = "Pace")]
    pub(super) speed: Option<f64>,

    /// Spreads arrivals that share one offset evenly up to the next, for traces on coarse ticks
    #[arg(long, requires = "trace", help_heading = "Pace")]
    pub(super) spread: bool,

    /// Most requests in flight; above it a row waits, and the wait counts as latency
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u64).range(1..=65_536), help_heading = "Pace")]
    pub(super) concurrency: u64,

    /// Where the readings go: the edge, or the native service itself
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8787", help_heading = "Service")]
    pub(super) url: String,

    /// How readings are handed in
    #[arg(long, value_enum, default_value_t = Mode::Jobs, help_heading = "Service")]
    pub(super) mode: Mode,

    /// How long one HTTP request may take before its row counts as failed
    #[arg(long, value_name = "MS", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..), help_heading = "Service")]
    pub(super) timeout_ms: u64,

    /// Jobs mode: how long to wait for the last results after the last row was sent
    #[arg(long, value_name = "S", default_value_t = 60, help_heading = "Service")]
    pub(super) wait_s: u64,

    /// Writes every answer and the summary to this file
    #[arg(long, value_name = "FILE", help_heading = "Report")]
    pub(super) json: Option<PathBuf>,

    /// No progress bar
    #[arg(long, help_heading = "Report")]
    pub(super) quiet: bool,
}

/// How readings are handed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mode {
    /// POST /data, then results are read back job by job
    Jobs,
    /// POST /predict, the answer is the prediction
    Predict,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Jobs => "jobs",
            Self::Predict => "predict",
        })
    }
}

/// One `left=right`, split at the last `=` so that a column's name may hold one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) left: String,
    pub(super) right: String,
}

impl FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.rsplit_once('=').map(|(left, right)| (left.trim(), right.trim())) {
            Some((left, right)) if !left.is_empty() && !right.is_empty() => {
                Ok(Self { left: left.to_owned(), right: right.to_owned() })
            }
            _ => Err("give both sides with `=` between them, e.g. a=b".to_owned()),
        }
    }
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.left, self.right)
    }
}

impl Serialize for Pair {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn delimiter(text: &str) -> Result<u8, String> {
    match text {
        "tab" | "\\t" => Ok(b'\t'),
        _ => match text.as_bytes() {
            [byte] if byte.is_ascii() && !matches!(byte, b'"' | b'\n' | b'\r') => Ok(*byte),
            _ => Err("give one ASCII character other than a quote, or `tab`".to_owned()),
        },
    }
}

fn rate(text: &str) -> Result<f64, String> {
    positive(text).map_err(|_| {
        "give a number of readings a second above 0; 0 or `max` would wait for answers and hide a slow service's delay"
            .to_owned()
    })
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok(number),
        _ => Err("give a number above 0".to_owned()),
    }
}

fn sensor_prefix(text: &str) -> Result<String, String> {
    // What is left is for `-` and the largest number.
    const LONGEST: usize = shared::ids::MAX_ID_LEN - "-18446744073709551615".len();
    if shared::ids::is_id(text) && text.len() <= LONGEST {
        return Ok(text.to_owned());
    }
    Err(format!("use 1 to {LONGEST} of the letters, digits and `._:-`"))
}

#[cfg(test)]
mod tests {
    use super::super::samples::args as parse;

    #[test]
    fn pairs_are_split_at_the_last_sign() {
        let args = parse("--map a=b=c,d=e --map f=g").unwrap();
        let shown: Vec<String> = args.map.iter().map(|pair| format!("{}>{}", pair.left, pair.right)).collect();
        assert_eq!(shown, ["a=b>c", "d>e", "f>g"]);
        assert!(parse("--map a").unwrap_err().contains("both sides"));
    }

    #[test]
    fn a_closed_loop_cannot_be_asked_for() {
        for rate in ["0", "max", "-1", "inf"] {
            assert!(parse(&format!("--rate={rate}")).unwrap_err().contains("above 0"), "{rate}");
        }
        assert_eq!(parse("--rate 2.5").unwrap().rate, Some(2.5));
    }

    #[test]
    fn flags_that_need_or_exclude_each_other_say_so() {
        for line in ["--labels b.csv --label x", "--label-map 0=a", "--speed 2", "--trace t --speed 2 --rate 5"] {
            assert!(parse(line).is_err(), "{line}");
        }
        assert_eq!(parse("--delimiter tab").unwrap().delimiter, Some(b'\t'));
        assert!(parse("--delimiter ab").is_err());
        assert!(parse("--sensor-id a/b").is_err());
    }
}
