//! `lab replay LOG`: what would have been, had another policy decided, or had there been other workers.
//!
//! Owns the command's words, the system that a log tells of, and the table. The log's arrivals and deadlines meet that
//! system again in the simulator; what was is scored by the same accuracies.

mod recorded;

use std::path::PathBuf;

use anyhow::{bail, ensure};
use clap::Args;
use comfy_table::{Cell, CellAlignment, Color, ContentArrangement, Table, presets};
use serde::Serialize;

use super::bound;
use super::engine::run;
use super::policy::catalog::{ALL, Tuned, make};
use super::rng::{of_job, salt};
use super::runner::Figures;
use super::workload::{Arrival, Arrivals};
use super::world::{Class, MAX_CLASSES, MAX_TIERS, MAX_WORKERS, Tier, World};
use recorded::{Offered, Recorded};

const EXAMPLES: &str = "Examples:
  lab replay decisions.jsonl                                  the usual policies, on the workers that there were
  lab replay decisions.jsonl --policy slack-split --workers 2,4,8
  lab replay decisions.jsonl --task pump-anomaly --policy always-fast --policy always-accurate --json
  cat worker-*.jsonl > all.jsonl && lab replay all.jsonl      the logs of several processes

LOG is what the service writes with DECISION_LOG=FILE (docs/decision-log.md).

`what was` is what the log says. `as it was` is the policy that was in force, simulated: its distance from `what was`
is the simulator's error for this log, and what the other rows say is worth no more. Effective accuracy counts every
offered reading: the expected value of right answers in time over the value offered; accuracies are the log's.";
/// Policies where nobody names one.
const USUAL: [&str; 5] = ["always-fast", "always-accurate", "threshold-5-edge", "slack-split-edge", "slack-split"];
/// Those that must be tuned on other runs of the same workload, which a log has not got.
const TUNED: [&str; 9] = [
    "threshold-tuned",
    "model-switching",
    "slackfit",
    "slackfit-filled",
    "maxacc",
    "maxbatch",
    "proteus-2",
    "jellyfish-2",
    "cascade-gear",
];
/// Every policy meets the same isolates and the same noise.
const SEED: u64 = 1;

#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct ReplayArgs {
    /// The decision log.
    log: PathBuf,
    /// The task [default: the one with most readings].
    #[arg(long)]
    task: Option<String>,
    /// A policy, as `lab compare` names them; may be given again [default: five of them].
    #[arg(long, value_name = "POLICY", value_parser = policy)]
    policy: Vec<String>,
    /// How many workers, or several such numbers with commas [default: as many as there were].
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=MAX_WORKERS as i64))]
    workers: Vec<u16>,
    /// The deadline of readings that named none, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    patience_ms: u64,
    /// The accuracy of a tier, where the log knows none or another is asked about: TIER=ACCURACY; may be given again.
    #[arg(long, value_name = "TIER=ACCURACY", value_parser = accuracy)]
    accuracy: Vec<(String, f64)>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn policy(name: &str) -> Result<String, String> {
    // As the service calls it.
    let name = if name == "queue-threshold" { "threshold-5-edge" } else { name };
    let known =
        || ALL.iter().map(|entry| entry.name).filter(|name| !TUNED.contains(name)).collect::<Vec<_>>().join(", ");
    if TUNED.contains(&name) {
        return Err(format!("it must be tuned on other runs first, which a log has not got; there are: {}", known()));
    }
    let found = ALL.iter().find(|entry| entry.name == name);
    found.map(|entry| entry.name.to_owned()).ok_or_else(|| format!("there are: {}", known()))
}

fn accuracy(text: &str) -> Result<(String, f64), String> {
    let wrong = || "it must be TIER=ACCURACY, the accuracy from 0 to 1".to_owned();
    let (tier, accuracy) = text.split_once('=').ok_or_else(wrong)?;
    let accuracy = accuracy.parse().ok().filter(|accuracy| (0.0..=1.0).contains(accuracy)).ok_or_else(wrong)?;
    Ok((tier.to_owned(), accuracy))
}

