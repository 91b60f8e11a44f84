//! Settings of the edge: raw texts in, checked values or every fault out.
//!
//! A wrong value never falls back to its default in silence: a threshold with a typo would route
//! all readings wrongly and look healthy. The worker cannot refuse to start, so it answers with
//! the faults instead (see [`crate::error::Failure::misconfigured`]).

use std::ops::RangeInclusive;

use shared::policy::{DEFAULT_ACCURACY_FLOOR, DEFAULT_QUEUE_THRESHOLD, Policy, PolicyKind};
use shared::snapshot::cache::Freshness;
use worker::js_sys::Reflect;

/// Name of the binding to the native service.
pub(crate) const ORIGIN_BINDING: &str = "ORIGIN";

/// Where settings come from: the worker's bindings, or a map in tests.
pub(crate) trait Vars {
    /// The text of a setting, where it is set.
    fn text(&self, name: &str) -> Option<String>;
    /// Is there a binding of that name to something that answers requests?
    fn is_bound(&self, name: &str) -> bool;
}

impl Vars for worker::Env {
    /// By reflection: `Env::var` throws on the `null` that workerd binds for an unset environment variable.
    fn text(&self, name: &str) -> Option<String> {
        let value = Reflect::get(self, &name.into()).ok().filter(|value| !value.is_null() && !value.is_undefined())?;
        let number = || value.as_f64().map(|number| number.to_string());
        // Another type becomes a text that no setting takes, so that it is told as a fault.
        Some(value.as_string().or_else(number).unwrap_or_else(|| "neither a text nor a number".to_owned()))
    }

    fn is_bound(&self, name: &str) -> bool {
        let fetch = Reflect::get(self, &name.into()).and_then(|service| Reflect::get(&service, &"fetch".into()));
        fetch.is_ok_and(|fetch| fetch.is_function())
    }
}

/// How the native service is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OriginAt {
    /// By the binding [`ORIGIN_BINDING`]: a service, a Workers VPC service, or workerd's `external`.
    Binding,
    /// By its URL, without a slash at the end.
    Url(String),
}

/// The edge's checked settings.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct EdgeConfig {
    /// How tiers are chosen.
    pub(crate) policy: Policy,
    /// How long a snapshot may be used; the catalog is trusted for as long.
    pub(crate) freshness: Freshness,
    /// Longest body taken, in bytes.
    pub(crate) max_body_bytes: u32,
    /// How long the native service may take to answer `/predict`, in milliseconds.
    pub(crate) predict_timeout_ms: u32,
    /// How long it may take for one or many readings of any kind, and to begin a stream, in milliseconds.
    pub(crate) infer_timeout_ms: u32,
    /// How long it may take for anything else, in milliseconds.
    pub(crate) jobs_timeout_ms: u32,
    /// How it is reached.
    pub(crate) origin: OriginAt,
}

impl EdgeConfig {
    /// Checks all settings.
    ///
    /// # Errors
    /// Every fault at once, each naming the setting and what it accepts.
    pub(crate) fn read(vars: &impl Vars) -> Result<Self, Vec<String>> {
        let mut reader = Reader { vars, faults: Vec::new() };
        let kinds = PolicyKind::ALL.map(PolicyKind::name).join(", ");
        let policy = Policy {
            kind: reader.read("EDGE_POLICY", PolicyKind::SlackSplit, &kinds, PolicyKind::from_name),
            queue_threshold: reader.whole("QUEUE_THRESHOLD", DEFAULT_QUEUE_THRESHOLD, 1..=1_000_000),
            accuracy_floor: reader.read("ACCURACY_FLOOR", DEFAULT_ACCURACY_FLOOR, "a number from 0 to 1", |text| {
                // Not by `str::parse`: see the reader of numbers in `shared`.
                let floor = serde_json::from_str::<f64>(text).ok().filter(|floor| (0.0..=1.0).contains(floor))?;
                Some(floor as f32)
            }),
        };
        let fresh_ms = reader.whole("SNAPSHOT_FRESH_MS", 1_000, 0..=60_000);
        let usable_ms = reader.whole("SNAPSHOT_USABLE_MS", 10_000, 0..=600_000);
        if fresh_ms > usable_ms {
            reader
                .faults
                .push(format!("SNAPSHOT_FRESH_MS ({fresh_ms}) must not be above SNAPSHOT_USABLE_MS ({usable_ms})"));
        }
        let config = Self {
            policy,
            freshness: Freshness { fresh_ms: fresh_ms.into(), usable_ms: usable_ms.into() },
            max_body_bytes: reader.whole("MAX_BODY_BYTES", 262_144, 1_024..=16_777_216),
            predict_timeout_ms: reader.whole("PREDICT_TIMEOUT_MS", 2_000, 1..=60_000),
            infer_timeout_ms: reader.whole("INFER_TIMEOUT_MS", 30_000, 1..=600_000),
            jobs_timeout_ms: reader.whole("JOBS_TIMEOUT_MS", 1_000, 1..=60_000),
            origin: reader.origin(),
        };
        if reader.faults.is_empty() { Ok(config) } else { Err(reader.faults) }
    }
}

