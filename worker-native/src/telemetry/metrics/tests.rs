//! What a scrape shows, and that `docs/metrics.md` says the same.

use std::collections::BTreeMap;

use shared::policy::Mode;
use shared::reading::Priority;

use super::*;

/// Metrics with at least one series of each name.
fn all() -> (Metrics, Observed) {
    let metrics = Metrics::new();
    let model = metrics.model("pump", "forest", 2, Some("fast"));
    model.answered(Duration::from_micros(1_500));
    model.failed();
    model.waited(Duration::from_micros(40));
    model.ran(8, Duration::from_micros(100));
    metrics.error(422, "validation");
    metrics.error(503, "overloaded");
    metrics.decision("pump", Some("fast"), "queue_long", true);
    metrics.canary("pump", "forest", true);
    metrics.shadow("pump", "forest", Some(false));
    metrics.rollback("pump", "forest");
    metrics.hand_in("pump", "full_wait");
    metrics.settled("pump", "done");
    metrics.retried("pump");
    metrics.lost("pump", 0);
    metrics.lost("pump", 3);
    metrics.bound("pump", "accurate", "fast");
    metrics.cascaded("pump", "escalated");
    metrics.shed("pump", Priority::Low);
    metrics.on_time("pump", 1.0, true);
    metrics.on_time("pump", 0.95, false);
    metrics.webhook("pump", WebhookOutcome::GivenUp);
    metrics.label("pump", "forest", true);
    metrics.drift("pump", "forest", Drift { alarm: true, cut: false });
    metrics.records_skipped(5);
    metrics.decisions_logged("written", 3);
    metrics.tokens(100);
    let text = str::to_owned;
    let observed = Observed {
        uptime: Duration::from_secs(10),
        queue: vec![QueueDepth { task: text("pump"), tier: text("fast"), jobs: 7 }],
        queues: vec![QueueState {
            task: text("pump"),
            tiers: vec![TierState { tier: text("fast"), backlog: 6, inflight: 2 }],
            seconds: Some(1.5),
            dead: 4,
        }],
        plans: vec![PlanState { task: text("pump"), mode: Mode::Stale, share: 0.25, exploration: 0.02 }],
        loaded: vec![LoadedVersion { task: text("pump"), model: text("forest"), version: 2 }],
        cache: CacheStats { memory_hits: 3, redis_hits: 2, joined: 1, misses: 4, ..CacheStats::default() },
        accuracies: vec![BelievedAccuracy { task: text("pump"), model: text("forest"), version: 2, accuracy: 0.875 }],
        inputs: vec![InputDrift { task: text("pump"), field: text("pressure"), psi: 0.5 }],
    };
    (metrics, observed)
}

