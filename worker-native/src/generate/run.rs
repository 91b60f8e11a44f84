//! One text or series in the making: from the wish to the last step.

use serde::Serialize;
use shared::reading::Input;

use super::sample::Sampler;
use super::stop::Watch;
use super::window::{Window, id_as_value};
use super::wish::{SeriesWish, TextWish};
use crate::engine::repository::{Forecast, Generation};

/// Why a text or a series ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Finish {
    /// As many steps as asked for.
    Length,
    /// A stop text came.
    Stop,
}

impl Finish {
    /// The public name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Length => "length",
            Self::Stop => "stop",
        }
    }
}

/// What one step adds.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Piece {
    /// Text; empty while it may be the beginning of a stop text, and longer once it is not.
    Text(String),
    /// The next value of the series.
    Value(f32),
}

/// One step, as it is sent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// From 0.
    pub index: usize,
    /// What it adds.
    #[serde(flatten)]
    pub piece: Piece,
}

/// Everything made so far.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Output {
    /// A text without the prompt.
    Text(String),
    /// Values after the history.
    Values(Vec<f32>),
}

/// A text or a series that grows by one step a time.
#[derive(Debug)]
pub struct Run {
    window: Window,
    making: Making,
    steps: usize,
    most: usize,
    finish: Option<Finish>,
}

#[derive(Debug)]
enum Making {
    Text { alphabet: Vec<char>, sampler: Sampler, watch: Watch, text: String, prompt_tokens: usize },
    Series(Vec<f32>),
}

impl Run {
    /// A text that follows the prompt.
    #[must_use]
    pub fn text(task: &Generation, wish: &TextWish, seed: u64) -> Self {
        let (window, prompt_tokens) = Window::of_text(task, &wish.prompt);
        let making = Making::Text {
            alphabet: task.alphabet.clone(),
            sampler: Sampler::new(wish.temperature, seed),
            watch: Watch::new(&wish.stop),
            text: String::new(),
            prompt_tokens,
        };
        Self { window, making, steps: 0, most: wish.max_new_tokens, finish: None }
    }

    /// Values that follow the history.
    #[must_use]
    pub fn series(task: &Forecast, wish: &SeriesWish) -> Self {
        let window = Window::of_series(task, &wish.history);
        Self { window, making: Making::Series(vec![]), steps: 0, most: wish.steps, finish: None }
    }

    /// One row for the model: the window now.
    #[must_use]
    pub fn input(&self) -> Input {
        Input::Features(self.window.values())
    }

    /// Takes the model's row for [`Run::input`].
    ///
    /// # Errors
    /// What is wrong with the row: not as wide as the task says, or not finite.
    pub fn take(&mut self, row: &[f32]) -> Result<Step, String> {
        let last = self.steps + 1 >= self.most;
        let piece = match &mut self.making {
            Making::Text { alphabet, sampler, watch, text, .. } => {
                if row.len() != alphabet.len() {
                    return Err(format!("the model gave {} logits for {} characters", row.len(), alphabet.len()));
                }
                let id = sampler.pick(row)?;
                self.window.push(id_as_value(id));
                let (mut piece, stopped) = watch.push(alphabet.get(id).copied().unwrap_or_default());
                if stopped {
                    self.finish = Some(Finish::Stop);
                } else if last {
                    piece.push_str(&watch.release());
                }
                text.push_str(&piece);
                Piece::Text(piece)
            }
            Making::Series(values) => {
                let [next] = row else { return Err(format!("the model gave {} values, not the next one", row.len())) };
                if !next.is_finite() {
                    return Err(format!("the model gave {next} as the next value"));
                }
                self.window.push(*next);
                values.push(*next);
                Piece::Value(*next)
            }
        };
        let step = Step { index: self.steps, piece };
        self.steps += 1;
        if last && self.finish.is_none() {
            self.finish = Some(Finish::Length);
        }
        Ok(step)
    }

    /// Why it ended; none while it goes on.
    #[must_use]
    pub const fn finish(&self) -> Option<Finish> {
        self.finish
    }

    /// Steps so far.
    #[must_use]
    pub const fn steps(&self) -> usize {
        self.steps
    }

    /// Characters of the prompt; none for a series.
    #[must_use]
    pub const fn prompt_tokens(&self) -> Option<usize> {
        match &self.making {
            Making::Text { prompt_tokens, .. } => Some(*prompt_tokens),
            Making::Series(_) => None,
        }
    }

