//! Results by id and as a list, as long as they are kept.

use std::time::Duration;

use worker_native::queue::{Entry, Outcome, ResultsFilter, ResultsMark, Settlement};

use super::rig::{Backend, Rig, TASK, all, entry, settlement};
use crate::support::until;

/// A job of a sensor that ended at a time.
async fn ended<B: Backend>(rig: &Rig<B>, task: &str, sensor: &str, finished_at: u64) -> String {
    let job =
        Entry { job_id: Entry::new_id(task), task: task.to_owned(), sensor_id: Some(sensor.to_owned()), ..entry() };
    rig.accept(job.clone()).await;
    let claimed = rig.claim(task, "c1", 1).await.unwrap().remove(0);
    let result = serde_json::json!({
        "job_id": job.job_id, "task": task, "sensor_id": sensor, "outcome": "done", "finished_at": finished_at,
    });
    let settlement = Settlement { result: result.to_string(), ..settlement(&claimed.ticket, Outcome::Done) };
    assert!(rig.settle(task, vec![settlement]).await.unwrap()[0].first);
    job.job_id
}

pub(crate) async fn results_are_listed_newest_first_and_so_many<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    let mut jobs = Vec::new();
    for finished_at in 1..=7 {
        jobs.push(ended(&rig, TASK, "s", finished_at).await);
    }
    jobs.reverse();
    assert_eq!(rig.listed(&all()).await, jobs);
    assert_eq!(rig.listed(&ResultsFilter { limit: 3, ..ResultsFilter::default() }).await, jobs[..3]);
    assert!(rig.listed(&ResultsFilter::default()).await.is_empty(), "none asked for");
}

pub(crate) async fn results_are_listed_by_task_sensor_outcome_and_time<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    // More than a page of one sensor's, with another's in between.
    let mut rare = Vec::new();
    for i in 0..20 {
        rare.push(ended(&rig, TASK, "rare", i * 100).await);
        let jobs: Vec<Entry> = (0..40).map(|_| entry()).collect();
        rig.accept_all(jobs).await;
        let claimed = rig.claim(TASK, "c1", 40).await.unwrap();
        let settlements = claimed.iter().map(|one| settlement(&one.ticket, Outcome::Done)).collect();
        rig.settle(TASK, settlements).await.unwrap();
    }
    rare.reverse();
    let of_rare = ResultsFilter { limit: 5, sensor_id: Some("rare".to_owned()), ..ResultsFilter::default() };
    assert_eq!(rig.listed(&of_rare).await, rare[..5]);
    assert_eq!(rig.listed(&ResultsFilter { limit: 100, ..of_rare.clone() }).await, rare);
    let since = ResultsFilter { limit: 100, since: Some(1_000), ..of_rare.clone() };
    assert_eq!(rig.listed(&since).await, rare[..10], "at or after");
    let nobody = ResultsFilter { limit: 5, sensor_id: Some("nobody".to_owned()), ..ResultsFilter::default() };
    assert!(rig.listed(&nobody).await.is_empty());

    let (failed, claimed) = rig.held_by("c1").await;
    rig.finish(&claimed, Outcome::Failed).await;
    let by_outcome = ResultsFilter { limit: 100, outcome: Some(Outcome::Failed), ..ResultsFilter::default() };
    assert_eq!(rig.listed(&by_outcome).await, [failed.job_id]);

    let other = ended(&rig, "other", "rare", 1_950).await;
    let tasks: &[&str] = &[TASK, "other"];
    let both = rig.results(tasks, &ResultsFilter { limit: 2, ..of_rare.clone() }).await.unwrap();
    let ids: Vec<bool> = both.iter().map(|result| result.get().contains(&other)).collect();
    assert_eq!(ids, [true, false], "of all tasks, newest first");
}

pub(crate) async fn a_late_settlement_hides_no_newer_result<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    let mut jobs = Vec::new();
    // The last one was run long before it could be stored.
    for finished_at in [1_000_100, 1_000_200, 1_000_300, 1_000_000] {
        jobs.push(ended(&rig, TASK, "s", finished_at).await);
    }
    let since = ResultsFilter { limit: 10, since: Some(1_000_200), ..ResultsFilter::default() };
    assert_eq!(rig.listed(&since).await, [jobs[2].clone(), jobs[1].clone()]);
}

