//! Dead letters: kept with what was handed in and why it failed, until somebody decides or their time is over.

use worker_native::queue::{AttemptError, Claimed, DeadLetter, Entry, Outcome, Settlement};

use super::rig::{Backend, Rig, TASK, all, counted, depths, entry, new, of_tenant, settlement};
use crate::support::until;

fn errors() -> Vec<AttemptError> {
    (1..=2).map(|attempt| AttemptError { attempt, at: 10, error: format!("error {attempt} \"é\"") }).collect()
}

async fn bury<B: Backend>(rig: &Rig<B>, claimed: &Claimed) {
    let settlement = Settlement { failures: errors(), ..settlement(&claimed.ticket, Outcome::Dead) };
    assert!(rig.settle(TASK, vec![settlement]).await.unwrap()[0].first);
}

/// A job that died.
async fn dead_job<B: Backend>(rig: &Rig<B>, entry: Entry) -> Entry {
    let entry = rig.accept(entry).await;
    let claimed = rig.take("c1").await;
    bury(rig, &claimed).await;
    entry
}

async fn letters<B: Backend>(rig: &Rig<B>, skip: usize, limit: usize) -> Vec<String> {
    rig.dead(TASK, skip, limit).await.unwrap().into_iter().map(|letter| letter.job_id).collect()
}

pub(crate) async fn a_dead_job_is_kept_with_its_reading_and_its_errors<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    let job = dead_job(&rig, of_tenant("t")).await;
    // Others that ended are no dead letters.
    for outcome in [Outcome::Done, Outcome::Failed, Outcome::Expired] {
        let (_, claimed) = rig.held_by("c1").await;
        rig.finish(&claimed, outcome).await;
    }
    let check = |letter: &DeadLetter| {
        assert_eq!(letter.entry.as_ref().unwrap(), &job);
        assert_eq!((&letter.job_id, &letter.failures), (&job.job_id, &errors()));
        let result: serde_json::Value = serde_json::from_str(letter.result.get()).unwrap();
        assert_eq!((&result["outcome"], &result["job_id"]), (&"dead".into(), &job.job_id.as_str().into()));
        assert!(letter.died_at > 1_600_000_000_000, "Unix milliseconds: {}", letter.died_at);
    };
    let listed = rig.dead(TASK, 0, 10).await.unwrap();
    assert_eq!(listed.len(), 1);
    check(&listed[0]);
    check(&rig.dead_letter(TASK, &job.job_id).await.unwrap().unwrap());
    assert_eq!(rig.state(&job.job_id).await.state, "dead");
    let numbers = rig.numbers().await;
    assert_eq!((counted(&numbers.depths), numbers.bytes, numbers.dead, numbers.settled), (depths(&[]), 0, 1, 4));
}

pub(crate) async fn dead_letters_are_listed_newest_first<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    let mut jobs = Vec::new();
    for _ in 0..5 {
        jobs.push(dead_job(&rig, entry()).await.job_id);
        // Two of the same millisecond have no order.
        let (died, id) = (rig.dead(TASK, 0, 1).await.unwrap()[0].died_at, jobs.last().unwrap());
        assert_eq!(&letters(&rig, 0, 1).await, std::slice::from_ref(id), "died at {died}");
        until("the next millisecond", || async { (now_ms() > died + 1).then_some(()) }).await;
    }
    jobs.reverse();
    assert_eq!(letters(&rig, 0, 10).await, jobs);
    assert_eq!(letters(&rig, 0, 2).await, jobs[..2]);
    assert_eq!(letters(&rig, 3, 10).await, jobs[3..]);
    assert!(letters(&rig, 5, 10).await.is_empty());
    assert!(letters(&rig, usize::MAX, usize::MAX).await.is_empty());
}

fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(now.as_millis()).unwrap()
}

pub(crate) async fn a_requeued_letter_is_a_new_job_without_its_old_result<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    let mut job = new(of_tenant("t"));
    job.left = Some(super::rig::LONG);
    let job = (rig.hand_in(job.clone()).await, job.entry).1;
    let first = rig.take("c1").await;
    bury(&rig, &first).await;
    let unknown = Entry::new_id(TASK);
    let ids = [unknown, job.job_id.clone(), job.job_id.clone()];
    assert_eq!(rig.requeue(TASK, &ids).await.unwrap(), [false, true, false], "once");
    let state = rig.state(&job.job_id).await;
    assert_eq!((state.state.as_str(), state.attempt, state.result.is_none()), ("queued", 0, true));
    assert!(state.failures.is_empty(), "a new job");
    assert!(rig.listed(&all()).await.is_empty(), "the old result is gone");
    assert!(letters(&rig, 0, 10).await.is_empty());
    assert!(rig.dead_letter(TASK, &job.job_id).await.unwrap().is_none());
    let numbers = rig.numbers().await;
    assert_eq!((counted(&numbers.depths), numbers.dead), (depths(&[("fast", 1)]), 0));
    assert!(numbers.bytes > 0);
    let again = rig.take("c2").await;
    assert_eq!((again.entry.as_ref().unwrap(), again.attempt, again.left), (&job, 1, None), "and no deadline");
    assert!(again.failures.is_empty());
    rig.done(&again).await;
    assert_eq!(rig.state(&job.job_id).await.state, "done");
    assert_eq!(rig.listed(&all()).await, [job.job_id]);
    let numbers = rig.numbers().await;
    assert_eq!((counted(&numbers.depths), numbers.bytes, numbers.settled), (depths(&[]), 0, 2));
}

