//! The settings of the HTTP doors.

use std::time::Duration;

use super::source::Reader;
use super::{millis, to_usize};

/// The HTTP doors.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// Address to listen on.
    pub host: std::net::IpAddr,
    /// Port to listen on; 0 takes a free one, which is then logged.
    pub port: u16,
    /// Largest body, in bytes.
    pub max_body_bytes: usize,
    /// How long a body may take to arrive.
    pub body_timeout: Duration,
    /// How long a connection may be idle, or take to send a request's head.
    pub header_timeout: Duration,
    /// Connections open at once; further ones wait to be accepted.
    pub max_connections: usize,
    /// How long `/predict` waits for a model when the caller names no deadline.
    pub predict_timeout: Duration,
    /// Texts, series and streams under way at once; beyond it 503.
    pub stream_max_active: usize,
    /// How long one of them may take.
    pub stream_timeout: Duration,
    /// Callers that watch a job at once; beyond it 503.
    pub watch_max_active: usize,
    /// How long a shutdown waits for what is under way.
    pub drain_timeout: Duration,
    /// How long the service takes requests after it was told to stop, while it says that it is not ready.
    pub drain_delay: Duration,
}

pub(super) fn read(read: &mut Reader) -> HttpConfig {
    let port_help = "port of the native service; 0 takes a free one";
    // PORT is what hosting platforms set; API_PORT is ours and wins.
    let port_default = read.number("PORT", 8080, 0..=65_535, "port, where API_PORT is not set");
    HttpConfig {
        host: read.parsed(
            "API_HOST",
            "127.0.0.1",
            "an IP address such as 127.0.0.1 or 0.0.0.0",
            "address to listen on",
        ),
        port: to_u16(read.number("API_PORT", port_default, 0..=65_535, port_help)),
        max_body_bytes: to_usize(read.number(
            "MAX_BODY_BYTES",
            262_144,
            1_024..=16_777_216,
            "largest request body, in bytes",
        )),
        body_timeout: millis(read.number(
            "BODY_TIMEOUT_MS",
            10_000,
            100..=300_000,
            "how long a request body may take to arrive",
        )),
        predict_timeout: millis(read.number(
            "PREDICT_TIMEOUT_MS",
            2_000,
            1..=600_000,
            "the longest /predict waits for a model; a shorter deadline_ms of the reading wins",
        )),
        stream_max_active: to_usize(read.number(
            "STREAM_MAX_ACTIVE",
            256,
            1..=100_000,
            "texts, series and streams of /v1/infer under way at once; beyond it 503",
        )),
        stream_timeout: millis(read.number(
            "STREAM_TIMEOUT_MS",
            120_000,
            1..=3_600_000,
            "the longest a text, a series or a stream may take; a shorter deadline_ms wins",
        )),
        watch_max_active: to_usize(read.number(
            "WATCH_MAX_ACTIVE",
            1_024,
            1..=100_000,
            "streams of /v1/jobs/{id}/events open at once; beyond it 503",
        )),
        header_timeout: millis(read.number(
            "HEADER_TIMEOUT_MS",
            30_000,
            100..=600_000,
            "how long a connection may be idle, or take to send a request's head",
        )),
        max_connections: to_usize(read.number(
            "MAX_CONNECTIONS",
            10_000,
            1..=1_000_000,
            "connections open at once; further ones wait to be accepted",
        )),
        drain_delay: millis(read.number(
            "DRAIN_DELAY_MS",
            1_000,
            0..=60_000,
            "how long requests are taken after SIGTERM, with /readyz at 503: time for a load balancer to look elsewhere",
        )),
        drain_timeout: millis(read.number(
            "DRAIN_TIMEOUT_MS",
            20_000,
            0..=600_000,
            "how long a shutdown waits for what is under way",
        )),
    }
}

// The number is bounded by `Reader::number`; the fallback is never met.
fn to_u16(value: u64) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}