/// One row: what was, or would have been.
#[derive(Debug, Serialize)]
struct Row {
    /// `what was`, or the policy.
    policy: String,
    /// Simulated under the policy in force, on the workers that there were?
    as_it_was: bool,
    workers: usize,
    /// Share answered in time.
    attainment: f64,
    /// Effective accuracy.
    effective: f64,
    /// Share of the answers, by tier.
    shares: Vec<f64>,
    p50_ms: f64,
    p99_ms: f64,
    /// Effective accuracy that nobody can beat on these workers; none for what was.
    #[serde(skip_serializing_if = "Option::is_none")]
    bound: Option<f64>,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    task: String,
    policy: String,
    readings: usize,
    seconds: f64,
    rate: f64,
    sample: f32,
    unread: usize,
    left_out: usize,
    tiers: Vec<String>,
    rows: Vec<Row>,
}

/// Replays a log; gives what is to be printed.
///
/// # Errors
/// The log cannot be read, or tells of no system that can be simulated.
pub(crate) fn replay(args: &ReplayArgs) -> anyhow::Result<String> {
    let recorded = recorded::read(&args.log, args.task.as_deref())?;
    let report = report(args, &recorded)?;
    Ok(if args.json { serde_json::to_string_pretty(&report)? } else { told(&report) })
}

fn report(args: &ReplayArgs, recorded: &Recorded) -> anyhow::Result<Report> {
    let mut world = world(recorded, &args.accuracy)?;
    let classes = classes(&recorded.offered, args.patience_ms);
    let arrivals = arrivals(&recorded.offered, &classes, args.patience_ms, world.delivery.isolates);
    world.classes = shared_out(&classes, &arrivals);
    let was = world.workers;
    let mut rows = vec![what_was(recorded, &world, args.patience_ms)];
    let in_force = recorded.tiers.policy.as_str();
    let mut plan: Vec<(&str, usize, bool)> = Vec::new();
    if ["slack-split", "always-fast", "always-accurate"].contains(&in_force) {
        plan.push((in_force, was, true));
    }
    let policies: Vec<&str> =
        if args.policy.is_empty() { USUAL.to_vec() } else { args.policy.iter().map(String::as_str).collect() };
    let workers: Vec<usize> = if args.workers.is_empty() {
        vec![was]
    } else {
        args.workers.iter().map(|workers| usize::from(*workers)).collect()
    };
    for workers in workers {
        plan.extend(policies.iter().map(|policy| (*policy, workers, false)));
    }
    let mut bounds = std::collections::BTreeMap::new();
    for (policy, workers, as_it_was) in plan {
        world.workers = workers;
        let bound = *bounds.entry(workers).or_insert_with(|| bound::effective(&world, &arrivals));
        rows.push(Row { as_it_was, bound: Some(bound), ..simulated(policy, &world, &arrivals) });
    }
    let seconds = (arrivals.until_us as f64 / 1e6).max(1e-6);
    Ok(Report {
        task: recorded.tiers.task.clone(),
        policy: in_force.to_owned(),
        readings: recorded.offered.len(),
        seconds,
        rate: recorded.offered.len() as f64 / seconds,
        sample: recorded.sample,
        unread: recorded.unread,
        left_out: recorded.left_out,
        tiers: recorded.tiers.tiers.iter().map(|tier| tier.tier.clone()).collect(),
        rows,
    })
}

/// The system that the log tells of; classes come later.
fn world(recorded: &Recorded, accuracies: &[(String, f64)]) -> anyhow::Result<World> {
    let mut world = World::reference();
    let logged = &recorded.tiers.tiers;
    ensure!(
        (1..=MAX_TIERS).contains(&logged.len()),
        "the task has {} tiers, 1 to {MAX_TIERS} can be simulated",
        logged.len()
    );
    for (tier, _) in accuracies {
        ensure!(logged.iter().any(|known| known.tier == *tier), "the task has no tier `{tier}`");
    }
    let mut tiers = Vec::new();
    for tier in logged {
        let stated = accuracies.iter().rev().find(|(name, _)| *name == tier.tier).map(|(_, accuracy)| *accuracy);
        let Some(accuracy) = stated.or(tier.accuracy.map(f64::from)) else {
            bail!("the log knows no accuracy of tier `{0}`; state it: --accuracy {0}=0.9", tier.tier);
        };
        let (alpha_us, beta_us) = (f64::from(tier.alpha_us).max(0.0), f64::from(tier.beta_us).max(0.1));
        tiers.push(Tier { alpha_us, beta_us, cap: (tier.cap as usize).clamp(1, 1_024), accuracy });
    }
    let noise = logged.iter().zip(&tiers).map(|(logged, tier)| f64::from(logged.sd_us) / tier.batch_us(tier.cap));
    world.noise = noise.fold(0.0, f64::max).clamp(0.0, 0.5);
    world.tiers = tiers;
    world.workers = (recorded.tiers.workers as usize).clamp(1, MAX_WORKERS);
    // The log has when the service had a reading, and when it had the answer.
    (world.net_in_us, world.net_out_us) = (0, 0);
    Ok(world)
}

