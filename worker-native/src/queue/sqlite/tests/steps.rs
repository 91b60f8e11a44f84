//! Steps that depend on the file's own clock, order and counters.

use super::*;

#[tokio::test]
async fn a_job_goes_its_way_and_the_numbers_follow() {
    let bench = Bench::new(&[]);
    let job = Entry { callback: Some("https://a.example".to_owned()), ..of_tenant("t1") };
    let id = bench.put(job.clone()).await;
    assert_eq!(bench.state(&id).await.as_deref(), Some("queued"));
    bench.pass(40);
    let claimed = bench.claim(9).await.remove(0);
    assert_eq!(claimed.entry.as_ref(), Ok(&job));
    assert_eq!((claimed.attempt, claimed.waited), (1, Duration::from_millis(40)));
    assert_eq!(claimed.ticket.callback.as_deref(), Some("https://a.example"));
    let counts = bench.counts().await;
    assert_eq!((counts.depths["fast"], counts.running["fast"], counts.bytes), (1, 1, claimed.ticket.bytes));
    assert!(bench.end(&claimed, Outcome::Done).await);
    assert!(!bench.end(&claimed, Outcome::Failed).await, "a second result");
    let state = bench.queue.job(TASK, &id).await.unwrap().unwrap();
    assert_eq!((state.state.as_str(), state.attempt, state.waited), ("done", 1, None));
    assert!(state.result.unwrap().get().contains("\"done\""));
    let counts = bench.counts().await;
    assert_eq!((counts.depths, counts.running, counts.bytes, counts.settled), (Depths::new(), Depths::new(), 0, 1));
    let again = bench.queue.enqueue(TASK, vec![new_job(job)]).await.unwrap();
    assert!(matches!(&again[..], [Enqueued::Accepted(depths)] if depths.is_empty()), "{again:?}");
    let due = bench.queue.callbacks(TASK, 9, Duration::from_secs(1)).await.unwrap();
    assert_eq!((due.len(), due[0].job_id.as_str(), due[0].attempt), (1, id.as_str(), 1));
}

#[tokio::test]
async fn leases_end_by_the_clock_and_a_job_is_its_holders_alone() {
    let bench = Bench::new(&[("LEASE_MS", "1000")]);
    bench.put(entry("fast")).await;
    let first = bench.claim(1).await.remove(0);
    bench.pass(999);
    assert!(bench.queue.reclaim(TASK, "c2", 9).await.unwrap().is_empty(), "the lease is not over");
    assert_eq!(bench.queue.renew(TASK, "c1", std::slice::from_ref(&first.ticket)).await.unwrap(), [true]);
    bench.pass(999);
    assert!(bench.queue.reclaim(TASK, "c2", 9).await.unwrap().is_empty(), "it was renewed");
    bench.pass(1);
    let second = bench.queue.reclaim(TASK, "c2", 9).await.unwrap().remove(0);
    assert_eq!(second.attempt, 2);
    let retry = |job: &Claimed| Retry {
        ticket: job.ticket.clone(),
        delay: Duration::from_millis(100),
        charged: true,
        failures: vec![],
    };
    assert_eq!(bench.queue.renew(TASK, "c1", std::slice::from_ref(&first.ticket)).await.unwrap(), [false]);
    assert_eq!(bench.queue.retry(TASK, "c1", vec![retry(&first)]).await.unwrap(), [false]);
    bench.queue.release(TASK, "c1", std::slice::from_ref(&first.ticket)).await.unwrap();
    assert_eq!(bench.counts().await.running["fast"], 1);
    assert_eq!(bench.queue.renew("other-task", "c2", std::slice::from_ref(&second.ticket)).await.unwrap(), [false]);
    assert_eq!(bench.queue.retry(TASK, "c2", vec![retry(&second)]).await.unwrap(), [true]);
    let counts = bench.counts().await;
    assert_eq!((counts.running.get("fast"), counts.delayed, counts.depths["fast"]), (None, 1, 1));
    // Its result counts all the same.
    assert!(bench.end(&first, Outcome::Done).await);
    let counts = bench.counts().await;
    assert_eq!((counts.delayed, counts.depths), (0, Depths::new()));
}

