//! The charts of a comparison.

use super::svg::{Chart, Line, bars};
use crate::sim::policy::catalog::entry;
use crate::sim::study::{Course, Study};

/// A chart: its file's name and its drawing.
#[derive(Debug)]
pub(crate) struct Drawn {
    /// Name of its file, without ending.
    pub(crate) name: &'static str,
    /// The drawing.
    pub(crate) svg: String,
}

/// All charts that the study has figures for.
pub(crate) fn charts(study: &Study) -> Vec<Drawn> {
    let mut drawn = vec![Drawn { name: "gap-closed", svg: gap(study) }];
    let mut add = |name, chart: Option<Chart>| {
        if let Some(chart) = chart {
            drawn.push(Drawn { name, svg: chart.svg() });
        }
    };
    add("load", load(study));
    add("staleness", staleness(study));
    for (name, what) in [("herd", "a steady load of 0.35"), ("burst", "bursts from 0.25 to 0.85")] {
        let courses: Vec<&Course> = study.courses.iter().filter(|course| course.workload == what).collect();
        add(if name == "herd" { "herd-queue" } else { "burst-queue" }, queue(&courses, what));
        add(if name == "herd" { "herd-share" } else { "burst-share" }, share(&courses, what));
    }
    drawn
}

fn gap(study: &Study) -> String {
    let rows: Vec<(String, f64, (f64, f64), bool)> = study
        .overall
        .iter()
        .map(|overall| {
            let closed = &overall.gap_closed;
            let ours = entry(overall.policy).is_some_and(|entry| entry.ours);
            (overall.policy.to_owned(), 100.0 * closed.mean, (100.0 * closed.low, 100.0 * closed.high), ours)
        })
        .collect();
    bars(
        "How much of the gap between always-fast and the clairvoyant bound is closed",
        "% of the gap",
        (-50.0, 100.0),
        &rows,
    )
}

fn line(name: &str, points: Vec<(f64, f64)>) -> Line {
    Line { name: name.to_owned(), points, steps: false }
}

/// Effective accuracy over a steady load.
fn load(study: &Study) -> Option<Chart> {
    let load = |workload: &str| workload.strip_prefix("load ").and_then(|load| load.parse::<f64>().ok());
    let shown =
        ["always-fast", "always-accurate", "threshold-5", "slackfit", "maxbatch", "slack-split-edge", "slack-split"];
    let rows: Vec<_> = study.rows.iter().filter(|row| row.family == "W1").collect();
    let mut lines = vec![line(
        "bound",
        rows.iter()
            .filter(|row| row.policy == "always-fast")
            .filter_map(|row| Some((load(&row.workload)?, 100.0 * row.bound.mean)))
            .collect(),
    )];
    for policy in shown {
        let of = rows.iter().filter(|row| row.policy == policy);
        let points: Vec<(f64, f64)> =
            of.filter_map(|row| Some((load(&row.workload)?, 100.0 * row.effective.mean))).collect();
        if !points.is_empty() {
            lines.push(line(policy, points));
        }
    }
    (rows.len() > 1).then(|| Chart {
        title: "Right answers in time, over a steady load (W1)".to_owned(),
        across: "load, as a share of what the fast tier carries".to_owned(),
        up: "effective accuracy, %".to_owned(),
        lines,
        range: Some((80.0, 98.0)),
        ..Chart::default()
    })
}

/// Effective accuracy over the age of snapshots, 64 isolates.
fn staleness(study: &Study) -> Option<Chart> {
    let mut ages: Vec<u64> = study.staleness.iter().map(|row| row.age_ms).collect();
    ages.dedup();
    ages.sort_unstable();
    ages.dedup();
    let mut policies: Vec<&str> = study.staleness.iter().map(|row| row.row.policy).collect();
    policies.sort_unstable();
    policies.dedup();
    let mean = |policy: &str, age: u64| {
        let rows =
            study.staleness.iter().filter(|row| row.age_ms == age && row.isolates == 64 && row.row.policy == policy);
        let figures: Vec<f64> = rows.map(|row| 100.0 * row.row.effective.mean).collect();
        figures.iter().sum::<f64>() / figures.len().max(1) as f64
    };
    let lines = policies
        .iter()
        .map(|policy| line(policy, ages.iter().enumerate().map(|(i, age)| (i as f64, mean(policy, *age))).collect()));
    (!ages.is_empty()).then(|| Chart {
        title: "The older the snapshot: 64 isolates, mean of W1 to W7, one of ten lost".to_owned(),
        across: "delivery of a snapshot, ms (on top of a period of 250 ms)".to_owned(),
        up: "effective accuracy, %".to_owned(),
        lines: lines.collect(),
        places: ages.iter().map(u64::to_string).collect(),
        ..Chart::default()
    })
}

/// Seconds of a course that are drawn.
const SHOWN_S: f64 = 24.0;

fn shown(course: &Course, figure: impl Fn(&crate::sim::watch::Moment) -> f64) -> Vec<(f64, f64)> {
    let moments = course.moments.iter().map(|moment| (moment.at_us as f64 / 1e6, figure(moment)));
    moments.filter(|(at, _)| (2.0..=2.0 + SHOWN_S).contains(at)).collect()
}

/// The most work that waited in each period.
fn queue(courses: &[&Course], what: &str) -> Option<Chart> {
    let lines = courses.iter().map(|course| Line {
        name: course.policy.to_owned(),
        points: shown(course, |moment| moment.peak_work_us / 1e3),
        steps: true,
    });
    (!courses.is_empty()).then(|| Chart {
        title: format!("The queue under {what}: most work waiting in each period"),
        across: "s".to_owned(),
        up: "work as hinted, ms of one worker".to_owned(),
        lines: lines.collect(),
        ..Chart::default()
    })
}

/// The share that the dearest tier answers.
fn share(courses: &[&Course], what: &str) -> Option<Chart> {
    let dear =
        |moment: &crate::sim::watch::Moment| 100.0 * f64::from(moment.answered.1) / f64::from(moment.answered.0.max(1));
    let there: Vec<&&Course> = courses.iter().filter(|course| course.policy != "always-fast").collect();
    let mut lines: Vec<Line> = there
        .iter()
        .map(|course| Line { name: course.policy.to_owned(), points: shown(course, dear), steps: true })
        .collect();
    if let Some(course) = there.first() {
        let most = course.moments.iter().map(|moment| moment.arrived).max().unwrap_or(1).max(1);
        let points = shown(course, |moment| 100.0 * f64::from(moment.arrived) / f64::from(most));
        lines.push(Line { name: "arrivals, % of most".to_owned(), points, steps: true });
    }
    (!lines.is_empty()).then(|| Chart {
        title: format!("Who answers under {what}: share of the accurate tier"),
        across: "s".to_owned(),
        up: "%".to_owned(),
        lines,
        range: Some((0.0, 100.0)),
        ..Chart::default()
    })
}
