//! Tables in the terminal: each policy over all workloads, and every workload with its policies.

use comfy_table::{Cell, CellAlignment, Color, ContentArrangement, Table, presets};

use crate::sim::analysis::{Overall, Row};
use crate::sim::goals::Goal;
use crate::sim::policy::catalog::entry;
use crate::sim::stats::{Interval, mean};
use crate::sim::study::StaleRow;

fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(head.iter().map(|name| Cell::new(name).fg(Color::Cyan)));
    table
}

fn name(policy: &str) -> Cell {
    let cell = Cell::new(policy);
    if entry(policy).is_some_and(|entry| entry.ours) { cell.fg(Color::Green) } else { cell }
}

fn right(text: String) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

/// A share of the gap: green from 0.95, red below zero.
fn share(closed: f64) -> Cell {
    let cell = right(format!("{:.1} %", 100.0 * closed));
    match closed {
        closed if closed >= 0.95 => cell.fg(Color::Green),
        closed if closed >= 0.9 => cell.fg(Color::Yellow),
        closed if closed < 0.0 => cell.fg(Color::Red),
        _ => cell,
    }
}

/// Half the width of an interval, in points.
fn half(interval: &Interval) -> f64 {
    50.0 * (interval.high - interval.low)
}

/// Each policy over the workloads: how much of the gap it closes, by family.
pub(crate) fn overall(all: &[Overall]) -> String {
    let families: Vec<&str> =
        all.first().map_or_else(Vec::new, |first| first.families.iter().map(|f| f.0.as_str()).collect());
    let mut head = vec!["policy", "mean", "95 % interval", "least"];
    head.extend(&families);
    let mut table = table(&head);
    for policy in all {
        let interval = &policy.gap_closed;
        let mut cells = vec![
            name(policy.policy),
            share(interval.mean),
            right(format!("{:.1} to {:.1}", 100.0 * interval.low, 100.0 * interval.high)),
            share(policy.least),
        ];
        cells.extend(policy.families.iter().map(|(_, closed)| share(*closed)));
        table.add_row(cells);
    }
    table.to_string()
}

/// The rows of one workload.
pub(crate) fn workload(rows: &[&Row]) -> String {
    let mut table = table(&[
        "policy",
        "effective",
        "±",
        "gap closed",
        "vs ours",
        "in time",
        "accuracy in time",
        "drop",
        "p50 ms",
        "p99 ms",
        "dear",
        "rebound",
        "refused",
        "turns/min",
    ]);
    for row in rows {
        let in_time = right(format!("{:.3} %", 100.0 * row.attainment));
        table.add_row(vec![
            name(row.policy),
            right(format!("{:.2}", 100.0 * row.effective.mean)),
            right(format!("{:.2}", half(&row.effective))),
            row.gap_closed.as_ref().map_or_else(|| right("-".to_owned()), |closed| share(closed.mean)),
            row.against_ours
                .as_ref()
                .map_or_else(|| right(String::new()), |d| right(format!("{:+.2}", 100.0 * d.mean))),
            if row.attainment < 0.999 { in_time.fg(Color::Red) } else { in_time },
            right(format!("{:.2}", 100.0 * row.on_time_accuracy)),
            right(format!("{:.1}", 100.0 * row.accuracy_drop)),
            right(format!("{:.1}", row.p50_ms)),
            right(format!("{:.1}", row.p99_ms)),
            right(format!("{:.1} %", 100.0 * row.dear)),
            right(format!("{:.1} %", 100.0 * row.rebound)),
            right(format!("{:.1} %", 100.0 * row.refused)),
            right(format!("{:.1}", row.turns_a_minute)),
        ]);
    }
    let bound = rows.first().map_or(0.0, |row| row.bound.mean);
    let title = rows.first().map_or_else(String::new, |row| format!("{} {}", row.family, row.workload));
    format!("{title}: bound {:.2}\n{table}", 100.0 * bound)
}

/// The staleness grid: effective accuracy by policy and isolates over the age, mean over its workloads.
pub(crate) fn staleness(rows: &[StaleRow]) -> String {
    let mut ages: Vec<u64> = rows.iter().map(|row| row.age_ms).collect();
    ages.sort_unstable();
    ages.dedup();
    let mut lines: Vec<(&str, u32)> = rows.iter().map(|row| (row.row.policy, row.isolates)).collect();
    lines.sort_unstable();
    lines.dedup();
    let heads: Vec<String> = ages.iter().map(|age| format!("{age} ms")).collect();
    let mut head = vec!["policy", "isolates"];
    head.extend(heads.iter().map(String::as_str));
    let mut table = table(&head);
    for (policy, isolates) in lines {
        let mut cells = vec![name(policy), right(isolates.to_string())];
        for age in &ages {
            let here =
                rows.iter().filter(|row| row.age_ms == *age && row.isolates == isolates && row.row.policy == policy);
            let figures: Vec<&Row> = here.map(|row| &row.row).collect();
            let effective = mean(figures.iter().map(|row| 100.0 * row.effective.mean));
            let closed = mean(figures.iter().filter_map(|row| Some(100.0 * row.gap_closed?.mean)));
            cells.push(right(format!("{effective:.2} ({closed:.0} %)")));
        }
        table.add_row(cells);
    }
    format!("Stale snapshots, mean over workloads: effective accuracy (share of the gap closed)\n{table}")
}

/// The goals, and what was measured.
pub(crate) fn goals(goals: &[Goal]) -> String {
    let mut table = table(&["goal", "", "measured"]);
    for goal in goals {
        let mark = if goal.met { Cell::new("met").fg(Color::Green) } else { Cell::new("missed").fg(Color::Red) };
        table.add_row(vec![Cell::new(&goal.goal), mark, Cell::new(&goal.measured)]);
    }
    table.to_string()
}