#[tokio::test]
async fn pauses_end_by_the_clock_and_keep_the_place_in_line() {
    let bench = Bench::new(&[]);
    let first = bench.put(entry("fast")).await;
    let second = bench.put(entry("fast")).await;
    let job = bench.claim(1).await.remove(0);
    let failure = crate::queue::job::AttemptError { attempt: 1, at: 5, error: "no".to_owned() };
    let retry = Retry {
        ticket: job.ticket.clone(),
        delay: Duration::from_millis(500),
        charged: true,
        failures: vec![failure.clone()],
    };
    bench.queue.retry(TASK, "c1", vec![retry]).await.unwrap();
    let state = bench.queue.job(TASK, &first).await.unwrap().unwrap();
    assert_eq!((state.state.as_str(), state.attempt, state.failures.as_slice()), ("retrying", 1, &[failure][..]));
    bench.pass(499);
    assert_eq!(bench.ids(1).await, [second.as_str()]);
    bench.put(entry("fast")).await;
    bench.pass(1);
    let back = bench.claim(1).await.remove(0);
    assert_eq!((back.ticket.job_id.as_str(), back.attempt, back.failures.len()), (first.as_str(), 2, 1));
}

#[tokio::test]
async fn what_is_handed_back_goes_before_all_others_and_is_not_charged() {
    let bench = Bench::new(&[]);
    let low = bench.put(Entry { priority: Priority::Low, ..entry("fast") }).await;
    let job = bench.claim(1).await.remove(0);
    let high = bench.put(Entry { priority: Priority::High, ..entry("fast") }).await;
    bench.queue.release(TASK, "c1", &[job.ticket]).await.unwrap();
    assert_eq!(bench.state(&low).await.as_deref(), Some("queued"));
    let claimed = bench.claim(9).await;
    assert_eq!(claimed.iter().map(|job| job.ticket.job_id.as_str()).collect::<Vec<_>>(), [low.as_str(), &high]);
    assert_eq!(claimed[0].attempt, 1);
}