pub(crate) async fn a_requeued_job_may_die_again<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    let job = dead_job(&rig, entry()).await;
    for _ in 0..3 {
        assert_eq!(rig.requeue(TASK, std::slice::from_ref(&job.job_id)).await.unwrap(), [true]);
        let claimed = rig.take("c1").await;
        bury(&rig, &claimed).await;
        assert_eq!(letters(&rig, 0, 10).await, std::slice::from_ref(&job.job_id));
        assert_eq!(rig.listed(&all()).await, std::slice::from_ref(&job.job_id), "listed once");
        assert_eq!(rig.numbers().await.dead, 1);
    }
}

pub(crate) async fn a_dropped_letter_is_gone_and_its_result_stays<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    let (job, other) = (dead_job(&rig, entry()).await, dead_job(&rig, entry()).await);
    let ids = [job.job_id.clone(), Entry::new_id(TASK), job.job_id.clone()];
    assert_eq!(rig.drop_dead(TASK, &ids).await.unwrap(), [true, false, false]);
    assert_eq!(letters(&rig, 0, 10).await, [other.job_id]);
    assert!(rig.dead_letter(TASK, &job.job_id).await.unwrap().is_none());
    assert_eq!(rig.numbers().await.dead, 1);
    assert_eq!(rig.state(&job.job_id).await.state, "dead");
    assert_eq!(rig.requeue(TASK, &[job.job_id]).await.unwrap(), [false]);
}

pub(crate) async fn no_more_than_so_many_are_kept<B: Backend>() {
    let rig = Rig::<B>::start(&[("DEAD_MAX", "2")]).await;
    let mut jobs = Vec::new();
    for _ in 0..4 {
        jobs.push(dead_job(&rig, entry()).await.job_id);
    }
    assert_eq!(letters(&rig, 0, 10).await, [jobs[3].clone(), jobs[2].clone()]);
    assert_eq!(rig.numbers().await.dead, 2);
    assert!(rig.dead_letter(TASK, &jobs[0]).await.unwrap().is_none());
    assert_eq!(rig.requeue(TASK, &jobs).await.unwrap(), [false, false, true, true]);
    assert_eq!(rig.numbers().await.dead, 0);
    // In one settlement more than may be kept.
    let claimed = rig.claim(TASK, "c1", 10).await.unwrap();
    let mut more = Vec::new();
    for _ in 0..3 {
        rig.accept(entry()).await;
        more.push(rig.take("c1").await);
    }
    let all = claimed.iter().chain(&more).map(|one| settlement(&one.ticket, Outcome::Dead)).collect();
    rig.settle(TASK, all).await.unwrap();
    assert_eq!((letters(&rig, 0, 10).await.len(), rig.numbers().await.dead), (2, 2));
}

pub(crate) async fn dead_letters_end_with_their_time<B: Backend>() {
    let rig = Rig::<B>::start(&[("DEAD_TTL_SECONDS", "1")]).await;
    let job = dead_job(&rig, entry()).await;
    until("the letter's end", || async {
        let gone = rig.dead_letter(TASK, &job.job_id).await.unwrap().is_none();
        (gone && letters(&rig, 0, 10).await.is_empty()).then_some(())
    })
    .await;
    assert_eq!(rig.requeue(TASK, &[job.job_id]).await.unwrap(), [false]);
    until("it to be off the count", || async {
        rig.tend(TASK).await.unwrap();
        (rig.numbers().await.dead == 0).then_some(())
    })
    .await;
}

pub(crate) async fn letters_of_unknown_jobs_are_none<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    let ids = [Entry::new_id(TASK)];
    assert!(rig.dead_letter(TASK, &ids[0]).await.unwrap().is_none());
    assert_eq!(rig.requeue(TASK, &ids).await.unwrap(), [false]);
    assert_eq!(rig.drop_dead(TASK, &ids).await.unwrap(), [false]);
    assert!(letters(&rig, 0, 10).await.is_empty());
}
