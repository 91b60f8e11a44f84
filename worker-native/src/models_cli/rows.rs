//! Rows to compare models on: made ones, where the model's own numbers lie, and those of a file.
//!
//! Owns how rows come about. Made rows are the same in every run of one seed. Every third of them has values that
//! stand in the model (thresholds, stored rows), since there `<` and `<=` part; every third is far out.

use std::collections::HashSet;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::onnx::graph::{Graph, floats, ints, values_f32};
use crate::onnx::oracle::{Element, Feed, Input};
use crate::onnx::proto::ModelProto;

/// How many of the model's own values a column keeps.
const KEPT: usize = 1024;
/// The widest row that hints are gathered for; wider inputs get plain normal values.
const WIDEST: usize = 1 << 16;
/// A file of rows beyond this is a mistake.
const LARGEST_FILE: u64 = 256 << 20;

/// Rows for all inputs of a model.
#[derive(Debug, Clone, Default)]
pub(super) struct Rows {
    /// One for each input.
    pub(super) feeds: Vec<Feed>,
    /// How many rows.
    pub(super) count: usize,
}

/// Where made rows may lie.
#[derive(Debug)]
pub(super) struct Wishes<'a> {
    /// How many rows.
    pub(super) count: usize,
    /// The same seed makes the same rows.
    pub(super) seed: u64,
    /// `(low, high)` of each column, or one for all; empty: where the model's numbers lie.
    pub(super) ranges: &'a [(f64, f64)],
}

/// What the model's constants tell of one column of its input.
#[derive(Debug, Clone, Default)]
struct Hint {
    count: f64,
    mean: f64,
    squares: f64,
    seen: Vec<f64>,
}

impl Hint {
    // Welford's running mean and variance.
    fn learn(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        self.count += 1.0;
        let off = value - self.mean;
        self.mean += off / self.count;
        self.squares += off * (value - self.mean);
        if self.seen.len() < KEPT {
            self.seen.push(value);
        }
    }

    fn spread(&self) -> f64 {
        let spread = (self.squares / self.count.max(1.0)).sqrt();
        if spread > 0.0 { spread } else { 1.0 }
    }
}

/// Thresholds of trees and stored rows by column; empty where they say nothing.
fn hints(model: &ModelProto, width: usize) -> Vec<Hint> {
    let mut hints = vec![Hint::default(); width];
    let Some(graph) = model.graph.as_ref() else { return hints };
    let mut searched = HashSet::new();
    for node in &graph.node {
        let features = ints(node, "nodes_featureids").unwrap_or_default();
        for (feature, value) in features.iter().zip(floats(node, "nodes_values").unwrap_or_default()) {
            // A leaf's threshold is 0 and means nothing.
            if let Some(hint) =
                usize::try_from(*feature).ok().and_then(|at| hints.get_mut(at)).filter(|_| *value != 0.0)
            {
                hint.learn(f64::from(*value));
            }
        }
        if matches!(node.op_type(), "Scan" | "CDist") {
            searched.extend(node.input.iter());
        }
    }
    let Ok(index) = Graph::new(graph) else { return hints };
    for points in searched.into_iter().filter_map(|name| index.constant(name)) {
        let wide = matches!(points.dims[..], [_, columns] if usize::try_from(columns) == Ok(width));
        let values = if wide { values_f32(points).unwrap_or_default() } else { Vec::new() };
        for row in values.chunks_exact(width.max(1)) {
            hints.iter_mut().zip(row).for_each(|(hint, value)| hint.learn(f64::from(*value)));
        }
    }
    hints
}

