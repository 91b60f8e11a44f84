//! `lab compare`: the command's words, and what it writes where.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::analysis::Row;
use super::goals::goals;
use super::policy::catalog::{ALL, entry};
use super::profile;
use super::report::charts::charts;
use super::report::{files, html, png, tables};
use super::study::{Asked, Study, runs, study, with_ends};
use super::workload::catalog::{FAMILIES, Workload, all, of_trace};
use super::workload::trace;
use super::world::World;

const EXAMPLES: &str = "Examples:
  lab compare --quick                                  all policies on all workloads, in seconds
  lab compare --workload W2 --workload W4 --policy slackfit --policy slack-split
  lab compare --trace arrivals_ms.txt --json out.json  your own arrivals: one offset in milliseconds a line
  lab compare --profile mine.json --html report.html --charts charts/
  lab compare --seeds 20 --jobs 100000 --staleness     what docs/routing.md shows

A profile is JSON: {\"workers\": 4, \"deadline_ms\": 100, \"tiers\": [{\"alpha_ms\": 1, \"beta_ms\": 0.8, \"cap\": 8,
\"accuracy\": 0.9}, …]}, cheapest tier first; a batch of b takes alpha_ms + beta_ms * b.

Effective accuracy counts every offered job: the value of right answers in time over the value offered. The
bound is what a scheduler who knows the future could reach at best. `gap closed` is 0 % for always-fast and
100 % for the bound.";

#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct CompareArgs {
    /// A family of workloads, W1 to W12; may be given again [default: all].
    #[arg(long, value_name = "W", value_parser = family)]
    workload: Vec<String>,
    /// A policy; may be given again [default: all but the ablations]; `ablations` adds those.
    #[arg(long, value_name = "POLICY", value_parser = policy)]
    policy: Vec<String>,
    /// Seeds of each workload; policies meet the same arrivals under a seed.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    seeds: u16,
    /// Arrivals of a run, about.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1_000..=10_000_000))]
    jobs: u32,
    /// Few seeds and short runs: shows that it works; intervals are wide.
    #[arg(long)]
    quick: bool,
    /// Also the grid of stale snapshots: 0 to 5 s old, 1 to 64 isolates, one of ten lost.
    #[arg(long)]
    staleness: bool,
    /// Your own arrivals in place of the workloads: one offset in milliseconds a line, in order.
    #[arg(long, value_name = "FILE", conflicts_with = "workload")]
    trace: Option<PathBuf>,
    /// Where recorded traces lie; those that are not there are left out.
    #[arg(long, value_name = "DIR", default_value = "../shared/traces")]
    traces: PathBuf,
    /// The system: tiers, workers, deadline [default: the reference system].
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// Threads to use [default: one a core].
    #[arg(long)]
    threads: Option<usize>,
    /// Write every figure as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write every row as CSV.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Write one page with everything inline.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the charts as SVG and PNG into this folder.
    #[arg(long, value_name = "DIR")]
    charts: Option<PathBuf>,
}

fn family(name: &str) -> Result<String, String> {
    let known = FAMILIES.iter().find(|family| family.0.eq_ignore_ascii_case(name));
    known.map(|family| family.0.to_owned()).ok_or_else(|| {
        let list: Vec<String> = FAMILIES.iter().map(|(name, what)| format!("  {name}: {what}")).collect();
        format!("there are\n{}\n(W5 and W8 are left out: their data is not at hand)", list.join("\n"))
    })
}

fn policy(name: &str) -> Result<String, String> {
    if name == "ablations" || entry(name).is_some() {
        return Ok(name.to_owned());
    }
    let list: Vec<String> = ALL.iter().map(|entry| format!("  {}: {}", entry.name, entry.what)).collect();
    Err(format!("there are\n{}", list.join("\n")))
}

fn policies(args: &CompareArgs) -> Vec<&'static str> {
    let named = |name: &str| args.policy.iter().any(|policy| policy == name);
    let ablations = named("ablations");
    let usual = args.policy.is_empty() || (ablations && args.policy.len() == 1);
    let chosen = ALL.iter().filter(|entry| named(entry.name) || (usual && entry.usual) || (ablations && !entry.usual));
    with_ends(chosen.map(|entry| entry.name).collect())
}

fn workloads(args: &CompareArgs, base: &World, jobs: usize) -> anyhow::Result<Vec<Workload>> {
    if let Some(path) = &args.trace {
        let offsets: Arc<[f64]> = trace::read(path)?;
        return Ok(of_trace(base, &offsets));
    }
    let mut loads = all(base, jobs, &args.traces)?;
    if !args.workload.is_empty() {
        loads.retain(|workload| args.workload.contains(&workload.family));
    }
    if loads.is_empty() {
        bail!("no workload is left: no recorded trace under {}", args.traces.display());
    }
    Ok(loads)
}

