//! Which dead letters are meant: by filter or by id, read page by page.

use std::collections::{BTreeMap, VecDeque};

use serde::Deserialize;
use shared::problem::ErrorCode;

use crate::app::App;
use crate::http::error::ApiError;
use crate::http::jobs::state::task_of;
use crate::http::results::tasks;
use crate::queue::{DeadLetter, QueueError};

/// Dead letters read at once.
const PAGE: usize = 100;
/// Dead letters shown where nobody says how many, and at most.
const FEW: usize = 50;
const MOST: usize = 1_000;
/// Furthest position a list may begin at.
const FURTHEST: usize = 1_000_000;
/// Most dead letters that one request handles.
const MOST_HANDLED: usize = 10_000;

/// Which dead letters are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Filter {
    /// Of this task.
    pub(super) task: Option<String>,
    /// Whose answer was to come from this model.
    pub(super) model: Option<String>,
    /// Whose last error has this in it.
    pub(super) error: Option<String>,
    /// Given up at or after this, in Unix milliseconds.
    pub(super) since: Option<u64>,
}

impl Filter {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn wants(&self, letter: &DeadLetter) -> bool {
        let model = letter.entry.as_ref().ok().map(|entry| entry.model.as_str());
        let error = letter.failures.last().map_or("", |failure| failure.error.as_str());
        (self.model.is_none() || self.model.as_deref() == model)
            && self.error.as_deref().is_none_or(|part| error.contains(part))
            && !self.is_before(letter)
    }

    /// Is it, and with it all older ones, from before the time asked for?
    fn is_before(&self, letter: &DeadLetter) -> bool {
        self.since.is_some_and(|since| letter.died_at < since)
    }
}

/// What the query of `GET /v1/dead` asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Listing {
    pub(super) filter: Filter,
    pub(super) limit: usize,
    pub(super) skip: usize,
}

impl Listing {
    pub(super) fn read(query: &[(String, String)]) -> Result<Self, ApiError> {
        let mut listing = Self { filter: Filter::default(), limit: FEW, skip: 0 };
        let mut faults = Vec::new();
        for (name, value) in query {
            let Filter { task, model, error, since } = &mut listing.filter;
            let number = |range: std::ops::RangeInclusive<usize>| value.parse().ok().filter(|n| range.contains(n));
            let text = |field: &mut Option<String>| {
                *field = Some(value.clone());
                Some(())
            };
            let good = match name.as_str() {
                "task" => text(task),
                "model" => text(model),
                "error" => text(error),
                "since" => value.parse().ok().map(|at| *since = Some(at)),
                "limit" => number(1..=MOST).map(|limit| listing.limit = limit),
                "skip" => number(0..=FURTHEST).map(|skip| listing.skip = skip),
                _ => None,
            };
            if good.is_none() {
                faults.push(format!("{name}={value}"));
            }
        }
        if faults.is_empty() {
            return Ok(listing);
        }
        let detail = format!(
            "cannot use {}; there are: task, model, error (a part of the last error), since (Unix milliseconds), limit (1 \
             to {MOST}), skip (0 to {FURTHEST})",
            faults.join(", ")
        );
        Err(ApiError::new(ErrorCode::InvalidQuery, detail))
    }
}

/// What the body of a request says that handles dead letters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wish {
    ids: Option<Vec<String>>,
    task: Option<String>,
    model: Option<String>,
    error: Option<String>,
    since: Option<u64>,
    #[serde(default)]
    all: bool,
    limit: Option<usize>,
}

/// The dead letters that are meant.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    /// Their ids.
    pub(super) by_task: BTreeMap<String, Vec<String>>,
    /// Ids that cannot be one of ours.
    pub(super) missing: Vec<String>,
    /// The filter fits further ones.
    pub(super) more: bool,
}

impl Wish {
    pub(super) fn read(body: &[u8]) -> Result<Self, ApiError> {
        shared::reading::check_json(body)?;
        let wish: Self = serde_json::from_slice(body).map_err(|error| misfit(&error.to_string()))?;
        let filter = wish.filter();
        match &wish.ids {
            Some(_) if !filter.is_empty() || wish.all || wish.limit.is_some() => Err(misfit("`ids` stand alone")),
            Some(ids) if ids.is_empty() || ids.len() > MOST_HANDLED => {
                Err(misfit(&format!("`ids` are 1 to {MOST_HANDLED}")))
            }
            None if filter.is_empty() && !wish.all => Err(misfit("say `\"all\": true` where all are meant")),
            None if wish.limit.is_some_and(|limit| !(1..=MOST_HANDLED).contains(&limit)) => {
                Err(misfit(&format!("`limit` is 1 to {MOST_HANDLED}")))
            }
            _ => Ok(wish),
        }
    }

    fn filter(&self) -> Filter {
        let Self { task, model, error, since, .. } = self;
        Filter { task: task.clone(), model: model.clone(), error: error.clone(), since: *since }
    }

