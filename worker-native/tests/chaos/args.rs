//! How much chaos: what the command line says.

use std::time::Duration;

/// Where the jobs lie.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Store {
    Redis,
    Sqlite,
}

#[derive(Debug)]
pub(crate) struct Args {
    /// Jobs to hand in, for each store.
    pub(crate) jobs: usize,
    /// Hand-ins a second, so that there is time for chaos on a fast machine.
    pub(crate) rate: f64,
    /// Callers at once.
    pub(crate) clients: usize,
    pub(crate) kill_every: Duration,
    pub(crate) cut_every: Duration,
    /// How often Redis is killed and started again.
    pub(crate) restarts: usize,
    pub(crate) seed: u64,
    pub(crate) stores: Vec<Store>,
}

impl Args {
    /// `None` where a filter was given that means other tests.
    pub(crate) fn read() -> Option<Self> {
        let mut args = Self {
            jobs: 3_000,
            rate: 400.0,
            clients: 24,
            kill_every: Duration::from_millis(700),
            cut_every: Duration::from_millis(150),
            restarts: 2,
            seed: 1,
            stores: vec![Store::Redis, Store::Sqlite],
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut number = || words.next().and_then(|text| text.parse().ok()).expect("a number after an option");
            match word.as_str() {
                "--full" => {
                    (args.jobs, args.rate, args.clients) = (100_000, 1_500.0, 64);
                    args.kill_every = Duration::from_secs(2);
                }
                "--jobs" => args.jobs = usize::try_from(number()).unwrap(),
                "--rate" => args.rate = f64::from(u32::try_from(number()).unwrap()),
                "--seed" => args.seed = number(),
                "--redis" => args.stores = vec![Store::Redis],
                "--sqlite" => args.stores = vec![Store::Sqlite],
                // Cargo hands the options of other tests to this one as well.
                "--list" | "--ignored" => return None,
                "--skip" if words.next().is_some_and(|skipped| "chaos".contains(&skipped)) => return None,
                "--test-threads" | "--color" | "--format" => drop(words.next()),
                option if option.starts_with('-') => {}
                filter if "chaos".contains(filter) => {}
                _ => return None,
            }
        }
        Some(args)
    }
}