/// Deadline in milliseconds and value of each class: the most frequent ones, of as many as can be simulated.
fn classes(offered: &[Offered], patience_ms: u64) -> Vec<(u64, f64)> {
    let mut counted = std::collections::BTreeMap::<(u64, u64), (usize, f64)>::new();
    for one in offered {
        let counted = counted.entry((one.deadline(patience_ms), one.value().to_bits())).or_insert((0, one.value()));
        counted.0 += 1;
    }
    let mut counted: Vec<_> = counted.into_iter().collect();
    counted.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
    counted.into_iter().take(MAX_CLASSES).map(|((deadline, _), (_, value))| (deadline, value)).collect()
}

/// The class nearest to what a reading asked for.
fn class_of(one: &Offered, classes: &[(u64, f64)], patience_ms: u64) -> usize {
    let (deadline, value) = (one.deadline(patience_ms) as f64, one.value());
    let far = |(deadline_ms, worth): &(u64, f64)| {
        // As ratios: 10 ms beside 20 is as far as 1 s beside 2.
        (deadline.ln() - (*deadline_ms as f64).ln()).abs() + (value.ln() - worth.ln()).abs()
    };
    let nearest = classes.iter().enumerate().min_by(|one, other| far(one.1).total_cmp(&far(other.1)));
    nearest.map_or(0, |(at, _)| at)
}

/// The readings as arrivals: those of one millisecond spread evenly over it.
fn arrivals(offered: &[Offered], classes: &[(u64, f64)], patience_ms: u64, isolates: u32) -> Arrivals {
    let first = offered.first().map_or(0, |one| one.at);
    let mut jobs = Vec::with_capacity(offered.len());
    for tick in offered.chunk_by(|one, other| one.at == other.at) {
        for (place, one) in tick.iter().enumerate() {
            let at_us = (one.at - first) * 1_000 + (place * 1_000 / tick.len()) as u64;
            let isolate = (of_job(SEED, jobs.len() as u32, salt::ISOLATE) * f64::from(isolates)) as u16;
            jobs.push(Arrival { at_us, isolate, class: class_of(one, classes, patience_ms) as u8 });
        }
    }
    let until_us = jobs.last().map_or(0, |job| job.at_us + 1);
    Arrivals { jobs, from_us: 0, until_us, last_from_us: until_us - until_us / 3, bursts: Vec::new() }
}

/// The classes with the share that each has of the arrivals.
fn shared_out(classes: &[(u64, f64)], arrivals: &Arrivals) -> Vec<Class> {
    let of = |at: usize| arrivals.jobs.iter().filter(|job| usize::from(job.class) == at).count();
    let all = arrivals.jobs.len().max(1) as f64;
    let class = |(at, (deadline_ms, value)): (usize, &(u64, f64))| Class {
        share: of(at) as f64 / all,
        deadline_us: deadline_ms * 1_000,
        value: *value,
    };
    classes.iter().enumerate().map(class).collect()
}

/// What the log says, scored as the simulator scores.
fn what_was(recorded: &Recorded, world: &World, patience_ms: u64) -> Row {
    let (mut value, mut gained, mut in_time) = (0.0, 0.0, 0_usize);
    let mut by_tier = vec![0_u64; world.tiers.len()];
    let mut times: Vec<f64> = Vec::new();
    for one in &recorded.offered {
        value += one.value();
        let Some(took) = one.answered_ms else { continue };
        times.push(took);
        let tier = one.tier.as_ref().and_then(|name| recorded.tiers.tiers.iter().position(|tier| tier.tier == *name));
        if let Some(count) = tier.and_then(|tier| by_tier.get_mut(tier)) {
            *count += 1;
        }
        if took <= one.deadline(patience_ms) as f64 {
            in_time += 1;
            gained += one.value() * tier.and_then(|tier| world.tiers.get(tier)).map_or(0.0, |tier| tier.accuracy);
        }
    }
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times.get(((times.len() as f64 * share).ceil() as usize).saturating_sub(1)).copied();
    let answered = by_tier.iter().sum::<u64>().max(1) as f64;
    Row {
        policy: "what was".to_owned(),
        as_it_was: false,
        workers: world.workers,
        attainment: in_time as f64 / recorded.offered.len().max(1) as f64,
        effective: gained / f64::max(value, f64::MIN_POSITIVE),
        shares: by_tier.iter().map(|count| *count as f64 / answered).collect(),
        p50_ms: at(0.5).unwrap_or(f64::NAN),
        p99_ms: at(0.99).unwrap_or(f64::NAN),
        bound: None,
    }
}

