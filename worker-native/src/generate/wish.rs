//! What a request asks of a task that makes texts or series, checked whole: every fault at once,
//! each with a pointer to its field.

use std::ops::RangeInclusive;

use serde_json::value::RawValue;
use shared::ids::is_id;
use shared::reading::json::{Array, NotANumber, Object, array, excerpt, number, pointer, string};
use shared::reading::{Fault, MAX_DEADLINE_MS, MAX_FAULTS, Rejection};

use super::invalid;
use super::sample::MAX_SEED;
use crate::engine::repository::{Forecast, Generation};

/// Most values of a history; only the last ones of a window are looked at.
const MAX_HISTORY: usize = 16_384;
/// Most stop texts of one request.
const MAX_STOPS: usize = 4;
/// Most characters of a stop text: so many may be held back.
const MAX_STOP_LENGTH: usize = 64;
/// Highest temperature; above it, texts are noise.
const MAX_TEMPERATURE: f64 = 2.0;
/// The temperature where none is asked for: a little surer than the model itself.
const DEFAULT_TEMPERATURE: f64 = 0.8;

/// Names that every request may have.
const COMMON: [&str; 8] =
    ["task", "model", "model_name", "model_version", "strict", "sensor_id", "deadline_ms", "params"];

/// One request, as far as it does not choose the model.
#[derive(Debug, Clone, PartialEq)]
pub struct Wish {
    /// Who asks, where told.
    pub sensor_id: Option<String>,
    /// How long the caller can wait, in milliseconds.
    pub deadline_ms: Option<u64>,
    /// A version the caller wants.
    pub model_version: Option<u32>,
    /// With `strict`, an unknown version is an error instead of the default version.
    pub strict: bool,
    /// What is to be made.
    pub what: What,
}

/// What is to be made.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// A text.
    Text(TextWish),
    /// The next values of a series.
    Series(SeriesWish),
}

/// A text that goes on from a prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct TextWish {
    /// The text before it; may be empty.
    pub prompt: String,
    /// Most characters to make.
    pub max_new_tokens: usize,
    /// 0 for the likeliest character each time; 1 for the model's own probabilities.
    pub temperature: f64,
    /// Where the random numbers begin.
    pub seed: Option<u64>,
    /// Texts before which it ends.
    pub stop: Vec<String>,
}

/// The next values of a series.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesWish {
    /// The values so far, oldest first.
    pub history: Vec<f32>,
    /// How many values to make.
    pub steps: usize,
}

/// Reads what is asked of a task that makes texts.
///
/// # Errors
/// A rejection with every fault.
pub(super) fn text(name: &str, task: &Generation, body: &Object<'_>) -> Result<Wish, Rejection> {
    let mut faults = Vec::new();
    check_names(body, "#", &[&COMMON[..], &["prompt", "input", "text"]].concat(), &mut faults);
    let prompt = one_of(body, &["prompt", "input", "text"], "the text to go on from, \"\" for none", &mut faults)
        .and_then(|(name, raw)| {
            let text = string(raw);
            if text.is_none() {
                faults.push(wrong(name, "wrong_type", "a text", raw));
            }
            text
        });
    let known = ["max_new_tokens", "temperature", "seed", "stop"];
    let (mut most, mut temperature, mut seed, mut stop) = (None, None, None, vec![]);
    params(body, &known, &mut faults, |params, faults| {
        most = whole(params, "max_new_tokens", 1..=task.max_new_tokens as u64, faults);
        temperature = real(params, "temperature", 0.0..=MAX_TEMPERATURE, faults);
        seed = whole(params, "seed", 0..=MAX_SEED, faults);
        stop = stops(params, task.lowercase, faults);
    });
    let what = What::Text(TextWish {
        prompt: prompt.map(std::borrow::Cow::into_owned).unwrap_or_default(),
        max_new_tokens: most.map_or(task.default_new_tokens, to_usize),
        temperature: temperature.unwrap_or(DEFAULT_TEMPERATURE),
        seed,
        stop,
    });
    finish(name, body, what, faults)
}

