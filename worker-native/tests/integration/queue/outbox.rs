//! Callbacks: due with the ending of their job, taken by one at a time, until they are done.

use std::time::{Duration, Instant};

use worker_native::queue::{Callback, Entry, Outcome};

use super::rig::{Backend, LONG, Rig, TASK, entry, passed, result, settlement};
use crate::support::until;

const URL: &str = "https://example.org/told?a=1";

async fn job<B: Backend>(rig: &Rig<B>) -> Entry {
    rig.accept(Entry { callback: Some(URL.to_owned()), ..entry() }).await
}

async fn ended<B: Backend>(rig: &Rig<B>) -> Entry {
    let entry = job(rig).await;
    let claimed = rig.take("c1").await;
    rig.done(&claimed).await;
    entry
}

async fn due<B: Backend>(rig: &Rig<B>, lease: Duration) -> Vec<Callback> {
    rig.callbacks(TASK, 10, lease).await.unwrap()
}

fn only(mut due: Vec<Callback>) -> Callback {
    assert_eq!(due.len(), 1, "{due:?}");
    due.remove(0)
}

pub(crate) async fn a_callback_is_due_with_the_settlement<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    let entry = job(&rig).await;
    let claimed = rig.take("c1").await;
    assert!(due(&rig, LONG).await.is_empty(), "not before");
    rig.done(&claimed).await;
    let (_, other) = rig.held_by("c1").await;
    rig.done(&other).await;
    let taken = due(&rig, LONG).await;
    assert_eq!(taken.len(), 1, "and only where one is wanted");
    let Callback { job_id, url, attempt, result, .. } = &taken[0];
    assert_eq!((job_id, url.as_str(), *attempt), (&entry.job_id, URL, 1));
    assert_eq!(result.as_ref().unwrap().get(), settlement(&claimed.ticket, Outcome::Done).result);
    // A later settlement changes nothing here either.
    rig.callback_done(TASK, &taken[0], "sent").await.unwrap();
    rig.finish(&claimed, Outcome::Failed).await;
    assert!(due(&rig, LONG).await.is_empty());
}

pub(crate) async fn a_callback_is_due_with_a_cancellation<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    let entry = job(&rig).await;
    let called_off = result(&entry.job_id, Outcome::Cancelled, 1, "");
    rig.cancel(TASK, &entry.job_id, &called_off).await.unwrap();
    let taken = due(&rig, LONG).await;
    assert_eq!((taken.len(), &taken[0].job_id), (1, &entry.job_id));
    assert_eq!(taken[0].result.as_ref().unwrap().get(), called_off);
}

pub(crate) async fn who_takes_a_callback_has_it_for_a_while<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    let entry = ended(&rig).await;
    let first = only(due(&rig, LONG).await);
    assert!(due(&rig, LONG).await.is_empty());
    rig.callback_later(TASK, &first, Duration::ZERO, "again").await.unwrap();
    let short = Duration::from_millis(30);
    let second = until("the callback", || async { due(&rig, short).await.pop() }).await;
    assert_eq!(second.attempt, 2);
    let third = until("the end of the lease", || async { due(&rig, LONG).await.pop() }).await;
    assert_eq!((third.attempt, &third.job_id), (3, &entry.job_id));
    assert!(third.age >= short, "{:?}", third.age);
}

pub(crate) async fn a_callback_can_be_put_off<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    ended(&rig).await;
    let first = only(due(&rig, Duration::from_millis(1)).await);
    rig.callback_later(TASK, &first, LONG, "503").await.unwrap();
    tokio::task::yield_now().await;
    assert!(due(&rig, LONG).await.is_empty());
    rig.callback_later(TASK, &first, Duration::ZERO, "503").await.unwrap();
    let again = until("the callback", || async { due(&rig, LONG).await.pop() }).await;
    assert_eq!(again.attempt, 2);
}

pub(crate) async fn a_callback_that_is_done_stays_done<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    let entry = ended(&rig).await;
    let first = only(due(&rig, Duration::from_millis(1)).await);
    rig.callback_done(TASK, &first, "sent").await.unwrap();
    assert!(due(&rig, LONG).await.is_empty());
    // Whoever took it before and was slow, says that it went wrong.
    rig.callback_later(TASK, &first, Duration::ZERO, "timeout").await.unwrap();
    assert!(due(&rig, LONG).await.is_empty(), "it needs no more tries");
    assert_eq!(rig.state(&entry.job_id).await.callback.as_deref(), Some("sent"));
    // And of jobs nobody knows there is nothing to note.
    let unknown = Callback { job_id: Entry::new_id(TASK), ..first };
    rig.callback_later(TASK, &unknown, Duration::ZERO, "?").await.unwrap();
    rig.callback_done(TASK, &unknown, "?").await.unwrap();
    assert!(due(&rig, LONG).await.is_empty());
    assert!(rig.job(TASK, &unknown.job_id).await.unwrap().is_none());
}

pub(crate) async fn a_note_is_shown_with_the_job<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    let entry = ended(&rig).await;
    assert_eq!(rig.state(&entry.job_id).await.callback, None);
    let first = only(due(&rig, LONG).await);
    rig.callback_later(TASK, &first, LONG, "503, tried again").await.unwrap();
    assert_eq!(rig.state(&entry.job_id).await.callback.as_deref(), Some("503, tried again"));
    rig.callback_done(TASK, &first, "given up: 503 \"é\"").await.unwrap();
    let state = rig.state(&entry.job_id).await;
    assert_eq!((state.state.as_str(), state.callback.as_deref()), ("done", Some("given up: 503 \"é\"")));
}

pub(crate) async fn only_so_many_callbacks_are_taken<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    let mut jobs = Vec::new();
    for _ in 0..3 {
        jobs.push(ended(&rig).await.job_id);
    }
    let mut taken = Vec::new();
    for size in [2, 1, 0] {
        let some = rig.callbacks(TASK, 2, LONG).await.unwrap();
        assert_eq!(some.len(), size);
        taken.extend(some.into_iter().map(|one| one.job_id));
    }
    taken.sort();
    jobs.sort();
    assert_eq!(taken, jobs);
}

pub(crate) async fn a_requeued_job_calls_back_once_more<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    let entry = job(&rig).await;
    let claimed = rig.take("c1").await;
    rig.finish(&claimed, Outcome::Dead).await;
    // Taken, and its receiver is slow: it is noted only when the job has ended once more.
    let first = only(due(&rig, LONG).await);
    // Endings are told apart by the millisecond.
    passed(Duration::from_millis(2), Instant::now()).await;
    assert_eq!(rig.requeue(TASK, std::slice::from_ref(&entry.job_id)).await.unwrap(), [true]);
    assert!(due(&rig, LONG).await.is_empty());
    let claimed = rig.take("c1").await;
    rig.done(&claimed).await;
    rig.callback_done(TASK, &first, "sent").await.unwrap();
    rig.callback_later(TASK, &first, LONG, "timeout").await.unwrap();
    let again = only(due(&rig, LONG).await);
    assert_eq!(again.attempt, 1);
    assert!(again.ended_at > first.ended_at, "told apart from the first: {} {}", again.ended_at, first.ended_at);
    assert!(again.result.as_ref().unwrap().get().contains("\"done\""));
    assert_eq!(rig.state(&entry.job_id).await.callback, None, "nothing was said of it yet");
}
