//! Compressing an answer, where its reader asked for it and it is worth the time.

use std::io::Write;

use axum::http::HeaderMap;
use axum::http::header::ACCEPT_ENCODING;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};

/// A smaller body fits a packet or two as it is.
pub(super) const WORTH_IT: usize = 1_024;

/// The packings that Triton's clients unpack; they ask for no other, and unpack nothing but `infer`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    Gzip,
    /// A zlib stream.
    Deflate,
}

impl Packing {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }

    /// The packing the caller takes, gzip where both will do.
    pub(super) fn accepted(map: &HeaderMap) -> Option<Self> {
        let takes = |name: &str| {
            let values = map.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
            values.flat_map(|value| value.split(',')).any(|part| {
                let (coding, weight) = part.split_once(';').unwrap_or((part, ""));
                coding.trim().eq_ignore_ascii_case(name) && !is_zero(weight)
            })
        };
        [Self::Gzip, Self::Deflate].into_iter().find(|packing| takes(packing.name()))
    }

    pub(super) fn pack(self, plain: &[u8]) -> std::io::Result<Vec<u8>> {
        // The callers wait: the fastest level.
        match self {
            Self::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(plain)?;
                encoder.finish()
            }
            Self::Deflate => {
                let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(plain)?;
                encoder.finish()
            }
        }
    }
}

/// `q=0` says "not this one".
fn is_zero(weight: &str) -> bool {
    let value = weight.trim().strip_prefix("q=").or_else(|| weight.trim().strip_prefix("Q="));
    value.and_then(|value| value.parse::<f32>().ok()).is_some_and(|value| value <= 0.0)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn only_what_the_caller_takes_and_the_clients_can_unpack() {
        let of = |value: &'static str| {
            Packing::accepted(&[(ACCEPT_ENCODING, HeaderValue::from_static(value))].into_iter().collect())
        };
        assert_eq!(of("gzip, deflate, br"), Some(Packing::Gzip));
        assert_eq!(of("deflate"), Some(Packing::Deflate));
        assert_eq!(of("gzip;q=0, deflate;q=0.5"), Some(Packing::Deflate));
        assert_eq!(of("GZIP ; q=1"), Some(Packing::Gzip));
        assert_eq!(of("br, zstd, identity"), None);
        assert_eq!(of(""), None);
        assert_eq!(Packing::accepted(&HeaderMap::new()), None);
    }
}