struct Reader<'v, V> {
    vars: &'v V,
    faults: Vec<String>,
}

impl<V: Vars> Reader<'_, V> {
    /// Empty counts as not set: that is what a compose file makes of `${NAME:-}`.
    fn text(&self, name: &str) -> Option<String> {
        self.vars.text(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    fn read<T>(&mut self, name: &str, default: T, accepted: &str, read: impl FnOnce(&str) -> Option<T>) -> T {
        let Some(text) = self.text(name) else {
            return default;
        };
        read(&text).unwrap_or_else(|| {
            self.faults.push(format!("{name}=\"{text}\" is not accepted; accepted: {accepted}"));
            default
        })
    }

    fn whole(&mut self, name: &str, default: u32, range: RangeInclusive<u32>) -> u32 {
        let accepted = format!("a whole number from {} to {}", range.start(), range.end());
        self.read(name, default, &accepted, |text| text.parse().ok().filter(|number| range.contains(number)))
    }

    /// A binding wins over a URL: it is the way that needs no public address.
    fn origin(&mut self) -> OriginAt {
        if self.vars.is_bound(ORIGIN_BINDING) {
            return OriginAt::Binding;
        }
        match self.text("ORIGIN_URL") {
            None => self.faults.push("neither the binding ORIGIN nor ORIGIN_URL is set; one of them is needed".to_owned()),
            Some(url) if is_base_url(&url) => return OriginAt::Url(url.trim_end_matches('/').to_owned()),
            // Not repeated: an address with a password in it would end up in logs and answers.
            Some(_) => self.faults.push(
                "ORIGIN_URL is not accepted; accepted: http://HOST[:PORT] or https://HOST[:PORT], without user, path or query"
                    .to_owned(),
            ),
        }
        OriginAt::Binding
    }
}

fn is_base_url(url: &str) -> bool {
    let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")).unwrap_or_default();
    let host = host.trim_end_matches('/');
    !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]_".contains(&b))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::{BTreeSet, HashMap};

    use super::*;

    impl Vars for HashMap<&str, &str> {
        fn text(&self, name: &str) -> Option<String> {
            self.get(name).map(|text| (*text).to_owned())
        }
        fn is_bound(&self, name: &str) -> bool {
            self.contains_key(name)
        }
    }

    #[test]
    fn an_origin_is_all_that_is_needed() {
        let config = EdgeConfig::read(&HashMap::from([("ORIGIN", ""), ("QUEUE_THRESHOLD", "")])).unwrap();
        assert_eq!(config.policy, Policy::default());
        let timeouts = (config.predict_timeout_ms, config.infer_timeout_ms, config.jobs_timeout_ms);
        assert_eq!((config.max_body_bytes, timeouts), (262_144, (2_000, 30_000, 1_000)));
        assert_eq!(config.freshness, Freshness { fresh_ms: 1_000, usable_ms: 10_000 });
        assert_eq!(config.origin, OriginAt::Binding);
    }

    #[test]
    fn every_setting_is_read() {
        let vars = HashMap::from([
            ("EDGE_POLICY", "queue-threshold"),
            ("QUEUE_THRESHOLD", " 7 "),
            ("ACCURACY_FLOOR", "0.8"),
            ("PREDICT_TIMEOUT_MS", "300"),
            ("INFER_TIMEOUT_MS", "600000"),
            ("JOBS_TIMEOUT_MS", "200"),
            ("MAX_BODY_BYTES", "4096"),
            ("SNAPSHOT_FRESH_MS", "0"),
            ("SNAPSHOT_USABLE_MS", "500"),
            ("ORIGIN_URL", "http://[::1]:8000/"),
        ]);
        let expected = EdgeConfig {
            policy: Policy { kind: PolicyKind::QueueThreshold, queue_threshold: 7, accuracy_floor: 0.8 },
            freshness: Freshness { fresh_ms: 0, usable_ms: 500 },
            max_body_bytes: 4_096,
            predict_timeout_ms: 300,
            infer_timeout_ms: 600_000,
            jobs_timeout_ms: 200,
            origin: OriginAt::Url("http://[::1]:8000".to_owned()),
        };
        assert_eq!(EdgeConfig::read(&vars), Ok(expected));
    }

    #[test]
    fn all_faults_are_told_at_once_with_what_is_accepted() {
        let faults = EdgeConfig::read(&HashMap::from([
            ("EDGE_POLICY", "clever"),
            ("QUEUE_THRESHOLD", "0"),
            ("ACCURACY_FLOOR", "NaN"),
            ("SNAPSHOT_FRESH_MS", "20000"),
            ("ORIGIN_URL", "http://user:secret@host"),
        ]))
        .unwrap_err();
        let text = faults.join("\n");
        assert_eq!(faults.len(), 5, "{text}");
        assert!(
            text.contains("EDGE_POLICY=\"clever\" is not accepted; accepted: always-fast, always-accurate"),
            "{text}"
        );
        assert!(text.contains("QUEUE_THRESHOLD=\"0\" is not accepted; accepted: a whole number from 1 to"), "{text}");
        assert!(!text.contains("secret"), "{text}");
    }

    /// Notes which settings are asked for.
    struct Asked(RefCell<BTreeSet<String>>);

    impl Vars for Asked {
        fn text(&self, name: &str) -> Option<String> {
            self.0.borrow_mut().insert(name.to_owned());
            None
        }
        fn is_bound(&self, _name: &str) -> bool {
            false
        }
    }

    /// What stands between `start` and `end`, line by line.
    fn names(text: &str, start: &str, end: &str) -> BTreeSet<String> {
        let lines = text.lines().filter_map(|line| line.trim().strip_prefix(start)?.split_once(end));
        lines.map(|(name, _)| name.to_owned()).collect()
    }

    #[test]
    fn documents_and_deployments_name_every_setting_and_no_other() {
        let asked = Asked(RefCell::default());
        assert!(EdgeConfig::read(&asked).is_err());
        let mut settings = asked.0.into_inner();
        let vars = include_str!("../../wrangler.toml").split_once("[vars]").unwrap().1.split_once('[').unwrap().0;
        assert_eq!(names(vars, "", " ="), settings, "wrangler.toml");
        let config = include_str!("../workerd/config.capnp");
        settings.remove("ORIGIN_URL");
        settings.insert(ORIGIN_BINDING.to_owned());
        let bindings = config.split_once("bindings = [").unwrap().1;
        assert_eq!(names(bindings, "(name = \"", "\""), settings, "config.capnp");
        settings.insert("ORIGIN_URL".to_owned());
        assert_eq!(names(include_str!("../../docs/configuration.md"), "| `EDGE:", "`"), settings, "configuration.md");
    }

    #[test]
    fn without_an_origin_nothing_can_be_answered() {
        let faults = EdgeConfig::read(&HashMap::new()).unwrap_err();
        assert!(faults.concat().contains("ORIGIN_URL"), "{faults:?}");
    }
}
