use super::*;

const TICK: Duration = Duration::from_millis(250);

/// A queue as a feed sees it, four times a second.
struct Feed {
    admission: Admission,
    now: Instant,
    counts: Counts,
}

impl Feed {
    fn new(max_wait_ms: u64) -> Self {
        Self {
            admission: Admission::new(Duration::from_millis(max_wait_ms)),
            now: Instant::now(),
            counts: Counts::default(),
        }
    }

    /// Looks `ticks` times at a queue of which `depth` are unsettled and `running` of them run, and which settles so
    /// many in a tick.
    fn look(&mut self, ticks: u32, depth: u32, running: u32, settled: u64) {
        for _ in 0..ticks {
            self.now += TICK;
            self.counts.settled += settled;
            self.counts.depths = [("fast".to_owned(), depth)].into();
            self.counts.running = [("fast".to_owned(), running)].into();
            self.admission.saw("pump", &self.counts, self.now);
        }
    }

    fn rate(&self) -> Option<f64> {
        self.admission.sight("pump").unwrap().rate
    }

    fn room(&self, left_ms: u64) -> Option<u32> {
        self.admission.room("pump", Priority::Normal, Some(Duration::from_millis(left_ms)), None)
    }
}

#[test]
fn nothing_is_refused_on_a_rate_nobody_has_seen() {
    let mut feed = Feed::new(1_000);
    assert_eq!((feed.admission.sight("pump"), feed.room(1)), (None, None));
    feed.look(40, 0, 0, 500);
    assert_eq!(feed.rate(), None, "no job waited: what came in says nothing of what could be done");
    feed.look(40, 200, 200, 500);
    assert_eq!((feed.rate(), feed.room(1)), (None, None), "all were claimed at once");
    feed.look(40, 200, 100, 0);
    assert_eq!((feed.rate(), feed.admission.retry_after("pump", 1, 0.5)), (None, None), "nothing was ever settled");
}

#[test]
fn what_only_expires_shows_no_speed() {
    let mut feed = Feed::new(0);
    feed.look(2, 1_000, 10, 50);
    let before = feed.rate();
    for _ in 0..40 {
        feed.counts.unrun += 5_000;
        feed.look(1, 1_000, 10, 5_000);
    }
    assert!(feed.rate() < before, "{:?} after {before:?}", feed.rate());
}

#[test]
fn jobs_that_waited_throughout_show_what_consumers_can_do() {
    let mut feed = Feed::new(0);
    feed.look(2, 1_000, 10, 50);
    assert!((feed.rate().unwrap() - 200.0).abs() < 1e-9, "known with the first interval");
    assert_eq!(feed.room(500), Some(100));
    assert_eq!(feed.room(1), Some(1), "one is always worth a try");
    assert_eq!(feed.admission.room("pump", Priority::High, Some(Duration::from_secs(1)), None), None);
    assert_eq!(feed.admission.room("pump", Priority::Low, None, None), None, "nothing was promised");
    let left = Some(Duration::from_millis(500));
    let at_need = |rate| feed.admission.room("pump", Priority::Normal, left, Some(rate));
    assert_eq!((at_need(1_000.0), at_need(10.0)), (Some(500), Some(100)), "whichever is faster");
    feed.look(8, 1_000, 10, 100);
    let after_one_constant = feed.rate().unwrap();
    assert!((300.0..=400.0).contains(&after_one_constant), "two seconds of 400 a second: {after_one_constant}");
    feed.look(80, 1_000, 10, 100);
    assert!((feed.rate().unwrap() - 400.0).abs() < 0.1);
    feed.look(400, 3, 3, 1);
    assert!((feed.rate().unwrap() - 400.0).abs() < 0.1, "little to do is no reason to believe in less");
}

#[test]
fn the_shorter_of_promise_and_deadline_counts() {
    let mut feed = Feed::new(2_000);
    feed.look(2, 1_000, 10, 25);
    assert_eq!(feed.room(500), Some(50));
    assert_eq!(feed.room(10_000), Some(200));
    assert_eq!(feed.admission.room("pump", Priority::Normal, None, None), Some(200));
}

#[test]
fn a_slow_queue_is_not_judged_by_single_settlements() {
    let mut feed = Feed::new(0);
    for _ in 0..30 {
        feed.look(7, 50, 1, 0);
        feed.look(1, 50, 1, 1);
    }
    let steady = feed.rate().unwrap();
    assert!((0.4..=0.6).contains(&steady), "one in two seconds: {steady}");
    feed.look(7, 50, 1, 0);
    assert!(feed.rate().unwrap() > 0.4, "before the next one is due: {:?}", feed.rate());
}

#[test]
fn consumers_that_went_away_are_noticed_and_their_return_too() {
    let mut feed = Feed::new(0);
    feed.look(20, 1_000, 10, 25);
    feed.look(400, 1_000, 0, 0);
    assert!(feed.rate().unwrap() < 1.0 && feed.room(1_000) == Some(1), "{:?}", feed.rate());
    // Only one job at a time gets in, so none ever waits from one look to the next.
    feed.look(20, 0, 0, 3);
    assert!(feed.rate().unwrap() > 5.0, "{:?}", feed.rate());
}

#[test]
fn counts_that_begin_anew_are_another_queues() {
    let mut feed = Feed::new(0);
    feed.look(4, 1_000, 10, 25);
    feed.counts.settled = 0;
    feed.look(1, 1_000, 10, 5);
    assert_eq!(feed.rate(), None);
    feed.look(1, 1_000, 10, 10);
    assert!((feed.rate().unwrap() - 40.0).abs() < 1e-9);
}

#[test]
fn looks_in_quick_succession_are_one() {
    let mut feed = Feed::new(0);
    feed.look(2, 1_000, 10, 25);
    feed.counts.settled += 25;
    feed.admission.saw("pump", &feed.counts, feed.now + Duration::from_micros(5));
    assert!((feed.rate().unwrap() - 100.0).abs() < 1e-9);
    feed.look(1, 1_000, 10, 0);
    assert!((feed.rate().unwrap() - 100.0).abs() < 1e-9, "counted with the next look: {:?}", feed.rate());
}

#[test]
fn callers_are_told_when_what_is_too_much_will_be_gone() {
    let mut feed = Feed::new(0);
    feed.look(2, 1_000, 10, 25);
    let after = |jobs, luck| feed.admission.retry_after("pump", jobs, luck);
    assert_eq!((after(1, 0.5), after(0, 0.0)), (Some(1), Some(1)));
    assert_eq!((after(5_000, 0.0), after(5_000, 0.5), after(5_000, 1.0)), (Some(40), Some(50), Some(60)));
    assert_eq!(after(10_000_000, 0.0), Some(300));
    assert_eq!(feed.admission.drain_time("pump", 50), Some(Duration::from_millis(500)));
    assert_eq!(feed.admission.drain_time("valve", 50), None);
}
