//! `GET /results`: the newest results, or all that are kept as a file (`export`).

mod export;

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::value::RawValue;
use shared::catalog::Catalog;
use shared::ids::is_id;
use shared::problem::ErrorCode;

use super::error::ApiError;
use crate::app::App;
use crate::queue::{Outcome, ResultsFilter};
use export::Format;

/// Results shown where nobody says how many.
const FEW: usize = 10;
/// Most results of one list; beyond it they are exported.
const MOST: usize = 1_000;

#[derive(Debug, Serialize)]
struct Results {
    count: usize,
    // Shown as they were stored: nothing is gained by reading them again.
    results: Vec<Box<RawValue>>,
}

pub(super) async fn results(
    State(app): State<App>,
    query: Result<Query<BTreeMap<String, String>>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(query) = query.map_err(|error| ApiError::new(ErrorCode::InvalidQuery, error.to_string()))?;
    let (filter, format) = read(&query, app.config.queue.history as usize)?;
    let tasks = tasks(&app.engine.catalog(), filter.task.as_deref())?;
    if let Some(format) = format {
        return export::respond(&app, tasks, filter, format).await;
    }
    let names: Vec<&str> = tasks.iter().map(String::as_str).collect();
    let results = app.queue.results(&names, &filter).await?;
    Ok(Json(Results { count: results.len(), results }).into_response())
}

/// The task named, or all that take readings.
pub(super) fn tasks(catalog: &Catalog, named: Option<&str>) -> Result<Vec<String>, ApiError> {
    if let Some(task) = named
        && catalog.task(task).is_none()
    {
        let detail = format!("task `{task}` is not here; there are: {}", catalog.task_names());
        return Err(ApiError::new(ErrorCode::UnknownTask, detail));
    }
    let names = catalog.tasks.iter().map(|task| &task.schema.name);
    Ok(names.filter(|name| named.is_none_or(|wanted| wanted == *name)).cloned().collect())
}

/// Every query parameter, or all that is wrong with them.
fn read(query: &BTreeMap<String, String>, history: usize) -> Result<(ResultsFilter, Option<Format>), ApiError> {
    let mut filter = ResultsFilter::default();
    let (mut limit, mut format) = (None, None);
    let mut faults = Vec::new();
    let most = if query.contains_key("format") { history } else { MOST };
    for (name, value) in query {
        let good = match name.as_str() {
            "limit" => value.parse().ok().filter(|limit| (1..=most).contains(limit)).map(|given| limit = Some(given)),
            "since" => value.parse().ok().map(|since| filter.since = Some(since)),
            "sensor_id" => is_id(value).then(|| filter.sensor_id = Some(value.clone())),
            "outcome" => Outcome::from_name(value).map(|outcome| filter.outcome = Some(outcome)),
            "format" => Format::from_name(value).map(|given| format = Some(given)),
            "task" => {
                filter.task = Some(value.clone());
                Some(())
            }
            _ => None,
        };
        if good.is_none() {
            faults.push(format!("{name}={value}"));
        }
    }
    filter.limit = limit.unwrap_or(if format.is_some() { history } else { FEW });
    if faults.is_empty() {
        return Ok((filter, format));
    }
    let detail = format!(
        "cannot use {}; there are: limit (1 to {most}), task, sensor_id, since (Unix milliseconds), outcome (done, failed, \
         expired, dead, cancelled), format (csv, json, ndjson)",
        faults.join(", ")
    );
    Err(ApiError::new(ErrorCode::InvalidQuery, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn every_parameter_is_read_and_others_are_told() {
        let (filter, format) = read(&query(&[]), 5_000).unwrap();
        assert_eq!((filter.limit, format), (FEW, None));
        let (filter, format) = read(&query(&[("format", "csv"), ("outcome", "dead"), ("since", "7")]), 5_000).unwrap();
        assert_eq!((filter.limit, format, filter.outcome), (5_000, Some(Format::Csv), Some(Outcome::Dead)));
        assert_eq!(filter.since, Some(7));
        assert_eq!(read(&query(&[("format", "ndjson"), ("limit", "4000")]), 5_000).unwrap().0.limit, 4_000);
        for wrong in [
            &[("limit", "1001")][..],
            &[("limit", "5001"), ("format", "json")],
            &[("format", "xml")],
            &[("outcome", "lost")],
            &[("colour", "red")],
        ] {
            assert_eq!(read(&query(wrong), 5_000).unwrap_err().code, ErrorCode::InvalidQuery, "{wrong:?}");
        }
    }
}
