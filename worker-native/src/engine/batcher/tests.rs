use proptest::prelude::*;

use super::super::lanes::{Worker, drain_on_runtime, drain_on_thread};
use super::super::tensor::Data;
use super::super::watchdog::Watch;
use super::*;

/// Doubles each of two features, and texts' lengths; a reading with a negative number fails its whole batch.
struct Doubler {
    largest: Arc<AtomicUsize>,
}

impl Runner for Doubler {
    fn run_rows(&mut self, rows: Rows<'_>, out: &mut Vec<f32>) -> Result<(), RunError> {
        self.largest.fetch_max(rows.count(), Ordering::Relaxed);
        match rows {
            Rows::Features { values, .. } => {
                if values.iter().any(|value| *value < 0.0) {
                    return Err(RunError::Failed("negative".to_owned()));
                }
                if values.contains(&777.0) {
                    panic!("a run that panics");
                }
                out.extend(values.iter().map(|x| x * 2.0));
            }
            Rows::Texts(texts) => {
                out.extend(texts.iter().map(|text| f32::from(u16::try_from(text.len()).unwrap()) * 2.0))
            }
        }
        Ok(())
    }

    fn run_tensors(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
        self.largest.fetch_max(inputs[0].rows(), Ordering::Relaxed);
        let Data::Int32(values) = &inputs[0].data else { return Err(RunError::Invalid("int32 only".to_owned())) };
        if values.contains(&-1) {
            return Err(RunError::Failed("negative".to_owned()));
        }
        let data = Data::Int32(values.iter().map(|x| x * 2).collect());
        Ok(vec![Tensor { name: "out".to_owned(), shape: inputs[0].shape.clone(), data }])
    }
}

const MAX_BATCH: usize = 4;

fn batcher(max_waiting: usize) -> Batcher {
    Batcher::new(max_waiting, MAX_BATCH, Arc::new(Stats::new(MAX_BATCH, std::time::Duration::from_micros(10), None)))
}

/// What is sent: some rows of numbers, a text, or a tensor of one of two widths.
#[derive(Debug, Clone)]
enum Sent {
    Numbers(Vec<f32>),
    Text(String),
    Tensor(Vec<i32>, usize),
}

impl Sent {
    fn input(&self) -> Input {
        match self {
            Self::Numbers(rows) => {
                Input::Features { rows: rows.len(), values: rows.iter().flat_map(|x| [*x, 1.0]).collect() }
            }
            Self::Text(text) => Input::Texts(vec![text.clone()]),
            Self::Tensor(values, width) => {
                let rows = values.len() / width;
                let data = Data::Int32(values[..rows * width].to_vec());
                let tensor = Tensor { name: "in".to_owned(), shape: vec![rows, *width], data };
                Input::Tensors { rows, tensors: vec![tensor] }
            }
        }
    }

    /// What the runner gives for it alone.
    fn alone(&self) -> Result<Output, RunError> {
        let largest = Arc::default();
        let job = |input| Job {
            input,
            deadline: None,
            queued_at: Instant::now(),
            begun: Begun::default(),
            reply: oneshot::channel().0,
        };
        let jobs = [job(self.input())];
        let mut replies = Batch::default().run_together(&mut Doubler { largest }, &jobs, self.input().rows())?;
        Ok(replies.pop().unwrap())
    }
}

fn sent() -> impl Strategy<Value = Sent> {
    prop_oneof![
        4 => proptest::collection::vec(prop_oneof![8 => 0.0f32..9.0, 1 => Just(-1.0f32), 1 => Just(777.0f32)], 1..=MAX_BATCH)
            .prop_map(Sent::Numbers),
        1 => "[a-z]{0,9}".prop_map(Sent::Text),
        2 => (proptest::collection::vec(-1i32..9, 2..=MAX_BATCH), 1usize..=2).prop_map(|(values, width)| Sent::Tensor(values, width)),
    ]
}

