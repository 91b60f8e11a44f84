use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;

/// Notes what happens to it; can be told to fail.
struct Notes {
    file: Connection,
    log: Arc<Mutex<Vec<String>>>,
    commits: Arc<AtomicUsize>,
    fail_seal: bool,
}

struct Desk {
    writer: Writer<Notes>,
    log: Arc<Mutex<Vec<String>>>,
    commits: Arc<AtomicUsize>,
}

impl Ledger for Notes {
    fn connection(&self) -> &Connection {
        &self.file
    }

    fn refresh(&mut self) -> rusqlite::Result<()> {
        Ok(())
    }

    fn seal(&mut self) -> rusqlite::Result<()> {
        if self.fail_seal { Err(rusqlite::Error::InvalidQuery) } else { Ok(()) }
    }

    fn committed(&mut self) {
        self.commits.fetch_add(1, Ordering::SeqCst);
        self.log.lock().unwrap().push("committed".to_owned());
    }

    fn undone(&mut self) {
        self.log.lock().unwrap().push("undone".to_owned());
    }

    fn tidy(&mut self) {}
}

/// Only a broken writer needs longer.
const LONG: Duration = Duration::from_secs(60);

fn desk() -> Desk {
    desk_with(LONG)
}

fn desk_with(limit: Duration) -> Desk {
    let file = Connection::open_in_memory().unwrap();
    // The commit of a negative number fails, and not its insertion.
    file.execute_batch(
        "PRAGMA foreign_keys = ON; CREATE TABLE sign (of INTEGER PRIMARY KEY); INSERT INTO sign VALUES (1);
         CREATE TABLE number (n INTEGER PRIMARY KEY CHECK (n <> 13),
           sign INTEGER REFERENCES sign (of) DEFERRABLE INITIALLY DEFERRED)",
    )
    .unwrap();
    let (log, commits) = (Arc::default(), Arc::default());
    let notes = Notes { file, log: Arc::clone(&log), commits: Arc::clone(&commits), fail_seal: false };
    Desk { writer: Writer::start("test-writer", notes, limit).unwrap(), log, commits }
}

fn put(number: i64) -> impl FnMut(&mut Notes) -> rusqlite::Result<i64> + Send {
    move |notes| {
        notes.file.execute("INSERT INTO number (n, sign) VALUES (?1, ?2)", (number, number.signum()))?;
        notes.file.query_row("SELECT count(*) FROM number", [], |row| row.get(0))
    }
}

impl Desk {
    /// Keeps the thread busy until the sender is told; the second channel says that it is.
    fn hold(&self) -> (impl Future<Output = Result<(), QueueError>>, Sender<()>, Receiver<()>) {
        let (go, wait) = channel::<()>();
        let (busy, is_busy) = channel::<()>();
        let step = move |_: &mut Notes| {
            busy.send(()).unwrap();
            wait.recv().unwrap();
            Ok(())
        };
        (self.writer.write(1, step), go, is_busy)
    }

    async fn numbers(&self) -> Vec<i64> {
        let step = |notes: &mut Notes| {
            let mut all = notes.file.prepare("SELECT n FROM number ORDER BY n")?;
            all.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<i64>>>()
        };
        self.writer.write(1, step).await.unwrap()
    }

