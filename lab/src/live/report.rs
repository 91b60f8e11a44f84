//! What a live comparison shows: tables for eyes, JSON and CSV for programs, and the gap to the simulator.

use comfy_table::{Cell, CellAlignment, Color, ContentArrangement, Table, presets};

use super::score::Figures;
use super::twin::Expected;
use super::{Found, Run};

/// The simulator's goals, in points.
const NEAR: (f64, f64) = (0.5, 1.0);

fn table(head: &[&str], texts: usize) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(head.iter().map(|name| Cell::new(name).fg(Color::Cyan)));
    for column in table.column_iter_mut().skip(texts) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn percent(share: f64) -> String {
    format!("{:.2}", 100.0 * share)
}

/// All of it as text.
pub(crate) fn text(found: &Found) -> String {
    let mut parts = vec![setting(found), models(found)];
    for (i, step) in found.steps.iter().enumerate() {
        let title = format!("Load {} of what the accurate model carries: {:.0} jobs a second", step.load, step.rate);
        parts.push(format!("{title}\n{}", policies(found, |run| &run.steps[i])));
    }
    parts.push(format!("All loads together\n{}", policies(found, |run| &run.overall)));
    parts.push(format!("Why, as the answers say\n{}", reasons(found)));
    parts.push(format!(
        "Simulator and reality, on the same arrivals (expected / measured, and the gap in points)\n{}",
        gaps(found)
    ));
    parts.extend(found.notes.iter().cloned());
    parts.join("\n\n")
}

fn setting(found: &Found) -> String {
    let setup = &found.setup;
    let load = &setup.load_average;
    format!(
        "lab live, {}, {} cores, load average before {load}; queue in {}; deadline {} ms; {} s a load; {} cycles",
        setup.commit, setup.cores, setup.store, setup.deadline_ms, setup.step_s, found.measured.cycles
    )
}

fn models(found: &Found) -> String {
    let head = [
        "model alone",
        "run of one, ms",
        "rows a run, full",
        "that run, ms",
        "jobs/s settled, full",
        "idle p50 ms",
        "idle p99 ms",
        "right %",
    ];
    let mut table = table(&head, 1);
    for alone in &found.measured.models {
        table.add_row([
            alone.tier.to_owned(),
            format!("{:.2}", alone.single_ms),
            format!("{:.1}", alone.batch),
            format!("{:.2}", alone.batch_ms),
            format!("{:.0}", alone.carries),
            format!("{:.1}", alone.idle_p50_ms),
            format!("{:.1}", alone.idle_p99_ms),
            percent(alone.accuracy),
        ]);
    }
    table.to_string()
}

fn policies<'a>(found: &'a Found, of: impl Fn(&'a Run) -> &'a Figures) -> String {
    let head = [
        "policy",
        "effective %",
        "in time %",
        "right of those %",
        "accurate tier %",
        "moved %",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "late",
        "expired",
        "refused",
        "failed",
    ];
    let mut table = table(&head, 1);
    for run in &found.runs {
        let figures = of(run);
        let name = Cell::new(run.policy);
        let mut cells = vec![if run.policy == "slack-split" { name.fg(Color::Green) } else { name }];
        let shares = [figures.effective, figures.attainment, figures.accuracy, figures.dear, figures.rebound];
        cells.extend(shares.map(|share| Cell::new(percent(share))));
        cells.extend([figures.p50_ms, figures.p95_ms, figures.p99_ms].map(|ms| Cell::new(format!("{ms:.1}"))));
        cells.extend([figures.late, figures.expired, figures.refused, figures.failed].map(Cell::new));
        table.add_row(cells);
    }
    table.to_string()
}

fn reasons(found: &Found) -> String {
    let mut table = table(&["policy", "reasons of its answers"], 2);
    for run in &found.runs {
        let total: usize = run.reasons.values().sum();
        let mut list: Vec<(&String, &usize)> = run.reasons.iter().collect();
        list.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let shown = list
            .iter()
            .map(|(reason, count)| format!("{reason} {:.1} %", 100.0 * **count as f64 / total.max(1) as f64));
        table.add_row([run.policy.to_owned(), shown.collect::<Vec<_>>().join(", ")]);
    }
    table.to_string()
}

/// What is expected less what was measured, in points: effective accuracy and attainment.
pub(crate) fn gap(expected: &Expected, figures: &Figures) -> (f64, f64) {
    (100.0 * (expected.effective - figures.effective), 100.0 * (expected.attainment - figures.attainment))
}

fn gaps(found: &Found) -> String {
    let mut table = table(&["policy", "load", "effective %", "gap", "in time %", "gap", "accurate tier %"], 1);
    for run in &found.runs {
        let steps = run.expected.iter().zip(&run.steps).zip(&found.steps);
        let rows = steps.map(|((expected, figures), step)| (step.load.to_string(), expected, figures));
        for (load, expected, figures) in rows.chain([("all".to_owned(), &run.expected_overall, &run.overall)]) {
            let (effective, attainment) = gap(expected, figures);
            let pair = |expected, measured| Cell::new(format!("{} / {}", percent(expected), percent(measured)));
            let near = |gap: f64, limit: f64| {
                let cell = Cell::new(format!("{gap:+.2}"));
                if gap.abs() <= limit { cell.fg(Color::Green) } else { cell.fg(Color::Red) }
            };
            table.add_row([
                Cell::new(run.policy),
                Cell::new(load),
                pair(expected.effective, figures.effective),
                near(effective, NEAR.0),
                pair(expected.attainment, figures.attainment),
                near(attainment, NEAR.1),
                pair(expected.dear, figures.dear),
            ]);
        }
    }
    table.to_string()
}

/// Every policy at every load, a row each.
///
/// # Errors
/// None that a vector gives.
pub(crate) fn csv(found: &Found) -> anyhow::Result<Vec<u8>> {
    let mut out = csv::Writer::from_writer(Vec::new());
    out.write_record([
        "policy",
        "load",
        "rate",
        "offered",
        "effective",
        "attainment",
        "accuracy",
        "accurate_share",
        "p50_ms",
        "p95_ms",
        "p99_ms",
        "late",
        "expired",
        "refused",
        "failed",
        "expected_effective",
        "expected_attainment",
        "expected_accurate_share",
    ])?;
    for run in &found.runs {
        for ((figures, expected), step) in run.steps.iter().zip(&run.expected).zip(&found.steps) {
            let mut row = vec![
                run.policy.to_owned(),
                step.load.to_string(),
                format!("{:.3}", step.rate),
                figures.offered.to_string(),
            ];
            row.extend(
                [figures.effective, figures.attainment, figures.accuracy, figures.dear]
                    .map(|share| format!("{share:.5}")),
            );
            row.extend([figures.p50_ms, figures.p95_ms, figures.p99_ms].map(|ms| format!("{ms:.2}")));
            row.extend([figures.late, figures.expired, figures.refused, figures.failed].map(|count| count.to_string()));
            row.extend([expected.effective, expected.attainment, expected.dear].map(|share| format!("{share:.5}")));
            out.write_record(row)?;
        }
    }
    Ok(out.into_inner()?)
}
