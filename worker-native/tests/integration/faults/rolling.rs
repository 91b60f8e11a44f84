//! A rolling restart behind a load balancer that looks at `/readyz`.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Client;
use tokio_util::sync::CancellationToken;

use super::book::{Book, CALLERS};
use super::rig::{PATIENT, Rig, nothing, reading};

/// How often the balancer looks; services go on for `DRAIN_DELAY_MS` after SIGTERM so that it can notice.
const LOOK: Duration = Duration::from_millis(20);

/// Services in turn, those that are ready.
#[derive(Debug, Default)]
struct Balancer {
    known: Mutex<Vec<String>>,
    ready: Mutex<Vec<String>>,
    turn: AtomicUsize,
}

impl Balancer {
    async fn look(&self, client: &Client) {
        let known = self.known.lock().unwrap().clone();
        let mut ready = Vec::new();
        for base in known {
            let answer = client.get(format!("{base}/readyz")).send().await;
            if answer.is_ok_and(|answer| answer.status() == 200) {
                ready.push(base);
            }
        }
        *self.ready.lock().unwrap() = ready;
    }

    async fn keep_looking(&self, over: &CancellationToken) {
        let client = Client::new();
        let mut pace = tokio::time::interval(LOOK);
        while !over.is_cancelled() {
            pace.tick().await;
            self.look(&client).await;
        }
    }

    fn next(&self) -> Option<String> {
        let ready = self.ready.lock().unwrap();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        ready.get(turn.checked_rem(ready.len())?).cloned()
    }

    async fn call(&self, book: &Book, over: &CancellationToken) {
        let mut pace = tokio::time::interval(LOOK);
        while !over.is_cancelled() {
            pace.tick().await;
            if let Some(base) = self.next() {
                book.hand_in(&base, &reading(), None).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_services_are_replaced_one_by_one_under_load() {
    let rig = Rig::start().await;
    let start = async || rig.service("all", &[("DRAIN_DELAY_MS", "1000"), PATIENT]).await;
    let mut services = vec![start().await, start().await];
    let (balancer, over) = (Balancer::default(), CancellationToken::new());
    balancer.known.lock().unwrap().extend(services.iter().map(|service| service.url("")));
    let restarts = async {
        rig.book.more(50).await;
        for _ in 0..2 {
            let old = services.remove(0);
            let (status, last) = old.terminate().await;
            assert!(status.success(), "{last}");
            services.push(start().await);
            *balancer.known.lock().unwrap() = services.iter().map(|service| service.url("")).collect();
            rig.book.more(50).await;
        }
        over.cancel();
    };
    let callers = join_all((0..CALLERS).map(|_| balancer.call(&rig.book, &over)));
    tokio::join!(restarts, callers, balancer.keep_looking(&over));
    let account = rig.book.close(&services[0].url(""), &nothing()).await;
    let again = rig.book.export(&services[0].url("")).await.iter().filter(|one| one["attempts"] != 1).count();
    let note = format!("behind a balancer that looks at /readyz; {again} jobs started more than once");
    account.tell("15", "rolling restart (SIGTERM) of two services under load", None, &note);
    account.assert_whole();
    assert_eq!((account.refused, account.unanswered), (0, 0), "no caller saw an error: {}", account.last_refusal);
}