fn check_all(sent: &[Sent], slow: bool) {
    let largest = Arc::new(AtomicUsize::new(0));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let batcher = batcher(sent.len() * MAX_BATCH + 1);
        let replies: Vec<_> =
            sent.iter().map(|sent| batcher.submit(sent.input(), None, &Begun::default()).unwrap()).collect();
        batcher.close();
        let runner = Box::new(Doubler { largest: Arc::clone(&largest) });
        let worker = Worker { runner, intake: batcher.intake(), watch: Arc::new(Watch::new(None)) };
        if slow {
            tokio::task::spawn_blocking(move || drain_on_thread(worker, Batch::default())).await.unwrap();
        } else {
            drain_on_runtime(worker).await;
        }
        for (sent, reply) in sent.iter().zip(replies) {
            assert_eq!(reply.await.unwrap().map(|ran| ran.output), sent.alone(), "{sent:?}");
        }
        assert_eq!(batcher.waiting(), 0);
        assert_eq!(batcher.intake.waiting.bytes.load(Ordering::Relaxed), 0);
    });
    assert!(largest.load(Ordering::Relaxed) <= MAX_BATCH);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_reply_is_what_it_would_be_alone_whatever_its_neighbours_do(
        sent in proptest::collection::vec(sent(), 0..40), slow in any::<bool>(),
    ) {
        check_all(&sent, slow);
    }
}

#[test]
fn a_panicking_run_fails_its_reading_only() {
    let sent = [Sent::Numbers(vec![1.0]), Sent::Numbers(vec![777.0]), Sent::Numbers(vec![2.0])];
    assert_eq!(sent[1].alone(), Err(RunError::Failed("the runtime panicked".to_owned())));
    check_all(&sent, false);
    check_all(&sent, true);
}

fn one(x: f32) -> Input {
    Sent::Numbers(vec![x]).input()
}

#[test]
fn a_full_queue_and_a_closed_one_refuse_at_once() {
    let batcher = batcher(1);
    let first = batcher.submit(one(1.0), None, &Begun::default()).unwrap();
    assert_eq!(batcher.submit(one(1.0), None, &Begun::default()).unwrap_err(), Refused::Full);
    assert_eq!(batcher.intake.stats.view().refused, 1);
    batcher.close();
    assert_eq!(batcher.submit(one(3.0), None, &Begun::default()).unwrap_err(), Refused::Closed(one(3.0)));
    assert_eq!(batcher.waiting(), 1);
    drop(first);
}

#[test]
fn what_is_too_late_or_not_wanted_any_more_is_never_run() {
    let largest = Arc::new(AtomicUsize::new(0));
    let batcher = batcher(8);
    let mut late = batcher.submit(one(1.0), Some(Instant::now()), &Begun::default()).unwrap();
    drop(batcher.submit(one(2.0), None, &Begun::default()).unwrap());
    batcher.close();
    let runner = Box::new(Doubler { largest: Arc::clone(&largest) });
    drain_on_thread(Worker { runner, intake: batcher.intake(), watch: Arc::new(Watch::new(None)) }, Batch::default());
    assert_eq!(late.try_recv().unwrap(), Err(RunError::Expired));
    assert_eq!(largest.load(Ordering::Relaxed), 0);
    let view = batcher.intake.stats.view();
    assert_eq!((view.expired, view.cancelled, view.batches), (1, 1, 0));
}

#[test]
fn an_output_that_is_not_batch_major_is_an_error() {
    struct Odd;
    impl Runner for Odd {
        fn run_rows(&mut self, _: Rows<'_>, out: &mut Vec<f32>) -> Result<(), RunError> {
            out.extend([0.0; 3]);
            Ok(())
        }
        fn run_tensors(&mut self, _: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
            Ok(vec![])
        }
    }
    let mut out = Vec::new();
    assert!(run_rows(&mut Odd, Rows::Features { rows: 2, values: &[0.0; 4] }, &mut out).is_err());
    assert_eq!(run_rows(&mut Odd, Rows::Features { rows: 3, values: &[0.0; 6] }, &mut out), Ok(1));
}

#[tokio::test]
async fn a_worker_ends_though_a_submitter_outlived_the_closing() {
    let batcher = batcher(8);
    let under_way = batcher.sender.load_full();
    let runner = Box::new(Doubler { largest: Arc::default() });
    let worker = Worker { runner, intake: batcher.intake(), watch: Arc::new(Watch::new(None)) };
    let close = async {
        batcher.close();
        // The worker wakes up, finds the queue empty and open, and sleeps again.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        drop(under_way);
        drop(batcher);
    };
    let both = async { tokio::join!(drain_on_runtime(worker), close) };
    tokio::time::timeout(std::time::Duration::from_secs(5), both).await.expect("the worker sleeps for ever");
}
