//! A system from a file: tiers as measured, workers, the deadline.
//!
//! ```json
//! {"workers": 4, "deadline_ms": 100,
//!  "tiers": [{"name": "fast", "alpha_ms": 1.0, "beta_ms": 0.8, "cap": 8, "accuracy": 0.9},
//!            {"name": "accurate", "alpha_ms": 4.0, "beta_ms": 5.0, "cap": 8, "accuracy": 0.97}]}
//! ```
//! A batch of `b` takes `alpha_ms + beta_ms * b`. What is left out is the reference system's.

use std::path::Path;

use anyhow::{Context, ensure};
use serde::Deserialize;

use super::world::{Class, MAX_TIERS, MAX_WORKERS, Tier, World};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    workers: Option<usize>,
    deadline_ms: Option<f64>,
    noise: Option<f64>,
    net_ms: Option<f64>,
    tiers: Vec<FileTier>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileTier {
    #[serde(rename = "name")]
    _name: Option<String>,
    alpha_ms: f64,
    beta_ms: f64,
    cap: usize,
    accuracy: f64,
}

/// Reads a system.
///
/// # Errors
/// When the file cannot be read, or says what no system is.
pub(crate) fn read(path: &Path) -> anyhow::Result<World> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse(&text).with_context(|| format!("in {}", path.display()))
}

fn parse(text: &str) -> anyhow::Result<World> {
    let file: File = serde_json::from_str(text)?;
    let mut world = World::reference();
    ensure!((1..=MAX_TIERS).contains(&file.tiers.len()), "a system has 1 to {MAX_TIERS} tiers");
    world.tiers = file
        .tiers
        .iter()
        .map(|tier| {
            ensure!(tier.alpha_ms >= 0.0 && tier.beta_ms > 0.0, "a batch takes time: alpha_ms >= 0, beta_ms > 0");
            ensure!((1..=1_024).contains(&tier.cap), "cap is 1 to 1024");
            ensure!((0.0..=1.0).contains(&tier.accuracy), "accuracy is 0 to 1");
            let (alpha_us, beta_us) = (1e3 * tier.alpha_ms, 1e3 * tier.beta_ms);
            Ok(Tier { alpha_us, beta_us, cap: tier.cap, accuracy: tier.accuracy })
        })
        .collect::<anyhow::Result<_>>()?;
    let costs: Vec<f64> = world.tiers.iter().map(Tier::per_job_us).collect();
    ensure!(costs.is_sorted(), "tiers go from the cheapest to the dearest");
    if let Some(workers) = file.workers {
        ensure!((1..=MAX_WORKERS).contains(&workers), "a system has 1 to {MAX_WORKERS} workers");
        world.workers = workers;
    }
    if let Some(deadline) = file.deadline_ms {
        ensure!((1.0..=1e6).contains(&deadline), "deadline_ms is 1 to 1000000");
        world.classes = vec![Class { share: 1.0, deadline_us: (1e3 * deadline) as u64, value: 1.0 }];
    }
    if let Some(noise) = file.noise {
        ensure!((0.0..=0.5).contains(&noise), "noise is 0 to 0.5");
        world.noise = noise;
    }
    if let Some(net) = file.net_ms {
        ensure!((0.0..=1e4).contains(&net), "net_ms is 0 to 10000");
        (world.net_in_us, world.net_out_us) = ((500.0 * net) as u64, (500.0 * net) as u64);
    }
    Ok(world)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFERENCE: &str = r#"{"workers": 4, "deadline_ms": 100, "net_ms": 2, "noise": 0.05, "tiers": [
        {"name": "fast", "alpha_ms": 1.0, "beta_ms": 0.8, "cap": 8, "accuracy": 0.9},
        {"name": "accurate", "alpha_ms": 4.0, "beta_ms": 5.0, "cap": 8, "accuracy": 0.97}]}"#;

    #[test]
    fn the_documented_file_is_the_reference() {
        assert_eq!(parse(REFERENCE).unwrap(), World::reference());
    }

    #[test]
    fn what_is_no_system_is_refused() {
        for (from, to) in [
            ("\"cap\": 8", "\"cap\": 0"),
            ("0.97", "1.5"),
            ("\"workers\": 4", "\"workers\": 65"),
            ("\"beta_ms\": 5.0", "\"beta_ms\": 0.1"),
            ("\"deadline_ms\": 100", "\"deadline_ms\": 0"),
            ("\"workers\"", "\"wokers\""),
        ] {
            assert!(parse(&REFERENCE.replace(from, to)).is_err(), "{to}");
        }
    }
}