#[tokio::test]
async fn a_cancelled_job_leaves_its_place_to_the_next_one() {
    let bench = Bench::new(&[]);
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(bench.put(of_tenant("t1")).await);
    }
    let cancel = |id: &str| {
        let (queue, id) = (bench.queue.clone(), id.to_owned());
        async move { queue.cancel(TASK, &id, r#"{"outcome":"cancelled"}"#).await.unwrap() }
    };
    assert_eq!(cancel(&ids[0]).await, Cancelled::Done { running: false });
    assert_eq!(cancel(&ids[2]).await, Cancelled::Done { running: false });
    assert_eq!(cancel(&ids[0]).await, Cancelled::Ended("cancelled".to_owned()));
    assert_eq!(cancel("pump-anomaly.none").await, Cancelled::Unknown);
    assert_eq!(bench.ids(9).await, [ids[1].as_str(), ids[3].as_str()]);
    assert_eq!(cancel(&ids[3]).await, Cancelled::Done { running: true });
    let counts = bench.counts().await;
    assert_eq!((counts.depths["fast"], counts.running["fast"], counts.settled), (1, 1, 3));
}

#[tokio::test]
async fn tenants_take_turns_over_claims_and_one_of_them_cannot_fill_the_queue() {
    let bench = Bench::new(&[("QUEUE_MAX_DEPTH", "10"), ("TENANT_MAX_PERCENT", "60")]);
    for _ in 0..6 {
        bench.put(of_tenant("a")).await;
    }
    let seventh = bench.queue.enqueue(TASK, vec![new_job(of_tenant("a"))]).await.unwrap();
    assert!(matches!(&seventh[..], [Enqueued::Full(full)] if full.bound == Bound::Tenant && full.depth == 6));
    for _ in 0..3 {
        bench.put(of_tenant("b")).await;
    }
    bench.put(entry("fast")).await;
    let full = bench.queue.enqueue(TASK, vec![new_job(entry("fast"))]).await.unwrap();
    assert!(matches!(&full[..], [Enqueued::Full(full)] if full.bound == Bound::Jobs && full.depth == 10));
    let mut order = String::new();
    for _ in 0..5 {
        for job in bench.claim(2).await {
            order.push_str(job.entry.unwrap().tenant.as_deref().unwrap_or("-"));
        }
    }
    assert_eq!(order, "-abababaaa");
}

#[tokio::test]
async fn what_has_expired_is_not_shown_and_goes_in_steps() {
    let settings = [("RESULT_TTL_SECONDS", "100"), ("DEAD_TTL_SECONDS", "300"), ("IDEMPOTENCY_TTL_SECONDS", "50")];
    let bench = Bench::new(&settings);
    let once = Once {
        key: "k".to_owned(),
        fingerprint: "f".to_owned(),
        answer: Stored { status: 202, body: "{}".to_owned() },
    };
    let done = entry("fast");
    let keyed = NewJob { once: Some(once), ..new_job(done.clone()) };
    bench.queue.enqueue(TASK, vec![keyed.clone()]).await.unwrap();
    let again = bench.queue.enqueue(TASK, vec![keyed.clone()]).await.unwrap();
    assert!(matches!(&again[..], [Enqueued::Replayed(answer)] if answer.status == 202));
    let dead = bench.put(entry("fast")).await;
    let awaited = bench.put(entry("fast")).await;
    let jobs = bench.claim(9).await;
    assert!(bench.end(&jobs[0], Outcome::Done).await && bench.end(&jobs[1], Outcome::Dead).await);
    let settlement = Settlement { awaited: true, ..settlement(&jobs[2], Outcome::Done) };
    bench.queue.settle(TASK, vec![settlement]).await.unwrap();
    let listed = bench.queue.results(&[TASK], &ResultsFilter { limit: 9, ..ResultsFilter::default() }).await.unwrap();
    assert_eq!(listed.len(), 2, "awaited results are not listed");

    bench.pass(60_000);
    assert_eq!(bench.state(&awaited).await, None);
    let fresh = bench.queue.enqueue(TASK, vec![keyed]).await.unwrap();
    assert!(matches!(&fresh[..], [Enqueued::Accepted(_)]), "the key is forgotten, the job is there: {fresh:?}");
    bench.pass(40_000);
    assert_eq!((bench.state(&done.job_id).await, bench.state(&dead).await), (None, None));
    let letter = bench.queue.dead_letter(TASK, &dead).await.unwrap().unwrap();
    assert!(letter.result.get().contains("dead") && letter.entry.is_ok());
    bench.queue.tend(TASK).await.unwrap();
    assert_eq!(rows(&bench, "SELECT (SELECT count(*) FROM job) + (SELECT count(*) FROM result)").await, 0);
    assert_eq!(rows(&bench, "SELECT count(*) FROM body").await, 0);

    // A dead letter outlives the result shown for it, and goes by its own time.
    bench.pass(200_000);
    assert!(bench.queue.dead(TASK, 0, 9).await.unwrap().is_empty());
    assert_eq!(bench.queue.requeue(TASK, std::slice::from_ref(&dead)).await.unwrap(), [false]);
    bench.queue.tend(TASK).await.unwrap();
    assert_eq!(bench.counts().await.dead, 0);
    assert_eq!(rows(&bench, "SELECT (SELECT count(*) FROM dead) + (SELECT count(*) FROM once)").await, 0);
}

#[tokio::test]
async fn dead_letters_are_bounded_and_can_be_handed_in_again() {
    let bench = Bench::new(&[("DEAD_MAX", "2")]);
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(bench.put(of_tenant("t1")).await);
        let job = bench.claim(1).await.remove(0);
        bench.end(&job, Outcome::Dead).await;
    }
    let kept: Vec<String> =
        bench.queue.dead(TASK, 0, 9).await.unwrap().into_iter().map(|letter| letter.job_id).collect();
    assert_eq!(kept, [ids[2].as_str(), ids[1].as_str()]);
    assert_eq!(bench.queue.requeue(TASK, &ids).await.unwrap(), [false, true, true]);
    assert_eq!(bench.state(&ids[1]).await.as_deref(), Some("queued"));
    let counts = bench.counts().await;
    assert_eq!((counts.dead, counts.depths["fast"]), (0, 2));
    let claimed = bench.claim(9).await;
    assert_eq!((claimed.len(), claimed[0].attempt, claimed[0].left), (2, 1, None));
    assert!(bench.end(&claimed[0], Outcome::Done).await);
    assert_eq!(bench.state(&ids[1]).await.as_deref(), Some("done"));
}

