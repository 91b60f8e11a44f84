//! Results as a file: JSON, JSON lines or CSV, written page by page as the caller takes it.
//!
//! Task by task, the latest settled first. The status is out before the last page is read: where the queue fails in
//! between, the connection is cut, so that half a file cannot be taken for a whole one.

use axum::body::{Body, Bytes};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use shared::problem::ErrorCode;

use crate::app::App;
use crate::http::error::ApiError;
use crate::queue::{QueueError, ResultsFilter, ResultsMark};

/// Results read and written at once.
const PAGE: usize = 500;
/// What a line of CSV holds of a result.
const COLUMNS: [&str; 23] = [
    "job_id",
    "request_id",
    "task",
    "sensor_id",
    "outcome",
    "prediction",
    "is_anomaly",
    "anomaly_score",
    "confidence",
    "score",
    "explanation",
    "model",
    "model_version",
    "fallback",
    "tier",
    "reason",
    "decided_by",
    "latency_ms",
    "queue_depth",
    "model_accuracy",
    "attempts",
    "accepted_at",
    "finished_at",
];
const ERROR_COLUMN: &str = "error";

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// One JSON document.
    Json,
    /// A JSON object a line.
    Lines,
    /// A table with a head (RFC 4180).
    Csv,
}

impl Format {
    pub(super) fn from_name(name: &str) -> Option<Self> {
        match name {
            "json" => Some(Self::Json),
            "ndjson" => Some(Self::Lines),
            "csv" => Some(Self::Csv),
            _ => None,
        }
    }

    const fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Lines => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8; header=present",
        }
    }
}

/// Why an export broke off.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error("a result cannot be written: {0}")]
    Unwritable(String),
}

impl From<Broken> for ApiError {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Queue(error) => error.into(),
            Broken::Unwritable(cause) => {
                Self::caused(ErrorCode::Internal, "the log has the cause under this request id", &cause)
            }
        }
    }
}

/// What of a result says whether it is wanted.
#[derive(Deserialize)]
struct Peek {
    finished_at: u64,
    #[serde(default)]
    sensor_id: Option<String>,
    #[serde(default)]
    outcome: String,
}

/// The answer; it is written as the caller takes it. What fails before anything is written has its own status.
pub(super) async fn respond(
    app: &App,
    tasks: Vec<String>,
    filter: ResultsFilter,
    format: Format,
) -> Result<Response, ApiError> {
    let mut export = Export {
        app: app.clone(),
        tasks: tasks.into_iter(),
        task: None,
        filter,
        writer: Writer { format, count: 0, is_begun: false },
        is_over: false,
    };
    let first = export.next().await?.unwrap_or_default();
    let rest = futures_util::stream::try_unfold(export, |mut export| async move {
        let page = export.next().await.inspect_err(|error| tracing::warn!(%error, "an export of results broke off"))?;
        Ok::<_, Broken>(page.map(|page| (Bytes::from(page), export)))
    });
    let first = futures_util::stream::once(std::future::ready(Ok(Bytes::from(first))));
    let mut response = Body::from_stream(first.chain(rest)).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(format.media_type()));
    Ok(response)
}

#[derive(Debug)]
struct Export {
    app: App,
    tasks: std::vec::IntoIter<String>,
    task: Option<Listed>,
    filter: ResultsFilter,
    writer: Writer,
    is_over: bool,
}

/// A task whose results are being written.
#[derive(Debug)]
struct Listed {
    name: String,
    mark: Option<ResultsMark>,
    written: usize,
}

impl Export {
    /// The next piece of the file; none after the last.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, Broken> {
        while !self.is_over {
            let Some(task) = &mut self.task else {
                match self.tasks.next() {
                    Some(name) => self.task = Some(Listed { name, mark: None, written: 0 }),
                    None => {
                        self.is_over = true;
                        return self.writer.end().map(Some);
                    }
                }
                continue;
            };
            let page = self.app.queue.results_page(&task.name, task.mark.as_ref(), PAGE).await?;
            let (mut wanted, mut is_old) = (Vec::new(), false);
            for result in page.results {
                let peek: Peek = parse(&result)?;
                is_old |= self.filter.ends_before(peek.finished_at);
                if is_wanted(&self.filter, &peek) && task.written < self.filter.limit {
                    task.written += 1;
                    wanted.push(result);
                }
            }
            let is_done = is_old || task.written >= self.filter.limit;
            task.mark = page.next;
            if is_done || task.mark.is_none() {
                self.task = None;
            }
            if !wanted.is_empty() {
                return self.writer.page(&wanted).map(Some);
            }
        }
        Ok(None)
    }
}