    /// Everything made so far, also what a stream still holds back.
    #[must_use]
    pub fn output(&self) -> Output {
        match &self.making {
            Making::Text { text, watch, .. } => {
                Output::Text(text.chars().chain(watch.held().iter().copied()).collect())
            }
            Making::Series(values) => Output::Values(values.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letters() -> Generation {
        let alphabet = vec!['\0', 'a', 'b', 'c', ' '];
        Generation { alphabet, window: 3, max_new_tokens: 99, default_new_tokens: 3, lowercase: false }
    }

    fn wish(max_new_tokens: usize, temperature: f64, stop: &[&str]) -> TextWish {
        let stop = stop.iter().map(|stop| (*stop).to_owned()).collect();
        TextWish { prompt: "ab".to_owned(), max_new_tokens, temperature, seed: None, stop }
    }

    /// A model that always goes on a, b, c: the id after the last one of the window.
    fn next_in_turn(input: &Input) -> Vec<f32> {
        let Input::Features(window) = input else { panic!("{input:?}") };
        let wanted = window[2] % 3.0;
        (0..5).map(|id| if id_as_value(id) == wanted + 1.0 { 5.0 } else { 0.0 }).collect()
    }

    fn text_of(run: &mut Run, model: impl Fn(&Input) -> Vec<f32>) -> Vec<String> {
        let mut pieces = Vec::new();
        while run.finish().is_none() {
            let step = run.take(&model(&run.input())).unwrap();
            assert_eq!(step.index, pieces.len());
            let Piece::Text(text) = step.piece else { panic!("{step:?}") };
            pieces.push(text);
        }
        pieces
    }

    #[test]
    fn a_text_goes_on_until_its_length() {
        let mut run = Run::text(&letters(), &wish(4, 0.0, &[]), 0);
        assert_eq!(text_of(&mut run, next_in_turn), ["c", "a", "b", "c"]);
        assert_eq!((run.finish(), run.steps(), run.prompt_tokens()), (Some(Finish::Length), 4, Some(2)));
        assert_eq!(run.output(), Output::Text("cabc".to_owned()));
    }

    #[test]
    fn a_text_ends_before_its_stop_text_and_holds_back_what_may_begin_one() {
        let mut run = Run::text(&letters(), &wish(9, 0.0, &["bca"]), 0);
        assert_eq!(text_of(&mut run, next_in_turn), ["c", "a", "", "", ""]);
        assert_eq!((run.finish(), run.output()), (Some(Finish::Stop), Output::Text("ca".to_owned())));
        let mut run = Run::text(&letters(), &wish(3, 0.0, &["bca"]), 0);
        assert_eq!(text_of(&mut run, next_in_turn), ["c", "a", "b"], "the end shows that it was no stop text");
        let mut run = Run::text(&letters(), &wish(9, 0.0, &["bca"]), 0);
        for _ in 0..3 {
            run.take(&next_in_turn(&run.input())).unwrap();
        }
        assert_eq!(run.output(), Output::Text("cab".to_owned()), "what is held back was made all the same");
    }

    #[test]
    fn the_same_seed_gives_the_same_text_on_every_machine() {
        let made = |seed| {
            let mut run = Run::text(&letters(), &wish(24, 1.0, &[]), seed);
            text_of(&mut run, |_| vec![9.0, 0.5, 0.25, -0.5, 0.0]).concat()
        };
        assert_eq!(made(42), "caaaa a ababbbcaabac abb");
        assert_eq!(made(42), made(42));
        assert_ne!(made(42), made(43));
    }

    #[test]
    fn a_series_goes_on_from_its_own_values() {
        let (unit, min, max, interval_seconds) = (String::new(), None, None, None);
        let task =
            Forecast { window: 2, min_history: 1, max_steps: 9, default_steps: 3, unit, min, max, interval_seconds };
        let mut run = Run::series(&task, &SeriesWish { history: vec![1.0, 2.0], steps: 3 });
        while run.finish().is_none() {
            let Input::Features(window) = run.input() else { panic!() };
            run.take(&[window.iter().sum()]).unwrap();
        }
        assert_eq!((run.output(), run.finish()), (Output::Values(vec![3.0, 5.0, 8.0]), Some(Finish::Length)));
        assert_eq!(run.prompt_tokens(), None);
    }

    #[test]
    fn an_output_that_does_not_fit_is_an_error_and_no_step() {
        let mut run = Run::text(&letters(), &wish(4, 0.0, &[]), 0);
        assert!(run.take(&[0.0; 4]).unwrap_err().contains("4 logits for 5 characters"));
        assert!(run.take(&[f32::NAN; 5]).is_err());
        assert_eq!((run.steps(), run.finish()), (0, None));
        let (unit, min, max, interval_seconds) = (String::new(), None, None, None);
        let task =
            Forecast { window: 2, min_history: 1, max_steps: 9, default_steps: 3, unit, min, max, interval_seconds };
        let mut run = Run::series(&task, &SeriesWish { history: vec![1.0], steps: 3 });
        assert!(run.take(&[f32::INFINITY]).unwrap_err().contains("inf"));
        assert!(run.take(&[1.0, 2.0]).unwrap_err().contains("2 values"));
    }

    #[test]
    fn a_step_is_sent_flat() {
        let text = Step { index: 3, piece: Piece::Text("a".to_owned()) };
        assert_eq!(serde_json::to_string(&text).unwrap(), r#"{"index":3,"text":"a"}"#);
        let value = Step { index: 0, piece: Piece::Value(66.1) };
        assert_eq!(serde_json::to_string(&value).unwrap(), r#"{"index":0,"value":66.1}"#);
    }
}
