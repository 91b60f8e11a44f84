//! Chaos: jobs are handed in over HTTP while processes are killed, Redis is restarted and connections are cut; in the
//! end every accepted job must have exactly one visible result.
//!
//! `script/test` runs the short version, `script/test --chaos` the full one. It is a program of its own, and no test
//! among others, since its output is a table, and nothing else should run beside it.
//! What it promises is counted, never sampled: by each job's id, by an export of all results, and by the counters.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so by panicking"
)]

mod account;
mod args;
mod clients;
mod proxy;
mod service;
#[expect(dead_code, reason = "the integration tests use all of it")]
#[path = "../integration"]
mod integration {
    pub(crate) mod support;
}

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use account::Account;
use args::{Args, Store};
use clients::Clients;
use integration::support;
use proxy::CuttingProxy;
use service::{Place, Service};
use support::models::Models;
use support::redis::{Redis, free_port};

/// Processes that run jobs beside the one that takes them in; they are killed in turns.
const WORKERS: usize = 2;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let Some(args) = Args::read() else { return ExitCode::SUCCESS };
    let mut accounts = Vec::new();
    for store in &args.stores {
        let account = match store {
            Store::Redis => on_redis(&args).await,
            Store::Sqlite => on_sqlite(&args).await,
        };
        accounts.push(account);
    }
    account::print(&args, &accounts);
    if accounts.iter().all(Account::is_clean) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Redis behind a proxy that cuts connections; a process that takes jobs in, and two that also run them and are killed.
async fn on_redis(args: &Args) -> Account {
    let mut redis = Redis::start().await;
    let proxy = CuttingProxy::start(redis.port, args.seed);
    let models = Models::of(&["pump-anomaly"]);
    let place = Place::redis(&proxy.url(), &models);
    let mut api = Service::new(&place, "api", free_port());
    api.start();
    let mut workers: Vec<Service> = (0..WORKERS).map(|_| Service::new(&place, "all", free_port())).collect();
    workers.iter_mut().for_each(Service::start);
    for service in workers.iter_mut().chain([&mut api]) {
        service.is_ready().await;
    }

    let doors = workers.iter().chain([&api]).map(Service::url).collect();
    let begun = Instant::now();
    let clients = Clients::start(args, doors);
    let over = Arc::new(AtomicBool::new(false));
    let killer = JoinSet::from_iter([kill_in_turns(workers, args.kill_every, Arc::clone(&over))]);
    let cutter = proxy.cut(args.cut_every, Arc::clone(&over));
    let mut restarts = 0;
    for part in 1..=args.restarts {
        clients.accepted(args.jobs * part / (args.restarts + 1)).await;
        redis.crash_and_restart().await;
        restarts += 1;
    }
    let handed_in = clients.finish().await;
    over.store(true, Ordering::SeqCst);
    let (mut workers, kills) = killer.join_all().await.remove(0);
    let cuts = cutter.join_all().await.remove(0);
    for worker in &mut workers {
        worker.is_ready().await;
    }

    let mut account = Account::open("Redis", handed_in);
    (account.kills, account.restarts, account.cuts) = (kills, restarts, cuts);
    account.settle_up(&api.url(), &*place.queue(&redis.url()), begun).await;
    account
}

/// One file, one process, killed again and again.
async fn on_sqlite(args: &Args) -> Account {
    let folder = tempfile::tempdir().unwrap();
    let models = Models::of(&["pump-anomaly"]);
    let place = Place::sqlite(&folder.path().join("queue.sqlite"), &models);
    let mut only = Service::new(&place, "all", free_port());
    only.start();
    only.is_ready().await;

    let begun = Instant::now();
    let clients = Clients::start(args, vec![only.url()]);
    let over = Arc::new(AtomicBool::new(false));
    let killer = JoinSet::from_iter([kill_when_ready(only, args.kill_every, Arc::clone(&over))]);
    let handed_in = clients.finish().await;
    over.store(true, Ordering::SeqCst);
    let (mut only, kills) = killer.join_all().await.remove(0);
    only.is_ready().await;

    let mut account = Account::open("SQLite", handed_in);
    account.kills = kills;
    account.wait_for_the_end(&only.url()).await;
    account.read_results(&only.url()).await;
    // The file is one process's alone: its counters are read when that has gone.
    only.kill();
    account.read_counters(&*place.queue(""), begun).await;
    account
}

/// Kills one after the other, each time at once started again.
async fn kill_in_turns(mut services: Vec<Service>, every: Duration, over: Arc<AtomicBool>) -> (Vec<Service>, usize) {
    let mut kills = 0;
    while !over.load(Ordering::SeqCst) {
        tokio::time::sleep(every).await;
        let next = kills % services.len();
        services[next].kill();
        services[next].start();
        kills += 1;
    }
    (services, kills)
}

/// Kills the only one as soon as it has been ready for a while: else it would never come to anything.
async fn kill_when_ready(mut service: Service, after: Duration, over: Arc<AtomicBool>) -> (Service, usize) {
    let mut kills = 0;
    while !over.load(Ordering::SeqCst) {
        tokio::time::sleep(after).await;
        service.kill();
        service.start();
        service.is_ready().await;
        kills += 1;
    }
    (service, kills)
}
