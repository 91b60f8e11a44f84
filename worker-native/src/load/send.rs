//! One HTTP client: the catalog, one reading, one job's state.
//!
//! Each reading is sent once. A retry here would hide what a sensor meets, so every failure is the
//! row's result. What an answer means is [`super::answer`]'s.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Url};
use shared::catalog::Catalog;

use super::answer::Answer;
use super::args::Mode;

/// Below the 5 s after which common servers close an idle connection: a request sent into a closing
/// connection would count as the service's failure.
const IDLE_CONNECTION: Duration = Duration::from_secs(4);

/// A client for one service; clones share the connections.
#[derive(Debug, Clone)]
pub(super) struct Service {
    client: Client,
    base: String,
    mode: Mode,
}

/// One reading on its way.
#[derive(Debug)]
pub(super) struct Shot {
    /// When it should start.
    pub(super) due: Instant,
    /// The body; without one the row never was a reading, and the answer says why.
    pub(super) body: Option<String>,
    /// What is known of it so far.
    pub(super) answer: Answer,
}

impl Service {
    /// A client for the service at that URL.
    ///
    /// # Errors
    /// When the URL cannot be used.
    pub(super) fn new(url: &str, mode: Mode, timeout: Duration) -> Result<Self> {
        let parsed = Url::parse(url).with_context(|| format!("--url {url}: give it as http://HOST:PORT"))?;
        match parsed.scheme() {
            "http" => {}
            other => bail!("--url {url}: this build does not speak {other}, give it as http://HOST:PORT"),
        }
        if parsed.query().is_some() || parsed.fragment().is_some() {
            bail!("--url {url}: give it without query and fragment");
        }
        let client = Client::builder()
            .timeout(timeout)
            .pool_idle_timeout(IDLE_CONNECTION)
            // A redirect or a proxy would be measured as the service.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .user_agent("infer-router-load")
            .build()
            .context("cannot build the HTTP client")?;
        Ok(Self { client, base: parsed.as_str().trim_end_matches('/').to_owned(), mode })
    }

    /// The service's URL without a slash at its end.
    pub(super) fn url(&self) -> &str {
        &self.base
    }

    /// What the service can be asked; also shows whether it is there at all.
    ///
    /// # Errors
    /// When it cannot be reached, or answers no catalog.
    pub(super) async fn catalog(&self) -> Result<Catalog> {
        let url = format!("{}/v1/catalog", self.base);
        let response = self.client.get(&url).send().await.map_err(|error| {
            anyhow::anyhow!("cannot reach {}: {}. Is it running, and is --url right?", self.base, cause(&error))
        })?;
        let status = response.status();
        let body = response.bytes().await.with_context(|| format!("cannot read the answer of {url}"))?;
        if !status.is_success() {
            let mut told = Answer::new(0, None);
            told.read_response(status.as_u16(), &body, false);
            bail!("{url} answered {}: {}", status.as_u16(), told.error.unwrap_or_default());
        }
        // As the edge reads it: tasks of a later version are no reason to refuse those that are known.
        Catalog::from_json(&String::from_utf8_lossy(&body))
            .map_err(|field| anyhow::anyhow!("{url} is no catalog, cannot read {field}: is this an Infer Router?"))
    }

    /// Sends one reading and reads its answer.
    pub(super) async fn send(&self, shot: Shot) -> Answer {
        let Shot { due, body, mut answer } = shot;
        let Some(body) = body else { return answer };
        answer.start_delay_ms = Some(ms_since(due));
        let path = match self.mode {
            Mode::Jobs => "data",
            Mode::Predict => "predict",
        };
        let request = self.client.post(format!("{}/{path}", self.base)).header(CONTENT_TYPE, "application/json");
        let response = read(request.body(body)).await;
        answer.latency_ms = Some(ms_since(due));
        match response {
            Ok((status, body)) => answer.read_response(status, &body, self.mode == Mode::Jobs),
            Err(error) => answer.fail(&cause(&error)),
        }
        answer
    }

    /// Asks for a job once. Says whether its row's outcome is now known.
    pub(super) async fn ask_job(&self, answer: &mut Answer) -> bool {
        let Some(id) = answer.job_id.clone() else { return true };
        match read(self.client.get(format!("{}/v1/jobs/{id}", self.base))).await {
            Ok((200, body)) => answer.read_job(&body),
            Ok((404, _)) => {
                answer.fail("the accepted job is not there any more: GET /v1/jobs/{id} answered 404");
                true
            }
            // The service may be busy or restarting; the job is not lost by that.
            Ok((status, _)) => {
                answer.fail(&format!("the job's state could not be read: HTTP {status}"));
                false
            }
            Err(error) => {
                answer.fail(&format!("the job's state could not be read: {}", cause(&error)));
                false
            }
        }
    }
}

async fn read(request: reqwest::RequestBuilder) -> reqwest::Result<(u16, Vec<u8>)> {
    let response = request.send().await?;
    let status = response.status().as_u16();
    Ok((status, response.bytes().await?.into()))
}

/// The innermost cause, which is what differs between failures; without the URL, so that equal ones count as one.
fn cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "timeout: no answer within --timeout-ms".to_owned();
    }
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let what = if error.is_connect() { "connect" } else { "transport" };
    format!("{what}: {innermost}")
}

fn ms_since(due: Instant) -> f64 {
    due.elapsed().as_secs_f64() * 1_000.0
}
