//! Where settings come from, and the reader that collects their faults.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::{Deref, RangeInclusive};
use std::path::PathBuf;
use std::str::FromStr;

/// Raw settings: environment over file.
#[derive(Debug, Clone, Default)]
pub struct Source {
    env: BTreeMap<String, String>,
    file: BTreeMap<String, String>,
    file_path: Option<PathBuf>,
}

/// A text that may hold a password: it is used, and never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Is there none?
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl Deref for Secret {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "(not set)" } else { "(set)" })
    }
}

/// One setting as it was read.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Setting {
    /// Its name in the environment; lower case in the file.
    pub name: &'static str,
    /// The value in force; a secret shows only that it is set.
    pub value: String,
    /// Where it came from: `environment`, `file` or `default`.
    pub origin: &'static str,
    /// What it is for.
    pub help: &'static str,
}

/// Every fault found in the settings.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError {
    faults: Vec<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.faults.len() == 1 { "" } else { "s" };
        write!(f, "{} setting{plural} cannot be used:", self.faults.len())?;
        for fault in &self.faults {
            write!(f, "\n  - {fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

impl Source {
    /// Puts environment and file together; `file` is its path and text.
    ///
    /// # Errors
    /// [`ConfigError`] when the file is no flat TOML table.
    pub fn new(env: BTreeMap<String, String>, file: Option<(PathBuf, String)>) -> Result<Self, ConfigError> {
        let Some((path, text)) = file else {
            return Ok(Self { env, ..Self::default() });
        };
        let table: toml::Table =
            text.parse().map_err(|error| ConfigError { faults: vec![format!("{}: {error}", path.display())] })?;
        let mut values = BTreeMap::new();
        let mut faults = Vec::new();
        for (name, value) in table {
            match value {
                toml::Value::String(text) => drop(values.insert(name, text)),
                toml::Value::Integer(_) | toml::Value::Float(_) | toml::Value::Boolean(_) => {
                    values.insert(name, value.to_string());
                }
                toml::Value::Array(_) | toml::Value::Table(_) | toml::Value::Datetime(_) => {
                    faults.push(format!("{}: `{name}` must be a text, a number, true or false", path.display()));
                }
            }
        }
        if faults.is_empty() {
            Ok(Self { env, file: values, file_path: Some(path) })
        } else {
            Err(ConfigError { faults })
        }
    }
}

/// Reads settings one by one and remembers what was wrong.
pub(super) struct Reader {
    source: Source,
    settings: Vec<Setting>,
    faults: Vec<String>,
}

impl Reader {
    pub(super) const fn new(source: Source) -> Self {
        Self { source, settings: Vec::new(), faults: Vec::new() }
    }

    fn raw(&self, name: &str) -> Option<(String, &'static str)> {
        // An empty variable is how shells and compose files say "not set".
        if let Some(value) = self.source.env.get(name).filter(|value| !value.is_empty()) {
            return Some((value.clone(), "environment"));
        }
        self.source.file.get(&name.to_lowercase()).map(|value| (value.clone(), "file"))
    }

    /// Did somebody set it?
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.raw(name).is_some()
    }

    fn record(&mut self, name: &'static str, value: &str, origin: &'static str, help: &'static str) {
        self.settings.push(Setting { name, value: value.to_owned(), origin, help });
    }

    fn read<T>(
        &mut self,
        name: &'static str,
        default: &str,
        rule: &str,
        help: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let (value, origin) = self.raw(name).unwrap_or_else(|| (default.to_owned(), "default"));
        self.record(name, &value, origin, help);
        let parsed = parse(value.trim());
        if parsed.is_none() {
            self.faults.push(format!("{name}={value} ({origin}): must be {rule}"));
        }
        parsed
    }

    pub(super) fn number(
        &mut self,
        name: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
        help: &'static str,
    ) -> u64 {
        let rule = format!("a whole number from {} to {}", range.start(), range.end());
        let parse = |text: &str| text.parse().ok().filter(|value| range.contains(value));
        self.read(name, &default.to_string(), &rule, help, parse).unwrap_or(default)
    }

    /// A number that need not be set.
    pub(super) fn optional_number(
        &mut self,
        name: &'static str,
        range: RangeInclusive<u64>,
        help: &'static str,
    ) -> Option<u64> {
        let rule = format!("a whole number from {} to {}, or nothing", range.start(), range.end());
        let parse = |text: &str| {
            if text.is_empty() { Some(None) } else { text.parse().ok().filter(|value| range.contains(value)).map(Some) }
        };
        self.read(name, "", &rule, help, parse).flatten()
    }

    pub(super) fn flag(&mut self, name: &'static str, default: bool, help: &'static str) -> bool {
        let parse = |text: &str| match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Some(true),
            "false" | "0" | "no" | "off" => Some(false),
            _ => None,
        };
        self.read(name, if default { "true" } else { "false" }, "true or false", help, parse).unwrap_or(default)
    }

    pub(super) fn ratio(&mut self, name: &'static str, default: f32, help: &'static str) -> f32 {
        let parse = |text: &str| text.parse().ok().filter(|value| (0.0..=1.0).contains(value));
        self.read(name, &default.to_string(), "a number from 0 to 1", help, parse).unwrap_or(default)
    }

    /// A ratio that need not be set.
    pub(super) fn optional_ratio(&mut self, name: &'static str, help: &'static str) -> Option<f32> {
        let parse = |text: &str| {
            let ratio = || text.parse().ok().filter(|value| (0.0..=1.0).contains(value));
            if text.is_empty() { Some(None) } else { ratio().map(Some) }
        };
        self.read(name, "", "a number from 0 to 1, or nothing", help, parse).flatten()
    }

    pub(super) fn one_of(&mut self, name: &'static str, default: &str, values: &[&str], help: &'static str) -> String {
        let rule = format!("one of {}", values.join(", "));
        let parse = |text: &str| values.contains(&text).then(|| text.to_owned());
        self.read(name, default, &rule, help, parse).unwrap_or_else(|| default.to_owned())
    }

    pub(super) fn text(&mut self, name: &'static str, default: &str, help: &'static str) -> String {
        self.read(name, default, "a text", help, |text| Some(text.to_owned())).unwrap_or_default()
    }

    /// A log filter: levels, bare or behind `module=`. A bare word that is no level would silence all else, so it is a fault.
    pub(super) fn log_filter(&mut self, name: &'static str, default: &str, help: &'static str) -> String {
        const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
        let is_level = |part: &str| LEVELS.contains(&part.rsplit('=').next().unwrap_or_default().trim());
        let parse = |text: &str| text.split(',').all(is_level).then(|| text.to_owned());
        let rule = "one of off, error, warn, info, debug, trace, or MODULE=LEVEL, several with commas";
        self.read(name, default, rule, help, parse).unwrap_or_else(|| default.to_owned())
    }

    /// A value of any type that reads itself; the default must be a good one.
    pub(super) fn parsed<T: FromStr>(&mut self, name: &'static str, default: &str, rule: &str, help: &'static str) -> T
    where
        T::Err: fmt::Debug,
    {
        let parsed = self.read(name, default, rule, help, |text| text.parse().ok());
        #[expect(clippy::expect_used, reason = "defaults are literals in this crate, and a test reads them all")]
        parsed.unwrap_or_else(|| default.parse().expect("a default is a good value"))
    }

    pub(super) fn optional(&mut self, name: &'static str, help: &'static str) -> Option<String> {
        let value = self.raw(name);
        let (shown, origin) = value.clone().unwrap_or_else(|| (String::new(), "default"));
        self.record(name, &shown, origin, help);
        value.map(|(value, _)| value)
    }

    /// A text that may hold a password: shown only as set or not.
    pub(super) fn secret(&mut self, name: &'static str, default: &str, help: &'static str) -> Secret {
        let (value, origin) = self.raw(name).unwrap_or_else(|| (default.to_owned(), "default"));
        self.record(name, if origin == "default" { default } else { "(set)" }, origin, help);
        Secret(value)
    }

    /// Notes a fault that no single setting has.
    pub(super) fn fault(&mut self, fault: &str) {
        self.faults.push(fault.to_owned());
    }

    pub(super) fn finish(mut self) -> Result<Vec<Setting>, ConfigError> {
        let known: BTreeSet<String> = self.settings.iter().map(|setting| setting.name.to_lowercase()).collect();
        if let Some(path) = &self.source.file_path {
            for name in self.source.file.keys().filter(|name| !known.contains(*name)) {
                self.faults.push(format!(
                    "{}: `{name}` is no setting (see docs/configuration.md or `infer-router serve --print-config`)",
                    path.display()
                ));
            }
        }
        if self.faults.is_empty() { Ok(self.settings) } else { Err(ConfigError { faults: self.faults }) }
    }
}