#[tokio::test]
async fn waiting_ends_with_a_job_and_with_a_pause() {
    let bench = Bench::new(&[]);
    let long = Duration::from_secs(600);
    let (waited, _) = tokio::join!(bench.queue.wait(TASK, long), bench.put(entry("fast")));
    waited.unwrap();
    // There is one already.
    bench.queue.wait(TASK, long).await.unwrap();
    let job = bench.claim(1).await.remove(0);
    let retry = Retry { ticket: job.ticket, delay: Duration::from_millis(20), charged: true, failures: vec![] };
    let (waited, retried) = tokio::join!(bench.queue.wait(TASK, long), bench.queue.retry(TASK, "c1", vec![retry]));
    waited.unwrap();
    assert_eq!(retried.unwrap(), [true]);
    bench.pass(20);
    assert_eq!(bench.claim(1).await.len(), 1);
    bench.queue.wait(TASK, Duration::from_millis(1)).await.unwrap();
}

#[tokio::test]
async fn changes_are_told_after_the_commit() {
    let bench = Bench::new(&[]);
    let mut changes = bench.queue.watch(TASK).await.unwrap();
    let id = bench.put(entry("fast")).await;
    let job = bench.claim(1).await.remove(0);
    assert_eq!(changes.recv().await.unwrap(), Change::Jobs([id.clone()].into()));
    assert_eq!(bench.state(&id).await.as_deref(), Some("running"));
    bench.end(&job, Outcome::Done).await;
    assert_eq!(changes.recv().await.unwrap(), Change::Jobs([id.clone()].into()));
    assert_eq!(bench.state(&id).await.as_deref(), Some("done"));
}

#[tokio::test]
async fn results_are_listed_by_settlement_as_far_as_the_history_goes() {
    let bench = Bench::new(&[("RESULTS_HISTORY", "7")]);
    let mut ids = Vec::new();
    for number in 0..10 {
        ids.insert(0, bench.put(entry("fast")).await);
        let job = bench.claim(1).await.remove(0);
        bench.end(&job, if number % 2 == 0 { Outcome::Done } else { Outcome::Failed }).await;
    }
    let filter = ResultsFilter { limit: 99, ..ResultsFilter::default() };
    assert_eq!(bench.queue.results(&[TASK], &filter).await.unwrap().len(), 7);
    let failed = ResultsFilter { outcome: Some(Outcome::Failed), ..filter.clone() };
    assert_eq!(bench.queue.results(&[TASK], &failed).await.unwrap().len(), 4);
    let nobody = ResultsFilter { sensor_id: Some("s9".to_owned()), ..filter };
    assert!(bench.queue.results(&[TASK], &nobody).await.unwrap().is_empty());

    let (mut mark, mut pages) = (None, Vec::new());
    loop {
        let page = bench.queue.results_page(TASK, mark.as_ref(), 3).await.unwrap();
        pages.push(page.results.len());
        for result in page.results {
            let result: serde_json::Value = serde_json::from_str(result.get()).unwrap();
            assert_eq!(result["job_id"], ids.remove(0).as_str());
        }
        // What comes meanwhile is not listed.
        bench.put(entry("fast")).await;
        let job = bench.claim(1).await.remove(0);
        bench.end(&job, Outcome::Done).await;
        mark = page.next;
        if mark.is_none() {
            break;
        }
    }
    assert_eq!(pages, [3, 3, 1]);
}

/// One number that SQL tells.
pub(super) async fn rows(bench: &Bench, statement: &'static str) -> i64 {
    bench.queue.read(move |file| file.query_row(statement, [], |row| row.get(0))).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_of_a_job_runs_while_it_waits_to_be_written() {
    let bench = Bench::new(&[]);
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let mut held = Box::pin(bench.queue.0.writer.write(1, move |_: &mut Books| {
        wait.recv().unwrap();
        Ok(())
    }));
    assert!(futures_util::poll!(&mut held).is_pending());
    let job = NewJob { left: Some(Duration::from_millis(100)), ..new_job(entry("fast")) };
    let mut handed_in = Box::pin(bench.queue.enqueue(TASK, vec![job]));
    assert!(futures_util::poll!(&mut handed_in).is_pending());
    bench.pass(60);
    go.send(()).unwrap();
    held.await.unwrap();
    handed_in.await.unwrap();
    assert_eq!(bench.claim(1).await[0].left, Some(Duration::from_millis(40)));
}