fn simulated(policy: &str, world: &World, arrivals: &Arrivals) -> Row {
    // None of the policies that are offered here reads it.
    let tuned = Tuned { threshold: 5, crowds: [usize::MAX; 4], carries: [0.0; MAX_TIERS] };
    let outcome = run(world, arrivals, make(policy, world, &tuned).as_mut(), SEED, false);
    let figures = Figures::of(&outcome, world);
    let by_tier = outcome.score.by_tier.get(..world.tiers.len()).unwrap_or_default();
    let answered = by_tier.iter().sum::<u64>().max(1) as f64;
    Row {
        policy: policy.to_owned(),
        as_it_was: false,
        workers: world.workers,
        attainment: figures.attainment,
        effective: figures.effective,
        shares: by_tier.iter().map(|count| *count as f64 / answered).collect(),
        p50_ms: figures.p50_ms,
        p99_ms: figures.p99_ms,
        bound: None,
    }
}

fn told(report: &Report) -> String {
    let mut told = vec![format!(
        "task {}: {} readings in {:.1} s, {:.1} a second; in force was {}",
        report.task, report.readings, report.seconds, report.rate, report.policy
    )];
    if report.sample < 1.0 {
        told.push(format!(
            "The log has {:.0} % of the readings only: queues are shorter here than they were. Compare the rows with each \
             other, not with what was.",
            100.0 * report.sample
        ));
    }
    if report.unread + report.left_out > 0 {
        told.push(format!(
            "left out: {} lines that could not be read, {} readings that were called off or had no end",
            report.unread, report.left_out
        ));
    }
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Disabled);
    let mut head =
        vec!["", "workers", "in time", "effective", "bound"].into_iter().map(str::to_owned).collect::<Vec<_>>();
    head.extend(report.tiers.iter().cloned());
    head.extend(["p50 ms", "p99 ms"].map(str::to_owned));
    table.set_header(head.iter().map(|name| Cell::new(name).fg(Color::Cyan)));
    let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
    for (at, row) in report.rows.iter().enumerate() {
        let name = if row.as_it_was { format!("{} (as it was)", row.policy) } else { row.policy.clone() };
        let name = Cell::new(name);
        let mut cells = vec![
            if at == 0 { name.fg(Color::Green) } else { name },
            right(row.workers.to_string()),
            right(format!("{:.3} %", 100.0 * row.attainment)),
            right(format!("{:.2} %", 100.0 * row.effective)),
            right(row.bound.map(|bound| format!("{:.2} %", 100.0 * bound)).unwrap_or_default()),
        ];
        cells.extend(row.shares.iter().map(|share| right(format!("{:.1} %", 100.0 * share))));
        cells.extend([row.p50_ms, row.p99_ms].map(|ms| right(format!("{ms:.1}"))));
        table.add_row(cells);
    }
    told.push(table.to_string());
    if let [was, again, ..] = report.rows.as_slice()
        && again.as_it_was
        && report.sample >= 1.0
    {
        told.push(format!(
            "The simulator's error for this log: {:+.2} points of attainment, {:+.2} of effective accuracy.",
            100.0 * (again.attainment - was.attainment),
            100.0 * (again.effective - was.effective)
        ));
    }
    told.join("\n")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: ReplayArgs,
    }

    fn args(line: &[&str]) -> ReplayArgs {
        Line::try_parse_from(["replay"].iter().chain(line)).unwrap().args
    }

    /// Readings every `gap` ms, all answered by `tier` in `latency`.
    fn log(count: u64, gap: u64, tier: &str, latency: f64) -> tempfile::NamedTempFile {
        let readings: Vec<_> = (0..count).map(|number| (number * gap, Some(100), tier, "done", latency)).collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), recorded::tests::log(&readings)).unwrap();
        file
    }

    fn replayed(file: &tempfile::NamedTempFile, options: &[&str]) -> Report {
        let path = file.path().to_str().unwrap();
        let args = args(&[&[path], options].concat());
        let recorded = recorded::read(&args.log, args.task.as_deref()).unwrap();
        report(&args, &recorded).unwrap()
    }

    fn row<'a>(report: &'a Report, policy: &str, workers: usize) -> &'a Row {
        report.rows.iter().find(|row| row.policy == policy && row.workers == workers && !row.as_it_was).unwrap()
    }

    #[test]
    fn what_was_is_scored_and_what_would_have_been_beside_it() {
        // Two workers, one reading every 10 ms: there is time for the accurate tier, and fast was taken.
        let file = log(400, 10, "fast", 2.0);
        let report =
            replayed(&file, &["--policy", "always-fast", "--policy", "always-accurate", "--policy", "slack-split"]);
        let was = &report.rows[0];
        assert_eq!((was.attainment, was.shares.as_slice(), was.p50_ms), (1.0, [1.0, 0.0].as_slice(), 2.0));
        assert!((was.effective - 0.9).abs() < 1e-6, "{was:?}");
        assert!(report.rows[1].as_it_was && report.rows[1].policy == "slack-split");
        let fast = row(&report, "always-fast", 2);
        assert!((fast.effective - was.effective).abs() < 1e-6 && (fast.attainment - 1.0).abs() < 1e-9, "{fast:?}");
        let accurate = row(&report, "always-accurate", 2);
        assert!((accurate.effective - 0.97).abs() < 1e-6, "{accurate:?}");
        let split = row(&report, "slack-split", 2);
        assert!(split.effective > 0.96 && split.effective <= split.bound.unwrap() + 1e-9, "{split:?}");
        let text = told(&report);
        assert!(
            text.contains("what was") && text.contains("slack-split (as it was)") && text.contains("error"),
            "{text}"
        );
    }

    #[test]
    fn more_workers_carry_what_fewer_could_not() {
        // 1,000 a second on the accurate tier need more than five workers.
        let file = log(4_000, 1, "accurate", 500.0);
        let report = replayed(&file, &["--policy", "always-accurate", "--workers", "1,8"]);
        assert_eq!(report.rows[0].attainment, 0.0, "500 ms of 100");
        let (few, many) = (row(&report, "always-accurate", 1), row(&report, "always-accurate", 8));
        assert!(few.attainment < 0.3 && many.attainment > 0.99, "{few:?} {many:?}");
    }

    #[test]
    fn readings_of_one_millisecond_are_spread_over_it() {
        let one =
            |at, deadline_ms| Offered { at, deadline_ms, class: Default::default(), tier: None, answered_ms: None };
        let offered = [one(5, Some(50)), one(5, None), one(6, Some(50)), one(6, Some(55)), one(7, None)];
        let classes = classes(&offered, 1_000);
        assert_eq!(classes.len(), 3);
        let arrivals = arrivals(&offered, &classes[..2], 1_000, 4);
        assert_eq!(arrivals.jobs.iter().map(|job| job.at_us).collect::<Vec<_>>(), [0, 500, 1_000, 1_500, 2_000]);
        let place = |at: usize| usize::from(arrivals.jobs[at].class);
        assert_eq!(classes[place(0)].0, 50);
        assert_eq!(place(3), place(0), "55 ms are nearest to 50");
        assert!((shared_out(&classes[..2], &arrivals).iter().map(|class| class.share).sum::<f64>() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn what_cannot_be_asked_is_refused() {
        let refused = |line: &[&str]| Line::try_parse_from(["replay", "x"].iter().chain(line)).is_err();
        assert!(refused(&["--policy", "slackfit"]) && refused(&["--policy", "nonsense"]));
        assert!(refused(&["--workers", "0"]) && refused(&["--accuracy", "fast"]) && refused(&["--accuracy", "fast=2"]));
        assert_eq!(args(&["x", "--policy", "queue-threshold"]).policy, ["threshold-5-edge"]);
        assert_eq!(args(&["x", "--accuracy", "fast=0.5"]).accuracy, [("fast".to_owned(), 0.5)]);
        let file = log(10, 1, "fast", 1.0);
        let unknown = args(&[file.path().to_str().unwrap(), "--accuracy", "other=0.5"]);
        let recorded = recorded::read(&unknown.log, None).unwrap();
        assert!(report(&unknown, &recorded).unwrap_err().to_string().contains("no tier `other`"));
    }
}
