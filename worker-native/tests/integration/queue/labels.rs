//! Labels: an answer is found by any process, counts once, and what is believed changes with it.

use std::time::Duration;

use tokio::task::JoinSet;
use worker_native::queue::{Belief, Labelled, NewLabel};

use super::rig::{Backend, LONG, Rig, TASK};
use crate::support::until;

fn belief(head: &str) -> Belief {
    Belief { head: head.to_owned(), tail: format!("{head}'s tail") }
}

fn label(answer: &str, before: &str, after: &str) -> NewLabel {
    NewLabel {
        answer: answer.to_owned(),
        remember: LONG,
        version: "m/1".to_owned(),
        before: before.to_owned(),
        after: belief(after),
    }
}

fn pair(one: &str, two: &str) -> (String, String) {
    (one.to_owned(), two.to_owned())
}

pub(crate) async fn a_kept_answer_is_found_by_its_id<B: Backend>() {
    let mut rig = Rig::<B>::start(&[]).await;
    assert_eq!(rig.kept_answer(TASK, "r1").await.unwrap(), None);
    rig.keep_answers(TASK, vec![pair("r1", "{\"é\": \"\\n 1\"}"), pair("r2", "two")]).await.unwrap();
    rig.keep_answers(TASK, vec![]).await.unwrap();
    assert_eq!(rig.kept_answer(TASK, "r1").await.unwrap().as_deref(), Some("{\"é\": \"\\n 1\"}"));
    rig.keep_answers(TASK, vec![pair("r1", "newer")]).await.unwrap();
    assert_eq!(rig.kept_answer(TASK, "r1").await.unwrap().as_deref(), Some("newer"));
    assert_eq!(rig.kept_answer("other-task", "r1").await.unwrap(), None);
    rig.reopen(&[]).await;
    assert_eq!(rig.kept_answer(TASK, "r2").await.unwrap().as_deref(), Some("two"));
}

pub(crate) async fn the_newest_answers_are_kept_and_no_more<B: Backend>() {
    let rig = Rig::<B>::start(&[("LABEL_RECORDS", "80")]).await;
    for part in 0..40 {
        let answers = (0..10).map(|i| pair(&format!("r{}", part * 10 + i), "x"));
        rig.keep_answers(TASK, answers.collect()).await.unwrap();
    }
    let mut kept = vec![];
    for i in 0..400 {
        if rig.kept_answer(TASK, &format!("r{i}")).await.unwrap().is_some() {
            kept.push(i);
        }
    }
    assert!((60..=90).contains(&kept.len()), "{}", kept.len());
    assert_eq!((kept.first().copied(), kept.last().copied()), (Some(400 - kept.len()), Some(399)), "{kept:?}");
}

pub(crate) async fn an_answer_is_forgotten_with_its_time<B: Backend>() {
    let rig = Rig::<B>::start(&[("LABEL_TTL_SECONDS", "1")]).await;
    rig.keep_answers(TASK, vec![pair("r1", "x")]).await.unwrap();
    until("the answer's end", || async { rig.kept_answer(TASK, "r1").await.unwrap().is_none().then_some(()) }).await;
}

pub(crate) async fn a_label_counts_once_and_moves_the_belief<B: Backend>() {
    let mut rig = Rig::<B>::start(&[]).await;
    assert!(rig.beliefs(TASK).await.unwrap().is_empty());
    assert_eq!(rig.label(TASK, &label("r1", "", "one")).await.unwrap(), Labelled::Counted);
    assert_eq!(rig.label(TASK, &label("r1", "one", "two")).await.unwrap(), Labelled::Before);
    assert_eq!(rig.label(TASK, &label("r2", "one", "two")).await.unwrap(), Labelled::Counted);
    let other = NewLabel { version: "m/2".to_owned(), ..label("r3", "", "else") };
    assert_eq!(rig.label(TASK, &other).await.unwrap(), Labelled::Counted);
    rig.reopen(&[]).await;
    assert_eq!(rig.label(TASK, &label("r2", "two", "three")).await.unwrap(), Labelled::Before);
    let mut beliefs = rig.beliefs(TASK).await.unwrap();
    beliefs.sort();
    assert_eq!(beliefs, [pair("m/1", "two"), pair("m/2", "else")]);
    assert!(rig.beliefs("other-task").await.unwrap().is_empty());
}

pub(crate) async fn who_reckoned_on_an_old_belief_is_given_the_new_one<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    assert_eq!(rig.label(TASK, &label("r1", "x", "y")).await.unwrap(), Labelled::Moved(Belief::default()));
    rig.label(TASK, &label("r1", "", "one")).await.unwrap();
    assert_eq!(rig.label(TASK, &label("r2", "", "two")).await.unwrap(), Labelled::Moved(belief("one")));
    assert_eq!(rig.label(TASK, &label("r2", "one", "two")).await.unwrap(), Labelled::Counted, "it is not labelled yet");
}

pub(crate) async fn of_many_at_once_one_counts<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    let mut callers = JoinSet::new();
    for i in 0..50 {
        let queue = rig.shared();
        // Twenty-five answers, each labelled twice, all reckoned from the same belief.
        callers.spawn(async move { queue.label(TASK, &label(&format!("r{}", i / 2), "", &i.to_string())).await });
    }
    let told: Vec<_> = callers.join_all().await.into_iter().map(Result::unwrap).collect();
    assert_eq!(told.iter().filter(|one| **one == Labelled::Counted).count(), 1, "{told:?}");
}

pub(crate) async fn that_an_answer_was_labelled_is_forgotten_with_its_time<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    let soon = NewLabel { remember: Duration::from_millis(50), ..label("r1", "", "one") };
    rig.label(TASK, &soon).await.unwrap();
    let again = until("its end", || async {
        let told = rig.label(TASK, &label("r1", "one", "two")).await.unwrap();
        (told != Labelled::Before).then_some(told)
    });
    assert_eq!(again.await, Labelled::Counted);
}
