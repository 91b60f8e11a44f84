//! Do two models answer the same? Owns the comparison and its tolerance.

use serde::Serialize;

use super::rows::Rows;
use crate::onnx::oracle::{Answer, Loaded};
use crate::onnx::rewrite::{Classes, Done};

/// How far two floats may lie apart, absolutely or of the original's size.
pub(super) const TOLERANCE: f64 = 1e-5;
/// Rows in one run of the comparison.
const CHUNK: usize = 256;

/// The row that differs most.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Worst {
    /// In which output.
    pub(super) output: String,
    /// Its number, from 0: made rows first, then those of the file.
    pub(super) row: usize,
    /// What the original answered.
    pub(super) before: String,
    /// What the rewritten model answered.
    pub(super) after: String,
    #[serde(skip)]
    error: f64,
}

/// What the comparison found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Parity {
    /// How many rows were compared.
    pub(super) rows: usize,
    /// Largest difference of two floats, of the original's size where that is above 1.
    pub(super) largest_difference: f64,
    /// The worst row that is beyond the tolerance; none: the models answer the same.
    pub(super) worst: Option<Worst>,
}

/// Runs both models on all rows and compares every output.
///
/// # Errors
/// A model that does not run, and outputs that cannot be set side by side.
pub(super) fn compare(before: &mut Loaded, after: &mut Loaded, rows: &Rows, done: &Done) -> Result<Parity, String> {
    let names = before.outputs();
    if names != after.outputs() {
        return Err(format!("the outputs were {names:?} and are {:?}", after.outputs()));
    }
    let mut parity = Parity { rows: 0, largest_difference: 0.0, worst: None };
    let chunk = before.fixed_rows().unwrap_or(CHUNK);
    while parity.rows < rows.count {
        // A model that insists on a number of rows leaves a rest that cannot be run.
        let end = parity.rows.saturating_add(chunk);
        let end = if before.fixed_rows().is_none() { end.min(rows.count) } else { end };
        if end > rows.count {
            break;
        }
        let part = parity.rows..end;
        let was = before.run(&rows.feeds, part.clone()).map_err(|error| format!("the original: {error}"))?;
        let now = after.run(&rows.feeds, part.clone()).map_err(|error| format!("the rewritten model: {error}"))?;
        for ((name, was), now) in names.iter().zip(was).zip(now) {
            let classes = done.unzipped.iter().find(|output| output.output == *name).map(|output| &output.classes);
            let was = ordered(was, classes);
            let found = differ(&was, &now, part.len()).map_err(|error| format!("output {name:?}: {error}"))?;
            parity.take(found, name, part.start);
        }
        parity.rows = end;
    }
    if parity.rows == 0 {
        return Err("there are no rows to compare on".to_owned());
    }
    Ok(parity)
}

impl Parity {
    fn take(&mut self, found: Found, output: &str, first: usize) {
        self.largest_difference = self.largest_difference.max(found.largest);
        let Some((row, error, before, after)) = found.worst else { return };
        if error > self.worst.as_ref().map_or(TOLERANCE, |worst| worst.error) {
            self.worst = Some(Worst { output: output.to_owned(), row: first + row, before, after, error });
        }
    }
}

/// Maps as a table, class by class; a class that a map lacks is no number.
fn ordered(answer: Answer, classes: Option<&Classes>) -> Answer {
    let (Answer::Maps(maps), Some(classes)) = (&answer, classes) else { return answer };
    let words: Vec<String> = match classes {
        Classes::Numbers(classes) => classes.iter().map(ToString::to_string).collect(),
        Classes::Names(classes) => classes.clone(),
    };
    let value = |map: &Vec<(String, f64)>, class: &String| {
        map.iter().find(|(name, _)| name == class).map_or(f64::NAN, |(_, value)| *value)
    };
    Answer::Floats(maps.iter().flat_map(|map| words.iter().map(|class| value(map, class))).collect())
}

/// What one output showed.
#[derive(Debug, Default, PartialEq)]
struct Found {
    /// The largest difference of two floats that are numbers.
    largest: f64,
    /// Row, difference (infinite for labels), and what was and is.
    worst: Option<(usize, f64, String, String)>,
}

impl Found {
    fn take(&mut self, row: usize, error: f64, pair: impl FnOnce() -> (String, String)) {
        if error.is_finite() {
            self.largest = self.largest.max(error);
        }
        if error > self.worst.as_ref().map_or(TOLERANCE, |worst| worst.1) {
            let (before, after) = pair();
            self.worst = Some((row, error, before, after));
        }
    }
}