/// Reads what is asked of a task that makes series.
///
/// # Errors
/// A rejection with every fault.
pub(super) fn series(name: &str, task: &Forecast, body: &Object<'_>) -> Result<Wish, Rejection> {
    let mut faults = Vec::new();
    check_names(body, "#", &[&COMMON[..], &["input", "features"]].concat(), &mut faults);
    let history = one_of(body, &["input", "features"], "the values so far, oldest first", &mut faults);
    let history = history.map(|(name, raw)| history_of(task, name, raw, &mut faults)).unwrap_or_default();
    let mut steps = None;
    params(body, &["steps"], &mut faults, |params, faults| {
        steps = whole(params, "steps", 1..=task.max_steps as u64, faults);
    });
    let steps = steps.map_or(task.default_steps, to_usize);
    finish(name, body, What::Series(SeriesWish { history, steps }), faults)
}

fn finish(task: &str, body: &Object<'_>, what: What, mut faults: Vec<Fault>) -> Result<Wish, Rejection> {
    let sensor_id = body.read(&mut faults, "sensor_id", "a string of 1 to 128 letters, digits or `._:-`", |raw| {
        string(raw).filter(|id| is_id(id)).map(std::borrow::Cow::into_owned)
    });
    let model_version = body.read(&mut faults, "model_version", "a whole number from 1", |raw| {
        let text = string(raw);
        let number = text.as_deref().unwrap_or_else(|| raw.get());
        number.strip_prefix('v').unwrap_or(number).parse::<u32>().ok().filter(|version| *version >= 1)
    });
    let strict = body.read(&mut faults, "strict", "true or false", |raw| serde_json::from_str(raw.get()).ok());
    let deadline_ms = whole(body, "deadline_ms", 1..=MAX_DEADLINE_MS, &mut faults);
    if !faults.is_empty() {
        return Err(invalid(task, faults));
    }
    Ok(Wish { sensor_id, deadline_ms, model_version, strict: strict.unwrap_or(false), what })
}

fn check_names(object: &Object<'_>, at: &str, known: &[&str], faults: &mut Vec<Fault>) {
    let at = |name: &str| format!("{at}{}", pointer(&[name]).trim_start_matches('#'));
    for name in object.duplicates.iter().take(MAX_FAULTS) {
        faults.push(Fault::new(at(name), "duplicate", format!("`{name}` is given twice")));
    }
    let unknown = object.entries.iter().filter(|(name, _)| !known.contains(&name.as_ref()));
    for (name, _) in unknown.take(MAX_FAULTS) {
        let shown: String = name.chars().take(64).collect();
        let detail = format!("`{shown}` is not known here; known are: {}", known.join(", "));
        faults.push(Fault::new(at(name), "unexpected", detail));
    }
}

/// The one field given of several that mean the same.
fn one_of<'a>(
    body: &Object<'a>,
    names: &[&'static str],
    what: &str,
    faults: &mut Vec<Fault>,
) -> Option<(&'static str, &'a RawValue)> {
    let given = names.iter().filter_map(|name| body.get(name).map(|raw| (*name, raw)));
    let mut given = given.filter(|(_, raw)| raw.get() != "null");
    let first = given.next();
    match (first, given.next()) {
        (None, _) => {
            let name = names.first().copied().unwrap_or_default();
            faults.push(Fault::new(pointer(&[name]), "missing", format!("`{name}` is missing: {what}")));
        }
        (Some((first, _)), Some((second, _))) => {
            let detail = format!("give one of `{first}` and `{second}`, not both");
            faults.push(Fault::new(pointer(&[second]), "conflict", detail));
        }
        (Some(_), None) => {}
    }
    first
}

/// Reads `params`, an object; its faults point into it.
fn params(body: &Object<'_>, known: &[&str], faults: &mut Vec<Fault>, read: impl FnOnce(&Object<'_>, &mut Vec<Fault>)) {
    let Some(raw) = body.get("params").filter(|raw| raw.get() != "null") else { return };
    let Ok(params) = serde_json::from_str::<Object<'_>>(raw.get()) else {
        faults.push(wrong("params", "wrong_type", &format!("an object with {}", known.join(", ")), raw));
        return;
    };
    check_names(&params, "#/params", known, faults);
    let mut own = Vec::new();
    read(&params, &mut own);
    let moved = |fault: Fault| Fault { pointer: format!("#/params{}", fault.pointer.trim_start_matches('#')), ..fault };
    faults.extend(own.into_iter().map(moved));
}

fn wrong(name: &str, code: &'static str, wanted: &str, raw: &RawValue) -> Fault {
    Fault::new(pointer(&[name]), code, format!("`{name}` must be {wanted}, not {}", excerpt(raw)))
}

