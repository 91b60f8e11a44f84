//! The rivals: Python servers that people would pick instead, each started as its authors advise.
//!
//! Their code and their Python environments lie outside the repository (`../shared/peers/http`,
//! which has a `run` of its own); here is only how each is started and what each is asked.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;

use super::process::{Server, rest};
use super::rows::{COUNT, Rows};
use super::wrk::{Requests, post};

/// Ray needs the longest by far.
const LIMIT: Duration = Duration::from_secs(120);
const JSON: &str = "Content-Type: application/json\r\n";

/// One rival.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    /// How many times as many requests a second the service promises to answer.
    pub(crate) promised: f64,
    // Some of their files say the port, so that it cannot be a free one.
    port: u16,
    path: &'static str,
    program: &'static str,
    arguments: &'static [&'static str],
    body: Body,
}

#[derive(Debug, Clone, Copy)]
enum Body {
    Reading,
    Batch,
    Tensor,
}

/// All rivals.
pub(crate) const ALL: [Peer; 5] = [
    Peer {
        name: "fastapi",
        title: "FastAPI + ONNX Runtime",
        promised: 10.0,
        port: 8101,
        path: "/predict",
        program: "uvicorn",
        arguments: &["fastapi_app:app", "--port", "8101", "--log-level", "warning", "--no-access-log"],
        body: Body::Reading,
    },
    Peer {
        name: "litserve",
        title: "LitServe",
        promised: 20.0,
        port: 8102,
        path: "/predict",
        program: "python",
        arguments: &["lit.py"],
        body: Body::Reading,
    },
    Peer {
        name: "bentoml",
        title: "BentoML",
        promised: 20.0,
        port: 8103,
        path: "/predict",
        program: "bentoml",
        arguments: &["serve", "bento:Service", "--port", "8103", "--host", "127.0.0.1"],
        body: Body::Batch,
    },
    Peer {
        name: "mlserver",
        title: "MLServer",
        promised: 20.0,
        port: 8104,
        path: "/v2/models/ae/infer",
        program: "mlserver",
        arguments: &["start", "."],
        body: Body::Tensor,
    },
    Peer {
        name: "rayserve",
        title: "Ray Serve",
        promised: 20.0,
        port: 8000,
        path: "/",
        program: "serve",
        arguments: &["run", "ray_app:app"],
        body: Body::Reading,
    },
];

/// A rival that answers.
#[derive(Debug)]
pub(crate) struct Up {
    pub(crate) server: Server,
    pub(crate) port: u16,
    pub(crate) requests: Requests,
    /// From its start to its first answer.
    pub(crate) ready_after: Duration,
}

/// The body that most take.
pub(crate) fn reading(rows: &Rows, index: usize) -> String {
    format!(r#"{{"sensor_id":"s{}","timestamp":1670000000.0,"features":[{}]}}"#, index % 64, rows.json(index))
}

impl Peer {
    /// Starts it with a model and waits for its first answer.
    ///
    /// # Errors
    /// When it was not installed, or does not come up.
    pub(crate) fn start(&self, folder: &Path, home: &Path, model: &Path, rows: &Rows) -> anyhow::Result<Up> {
        let (folder, programs) = (folder.canonicalize()?, home.join(self.name).join("bin"));
        anyhow::ensure!(home.join(self.name).join(".ok").is_file(), "it is not installed");
        let free = std::net::TcpListener::bind(("127.0.0.1", self.port));
        drop(free.with_context(|| format!("its port {} is taken", self.port))?);
        let requests = Requests::write((0..COUNT).map(|index| self.request(rows, index)))?;
        let mut command = Command::new(programs.join(self.program));
        let own = if self.name == "mlserver" { folder.join("mlserver") } else { folder.clone() };
        command.args(self.arguments).current_dir(&own).stdout(Stdio::null()).stderr(Stdio::null());
        command
            .env("MODEL", model.canonicalize()?)
            .env("PYTHONPATH", format!("{}:{}", folder.display(), own.display()));
        command
            .env("BENTOML_DO_NOT_TRACK", "1")
            .env("RAY_USAGE_STATS_ENABLED", "0")
            .env("PYTHONDONTWRITEBYTECODE", "1");
        let started = Instant::now();
        let mut server = Server::start(self.name, &mut command)?;
        let ready_after = server.answers(self.port, &requests.first, started, LIMIT)?;
        rest(Duration::from_secs(1));
        Ok(Up { server, port: self.port, requests, ready_after })
    }

    fn request(&self, rows: &Rows, index: usize) -> Vec<u8> {
        let body = match self.body {
            Body::Reading => reading(rows, index),
            Body::Batch => format!(r#"{{"features":[[{}]]}}"#, rows.json(index)),
            Body::Tensor => format!(
                r#"{{"inputs":[{{"name":"x","shape":[1,{}],"datatype":"FP32","data":[{}]}}]}}"#,
                rows.width,
                rows.json(index)
            ),
        };
        post(self.port, self.path, JSON, body.as_bytes())
    }
}