fn differ(was: &Answer, now: &Answer, rows: usize) -> Result<Found, String> {
    let mut found = Found::default();
    match (was, now) {
        (Answer::Floats(was), Answer::Floats(now)) => {
            let width = width(was.len(), now.len(), rows)?;
            for (index, (was, now)) in was.iter().zip(now).enumerate() {
                found.take(index / width, error(*was, *now), || (was.to_string(), now.to_string()));
            }
        }
        (Answer::Labels(was), Answer::Labels(now)) => {
            let width = width(was.len(), now.len(), rows)?;
            for (index, (was, now)) in was.iter().zip(now).enumerate() {
                let error = if was == now { 0.0 } else { f64::INFINITY };
                found.take(index / width, error, || (was.clone(), now.clone()));
            }
        }
        (Answer::Maps(was), Answer::Maps(now)) => {
            width(was.len(), now.len(), rows)?;
            for (row, (was, now)) in was.iter().zip(now).enumerate() {
                let error = if was == now { 0.0 } else { f64::INFINITY };
                found.take(row, error, || (format!("{was:?}"), format!("{now:?}")));
            }
        }
        _ => return Err("it was of another type".to_owned()),
    }
    Ok(found)
}

/// Values of a row; the shape may have changed, the number of values may not.
fn width(was: usize, now: usize, rows: usize) -> Result<usize, String> {
    if was == now {
        Ok(was.checked_div(rows).unwrap_or(1).max(1))
    } else {
        Err(format!("{was} values were, {now} are"))
    }
}

fn error(was: f64, now: f64) -> f64 {
    // Infinities of one sign are equal; two values that are no numbers count as equal.
    if was == now || (was.is_nan() && now.is_nan()) {
        return 0.0;
    }
    let error = (was - now).abs() / was.abs().max(1.0);
    if error.is_nan() { f64::INFINITY } else { error }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(values: &[f64]) -> Answer {
        Answer::Floats(values.to_vec())
    }

    #[test]
    fn floats_may_differ_by_the_tolerance_of_their_size() {
        for (was, now, same) in [
            (0.5, 0.5 + 0.9e-5, true),
            (0.5, 0.5 + 1.1e-5, false),
            (2e6, 2e6 + 19.0, true),
            (2e6, 2e6 + 21.0, false),
            (f64::NAN, f64::NAN, true),
            (f64::NAN, 1.0, false),
            (f64::INFINITY, f64::INFINITY, true),
            (f64::INFINITY, f64::NEG_INFINITY, false),
        ] {
            let found = differ(&floats(&[was]), &floats(&[now]), 1).unwrap();
            assert_eq!(found.worst.is_none(), same, "{was} {now}");
        }
    }

    #[test]
    fn the_worst_row_is_named() {
        let found = differ(&floats(&[0.0, 0.0, 0.0, 0.0]), &floats(&[0.0, 0.1, 0.2, 0.0]), 2).unwrap();
        assert_eq!(found.worst, Some((1, 0.2, "0".to_owned(), "0.2".to_owned())));
        let labels = |words: &[&str]| Answer::Labels(words.iter().map(|word| (*word).to_owned()).collect());
        let found = differ(&labels(&["1", "1", "-1"]), &labels(&["1", "1", "1"]), 3).unwrap();
        assert_eq!(found.worst.map(|worst| (worst.0, worst.2, worst.3)), Some((2, "-1".to_owned(), "1".to_owned())));
    }

    #[test]
    fn another_number_of_values_or_another_type_is_no_comparison() {
        assert!(differ(&floats(&[1.0]), &floats(&[1.0, 1.0]), 1).is_err());
        assert!(differ(&floats(&[1.0]), &Answer::Labels(vec!["1".to_owned()]), 1).is_err());
    }

    #[test]
    fn maps_are_read_in_the_order_of_the_classes() {
        let map = vec![("a".to_owned(), 0.1), ("b".to_owned(), 0.9)];
        let classes = Classes::Names(vec!["b".to_owned(), "a".to_owned()]);
        assert_eq!(ordered(Answer::Maps(vec![map.clone(), map]), Some(&classes)), floats(&[0.9, 0.1, 0.9, 0.1]));
    }
}
