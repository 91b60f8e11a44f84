//! One page with everything inline: goals, tables and charts, for a reader without a network.

use super::charts::Drawn;
use crate::sim::analysis::Row;
use crate::sim::goals::Goal;
use crate::sim::policy::catalog::{ALL, entry};
use crate::sim::study::Study;
use crate::sim::workload::catalog::FAMILIES;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#222}\
table{border-collapse:collapse;margin:1rem 0;display:block;overflow-x:auto}th,td{padding:.25rem .6rem;border-bottom:1px solid #ddd;\
text-align:right;white-space:nowrap}th:first-child,td:first-child{text-align:left}thead th{position:sticky;top:0;background:#f4f4f4}\
tr.ours td:first-child{font-weight:bold;color:#00674b}.no{color:#b03000}.yes{color:#00674b}svg{max-width:100%;height:auto}\
caption{text-align:left;font-weight:bold;padding:.4rem 0}td.words{text-align:left;white-space:normal}";

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The page.
pub(crate) fn page(study: &Study, goals: &[Goal], charts: &[Drawn]) -> String {
    let mut out = String::new();
    let asked = &study.asked;
    out.push_str(&format!("<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>Routing policies compared</title><style>{STYLE}</style><h1>Routing policies compared</h1>\
         <p>{}. {} seeds of about {} jobs for every workload and policy; the same arrivals for all policies. \
         Effective accuracy counts every offered job: value of right answers in time over value offered. \
         The bound knows the future (fluid relaxation); intervals are paired bootstraps over seeds, 95 %. \
         {} jobs were simulated, {:.2} s of one core for a million.</p>",
        escaped(&asked.system),
        asked.seeds,
        asked.jobs,
        study.simulated,
        study.seconds_a_million,
    ));
    goal_table(&mut out, goals);
    out.push_str("<h2>Over the workloads</h2>");
    for chart in charts {
        out.push_str(&format!("<figure id=\"{}\">{}</figure>", chart.name, chart.svg));
    }
    overall_table(&mut out, study);
    out.push_str("<h2>Every workload</h2>");
    let mut rest: &[Row] = &study.rows;
    while let Some(first) = rest.first() {
        let here = rest.iter().take_while(|row| row.family == first.family && row.workload == first.workload).count();
        workload_table(&mut out, &rest[..here]);
        rest = &rest[here..];
    }
    stale_table(&mut out, study);
    out.push_str("<h2>Policies</h2><table>");
    for entry in ALL.iter().filter(|entry| asked.policies.contains(&entry.name)) {
        out.push_str(&format!("<tr><td>{}</td><td class=\"words\">{}</td></tr>", entry.name, escaped(entry.what)));
    }
    out.push_str("</table></html>");
    out
}

fn goal_table(out: &mut String, goals: &[Goal]) {
    out.push_str("<h2>Goals</h2><table><thead><tr><th>goal</th><th></th><th>measured</th></tr></thead>");
    for goal in goals {
        let (class, mark) = if goal.met { ("yes", "met") } else { ("no", "missed") };
        out.push_str(&format!(
            "<tr><td class=\"words\">{}</td><td class=\"{class}\">{mark}</td><td class=\"words\">{}</td></tr>",
            escaped(&goal.goal),
            escaped(&goal.measured)
        ));
    }
    out.push_str("</table>");
}

fn class(policy: &str) -> &'static str {
    if entry(policy).is_some_and(|entry| entry.ours) { " class=\"ours\"" } else { "" }
}

fn overall_table(out: &mut String, study: &Study) {
    let families = study.overall.first().map_or(&[][..], |first| &first.families[..]);
    out.push_str("<table><caption>Share of the gap between always-fast and the bound that is closed, in %</caption>");
    out.push_str("<thead><tr><th>policy</th><th>mean</th><th>95 %</th><th>least</th>");
    for (name, _) in families {
        let what = FAMILIES.iter().find(|family| family.0 == name).map_or("", |family| family.1);
        out.push_str(&format!("<th title=\"{}\">{name}</th>", escaped(what)));
    }
    out.push_str("</tr></thead>");
    for overall in &study.overall {
        let closed = &overall.gap_closed;
        out.push_str(&format!(
            "<tr{}><td>{}</td><td>{:.1}</td><td>{:.1} to {:.1}</td><td>{:.1}</td>",
            class(overall.policy),
            overall.policy,
            100.0 * closed.mean,
            100.0 * closed.low,
            100.0 * closed.high,
            100.0 * overall.least
        ));
        for (_, closed) in &overall.families {
            out.push_str(&format!("<td>{:.1}</td>", 100.0 * closed));
        }
        out.push_str("</tr>");
    }
    out.push_str("</table><p>");
    for (name, what) in FAMILIES {
        out.push_str(&format!("{name}: {}. ", escaped(what)));
    }
    out.push_str("W5 and W8 are left out: their data is not at hand.</p>");
}

fn workload_table(out: &mut String, rows: &[Row]) {
    let Some(first) = rows.first() else { return };
    out.push_str(&format!("<table><caption>{} {}: bound {:.2}</caption><thead><tr><th>policy</th><th>effective</th><th>95 %</th><th>gap closed</th>\
         <th>to ours</th><th>in time</th><th>accuracy in time</th><th>drop</th><th>p50 ms</th><th>p99 ms</th><th>accurate</th>\
         <th>bound anew</th><th>refused</th></tr></thead>",
        first.family,
        escaped(&first.workload),
        100.0 * first.bound.mean
    ));
    for row in rows {
        let closed = row.gap_closed.map_or_else(|| "-".to_owned(), |closed| format!("{:.1}", 100.0 * closed.mean));
        let against =
            row.against_ours.map_or_else(String::new, |difference| format!("{:+.2}", 100.0 * difference.mean));
        out.push_str(&format!("<tr{}><td>{}</td><td>{:.2}</td><td>{:.2} to {:.2}</td><td>{closed}</td><td>{against}</td><td>{:.3}</td><td>{:.2}</td>\
             <td>{:.1}</td><td>{:.1}</td><td>{:.1}</td><td>{:.1}</td><td>{:.1}</td><td>{:.2}</td></tr>",
            class(row.policy),
            row.policy,
            100.0 * row.effective.mean,
            100.0 * row.effective.low,
            100.0 * row.effective.high,
            100.0 * row.attainment,
            100.0 * row.on_time_accuracy,
            100.0 * row.accuracy_drop,
            row.p50_ms,
            row.p99_ms,
            100.0 * row.dear,
            100.0 * row.rebound,
            100.0 * row.refused
        ));
    }
    out.push_str("</table>");
}

fn stale_table(out: &mut String, study: &Study) {
    if study.staleness.is_empty() {
        return;
    }
    out.push_str(
        "<h2>Stale snapshots</h2><table><thead><tr><th>workload</th><th>policy</th><th>delivery ms</th><th>isolates</th>\
         <th>effective</th><th>gap closed</th><th>in time</th></tr></thead>",
    );
    for stale in &study.staleness {
        let row = &stale.row;
        let closed = row.gap_closed.map_or_else(|| "-".to_owned(), |closed| format!("{:.1}", 100.0 * closed.mean));
        out.push_str(&format!(
            "<tr{}><td>{} {}</td><td>{}</td><td>{}</td><td>{}</td><td>{:.2}</td><td>{closed}</td><td>{:.3}</td></tr>",
            class(row.policy),
            row.family,
            escaped(&row.workload),
            row.policy,
            stale.age_ms,
            stale.isolates,
            100.0 * row.effective.mean,
            100.0 * row.attainment
        ));
    }
    out.push_str("</table>");
}
