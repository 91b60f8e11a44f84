//! The settings of the Open Inference Protocol's paths.

use std::time::Duration;

use super::source::Reader;
use super::{millis, to_usize};

/// The Open Inference Protocol's paths.
#[derive(Debug, Clone)]
pub struct OipConfig {
    /// What `GET /v2` calls this server.
    pub server_name: String,
    /// Largest body, in bytes, as sent and as decompressed.
    pub max_body_bytes: usize,
    /// Bytes of all bodies that may be in memory at once.
    pub bodies_bytes: usize,
    /// How long `infer` waits for a model when the caller names no shorter timeout.
    pub timeout: Duration,
    /// May callers load and unload models?
    pub model_control: bool,
}

pub(super) fn read(read: &mut Reader) -> OipConfig {
    let server_name = read.text("OIP_SERVER_NAME", "infer-router", "what `GET /v2` calls this server");
    let max_body_bytes = to_usize(read.number(
        "OIP_MAX_BODY_BYTES",
        16_777_216,
        1_024..=1_073_741_824,
        "largest body of a request below /v2, in bytes, before and after decompression",
    ));
    let bodies_bytes = to_usize(read.number(
        "OIP_BODIES_BYTES",
        268_435_456,
        65_536..=68_719_476_736,
        "bytes of all bodies below /v2 in memory at once; beyond it 503",
    ));
    if bodies_bytes < max_body_bytes {
        read.fault("OIP_BODIES_BYTES must not be below OIP_MAX_BODY_BYTES: the largest body would always be refused");
    }
    OipConfig {
        server_name,
        max_body_bytes,
        bodies_bytes,
        timeout: millis(read.number(
            "OIP_TIMEOUT_MS",
            30_000,
            1..=600_000,
            "the longest an infer below /v2 waits for a model; a shorter timeout of the request wins",
        )),
        model_control: read.flag(
            "OIP_MODEL_CONTROL",
            false,
            "may whoever reaches /v2/repository load and unload models",
        ),
    }
}
