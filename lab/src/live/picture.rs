//! One picture of all runs: load, time to the answer, right answers in time, jobs present, share by tier.
//!
//! Owns which curves lie above each other on one axis of time; the drawing is the simulator's report's.

use super::Found;
use super::score::Point;
use crate::sim::report::svg::{Chart, Line};

/// Size of one panel, as `svg` draws it.
const PANEL: (f64, f64) = (900.0, 420.0);

/// All panels, one below the other.
pub(crate) fn picture(found: &Found) -> String {
    let mut panels = vec![load(found)];
    let mut add = |title: &str, up: &str, range, figure: &dyn Fn(&Point) -> Option<f64>| {
        panels.push(Chart {
            title: title.to_owned(),
            across: "s".to_owned(),
            up: up.to_owned(),
            lines: lines(found, figure),
            range,
            ..Chart::default()
        });
    };
    let percent = |share: Option<f64>| share.map(|share| 100.0 * share);
    let deadline = found.setup.deadline_ms;
    add(&format!("Time to the answer, 95 of 100 (deadline {deadline} ms)"), "ms", None, &|point| point.p95_ms);
    add("Right answers in time, of all jobs offered", "%", Some((0.0, 100.0)), &|point| percent(point.effective));
    add("Jobs sent and not ended", "jobs", None, &|point| Some(point.depth));
    add("Answered by the accurate tier", "%", Some((0.0, 100.0)), &|point| percent(point.dear));
    stacked(&panels.iter().map(Chart::svg).collect::<Vec<_>>())
}

/// The offered load; the same for all policies.
fn load(found: &Found) -> Chart {
    let of_first = found.runs.first().map(|run| run.curve.as_slice()).unwrap_or_default();
    // No further to either side than the other panels, whose points are the seconds' middles.
    let within = |at: f64| at.clamp(of_first.first().map_or(0.0, |p| p.at_s), of_first.last().map_or(0.0, |p| p.at_s));
    let steps = found
        .steps
        .iter()
        .flat_map(|step| [(within(step.from_ms / 1e3), step.rate), (within(step.until_ms / 1e3), step.rate)]);
    let carried = found.measured.dear().map_or(0.0, |dear| dear.carries);
    let end = found.steps.last().map_or(0.0, |step| step.until_ms / 1e3);
    let line = |name: &str, points, steps| Line { name: name.to_owned(), points, steps };
    Chart {
        title: "Offered load, each policy's the same".to_owned(),
        across: "s".to_owned(),
        up: "jobs a second".to_owned(),
        lines: vec![
            line("offered", of_first.iter().map(|point| (point.at_s, point.rate)).collect(), false),
            line("as planned", steps.collect(), false),
            line("the accurate model carries", vec![(within(0.0), carried), (within(end), carried)], false),
        ],
        ..Chart::default()
    }
}

fn lines(found: &Found, figure: &dyn Fn(&Point) -> Option<f64>) -> Vec<Line> {
    let of = |curve: &[Point]| curve.iter().filter_map(|point| Some((point.at_s, figure(point)?))).collect();
    found.runs.iter().map(|run| Line { name: run.policy.to_owned(), points: of(&run.curve), steps: false }).collect()
}

/// Drawings of one size, one below the other.
fn stacked(panels: &[String]) -> String {
    let (width, height) = PANEL;
    let all = height * panels.len() as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {all}\" width=\"{width}\" height=\"{all}\">"
    );
    for (i, panel) in panels.iter().enumerate() {
        out.push_str(&panel.replacen("<svg ", &format!("<svg y=\"{}\" ", height * i as f64), 1));
    }
    out.push_str("</svg>");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_lie_below_each_other() {
        let panel = Chart::default().svg();
        let svg = stacked(&[panel.clone(), panel]);
        assert!(svg.contains("viewBox=\"0 0 900 840\"") && svg.contains("<svg y=\"420\" xmlns"), "{svg}");
    }
}
