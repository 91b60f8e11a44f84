//! Where a text ends: before the first stop text.
//!
//! A character that may be the beginning of a stop text is held back until the next ones show that
//! it is not: what was sent cannot be taken back.

/// Watches a text as it grows.
#[derive(Debug, Clone)]
pub(super) struct Watch {
    stops: Vec<Vec<char>>,
    // The longest end of the text so far that begins a stop text.
    held: Vec<char>,
}

impl Watch {
    /// For stop texts that are not empty.
    pub(super) fn new(stops: &[String]) -> Self {
        Self { stops: stops.iter().map(|stop| stop.chars().collect()).collect(), held: vec![] }
    }

    /// Takes the next character; gives what can be sent now, and whether the text ends here.
    ///
    /// Where several stop texts end at this character, the text ends before the longest.
    pub(super) fn push(&mut self, next: char) -> (String, bool) {
        self.held.push(next);
        let ending = |held: &[char]| self.stops.iter().filter(|stop| held.ends_with(stop)).map(Vec::len).max();
        if let Some(length) = ending(&self.held) {
            let kept = self.held.len().saturating_sub(length);
            let sent = self.held.iter().take(kept).collect();
            self.held.clear();
            return (sent, true);
        }
        let begins = |end: &[char]| self.stops.iter().any(|stop| stop.starts_with(end));
        let free = (0..self.held.len()).find(|from| begins(self.held.get(*from..).unwrap_or_default()));
        let free = free.unwrap_or(self.held.len());
        (self.held.drain(..free).collect(), false)
    }

    /// The text ends without a stop text: what was held back is part of it.
    pub(super) fn release(&mut self) -> String {
        self.held.drain(..).collect()
    }

    /// What is held back now.
    pub(super) fn held(&self) -> &[char] {
        &self.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is sent at each character, and whether the text ended.
    fn feed(stops: &[&str], text: &str) -> (Vec<String>, bool, String) {
        let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
        let mut watch = Watch::new(&stops);
        let mut sent = Vec::new();
        for next in text.chars() {
            let (part, ended) = watch.push(next);
            sent.push(part);
            if ended {
                return (sent, true, watch.release());
            }
        }
        (sent, false, watch.release())
    }

    #[test]
    fn what_may_begin_a_stop_text_is_held_back_until_it_is_known() {
        let (sent, ended, rest) = feed(&["end"], "then end");
        assert_eq!((sent.concat().as_str(), ended, rest.as_str()), ("then ", true, ""));
        let (sent, ended, _) = feed(&["end"], "ex");
        assert_eq!((sent, ended), (vec![String::new(), "ex".to_owned()], false));
        assert_eq!(
            feed(&["end"], "the en"),
            (["t", "h", "", "e ", "", ""].map(str::to_owned).into(), false, "en".into())
        );
    }

    #[test]
    fn a_stop_text_that_begins_inside_a_false_start_is_found() {
        let (sent, ended, _) = feed(&["aab"], "aaab");
        assert_eq!((sent.concat().as_str(), ended), ("a", true));
        let (sent, ended, _) = feed(&["abac"], "ababac");
        assert_eq!((sent.concat().as_str(), ended), ("ab", true));
    }

    #[test]
    fn of_several_the_first_to_end_wins_and_of_those_the_longest() {
        assert_eq!(feed(&["abcd", "bc"], "xabcd").0.concat(), "xa");
        assert_eq!(feed(&["c", "bc", "abc"], "xabc").0.concat(), "x");
        let (sent, ended, _) = feed(&["\n"], "one\ntwo");
        assert_eq!((sent.concat().as_str(), ended), ("one", true));
    }

    #[test]
    fn without_stop_texts_nothing_is_held_back() {
        assert_eq!(feed(&[], "ab"), (vec!["a".to_owned(), "b".to_owned()], false, String::new()));
    }

    proptest::proptest! {
        #[test]
        fn nothing_is_lost_or_sent_too_early(text in "[ab]{0,24}", stops in proptest::collection::vec("[ab]{1,4}", 0..4)) {
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let (sent, ended, rest) = feed(&stops, &text);
            let whole = sent.concat() + &rest;
            proptest::prop_assert!(text.starts_with(&whole));
            // The first end of any stop text, and before it the longest one that ends there.
            let first = (1..=text.len()).find(|end| stops.iter().any(|stop| text[..*end].ends_with(stop)));
            proptest::prop_assert_eq!(ended, first.is_some());
            let wanted = first.map_or(text.len(), |end| {
                end - stops.iter().filter(|stop| text[..end].ends_with(**stop)).map(|stop| stop.len()).max().unwrap()
            });
            proptest::prop_assert_eq!(whole.len(), wanted);
        }
    }
}