fn is_wanted(filter: &ResultsFilter, peek: &Peek) -> bool {
    filter.since.is_none_or(|since| peek.finished_at >= since)
        && (filter.sensor_id.is_none() || filter.sensor_id == peek.sensor_id)
        && filter.outcome.is_none_or(|outcome| outcome.name() == peek.outcome)
}

fn parse<'a, T: Deserialize<'a>>(result: &'a RawValue) -> Result<T, Broken> {
    serde_json::from_str(result.get()).map_err(|error| Broken::Unwritable(error.to_string()))
}

/// The text of the file.
#[derive(Debug)]
struct Writer {
    format: Format,
    count: usize,
    is_begun: bool,
}

impl Writer {
    fn begin(&mut self) -> Vec<u8> {
        let text = match self.format {
            _ if self.is_begun => String::new(),
            Format::Json => "{\"results\":[".to_owned(),
            Format::Lines => String::new(),
            Format::Csv => format!("{},{ERROR_COLUMN}\r\n", COLUMNS.join(",")),
        };
        self.is_begun = true;
        text.into_bytes()
    }

    fn page(&mut self, results: &[Box<RawValue>]) -> Result<Vec<u8>, Broken> {
        let mut text = self.begin();
        if self.format == Format::Csv {
            self.count += results.len();
            return rows(text, results);
        }
        for result in results {
            if self.format == Format::Json && self.count > 0 {
                text.push(b',');
            }
            text.extend_from_slice(result.get().as_bytes());
            if self.format == Format::Lines {
                text.push(b'\n');
            }
            self.count += 1;
        }
        Ok(text)
    }

    fn end(&mut self) -> Result<Vec<u8>, Broken> {
        let mut text = self.begin();
        if self.format == Format::Json {
            text.extend_from_slice(format!("],\"count\":{}}}", self.count).as_bytes());
        }
        Ok(text)
    }
}

fn rows(text: Vec<u8>, results: &[Box<RawValue>]) -> Result<Vec<u8>, Broken> {
    let unwritable = |error: &dyn std::fmt::Display| Broken::Unwritable(error.to_string());
    let mut table = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(text);
    for result in results {
        let fields: Map<String, Value> = parse(result)?;
        let cell = |name: &&str| match fields.get(*name) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        let row: Vec<String> = COLUMNS.iter().chain([&ERROR_COLUMN]).map(cell).collect();
        table.write_record(&row).map_err(|error| unwritable(&error))?;
    }
    table.into_inner().map_err(|error| unwritable(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results() -> Vec<Box<RawValue>> {
        let texts = [
            r#"{"job_id":"t.1","task":"t","sensor_id":null,"outcome":"done","prediction":"normal","score":0.25,"finished_at":5}"#,
            r#"{"job_id":"t.2","task":"t","outcome":"dead","error":"said \"no\", twice\nand left","finished_at":6}"#,
        ];
        texts.into_iter().map(|text| RawValue::from_string(text.to_owned()).unwrap()).collect()
    }

    fn file(format: Format, results: &[Box<RawValue>]) -> String {
        let mut writer = Writer { format, count: 0, is_begun: false };
        let mut text = Vec::new();
        for one in results {
            text.extend(writer.page(std::slice::from_ref(one)).unwrap());
        }
        text.extend(writer.end().unwrap());
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn each_format_is_whole_and_well_formed() {
        let document: Value = serde_json::from_str(&file(Format::Json, &results())).unwrap();
        assert_eq!((&document["count"], &document["results"][1]["job_id"]), (&2.into(), &"t.2".into()));
        assert_eq!(file(Format::Json, &[]), r#"{"results":[],"count":0}"#);
        let lines = file(Format::Lines, &results());
        let parsed: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((parsed.len(), &parsed[0]["job_id"]), (2, &"t.1".into()));
        assert_eq!(file(Format::Lines, &[]), "");
    }

    #[test]
    fn a_table_has_a_cell_for_each_column_and_quotes_what_needs_it() {
        let text = file(Format::Csv, &results());
        let mut table = csv::Reader::from_reader(text.as_bytes());
        let head = table.headers().unwrap().clone();
        assert_eq!(head.len(), COLUMNS.len() + 1);
        let rows: Vec<csv::StringRecord> = table.records().map(Result::unwrap).collect();
        let cell =
            |row: usize, name: &str| rows[row][head.iter().position(|column| column == name).unwrap()].to_owned();
        assert_eq!((cell(0, "score"), cell(0, "sensor_id"), cell(0, "error")), ("0.25".into(), "".into(), "".into()));
        assert_eq!((cell(1, "outcome"), cell(1, "error")), ("dead".into(), "said \"no\", twice\nand left".into()));
        assert_eq!(file(Format::Csv, &[]).lines().count(), 1, "the head alone");
    }
}