fn whole(object: &Object<'_>, name: &str, range: RangeInclusive<u64>, faults: &mut Vec<Fault>) -> Option<u64> {
    let raw = object.get(name).filter(|raw| raw.get() != "null")?;
    let good = raw.get().parse().ok().filter(|value| range.contains(value));
    if good.is_none() {
        let is_whole = raw.get().trim_start_matches('-').bytes().all(|byte| byte.is_ascii_digit());
        let code = if is_whole { "out_of_range" } else { "wrong_type" };
        faults.push(wrong(name, code, &format!("a whole number from {} to {}", range.start(), range.end()), raw));
    }
    good
}

fn real(object: &Object<'_>, name: &str, range: RangeInclusive<f64>, faults: &mut Vec<Fault>) -> Option<f64> {
    let raw = object.get(name).filter(|raw| raw.get() != "null")?;
    let value = number(raw);
    let good = value.ok().filter(|value| range.contains(value));
    if good.is_none() {
        let code = if value == Err(NotANumber::WrongType) { "wrong_type" } else { "out_of_range" };
        faults.push(wrong(name, code, &format!("a number from {} to {}", range.start(), range.end()), raw));
    }
    good
}

fn stops(params: &Object<'_>, lowercase: bool, faults: &mut Vec<Fault>) -> Vec<String> {
    let Some(raw) = params.get("stop").filter(|raw| raw.get() != "null") else { return vec![] };
    let several = array(raw, MAX_STOPS);
    let is_array = several.is_some();
    let given = several.unwrap_or(Array { elements: vec![raw], length: 1 });
    if given.length > MAX_STOPS {
        let detail = format!("`stop` has {} texts, accepted are at most {MAX_STOPS}", given.length);
        faults.push(Fault::new("#/stop", "wrong_length", detail));
        return vec![];
    }
    let mut stops = Vec::new();
    for (at, raw) in given.elements.iter().enumerate() {
        // The model's texts have small letters only: a stop text with a capital would never come.
        let stop = string(raw).map(|text| if lowercase { text.to_lowercase() } else { text.into_owned() });
        match stop {
            Some(stop) if (1..=MAX_STOP_LENGTH).contains(&stop.chars().count()) => stops.push(stop),
            refused => {
                let place = if is_array { format!("#/stop/{at}") } else { "#/stop".to_owned() };
                let code = if refused.is_some() { "wrong_length" } else { "wrong_type" };
                let detail = format!("a stop text has 1 to {MAX_STOP_LENGTH} characters, {} has not", excerpt(raw));
                faults.push(Fault::new(place, code, detail));
            }
        }
    }
    stops
}

fn history_of(task: &Forecast, name: &str, raw: &RawValue, faults: &mut Vec<Fault>) -> Vec<f32> {
    let Some(given) = array(raw, MAX_HISTORY) else {
        faults.push(wrong(name, "wrong_type", "an array of numbers", raw));
        return vec![];
    };
    if !(task.min_history..=MAX_HISTORY).contains(&given.length) {
        let detail = format!(
            "`{name}` has {} values, accepted are from {} to {MAX_HISTORY}; the model looks at the last {}",
            given.length, task.min_history, task.window
        );
        faults.push(Fault::new(pointer(&[name]), "wrong_length", detail));
    }
    let least = task.min.unwrap_or(f64::from(f32::MIN));
    let most = task.max.unwrap_or(f64::from(f32::MAX));
    let mut history = Vec::with_capacity(given.elements.len());
    for (at, raw) in given.elements.iter().enumerate() {
        let value = number(raw);
        match value {
            Ok(value) if (least..=most).contains(&value) => history.push(to_f32(value)),
            refused if faults.len() <= MAX_FAULTS => {
                let code = if refused == Err(NotANumber::WrongType) { "wrong_type" } else { "out_of_range" };
                let unit = if task.unit.is_empty() { String::new() } else { format!(" {}", task.unit) };
                let detail = format!("value {at} must be a number from {least} to {most}{unit}, not {}", excerpt(raw));
                faults.push(Fault::new(pointer(&[name, &at.to_string()]), code, detail));
            }
            _ => break,
        }
    }
    history
}

#[expect(clippy::cast_possible_truncation, reason = "checked against the range of float32 before")]
const fn to_f32(value: f64) -> f32 {
    value as f32
}

/// What the task's own limit has bounded; the fallback is never met.
fn to_usize(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
