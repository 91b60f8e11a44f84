use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::super::args::Mode;
use super::*;

/// Answers each request with what `reply` says for its number (from 0), method and path; `None` closes.
async fn stub<F>(reply: F) -> (String, JoinSet<()>)
where
    F: Fn(usize, &str) -> Option<(u16, String, Duration)> + Clone + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let seen = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(serve(stream, reply.clone(), seen.clone()));
        }
    });
    (url, tasks)
}

async fn serve<F>(mut stream: TcpStream, reply: F, seen: std::sync::Arc<std::sync::atomic::AtomicUsize>)
where
    F: Fn(usize, &str) -> Option<(u16, String, Duration)>,
{
    let mut text = String::new();
    let mut chunk = [0; 4_096];
    while let Ok(read @ 1..) = stream.read(&mut chunk).await {
        text.push_str(std::str::from_utf8(&chunk[..read]).unwrap());
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
        if body.len() < length.parse().unwrap() {
            continue;
        }
        let line = head.lines().next().unwrap().trim_end_matches(" HTTP/1.1");
        let number = seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let Some((status, json, delay)) = reply(number, line) else { return };
        tokio::time::sleep(delay).await;
        let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{json}", json.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
        text.clear();
    }
}

#[derive(Debug, Default)]
struct Seen {
    sent: u64,
    accepted: u64,
    ended: Vec<Answer>,
}

impl Watch for Seen {
    fn sent(&mut self) {
        self.sent += 1;
    }

    fn accepted(&mut self, _answer: &Answer) {
        self.accepted += 1;
    }

    fn ended(&mut self, answer: Answer) {
        self.ended.push(answer);
    }
}

async fn replay(url: &str, mode: Mode, rows: u64, concurrency: usize, wait: Duration) -> Seen {
    let service = Service::new(url, mode, Duration::from_secs(5)).unwrap();
    let readings = (1..=rows).map(|row| Ok((Some("{}".to_owned()), Answer::new(row, None))));
    let (mut seen, mut open) = (Seen::default(), VecDeque::new());
    let pace = Pace::Even { per_s: 200.0 };
    send_all(&service, readings, pace, concurrency, &mut seen, &mut open).await.unwrap();
    read_back(&service, open, wait, &mut seen).await.unwrap();
    seen.ended.sort_by_key(|answer| answer.row);
    seen
}

const NOW: Duration = Duration::ZERO;
const PREDICTION: &str = r#"{"prediction":"normal"}"#;

#[tokio::test]
async fn a_stall_shows_in_the_latency_of_the_rows_that_waited_for_it() {
    let stall = Duration::from_millis(300);
    let (url, _stub) =
        stub(move |number, _| Some((200, PREDICTION.into(), if number == 0 { stall } else { NOW }))).await;
    let seen = replay(&url, Mode::Predict, 5, 1, NOW).await;
    assert_eq!((seen.sent, seen.ended.len()), (5, 5));
    for answer in &seen.ended {
        // Row n was due n * 5 ms after the first, which held the only place for 300 ms.
        assert!(answer.latency_ms.unwrap() >= 270.0, "{answer:?}");
        assert!(answer.row == 1 || answer.start_delay_ms.unwrap() >= 270.0, "{answer:?}");
    }
}

#[tokio::test]
async fn every_row_ends_once_also_where_connections_break() {
    let (url, _stub) = stub(|number, _| match number % 3 {
        0 => None,
        1 => Some((422, r##"{"code":"invalid-reading","errors":[{"pointer":"#/x"}]}"##.into(), NOW)),
        _ => Some((200, PREDICTION.into(), NOW)),
    })
    .await;
    let seen = replay(&url, Mode::Predict, 30, 8, NOW).await;
    assert_eq!(seen.ended.iter().map(|answer| answer.row).collect::<Vec<_>>(), (1..=30).collect::<Vec<_>>());
    let failed = seen.ended.iter().filter(|answer| answer.outcome == super::super::answer::Outcome::Failed);
    assert!(failed.clone().count() > 0);
    assert!(failed.into_iter().all(|answer| answer.error.as_ref().unwrap().starts_with("transport: ")));
}

#[tokio::test]
async fn jobs_are_read_back_until_done_and_told_where_they_are_not() {
    let (url, _stub) = stub(|number, line| {
        let json = match line {
            "POST /data" if number == 0 => return Some((503, r#"{"code":"queue-full"}"#.into(), NOW)),
            "POST /data" => format!(r#"{{"job_id":"j{number}"}}"#),
            "GET /v1/jobs/j1" => r#"{"state":"queued"}"#.to_owned(),
            "GET /v1/jobs/j2" => return Some((404, "{}".into(), NOW)),
            // Not read at the first try.
            "GET /v1/jobs/j3" if number < 8 => return Some((503, "{}".into(), NOW)),
            _ => format!(r#"{{"state":"done","result":{PREDICTION}}}"#),
        };
        Some((if line.starts_with("POST") { 202 } else { 200 }, json, NOW))
    })
    .await;
    let seen = replay(&url, Mode::Jobs, 5, 1, Duration::from_millis(900)).await;
    assert_eq!((seen.sent, seen.accepted, seen.ended.len()), (5, 4, 5));
    let told: Vec<String> = seen
        .ended
        .iter()
        .map(|answer| format!("{} {}", answer.outcome.name(), answer.error.as_deref().unwrap_or_default()))
        .collect();
    assert!(told[0].starts_with("refused"), "{told:?}");
    assert!(told[1].starts_with("failed") && told[1].contains("queued"), "{told:?}");
    assert!(told[2].starts_with("failed") && told[2].contains("404"), "{told:?}");
    assert_eq!((told[3].as_str(), told[4].as_str()), ("answered ", "answered "), "{told:?}");
}

#[tokio::test]
async fn nobody_there_is_every_row_failed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let seen = replay(&url, Mode::Jobs, 3, 8, NOW).await;
    assert!(seen.ended.iter().all(|answer| answer.error.as_ref().unwrap().starts_with("connect: ")), "{seen:?}");
    assert_eq!(seen.ended.len(), 3);
}