/// The value of one line, by name and labels as written.
fn value(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn what_was_counted_is_told() {
    let (metrics, observed) = all();
    let text = metrics.encode(&observed).unwrap();
    assert!(text.ends_with("# EOF\n"));
    let forest = r#"{task="pump",model="forest",version="2"}"#;
    for (series, wanted) in [
        (r#"inference_requests_total{task="pump",model="forest",version="2",tier="fast"}"#, 2.0),
        (r#"inference_errors_4xx_total{code="validation"}"#, 1.0),
        (r#"inference_errors_5xx_total{code="overloaded"}"#, 1.0),
        (r#"inference_cache_hits_total{level="memory"}"#, 3.0),
        (r#"inference_cache_hits_total{level="redis"}"#, 2.0),
        (r#"inference_cache_hits_total{level="joined"}"#, 1.0),
        (r#"router_decision_log_lines_total{result="written"}"#, 3.0),
        ("inference_cache_misses_total", 4.0),
        (r#"inference_queue_depth{task="pump",tier="fast"}"#, 7.0),
        ("inference_tokens_per_second", 10.0),
        ("process_uptime_seconds", 10.0),
        (&format!("inference_request_duration_ms_sum{forest}"), 1.5),
        (&format!("inference_batch_size_sum{forest}"), 8.0),
        (&format!("loaded_model_versions{forest}"), 1.0),
        (r#"router_decisions_total{task="pump",tier="fast",reason="queue_long",by="edge"}"#, 1.0),
        (r#"router_canary_requests_total{task="pump",model="forest",arm="canary"}"#, 1.0),
        (r#"router_shadow_runs_total{task="pump",model="forest",agreed="no"}"#, 1.0),
        (r#"router_rollbacks_total{task="pump",model="forest"}"#, 1.0),
        (r#"router_labels_total{task="pump",model="forest",correct="yes"}"#, 1.0),
        (&format!("router_accuracy{forest}"), 0.875),
        (r#"router_drifts_total{task="pump",model="forest",kind="alarm"}"#, 1.0),
        ("router_label_records_skipped_total", 5.0),
        (r#"router_input_drift{task="pump",field="pressure"}"#, 0.5),
        (r#"router_backlog_jobs{task="pump",tier="fast"}"#, 6.0),
        (r#"router_inflight_jobs{task="pump",tier="fast"}"#, 2.0),
        (r#"router_backlog_seconds{task="pump"}"#, 1.5),
        (r#"router_dead_letters{task="pump"}"#, 4.0),
        (r#"router_hand_ins_total{task="pump",result="full_wait"}"#, 1.0),
        (r#"router_jobs_settled_total{task="pump",outcome="done"}"#, 1.0),
        (r#"router_jobs_retried_total{task="pump"}"#, 1.0),
        (r#"router_jobs_lost_total{task="pump"}"#, 3.0),
        (r#"router_mode{task="pump",mode="stale"}"#, 1.0),
        (r#"router_mode{task="pump",mode="normal"}"#, 0.0),
        (r#"router_split{task="pump"}"#, 0.25),
        (r#"router_exploration{task="pump"}"#, 0.02),
        (r#"router_bound_jobs_total{task="pump",hinted="accurate",tier="fast"}"#, 1.0),
        (r#"router_shed_total{task="pump",class="low"}"#, 1.0),
        (r#"router_on_time_predicted_total{task="pump",predicted="0.9"}"#, 2.0),
        (r#"router_on_time_met_total{task="pump",predicted="0.9"}"#, 1.0),
        (r#"router_webhook_tries_total{task="pump",outcome="given_up"}"#, 1.0),
        (r#"nv_inference_request_success{model="pump.forest",version="2"}"#, 1.0),
        (r#"nv_inference_request_failure{model="pump.forest",version="2"}"#, 1.0),
        (r#"nv_inference_count{model="pump.forest",version="2"}"#, 8.0),
        (r#"nv_inference_exec_count{model="pump.forest",version="2"}"#, 1.0),
        (r#"nv_inference_request_duration_us{model="pump.forest",version="2"}"#, 1_500.0),
        (r#"nv_inference_queue_duration_us{model="pump.forest",version="2"}"#, 40.0),
        (r#"nv_inference_compute_infer_duration_us{model="pump.forest",version="2"}"#, 800.0),
    ] {
        assert_eq!(value(&text, series), Some(wanted), "{series} in:\n{text}");
    }
}

#[test]
fn what_is_gone_is_told_no_longer() {
    let (metrics, observed) = all();
    let (batch, connection) = (metrics.model("pump", "forest", 2, Some("fast")).batch(), metrics.connection());
    let text = metrics.encode(&observed).unwrap();
    assert_eq!(value(&text, "inference_active_batches"), Some(1.0));
    assert_eq!(value(&text, "inference_active_connections"), Some(1.0));
    drop((batch, connection));
    metrics.retire("pump", "forest", 2, Some("fast"));
    let text = metrics.encode(&Observed { uptime: Duration::from_secs(20), ..Observed::default() }).unwrap();
    assert_eq!(value(&text, "inference_active_batches"), Some(0.0));
    assert_eq!(value(&text, "inference_active_connections"), Some(0.0));
    assert_eq!(value(&text, "inference_tokens_per_second"), Some(0.0), "of the last interval");
    assert!(!text.contains(r#"version="2""#) && !text.contains("inference_queue_depth{"), "{text}");
}

#[test]
fn a_reason_that_an_edge_makes_up_makes_no_series() {
    let metrics = Metrics::new();
    for i in 0..50 {
        metrics.decision("pump", None, &format!("reason_{i}"), true);
    }
    metrics.error(302, "no_error");
    let text = metrics.encode(&Observed::default()).unwrap();
    assert_eq!(text.matches("router_decisions_total{").count(), 1);
    assert_eq!(value(&text, r#"router_decisions_total{task="pump",tier="",reason="other",by="edge"}"#), Some(50.0));
    assert!(!text.contains("no_error"));
}

#[test]
fn processor_time_is_told_in_percent_of_the_last_interval() {
    let mut registry = Registry::default();
    let families = Families::declare(&mut registry, true);
    let mut rated = Rated { at: Duration::ZERO, cpu: Duration::ZERO, tokens: 0 };
    let mut look = |uptime_ms, cpu_ms| {
        let usage = Usage { cpu: Duration::from_millis(cpu_ms), memory: 5 };
        set_process(&families, &mut rated, Duration::from_millis(uptime_ms), Some(usage));
        families.cpu.get()
    };
    assert_eq!(look(10_000, 5_000).round(), 50.0);
    assert_eq!(look(10_499, 5_499).round(), 50.0, "too soon for a new rate");
    assert_eq!(look(11_000, 7_000).round(), 200.0, "two cores");
    assert_eq!(families.memory.get(), 5);
}

/// Of each name in the text: its type, and the names of its labels.
fn told(text: &str) -> BTreeMap<String, (String, String)> {
    let mut told = BTreeMap::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        let name = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
        let sample = if kind == "histogram" { format!("{name}_count") } else { name.clone() };
        let series = text.lines().find_map(|line| line.strip_prefix(&sample)?.split_once(' ')).unwrap().0;
        let labels = series.trim_matches(['{', '}']).split(',').filter_map(|label| label.split('=').next());
        let labels: Vec<_> = labels.filter(|label| !label.is_empty()).collect();
        told.insert(name, (kind.to_owned(), labels.join(", ")));
    }
    told
}

#[test]
fn the_document_lists_every_metric_with_its_type_and_labels() {
    let (metrics, observed) = all();
    let document = include_str!("../../../../docs/metrics.md");
    let rows = document.lines().filter(|line| line.starts_with("| `"));
    let listed: BTreeMap<_, _> = rows
        .map(|row| {
            let cells: Vec<_> = row.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect();
            assert!(cells.len() == 4 && !cells[3].is_empty(), "{row}");
            (cells[0].clone(), (cells[1].clone(), cells[2].clone()))
        })
        .collect();
    assert_eq!(listed, told(&metrics.encode(&observed).unwrap()));
}