/// Compares, prints, writes.
///
/// # Errors
/// What is wrong with a file that was named.
pub(crate) fn compare(args: &CompareArgs) -> anyhow::Result<()> {
    let base = args.profile.as_deref().map_or_else(|| Ok(World::reference()), profile::read)?;
    let (seeds, jobs) = if args.quick { (4, 20_000) } else { (usize::from(args.seeds), args.jobs as usize) };
    let loads = workloads(args, &base, jobs)?;
    let asked = Asked { seeds, jobs, policies: policies(args), system: described(&base) };
    let threads = args.threads.or_else(|| std::thread::available_parallelism().ok().map(usize::from)).unwrap_or(1);
    ensure!(threads > 0, "--threads is 1 at least");

    let bar = ProgressBar::new(runs(&loads, &asked, args.staleness));
    let style = ProgressStyle::with_template("{wide_bar:.green} {pos}/{len} runs, {eta} left")?;
    bar.set_style(style);
    let found = study(&loads, asked, args.staleness, threads, &|| bar.inc(1));
    bar.finish_and_clear();
    crate::print(&text(&found))?;
    write(args, &found)
}

fn described(world: &World) -> String {
    let tiers: Vec<String> = world
        .tiers
        .iter()
        .map(|tier| {
            let (alpha, beta) = (tier.alpha_us / 1e3, tier.beta_us / 1e3);
            format!("S(b) = {alpha} + {beta}b ms, right {:.0} %, at most {} a batch", 100.0 * tier.accuracy, tier.cap)
        })
        .collect();
    let deadline = world.shortest_deadline_us() / 1_000;
    format!(
        "{} workers that share the queue; tiers: {}; deadline {deadline} ms; service noise {:.0} %; snapshots every {} ms, {} ms on \
         their way, {} isolates",
        world.workers,
        tiers.join(" and "),
        100.0 * world.noise,
        world.delivery.period_us / 1_000,
        world.delivery.age_us / 1_000,
        world.delivery.isolates
    )
}

fn text(found: &Study) -> String {
    let mut parts =
        vec![format!("{}; {} seeds of about {} jobs", found.asked.system, found.asked.seeds, found.asked.jobs)];
    let mut rest: &[Row] = &found.rows;
    while let Some(first) = rest.first() {
        let here = rest.iter().take_while(|row| row.family == first.family && row.workload == first.workload).count();
        parts.push(tables::workload(&rest[..here].iter().collect::<Vec<_>>()));
        rest = &rest[here..];
    }
    if !found.staleness.is_empty() {
        parts.push(tables::staleness(&found.staleness));
    }
    parts.push(format!("Share of the gap to the bound that is closed\n{}", tables::overall(&found.overall)));
    parts.push(tables::goals(&goals(found)));
    parts.push(format!(
        "{} jobs simulated, {:.2} s of one core for a million",
        found.simulated, found.seconds_a_million
    ));
    parts.join("\n\n")
}

fn write(args: &CompareArgs, found: &Study) -> anyhow::Result<()> {
    let put = |path: &Path, bytes: &[u8]| {
        std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
    };
    if let Some(path) = &args.json {
        put(path, files::json(found)?.as_bytes())?;
    }
    if let Some(path) = &args.csv {
        put(path, files::csv(found)?.as_bytes())?;
    }
    if args.html.is_none() && args.charts.is_none() {
        return Ok(());
    }
    let drawn = charts(found);
    if let Some(path) = &args.html {
        put(path, html::page(found, &goals(found), &drawn).as_bytes())?;
    }
    if let Some(folder) = &args.charts {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let painter = png::Painter::new();
        for chart in &drawn {
            put(&folder.join(chart.name).with_extension("svg"), chart.svg.as_bytes())?;
            put(&folder.join(chart.name).with_extension("png"), &painter.png(&chart.svg)?)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Only {
        #[command(flatten)]
        args: CompareArgs,
    }

    #[test]
    fn wrong_names_are_answered_with_the_right_ones() {
        let error = |words: [&str; 3]| Only::try_parse_from(words).unwrap_err().to_string();
        assert!(error(["compare", "--workload", "W8"]).contains("W12: bursty"));
        assert!(error(["compare", "--policy", "best"]).contains("slackfit: SuperServe"));
        assert!(error(["compare", "--seeds", "0"]).contains("1..=1000"));
    }

    #[test]
    fn both_ends_are_always_run() {
        let args = Only::try_parse_from(["compare", "--policy", "slack-split"]).unwrap().args;
        assert_eq!(policies(&args), ["always-fast", "always-accurate", "slack-split"]);
        let all = Only::try_parse_from(["compare"]).unwrap().args;
        assert!(policies(&all).len() < ALL.len(), "ablations only where they are asked for");
        let more = Only::try_parse_from(["compare", "--policy", "ablations"]).unwrap().args;
        assert_eq!(policies(&more).len(), ALL.len());
    }
}
