//! Results of tasks: ids in the order of settlement, each with its result as long as that is kept.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};

use redis::AsyncCommands;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::RedisQueue;
use super::book::raw;
use crate::queue::contract::{QueueError, ResultsFilter, ResultsMark, ResultsPage};

/// How many results one round trip reads while it filters.
const PAGE: usize = 500;

/// The fields of a stored result that the listing looks at.
#[derive(Deserialize)]
struct Peek<'a> {
    #[serde(borrow)]
    job_id: Cow<'a, str>,
    finished_at: u64,
    #[serde(borrow, default)]
    sensor_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    outcome: Cow<'a, str>,
}

impl Peek<'_> {
    fn is_wanted(&self, filter: &ResultsFilter) -> bool {
        filter.since.is_none_or(|since| self.finished_at >= since)
            && (filter.sensor_id.is_none() || filter.sensor_id.as_deref() == self.sensor_id.as_deref())
            && filter.outcome.is_none_or(|outcome| outcome.name() == self.outcome)
    }
}

impl RedisQueue {
    /// The newest results of some tasks, newest first.
    pub(super) async fn newest_results(
        &self,
        tasks: &[&str],
        filter: &ResultsFilter,
    ) -> Result<Vec<Box<RawValue>>, QueueError> {
        let mut found = Vec::new();
        for task in tasks {
            found.extend(self.results_of(task, filter).await?);
        }
        found.sort_by_key(|(finished_at, _)| std::cmp::Reverse(*finished_at));
        found.truncate(filter.limit);
        Ok(found.into_iter().map(|(_, result)| result).collect())
    }

    async fn results_of(&self, task: &str, filter: &ResultsFilter) -> Result<Vec<(u64, Box<RawValue>)>, QueueError> {
        let whole = filter.sensor_id.is_some() || filter.since.is_some() || filter.outcome.is_some();
        let page = if whole { PAGE } else { filter.limit.clamp(1, PAGE) };
        let mut found = Vec::new();
        // New results move the older ones down while this pages: what was seen is not shown twice.
        let mut seen = BTreeSet::new();
        let mut start = 0;
        loop {
            let (listed, texts) = self.page(task, start, page).await?;
            for text in texts {
                let peek: Peek<'_> = parse(&text)?;
                if filter.ends_before(peek.finished_at) {
                    return Ok(found);
                }
                if peek.is_wanted(filter) && seen.insert(peek.job_id.clone().into_owned()) {
                    found.push((peek.finished_at, raw(text.clone())?));
                }
                if found.len() >= filter.limit {
                    return Ok(found);
                }
            }
            if listed < page {
                return Ok(found);
            }
            start += page;
        }
    }

    /// One page of a listing of all results.
    ///
    /// New results move the older ones down, so a page begins with what was listed last: all before that came later, or
    /// was told already.
    pub(super) async fn page_of_results(
        &self,
        task: &str,
        after: Option<&ResultsMark>,
        limit: usize,
    ) -> Result<ResultsPage, QueueError> {
        let mut start = after.map_or(0, |mark| usize::try_from(mark.position).unwrap_or(usize::MAX));
        let listed: HashSet<&str> = after.into_iter().flat_map(|mark| &mark.listed).map(String::as_str).collect();
        let mut is_past = listed.is_empty();
        loop {
            let mut ids = self.listed_ids(task, start, limit.max(1)).await?;
            if ids.is_empty() {
                return Ok(ResultsPage::default());
            }
            start += ids.len();
            if let Some(last) = ids.iter().rposition(|id| listed.contains(id.as_str())) {
                is_past = true;
                ids.drain(..=last);
            }
            if !is_past || ids.is_empty() {
                continue;
            }
            let texts = self.stored_results(task, &ids).await?;
            let results: Result<Vec<_>, _> = texts.into_iter().map(raw).collect();
            // The next page begins with the last of this one.
            let next = ResultsMark { position: (start - 1) as u64, listed: ids };
            return Ok(ResultsPage { results: results?, next: Some(next) });
        }
    }

    /// How many ids are listed from `start` on, and those of their results that are still kept.
    async fn page(&self, task: &str, start: usize, page: usize) -> Result<(usize, Vec<String>), QueueError> {
        let ids = self.listed_ids(task, start, page).await?;
        Ok((ids.len(), self.stored_results(task, &ids).await?))
    }

    async fn listed_ids(&self, task: &str, start: usize, count: usize) -> Result<Vec<String>, QueueError> {
        let last = start.saturating_add(count - 1);
        Ok(self.0.link.get().lrange(self.key(task, "results"), to_index(start), to_index(last)).await?)
    }

    async fn stored_results(&self, task: &str, ids: &[String]) -> Result<Vec<String>, QueueError> {
        if ids.is_empty() {
            return Ok(vec![]);
        }
        let mut command = redis::cmd("MGET");
        for id in ids {
            command.arg(self.key(task, &format!("job:{id}")));
        }
        let texts: Vec<Option<String>> = self.run(&command).await?;
        // A job that has just been handed in again has no result.
        Ok(texts.into_iter().flatten().filter(|text| text.starts_with('{')).collect())
    }
}

fn to_index(position: usize) -> isize {
    isize::try_from(position).unwrap_or(isize::MAX)
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, QueueError> {
    serde_json::from_str(text).map_err(|error| QueueError::Corrupt(error.to_string()))
}