pub(crate) async fn what_a_caller_waits_for_is_not_listed<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    let (job, claimed) = rig.held_by("c1").await;
    let awaited = Settlement { awaited: true, ..settlement(&claimed.ticket, Outcome::Done) };
    assert!(rig.settle(TASK, vec![awaited.clone()]).await.unwrap()[0].first);
    assert!(rig.listed(&all()).await.is_empty());
    assert_eq!(rig.state(&job.job_id).await.result.unwrap().get(), awaited.result);
    assert_eq!(rig.numbers().await.settled, 1);
}

pub(crate) async fn no_more_than_the_history_is_listed<B: Backend>() {
    let rig = Rig::<B>::start(&[("RESULTS_HISTORY", "3")]).await;
    let mut jobs = Vec::new();
    for finished_at in 1..=5 {
        jobs.push(ended(&rig, TASK, "s", finished_at).await);
    }
    jobs.reverse();
    until("the list to be bounded", || async {
        rig.tend(TASK).await.unwrap();
        (rig.listed(&all()).await == jobs[..3]).then_some(())
    })
    .await;
    assert_eq!(rig.state(&jobs[4]).await.state, "done", "by its id it can still be read");
}

/// Pages of a listing of all, until it ends or so many have been read.
async fn pages<B: Backend>(
    rig: &Rig<B>,
    mut mark: Option<ResultsMark>,
    size: usize,
    count: usize,
) -> (Vec<String>, Option<ResultsMark>) {
    let mut found = Vec::new();
    for _ in 0..count {
        let page = rig.results_page(TASK, mark.as_ref(), size).await.unwrap();
        assert!(page.results.len() <= size);
        let ids = page.results.iter().map(|result| serde_json::from_str::<serde_json::Value>(result.get()).unwrap());
        found.extend(ids.map(|result| result["job_id"].as_str().unwrap().to_owned()));
        mark = page.next;
        if mark.is_none() {
            break;
        }
    }
    (found, mark)
}

pub(crate) async fn all_results_are_listed_page_by_page_and_once<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    assert_eq!(pages(&rig, None, 10, 10).await.0, [""; 0]);
    let mut jobs = Vec::new();
    for finished_at in 1..=20 {
        jobs.push(ended(&rig, TASK, "s", finished_at).await);
    }
    jobs.reverse();
    for size in [1, 3, 20, 100] {
        assert_eq!(pages(&rig, None, size, 100).await.0, jobs, "by {size}");
    }
    // What comes meanwhile is not listed, however much it is, and moves nothing.
    let (mut found, mut mark) = pages(&rig, None, 4, 1).await;
    while mark.is_some() {
        for _ in 0..7 {
            ended(&rig, TASK, "s", 100).await;
        }
        let (more, next) = pages(&rig, mark, 4, 1).await;
        found.extend(more);
        mark = next;
    }
    assert_eq!(found, jobs);
}

pub(crate) async fn a_result_ends_with_its_time<B: Backend>() {
    let rig = Rig::<B>::start(&[("RESULT_TTL_SECONDS", "1")]).await;
    let (job, claimed) = rig.held_by("c1").await;
    let waiting = rig.accept(entry()).await;
    rig.done(&claimed).await;
    assert_eq!(rig.state(&job.job_id).await.state, "done");
    until("the result's end", || async { rig.job(TASK, &job.job_id).await.unwrap().is_none().then_some(()) }).await;
    assert!(rig.listed(&all()).await.is_empty());
    let cancelled = rig.cancel(TASK, &job.job_id, "{\"outcome\":\"cancelled\"}").await.unwrap();
    assert_eq!(cancelled, worker_native::queue::Cancelled::Unknown);
    // What has not ended has no time.
    assert_eq!(rig.state(&waiting.job_id).await.state, "queued");
    assert!(rig.state(&waiting.job_id).await.waited.unwrap() >= Duration::from_millis(900));
}
