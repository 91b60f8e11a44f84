//! One HTTP client for the commands that ask a running service; a problem document becomes an error in its own words.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use reqwest::{RequestBuilder, Url};
use serde_json::Value;

/// Asks one service.
#[derive(Debug)]
pub(crate) struct Client {
    client: reqwest::Client,
    base: Url,
}

impl Client {
    /// # Errors
    /// When the URL cannot be used.
    pub(crate) fn new(url: &str, timeout: Duration) -> Result<Self> {
        let base = Url::parse(url).with_context(|| format!("--url {url}: give it as http://HOST:PORT"))?;
        if base.query().is_some() || base.fragment().is_some() || base.cannot_be_a_base() {
            bail!("--url {url}: give it as http://HOST:PORT, without query and fragment");
        }
        let client = reqwest::Client::builder()
            .timeout(timeout)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent("infer-router")
            .build()
            .context("cannot build the HTTP client")?;
        Ok(Self { client, base })
    }

    pub(crate) async fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Value> {
        self.answer(self.client.get(self.url(path)).query(query)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.answer(self.client.post(self.url(path)).json(body)).await
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base.as_str().trim_end_matches('/'))
    }

    async fn answer(&self, request: RequestBuilder) -> Result<Value> {
        let base = &self.base;
        let response = request.send().await.map_err(|error| {
            // Without the URL, which stands before it.
            let cause = anyhow!(error.without_url());
            anyhow!("cannot reach {base}: {cause:#}. Is the native service running, and is --url right?")
        })?;
        let status = response.status();
        let body = response.bytes().await.with_context(|| format!("cannot read the answer of {base}"))?;
        let answer: Value = serde_json::from_slice(&body)
            .with_context(|| format!("{base} answered {status} and no JSON: is this an Infer Router?"))?;
        if status.is_success() {
            return Ok(answer);
        }
        let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
        bail!("{} ({}): {}", status.as_u16(), text("code"), text("detail"))
    }
}

/// An id as it may stand in a path.
///
/// # Errors
/// It is none.
pub(crate) fn segment(id: &str) -> Result<&str> {
    if shared::ids::is_id(id) { Ok(id) } else { bail!("`{id}` is no id") }
}

/// A value of an answer as a person reads it: a text without quotes, nothing for null.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_cannot_lead_elsewhere() {
        assert!(segment("pump-anomaly.01a1").is_ok());
        for wrong in ["", "../models", "a/b", "a?b", "a%2Fb"] {
            assert!(segment(wrong).is_err(), "{wrong}");
        }
    }
}