    /// Hands all of them in while the thread is busy, so that they make one group.
    async fn together(&self, numbers: impl IntoIterator<Item = i64>) -> Vec<Result<i64, QueueError>> {
        let (held, go, is_busy) = self.hold();
        let mut held = Box::pin(held);
        assert!(futures_util::poll!(&mut held).is_pending());
        tokio::task::block_in_place(|| is_busy.recv().unwrap());
        let mut waiting: Vec<_> =
            numbers.into_iter().map(|number| Box::pin(self.writer.write(1, put(number)))).collect();
        for one in &mut waiting {
            assert!(futures_util::poll!(one).is_pending());
        }
        go.send(()).unwrap();
        held.await.unwrap();
        futures_util::future::join_all(waiting).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_shares_one_commit() {
    let desk = desk();
    let answers = desk.together(1..=12).await;
    assert_eq!(answers.into_iter().map(Result::unwrap).collect::<Vec<_>>(), (1..=12).collect::<Vec<_>>());
    // One for what kept the thread busy, one for all the others.
    assert_eq!(desk.commits.load(Ordering::SeqCst), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_answered_before_the_commit() {
    let desk = desk();
    let (log, commits) = (Arc::clone(&desk.log), Arc::clone(&desk.commits));
    for number in 20..60 {
        let before = commits.load(Ordering::SeqCst);
        let mut step = put(number);
        let log = Arc::clone(&log);
        let run = move |notes: &mut Notes| {
            log.lock().unwrap().push("ran".to_owned());
            step(notes)
        };
        desk.writer.write(1, run).await.unwrap();
        assert_eq!(commits.load(Ordering::SeqCst), before + 1);
    }
    assert!(log.lock().unwrap().chunks(2).all(|pair| pair == ["ran", "committed"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_fails_fails_alone() {
    let desk = desk();
    let answers = desk.together([1, 2, 13, 3]).await;
    let failed: Vec<bool> = answers.iter().map(Result::is_err).collect();
    assert_eq!(failed, [false, false, true, false]);
    assert!(answers[2].as_ref().unwrap_err().to_string().contains("CHECK"));
    assert_eq!(desk.numbers().await, [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_fails_fails_its_group_and_the_thread_lives_on() {
    let desk = desk();
    let answers = desk.together([1, -2, 3]).await;
    assert!(answers.iter().all(|answer| matches!(answer, Err(QueueError::File(_)))), "{answers:?}");
    assert_eq!(desk.numbers().await, Vec::<i64>::new());
    assert_eq!(desk.together([4, 5]).await.len(), 2);
    assert_eq!(desk.numbers().await, [4, 5]);
    let told = desk.writer.write(1, |notes: &mut Notes| {
        notes.fail_seal = true;
        Ok(())
    });
    told.await.unwrap_err();
    assert!(desk.log.lock().unwrap().contains(&"undone".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_handed_in_before_the_end_is_done() {
    let desk = desk();
    let (held, go, is_busy) = desk.hold();
    let mut held = Box::pin(held);
    assert!(futures_util::poll!(&mut held).is_pending());
    is_busy.recv().unwrap();
    let mut before = Box::pin(desk.writer.write(1, put(1)));
    assert!(futures_util::poll!(&mut before).is_pending());
    let mut close = Box::pin(desk.writer.close());
    assert!(futures_util::poll!(&mut close).is_pending());
    go.send(()).unwrap();
    close.await;
    before.await.unwrap();
    assert!(matches!(desk.writer.write(1, put(2)).await, Err(QueueError::Closed)));
    desk.writer.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_stalls_is_told_in_time_and_what_had_not_begun_is_not_done() {
    let desk = desk_with(Duration::from_millis(100));
    let (go, wait) = channel::<()>();
    let mut step = put(1);
    let stalls = desk.writer.write(1, move |notes: &mut Notes| {
        wait.recv().unwrap();
        step(notes)
    });
    let begun = stalls.await;
    assert!(matches!(begun, Err(QueueError::Slow(limit)) if limit == Duration::from_millis(100)), "{begun:?}");
    let behind = desk.writer.write(1, put(2)).await;
    assert!(matches!(behind, Err(QueueError::Slow(_))), "{behind:?}");
    go.send(()).unwrap();
    desk.writer.close().await;
    // It had begun, and nobody can take that back: as the error says, it may be done.
    let log = desk.log.lock().unwrap().clone();
    assert_eq!((log, desk.commits.load(Ordering::SeqCst)), (vec!["committed".to_owned()], 1));
}
