//! What is sent twice under one key counts once; and what processes share beside jobs.

use std::time::Duration;

use tokio::task::JoinSet;
use worker_native::queue::{Begun, Enqueued, NewFact, Stored};

use super::rig::{Backend, LONG, Rig, TASK, counted, depths, entry, new_once};
use crate::support::until;

const FIRST: &str = "print1";
const OTHER: &str = "print2";

fn stored(body: &str) -> Stored {
    Stored { status: 200, body: body.to_owned() }
}

pub(crate) async fn a_repetition_gets_the_first_answer<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    let mut job = new_once(entry(), "k", FIRST);
    if let Some(once) = &mut job.once {
        once.answer.body = "{\"text\":\"é 1 2\\n\",\"x\": [ ]}".to_owned();
    }
    let answer = job.once.clone().unwrap().answer;
    assert!(matches!(rig.hand_in(job).await, Enqueued::Accepted(_)));
    for _ in 0..2 {
        assert_eq!(rig.hand_in(new_once(entry(), "k", FIRST)).await, Enqueued::Replayed(answer.clone()));
    }
    assert!(matches!(rig.hand_in(new_once(entry(), "another", FIRST)).await, Enqueued::Accepted(_)));
    assert_eq!(counted(&rig.numbers().await.depths), depths(&[("fast", 2)]));
}

pub(crate) async fn another_request_under_the_same_key_is_a_conflict<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    rig.hand_in(new_once(entry(), "k", FIRST)).await;
    let other = entry();
    assert_eq!(rig.hand_in(new_once(other.clone(), "k", OTHER)).await, Enqueued::Conflict);
    assert!(rig.job(TASK, &other.job_id).await.unwrap().is_none());
    assert_eq!(counted(&rig.numbers().await.depths), depths(&[("fast", 1)]));
}

pub(crate) async fn a_key_holds_when_its_job_has_long_ended<B: Backend>() {
    let rig = Rig::<B>::start(&[("RESULT_TTL_SECONDS", "1")]).await;
    let job = new_once(entry(), "k", FIRST);
    rig.hand_in(job.clone()).await;
    let claimed = rig.take("c1").await;
    rig.done(&claimed).await;
    let id = &job.entry.job_id;
    until("the result's end", || async { rig.job(TASK, id).await.unwrap().is_none().then_some(()) }).await;
    let answer = job.once.unwrap().answer;
    assert_eq!(rig.hand_in(new_once(entry(), "k", FIRST)).await, Enqueued::Replayed(answer));
}

pub(crate) async fn a_key_is_forgotten_with_its_time<B: Backend>() {
    let rig = Rig::<B>::start(&[("IDEMPOTENCY_TTL_SECONDS", "1")]).await;
    rig.hand_in(new_once(entry(), "k", FIRST)).await;
    assert_eq!(rig.begin(TASK, "called", FIRST, LONG).await.unwrap(), Begun::New);
    rig.finish_call("called", Some(stored("x"))).await;
    until("the key's end", || async {
        let answer = rig.hand_in(new_once(entry(), "k", OTHER)).await;
        matches!(answer, Enqueued::Accepted(_)).then_some(())
    })
    .await;
    until("the call's end", || async {
        (rig.begin(TASK, "called", OTHER, LONG).await.unwrap() == Begun::New).then_some(())
    })
    .await;
}

pub(crate) async fn a_thousand_at_once_under_one_key_are_one_job<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    let mut callers = JoinSet::new();
    for _ in 0..1_000 {
        let queue = rig.shared();
        callers.spawn(async move {
            let job = new_once(entry(), "k", FIRST);
            let own = job.once.clone().unwrap().answer;
            match queue.enqueue(TASK, vec![job]).await.unwrap().remove(0) {
                Enqueued::Accepted(_) => (true, own),
                Enqueued::Replayed(answer) => (false, answer),
                other @ (Enqueued::Conflict | Enqueued::Full(_)) => panic!("{other:?}"),
            }
        });
    }
    let answers = callers.join_all().await;
    assert_eq!(answers.iter().filter(|(accepted, _)| *accepted).count(), 1);
    assert!(answers.iter().all(|(_, answer)| answer == &answers[0].1), "all got one answer");
    let claimed = rig.claim(TASK, "c1", 10).await.unwrap();
    assert_eq!(claimed.len(), 1);
    assert!(answers[0].1.body.contains(&claimed[0].ticket.job_id), "and it is that of the job");
}

pub(crate) async fn a_repetition_in_the_same_hand_in_is_one<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    let first = new_once(entry(), "k", FIRST);
    let answer = first.once.clone().unwrap().answer;
    let jobs = vec![first, new_once(entry(), "k", FIRST), new_once(entry(), "k", OTHER)];
    let answers = rig.enqueue(TASK, jobs).await.unwrap();
    assert!(matches!(answers[0], Enqueued::Accepted(_)), "{answers:?}");
    assert_eq!(answers[1..], [Enqueued::Replayed(answer), Enqueued::Conflict]);
}