impl Rows {
    /// Makes rows for a model; texts are drawn from `given`.
    ///
    /// # Errors
    /// An input of texts without given rows, and a number of ranges that is neither one nor the width.
    pub(super) fn make(inputs: &[Input], model: &ModelProto, wishes: &Wishes<'_>, given: &Self) -> Result<Self> {
        let width: usize = inputs.iter().map(|input| input.width).sum();
        if !matches!(wishes.ranges.len(), 0 | 1) && wishes.ranges.len() != width {
            bail!("--range was given {} times; give it once for all columns or {width} times", wishes.ranges.len());
        }
        let hints = match inputs {
            [input] if input.width <= WIDEST => hints(model, input.width),
            _ => Vec::new(),
        };
        let mut random = fastrand::Rng::with_seed(wishes.seed);
        let mut feeds = Vec::new();
        let mut first = 0;
        for (number, input) in inputs.iter().enumerate() {
            if input.element == Element::Text {
                feeds.push(drawn(given, number, input, wishes.count, &mut random)?);
            } else {
                let mut values = Vec::with_capacity(wishes.count.saturating_mul(input.width));
                for row in 0..wishes.count {
                    for column in first..first + input.width {
                        let range =
                            wishes.ranges.get(column).or(wishes.ranges.first().filter(|_| wishes.ranges.len() == 1));
                        values.push(value(row, range, hints.get(column), &mut random));
                    }
                }
                feeds.push(numbers(input.element, values));
            }
            first += input.width;
        }
        Ok(Self { feeds, count: wishes.count })
    }

    /// Reads rows from a CSV file with a header line, or from JSON: a list of lists, or that list under `inputs`.
    ///
    /// # Errors
    /// A file that cannot be read, and the first row that does not fit the model's inputs.
    pub(super) fn read(path: &Path, inputs: &[Input]) -> Result<Self> {
        let explain = || format!("--rows {}", path.display());
        if std::fs::metadata(path).with_context(explain)?.len() > LARGEST_FILE {
            bail!("--rows {}: more than {LARGEST_FILE} bytes; give fewer rows", path.display());
        }
        let text = std::fs::read_to_string(path).with_context(explain)?;
        let json = path.extension().is_some_and(|kind| kind.eq_ignore_ascii_case("json"));
        let cells = if json { from_json(&text) } else { from_csv(&text) };
        fit(&cells.with_context(explain)?, inputs).with_context(explain)
    }

    /// Puts rows of the same inputs behind these.
    pub(super) fn append(&mut self, other: &Self) {
        for (feed, more) in self.feeds.iter_mut().zip(&other.feeds) {
            match (feed, more) {
                (Feed::F32(values), Feed::F32(more)) => values.extend_from_slice(more),
                (Feed::F64(values), Feed::F64(more)) => values.extend_from_slice(more),
                (Feed::I64(values), Feed::I64(more)) => values.extend_from_slice(more),
                (Feed::Text(values), Feed::Text(more)) => values.extend_from_slice(more),
                _ => {}
            }
        }
        self.count = self.count.saturating_add(other.count);
    }
}

fn value(row: usize, range: Option<&(f64, f64)>, hint: Option<&Hint>, random: &mut fastrand::Rng) -> f64 {
    if let Some((low, high)) = range {
        return low + (high - low) * random.f64();
    }
    // Box and Muller 1958; the logarithm of 0 must not come up.
    let normal = (-2.0 * (1.0 - random.f64()).ln()).sqrt() * (std::f64::consts::TAU * random.f64()).cos();
    let Some(hint) = hint else { return normal * if row % 3 == 2 { 10.0 } else { 1.0 } };
    match row % 3 {
        1 if !hint.seen.is_empty() && random.bool() => {
            hint.seen.get(random.usize(..hint.seen.len())).copied().unwrap_or(normal)
        }
        2 => hint.mean + 10.0 * hint.spread() * normal,
        _ => hint.mean + 1.5 * hint.spread() * normal,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "made values are small")]
fn numbers(element: Element, values: Vec<f64>) -> Feed {
    match element {
        Element::F32 => Feed::F32(values.into_iter().map(|value| value as f32).collect()),
        Element::I64 => Feed::I64(values.into_iter().map(|value| value.round() as i64).collect()),
        Element::F64 | Element::Text => Feed::F64(values),
    }
}

