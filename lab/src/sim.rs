//! `lab compare`: a discrete-event simulator that runs `shared`'s policy beside its rivals.

mod analysis;
mod bound;
mod engine;
mod events;
mod policy;
mod queue;
mod report;
mod rng;
mod runner;
mod score;
mod stats;
mod tune;
mod watch;
mod workers;
mod workload;
mod world;

pub(crate) fn scratch() {
    let args: Vec<String> = std::env::args().collect();
    let jobs: usize = args[1].parse().unwrap();
    let seeds: usize = args[2].parse().unwrap();
    let fams: Vec<&str> = args[3].split(',').collect();
    let policies: Vec<&'static str> = if args[4] == "all" { policy::catalog::ALL.iter().map(|e| e.name).collect() } else { args[4].split(',').map(|n| policy::catalog::entry(n).unwrap().name).collect() };
    let base = world::World::reference();
    let all = workload::catalog::all(&base, jobs, std::path::Path::new("/work/shared/traces")).unwrap();
    let loads: Vec<_> = all.into_iter().filter(|w| fams.contains(&"all") || fams.contains(&w.family.as_str()) || fams.contains(&w.title().as_str())).collect();
    let t = std::time::Instant::now();
    let (cells, speed) = runner::compare(&loads, &runner::Job { policies: &policies, seeds, jobs, threads: 2 }, &|| {});
    let rows = analysis::rows(&cells, &policies);
    if args.len() > 5 { for chunk in rows.chunks(policies.len()) {
        println!("{}", report::tables::workload(&chunk.iter().collect::<Vec<_>>()));
    } }
    for c in &cells { println!("{} tuned {:?} {:?}", c.workload.title(), c.tuned.threshold, c.tuned.carries); }
    println!("{}", report::tables::overall(&analysis::overall(&cells, &policies, &["W1","W2","W3","W4","W6","W7","W9","W11","W12"])));
    println!("{:?} {:.2} s/M", t.elapsed(), speed.seconds_a_million());
}
