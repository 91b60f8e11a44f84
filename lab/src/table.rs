//! The decision table: policy by policy, backlog across, the accurate model's accuracy down.

use clap::Args;
use comfy_table::{ContentArrangement, Table, presets};
use shared::policy::{
    DEFAULT_ACCURACY_FLOOR, DEFAULT_QUEUE_THRESHOLD, Decision, JobSpec, Moment, Policy, PolicyKind, route,
};
use shared::snapshot::{TaskLoad, TierLoad};

#[derive(Debug, Args)]
pub(crate) struct TableArgs {
    /// One policy instead of all: always-fast, always-accurate, queue-threshold, adaptive-threshold, slack-split.
    #[arg(long, value_parser = policy_kind)]
    policy: Option<PolicyKind>,
    /// Backlog at which a policy steps down, in jobs.
    #[arg(long, default_value_t = DEFAULT_QUEUE_THRESHOLD)]
    threshold: u32,
    /// The fast model's measured accuracy, 0 to 1; left out: unknown.
    #[arg(long)]
    fast_accuracy: Option<f32>,
    /// Backlogs to show, in jobs.
    #[arg(long, value_delimiter = ',', default_values_t = [0, 4, 5, 50])]
    depths: Vec<u32>,
    /// Print JSON instead of tables.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What the accurate model's accuracy may be, unknown included.
const ACCURACIES: [Option<f32>; 5] = [None, Some(0.97), Some(0.8), Some(0.5), Some(0.4)];

fn policy_kind(name: &str) -> Result<PolicyKind, String> {
    PolicyKind::from_name(name).ok_or_else(|| {
        let names: Vec<&str> = PolicyKind::ALL.iter().map(|kind| kind.name()).collect();
        format!("one of {}", names.join(", "))
    })
}

fn kinds(args: &TableArgs) -> Vec<PolicyKind> {
    args.policy.map_or_else(|| PolicyKind::ALL.to_vec(), |kind| vec![kind])
}

fn decide(args: &TableArgs, kind: PolicyKind, depth: u32, accuracy: Option<f32>) -> Decision {
    let policy = Policy { kind, queue_threshold: args.threshold, accuracy_floor: DEFAULT_ACCURACY_FLOOR };
    let tier = |name: &str, depth, accuracy| TierLoad { tier: name.to_owned(), depth, accuracy, ..TierLoad::default() };
    let tiers = vec![tier("fast", depth, args.fast_accuracy), tier("accurate", 0, accuracy)];
    route(&policy, &TaskLoad { task: "table".to_owned(), tiers, plan: None }, &JobSpec::default(), &Moment::default())
}

const fn tier_name(decision: Decision) -> &'static str {
    if decision.tier == 0 { "fast" } else { "accurate" }
}

fn accuracy_name(accuracy: Option<f32>) -> String {
    accuracy.map_or_else(|| "unknown".to_owned(), |accuracy| format!("{accuracy:.2}"))
}

/// The tables as text.
pub(crate) fn text(args: &TableArgs) -> String {
    let mut tables = Vec::new();
    for kind in kinds(args) {
        let mut table = Table::new();
        table.load_preset(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
        let head = args.depths.iter().map(|depth| format!("backlog {depth}"));
        table.set_header(std::iter::once(format!("{} / accurate is", kind.name())).chain(head));
        for accuracy in ACCURACIES {
            let cells = args.depths.iter().map(|depth| {
                let decision = decide(args, kind, *depth, accuracy);
                format!("{} ({})", tier_name(decision), decision.reason.name())
            });
            table.add_row(std::iter::once(accuracy_name(accuracy)).chain(cells));
        }
        tables.push(table.to_string());
    }
    tables.join("\n\n")
}

/// The same decisions as a JSON array.
pub(crate) fn json(args: &TableArgs) -> String {
    let mut rows = Vec::new();
    for kind in kinds(args) {
        for accuracy in ACCURACIES {
            for depth in &args.depths {
                let decision = decide(args, kind, *depth, accuracy);
                rows.push(serde_json::json!({
                    "policy": kind.name(), "depth": depth, "accurate_accuracy": accuracy,
                    "tier": tier_name(decision), "reason": decision.reason.name(),
                }));
            }
        }
    }
    serde_json::Value::from(rows).to_string()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Only {
        #[command(flatten)]
        args: TableArgs,
    }

    #[test]
    fn the_table_shows_the_shift_by_backlog_and_by_accuracy() {
        let args = Only::parse_from(["table", "--policy", "adaptive"]).args;
        let rows: serde_json::Value = serde_json::from_str(&json(&args)).unwrap();
        let tier = |depth: u32, accuracy: Option<f64>| {
            let rows = rows.as_array().unwrap();
            let row = rows.iter().find(|row| {
                let seen = row["accurate_accuracy"].as_f64();
                let same = seen.zip(accuracy).is_some_and(|(seen, wanted)| (seen - wanted).abs() < 1e-6);
                row["depth"] == depth && same
            });
            row.unwrap()["tier"].as_str().unwrap().to_owned()
        };
        assert_eq!(tier(4, Some(0.97)), "accurate");
        assert_eq!(tier(5, Some(0.97)), "fast");
        assert_eq!(tier(0, Some(0.4)), "fast");
        assert!(text(&args).contains("accuracy_low"));
    }
}