    /// Finds them. Nothing is changed meanwhile, so that pages do not move under the one who reads.
    pub(super) async fn choose(self, app: &App) -> Result<Chosen, ApiError> {
        let (filter, mut chosen) = (self.filter(), Chosen::default());
        if let Some(ids) = self.ids {
            for id in ids {
                match task_of(app, &id) {
                    Some(task) => chosen.by_task.entry(task).or_default().push(id),
                    None => chosen.missing.push(id),
                }
            }
            return Ok(chosen);
        }
        let limit = self.limit.unwrap_or(MOST_HANDLED);
        let tasks = tasks(&app.engine.catalog(), filter.task.as_deref())?;
        let mut merged = Merged::new(app, tasks, &filter);
        let mut count = 0;
        while let Some((task, letter)) = merged.next().await? {
            if count == limit {
                chosen.more = true;
                break;
            }
            count += 1;
            chosen.by_task.entry(task).or_default().push(letter.job_id);
        }
        Ok(chosen)
    }
}

fn misfit(detail: &str) -> ApiError {
    let detail = format!(
        "the body must be {{\"ids\": […]}}, or a filter of task, model, error, since, or {{\"all\": true}}, and may have \
         a limit: {detail}"
    );
    ApiError::of_field("#", "wrong_type", detail)
}

/// Dead letters of several tasks, newest first; no more of them in memory than a page of each.
#[derive(Debug)]
pub(super) struct Merged<'a> {
    app: &'a App,
    filter: &'a Filter,
    lists: Vec<List>,
}

#[derive(Debug)]
struct List {
    task: String,
    position: usize,
    page: VecDeque<DeadLetter>,
    is_over: bool,
}

impl<'a> Merged<'a> {
    pub(super) fn new(app: &'a App, tasks: Vec<String>, filter: &'a Filter) -> Self {
        let list = |task| List { task, position: 0, page: VecDeque::new(), is_over: false };
        Self { app, filter, lists: tasks.into_iter().map(list).collect() }
    }

    /// The next one that is wanted, with its task.
    pub(super) async fn next(&mut self) -> Result<Option<(String, DeadLetter)>, QueueError> {
        for list in &mut self.lists {
            list.fill(self.app, self.filter).await?;
        }
        let newest = self.lists.iter_mut().max_by_key(|list| list.page.front().map(|letter| letter.died_at));
        Ok(newest.and_then(|list| Some((list.task.clone(), list.page.pop_front()?))))
    }
}

impl List {
    async fn fill(&mut self, app: &App, filter: &Filter) -> Result<(), QueueError> {
        while self.page.is_empty() && !self.is_over {
            let letters = app.queue.dead(&self.task, self.position, PAGE).await?;
            self.position += PAGE;
            // One that goes while its page is read makes that short, so only an empty page is the end.
            self.is_over = letters.is_empty() || letters.iter().any(|letter| filter.is_before(letter));
            self.page.extend(letters.into_iter().filter(|letter| filter.wants(letter)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(pairs: &[(&str, &str)]) -> Result<Listing, ApiError> {
        Listing::read(&pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>())
    }

    #[test]
    fn a_list_is_asked_for_by_its_parameters() {
        let read =
            listing(&[("model", "lof"), ("error", "hung"), ("since", "5"), ("limit", "7"), ("skip", "3")]).unwrap();
        let filter =
            Filter { task: None, model: Some("lof".to_owned()), error: Some("hung".to_owned()), since: Some(5) };
        assert_eq!(read, Listing { filter, limit: 7, skip: 3 });
        assert_eq!(listing(&[]).unwrap().limit, FEW);
        for wrong in [("limit", "0"), ("limit", "1001"), ("skip", "-1"), ("since", "now"), ("colour", "red")] {
            assert_eq!(listing(&[wrong]).unwrap_err().code, ErrorCode::InvalidQuery, "{wrong:?}");
        }
    }

    #[test]
    fn all_are_meant_only_where_that_is_said() {
        let read = |body: &str| Wish::read(body.as_bytes()).map_err(|error| error.detail);
        assert!(read(r#"{"ids":["t.1"]}"#).unwrap().ids.is_some());
        assert!(read(r#"{"all":true,"limit":5}"#).unwrap().all);
        assert_eq!(read(r#"{"error":"hung"}"#).unwrap().filter().error.as_deref(), Some("hung"));
        for (wrong, why) in [
            ("{}", "\"all\": true"),
            (r#"{"all":false}"#, "\"all\": true"),
            (r#"{"ids":[]}"#, "1 to 10000"),
            (r#"{"ids":["t.1"],"task":"t"}"#, "stand alone"),
            (r#"{"all":true,"limit":0}"#, "`limit` is"),
            (r#"{"all":true,"mode":"x"}"#, "unknown field"),
            ("[]", "object"),
        ] {
            let detail = read(wrong).unwrap_err();
            assert!(detail.contains(why), "{wrong}: {detail}");
        }
    }
}
