//! An origin that does as it is told and notes what reaches it: for what of a request the edge changes.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Uri};
use axum::response::Response;
use tokio::net::TcpListener;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;

/// One request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

type Answer = dyn Fn(&Seen) -> Response + Send + Sync;

#[derive(Clone)]
struct Shared {
    seen: Arc<Mutex<Vec<Seen>>>,
    answer: Arc<Answer>,
}

pub(crate) struct Origin {
    pub(crate) port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
    _tasks: JoinSet<()>,
}

impl Origin {
    /// Starts on a free port and answers every request by the function.
    pub(crate) async fn start(answer: impl Fn(&Seen) -> Response + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let shared = Shared { seen: Arc::clone(&seen), answer: Arc::new(answer) };
        let router = Router::new().fallback(note).with_state(shared);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { port, seen, _tasks: tasks }
    }

    /// The requests so far, except those the edge makes for itself.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        let own = ["/v1/catalog", "/v1/snapshot"];
        self.seen.lock().unwrap().iter().filter(|seen| !own.contains(&seen.target.as_str())).cloned().collect()
    }
}

async fn note(State(shared): State<Shared>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let seen = Seen { method, target: uri.to_string(), headers, body };
    let response = (shared.answer)(&seen);
    shared.seen.lock().unwrap().push(seen);
    response
}

/// A body that goes on as long as its sender lives.
pub(crate) fn stream(chunks: UnboundedReceiver<&'static str>) -> Body {
    let next = async |mut chunks: UnboundedReceiver<&'static str>| {
        chunks.recv().await.map(|chunk| (Ok::<_, Infallible>(chunk), chunks))
    };
    Body::from_stream(futures_util::stream::unfold(chunks, next))
}