pub(crate) async fn facts_are_set_changed_and_removed<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    assert!(rig.facts(TASK, "accuracy").await.unwrap().is_empty());
    rig.set_fact(TASK, "accuracy", "fast", Some("0.9")).await.unwrap();
    rig.set_fact(TASK, "accuracy", "accurate", Some("0.95")).await.unwrap();
    rig.set_fact(TASK, "accuracy", "fast", Some("0.8 \"é\"")).await.unwrap();
    rig.set_fact(TASK, "rollout", "fast", Some("x")).await.unwrap();
    let mut facts = rig.facts(TASK, "accuracy").await.unwrap();
    facts.sort();
    let pair = |field: &str, value: &str| (field.to_owned(), value.to_owned());
    assert_eq!(facts, [pair("accurate", "0.95"), pair("fast", "0.8 \"é\"")]);
    rig.set_fact(TASK, "accuracy", "fast", None).await.unwrap();
    rig.set_fact(TASK, "accuracy", "unknown", None).await.unwrap();
    assert_eq!(rig.facts(TASK, "accuracy").await.unwrap(), [pair("accurate", "0.95")]);
    assert!(rig.facts("other", "accuracy").await.unwrap().is_empty());
}

pub(crate) async fn facts_of_several_tasks_are_set_at_once<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    let fact = |task: &str, name: &str, field: &str, value: Option<&str>| NewFact {
        task: task.to_owned(),
        name: name.to_owned(),
        field: field.to_owned(),
        value: value.map(str::to_owned),
    };
    rig.set_facts(Vec::new()).await.unwrap();
    rig.set_fact(TASK, "routing", "gone", Some("1")).await.unwrap();
    rig.set_facts(vec![
        fact(TASK, "routing", "plan", Some("a \"é\"")),
        fact("*", "routing", "process.1", Some("x")),
        fact(TASK, "profile", "fast", Some("1:2:3:4")),
        fact(TASK, "routing", "gone", None),
        fact(TASK, "routing", "unknown", None),
        fact("other", "routing", "plan", Some("first")),
        fact("other", "routing", "plan", Some("last")),
        fact("other", "routing", "twice", Some("set")),
        fact("other", "routing", "twice", None),
    ])
    .await
    .unwrap();
    let pair = |field: &str, value: &str| (field.to_owned(), value.to_owned());
    assert_eq!(rig.facts(TASK, "routing").await.unwrap(), [pair("plan", "a \"é\"")]);
    assert_eq!(rig.facts(TASK, "profile").await.unwrap(), [pair("fast", "1:2:3:4")]);
    assert_eq!(rig.facts("*", "routing").await.unwrap(), [pair("process.1", "x")]);
    assert_eq!(rig.facts("other", "routing").await.unwrap(), [pair("plan", "last")], "the later counts");
}

impl<B: Backend> Rig<B> {
    async fn finish_call(&self, key: &str, answer: Option<Stored>) {
        worker_native::queue::Replays::finish(&*self.shared(), TASK, key, FIRST, answer).await.unwrap();
    }
}

pub(crate) async fn a_call_is_new_then_in_flight_then_replayed<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    assert_eq!(rig.begin(TASK, "k", FIRST, LONG).await.unwrap(), Begun::New);
    assert_eq!(rig.begin(TASK, "k", FIRST, LONG).await.unwrap(), Begun::InFlight);
    assert_eq!(rig.begin(TASK, "k", OTHER, LONG).await.unwrap(), Begun::Conflict);
    assert_eq!(rig.begin(TASK, "k2", FIRST, LONG).await.unwrap(), Begun::New, "another key");
    let body = "{\"answer\":\"line\\n é 7 8\"}\n";
    rig.finish_call("k", Some(stored(body))).await;
    for _ in 0..2 {
        assert_eq!(rig.begin(TASK, "k", FIRST, LONG).await.unwrap(), Begun::Replayed(stored(body)));
    }
    assert_eq!(rig.begin(TASK, "k", OTHER, LONG).await.unwrap(), Begun::Conflict);
    rig.finish_call("k2", Some(stored(""))).await;
    assert_eq!(rig.begin(TASK, "k2", FIRST, LONG).await.unwrap(), Begun::Replayed(stored("")));
}

pub(crate) async fn a_call_that_failed_is_forgotten<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    assert_eq!(rig.begin(TASK, "k", FIRST, LONG).await.unwrap(), Begun::New);
    rig.finish_call("k", None).await;
    assert_eq!(rig.begin(TASK, "k", OTHER, LONG).await.unwrap(), Begun::New);
}

pub(crate) async fn a_call_that_never_finished_may_be_made_again<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    assert_eq!(rig.begin(TASK, "k", FIRST, Duration::from_millis(50)).await.unwrap(), Begun::New);
    let again = until("the end of patience", || async {
        let begun = rig.begin(TASK, "k", FIRST, LONG).await.unwrap();
        (begun != Begun::InFlight).then_some(begun)
    })
    .await;
    assert_eq!(again, Begun::New);
}

pub(crate) async fn only_the_call_itself_is_finished<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    assert_eq!(rig.begin(TASK, "k", OTHER, LONG).await.unwrap(), Begun::New);
    // Somebody whose patience was over, and whose key is another call's now.
    rig.finish_call("k", Some(stored("late"))).await;
    assert_eq!(rig.begin(TASK, "k", OTHER, LONG).await.unwrap(), Begun::InFlight);
    rig.finish_call("k", None).await;
    assert_eq!(rig.begin(TASK, "k", OTHER, LONG).await.unwrap(), Begun::InFlight);
}