fn drawn(given: &Rows, number: usize, input: &Input, count: usize, random: &mut fastrand::Rng) -> Result<Feed> {
    let Some(Feed::Text(texts)) = given.feeds.get(number).filter(|_| given.count > 0) else {
        bail!("input {:?} takes texts, which cannot be made up: give some rows with --rows", input.name);
    };
    let mut drawn = Vec::new();
    for _ in 0..count {
        let from = random.usize(..given.count).saturating_mul(input.width);
        drawn.extend(texts.iter().skip(from).take(input.width).cloned());
    }
    Ok(Feed::Text(drawn))
}

fn from_csv(text: &str) -> Result<Vec<Vec<String>>> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    reader.records().map(|line| Ok(line?.iter().map(str::to_owned).collect())).collect()
}

fn from_json(text: &str) -> Result<Vec<Vec<String>>> {
    let value: serde_json::Value = serde_json::from_str(text)?;
    let rows = value.get("inputs").unwrap_or(&value).as_array().context("it is no list of rows")?;
    rows.iter()
        .map(|row| {
            let cells = row.as_array().context("a row is no list")?;
            let word = |cell: &serde_json::Value| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned);
            Ok(cells.iter().map(word).collect())
        })
        .collect()
}

/// Deals the cells of each row out to the inputs, in their order.
fn fit(rows: &[Vec<String>], inputs: &[Input]) -> Result<Rows> {
    let width: usize = inputs.iter().map(|input| input.width).sum();
    for (number, row) in rows.iter().enumerate() {
        if row.len() != width {
            bail!("row {} has {} values, the model takes {width}", number + 1, row.len());
        }
    }
    let mut first = 0;
    let mut feeds = Vec::new();
    for input in inputs {
        let cells = rows
            .iter()
            .enumerate()
            .flat_map(|(number, row)| row.iter().skip(first).take(input.width).map(move |cell| (number + 1, cell)));
        feeds.push(match input.element {
            Element::Text => Feed::Text(cells.map(|(_, cell)| cell.clone()).collect()),
            element => {
                let parse = |(number, cell): (usize, &String)| {
                    cell.parse::<f64>().with_context(|| format!("row {number}: {cell:?} is no number"))
                };
                numbers(element, cells.map(parse).collect::<Result<_>>()?)
            }
        });
        first += input.width;
    }
    Ok(Rows { feeds, count: rows.len() })
}

/// Reads `LOW:HIGH`.
///
/// # Errors
/// What is wrong with it, for the command line.
pub(super) fn parse_range(text: &str) -> std::result::Result<(f64, f64), String> {
    let bounds = text.split_once(':').and_then(|(low, high)| Some((low.parse().ok()?, high.parse().ok()?)));
    match bounds {
        Some((low, high)) if f64::is_finite(low) && f64::is_finite(high) && low <= high => Ok((low, high)),
        _ => Err("wanted is LOW:HIGH, e.g. -3:3".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_two_finite_numbers_in_order() {
        assert_eq!(parse_range("-3:4.5"), Ok((-3.0, 4.5)));
        for wrong in ["", "3", "4:3", "a:b", "0:inf", "nan:1"] {
            assert!(parse_range(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn csv_and_json_are_the_same_rows() {
        let csv = from_csv("a,b\n1,2\n 3 , -4e2\n").unwrap();
        assert_eq!(csv, [["1", "2"], ["3", "-4e2"]]);
        assert_eq!(from_json("[[1,2],[3,\"x\"]]").unwrap(), [["1", "2"], ["3", "x"]]);
        assert_eq!(from_json("{\"inputs\":[[1,2]],\"outputs\":[]}").unwrap(), [["1", "2"]]);
        assert!(from_json("{\"inputs\":3}").is_err());
    }
}
