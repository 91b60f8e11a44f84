//! What a model looks at: the newest values of a text or a series, always the same number of them.

use crate::engine::repository::{Forecast, Generation};

/// The newest values, oldest first.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Window(Vec<f32>);

impl Window {
    /// The end of a text as ids, and how many characters the text has; what is missing on the left is id 0.
    pub(super) fn of_text(task: &Generation, text: &str) -> (Self, usize) {
        let mut window = Self(vec![0.0; task.window]);
        let count = if task.lowercase {
            window.fill(task, text.chars().flat_map(char::to_lowercase))
        } else {
            window.fill(task, text.chars())
        };
        (window, count)
    }

    fn fill(&mut self, task: &Generation, characters: impl Iterator<Item = char>) -> usize {
        let mut newest = std::collections::VecDeque::with_capacity(task.window);
        let mut count = 0;
        for character in characters {
            if newest.len() == task.window {
                newest.pop_front();
            }
            newest.push_back(character);
            count += 1;
        }
        let free = self.0.len().saturating_sub(newest.len());
        for (place, character) in self.0.iter_mut().skip(free).zip(newest) {
            *place = id_as_value(id_of(&task.alphabet, character));
        }
        count
    }

    /// The end of a series that is not empty; what is missing on the left is its first value.
    pub(super) fn of_series(task: &Forecast, history: &[f32]) -> Self {
        let known = history.get(history.len().saturating_sub(task.window)..).unwrap_or_default();
        let first = known.first().copied().unwrap_or_default();
        let mut values = vec![first; task.window.saturating_sub(known.len())];
        values.extend_from_slice(known);
        Self(values)
    }

    /// The next value comes in on the right, the oldest falls out.
    pub(super) fn push(&mut self, next: f32) {
        self.0.rotate_left(1);
        if let Some(last) = self.0.last_mut() {
            *last = next;
        }
    }

    /// One row of input.
    pub(super) fn values(&self) -> Vec<f32> {
        self.0.clone()
    }
}

/// The place of a character in the alphabet; 0 where it is not in it.
fn id_of(alphabet: &[char], character: char) -> usize {
    alphabet.iter().position(|known| *known == character).unwrap_or(0)
}

#[expect(clippy::cast_precision_loss, reason = "an alphabet has at most 4096 characters")]
pub(super) const fn id_as_value(id: usize) -> f32 {
    id as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letters(window: usize, lowercase: bool) -> Generation {
        let alphabet = vec!['\0', ' ', 'a', 'b', 'i'];
        Generation { alphabet, window, max_new_tokens: 9, default_new_tokens: 3, lowercase }
    }

    fn series(window: usize) -> Forecast {
        let (unit, min, max, interval_seconds) = (String::new(), None, None, None);
        Forecast { window, min_history: 1, max_steps: 9, default_steps: 3, unit, min, max, interval_seconds }
    }

    #[test]
    fn a_text_is_padded_on_the_left_and_cut_to_its_end() {
        let of = |text| Window::of_text(&letters(4, true), text);
        assert_eq!(of("ab"), (Window(vec![0.0, 0.0, 2.0, 3.0]), 2));
        assert_eq!(of("b aBA b"), (Window(vec![3.0, 2.0, 1.0, 3.0]), 7));
        assert_eq!(of(""), (Window(vec![0.0; 4]), 0));
    }

    #[test]
    fn unknown_characters_and_nul_are_id_0_and_lower_case_is_the_tasks_choice() {
        assert_eq!(Window::of_text(&letters(4, true), "aß\0b").0, Window(vec![2.0, 0.0, 0.0, 3.0]));
        assert_eq!(Window::of_text(&letters(2, false), "aB").0, Window(vec![2.0, 0.0]));
        // One capital may be two small characters: the dotted I is an i and a dot above.
        assert_eq!(Window::of_text(&letters(3, true), "a\u{130}"), (Window(vec![2.0, 4.0, 0.0]), 3));
    }

    #[test]
    fn a_series_is_padded_with_its_first_value_and_cut_to_its_end() {
        assert_eq!(Window::of_series(&series(4), &[7.0, 8.0]), Window(vec![7.0, 7.0, 7.0, 8.0]));
        assert_eq!(Window::of_series(&series(2), &[7.0, 8.0, 9.0]), Window(vec![8.0, 9.0]));
    }

    #[test]
    fn the_window_moves_by_one() {
        let mut window = Window::of_series(&series(3), &[1.0, 2.0, 3.0]);
        window.push(4.0);
        window.push(5.0);
        assert_eq!(window.values(), [3.0, 4.0, 5.0]);
        let mut narrow = Window::of_series(&series(1), &[1.0]);
        narrow.push(2.0);
        assert_eq!(narrow.values(), [2.0]);
    }
}
