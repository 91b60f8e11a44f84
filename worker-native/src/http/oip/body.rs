//! Reading a body within its bounds, whatever it calls itself: length, time, room, decompression.
//!
//! The Content-Type is not looked at: Triton's Python client sends none.

use std::io::Read;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use flate2::bufread::{MultiGzDecoder, ZlibDecoder};
use http_body_util::BodyExt;
use shared::problem::ErrorCode;

use super::room::Taken;
use super::{ApiError, Parts, bad, work};

/// A whole body, and the room it takes until it is dropped.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) bytes: Vec<u8>,
    room: Taken,
}

/// How a body is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    Plain,
    Gzip,
    /// A zlib stream, as RFC 9110 says of `deflate`.
    Deflate,
}

/// Reads the body whole, unpacked.
pub(super) async fn read(parts: &Parts, map: &HeaderMap, body: Body) -> Result<Whole, ApiError> {
    let packing = packing(map)?;
    let limit = parts.config.max_body_bytes;
    let announced = map.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large(limit));
    }
    let arriving = collect(body, limit, parts.room.none_taken());
    let whole = tokio::time::timeout(parts.body_timeout, arriving)
        .await
        .map_err(|_| ApiError::new(ErrorCode::InvalidTensor, "the body did not arrive in time (BODY_TIMEOUT_MS)"))??;
    if packing == Packing::Plain {
        return Ok(whole);
    }
    let room = parts.room.none_taken();
    // Small packed bodies unpack to large ones: they are never this thread's work.
    work(usize::MAX, move || unpack(&whole.bytes, packing, limit, room)).await?
}

fn packing(map: &HeaderMap) -> Result<Packing, ApiError> {
    let named = map.get_all(CONTENT_ENCODING).iter().map(|value| value.to_str().unwrap_or("?").trim());
    let mut packings = named.filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case("identity"));
    let packing = match packings.next() {
        None => Packing::Plain,
        Some(name) if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") => Packing::Gzip,
        Some(name) if name.eq_ignore_ascii_case("deflate") => Packing::Deflate,
        Some(name) => return Err(unknown(name)),
    };
    packings.next().map_or(Ok(packing), |second| Err(unknown(second)))
}

fn unknown(packing: &str) -> ApiError {
    let detail = format!("content-encoding may be gzip or deflate, once, not `{packing}`");
    ApiError::new(ErrorCode::UnsupportedMediaType, detail)
}

fn too_large(limit: usize) -> ApiError {
    let detail = format!("at most {limit} bytes are taken, decompressed too (OIP_MAX_BODY_BYTES)");
    ApiError::new(ErrorCode::PayloadTooLarge, detail)
}

/// Copies each chunk into one buffer: kept as they came, chunks of a byte each would hold many times their size.
async fn collect(mut body: Body, limit: usize, mut room: Taken) -> Result<Whole, ApiError> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            ApiError::caused(ErrorCode::InvalidTensor, "the body broke off or is malformed", &error)
        })?;
        let Ok(chunk) = frame.into_data() else { continue };
        take(&mut bytes, &chunk, limit, &mut room)?;
    }
    Ok(Whole { bytes, room })
}

fn take(bytes: &mut Vec<u8>, chunk: &[u8], limit: usize, room: &mut Taken) -> Result<(), ApiError> {
    if chunk.len() > limit.saturating_sub(bytes.len()) {
        return Err(too_large(limit));
    }
    room.grow(chunk.len())?;
    bytes.extend_from_slice(chunk);
    Ok(())
}

fn unpack(packed: &[u8], packing: Packing, limit: usize, mut room: Taken) -> Result<Whole, ApiError> {
    let mut bytes = Vec::new();
    match packing {
        Packing::Plain => take(&mut bytes, packed, limit, &mut room)?,
        Packing::Gzip => drain(MultiGzDecoder::new(packed), &mut bytes, limit, &mut room)?,
        Packing::Deflate => {
            let mut decoder = ZlibDecoder::new(packed);
            drain(&mut decoder, &mut bytes, limit, &mut room)?;
            if !decoder.into_inner().is_empty() {
                return Err(bad("bytes are left after the end of the deflate stream"));
            }
        }
    }
    Ok(Whole { bytes, room })
}

fn drain(mut decoder: impl Read, bytes: &mut Vec<u8>, limit: usize, room: &mut Taken) -> Result<(), ApiError> {
    let mut chunk = vec![0; 64 * 1_024];
    loop {
        let read =
            decoder.read(&mut chunk).map_err(|error| bad(format!("the body cannot be decompressed: {error}")))?;
        let Some(chunk) = chunk.get(..read).filter(|chunk| !chunk.is_empty()) else { return Ok(()) };
        take(bytes, chunk, limit, room)?;
    }
}

impl Whole {
    /// The bytes, and the room that is theirs until the answer is written.
    pub(super) fn split(self) -> (Vec<u8>, Taken) {
        (self.bytes, self.room)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::room::Room;
    use super::*;

    fn unpacked(packed: &[u8], packing: Packing, limit: usize) -> Result<Vec<u8>, ErrorCode> {
        let room = Room::new(1 << 20).none_taken();
        unpack(packed, packing, limit, room).map(|whole| whole.bytes).map_err(|error| error.code)
    }

    #[test]
    fn both_packings_are_unpacked_and_limited_by_what_comes_out() {
        let plain = vec![7_u8; 100_000];
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).unwrap();
        let gzip = gzip.finish().unwrap();
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        zlib.write_all(&plain).unwrap();
        let mut zlib = zlib.finish().unwrap();
        for (packed, packing) in [(&gzip, Packing::Gzip), (&zlib, Packing::Deflate)] {
            assert!(packed.len() < 1_000);
            assert_eq!(unpacked(packed, packing, 100_000).unwrap(), plain);
            assert_eq!(unpacked(packed, packing, 99_999), Err(ErrorCode::PayloadTooLarge));
            assert_eq!(unpacked(&packed[..packed.len() - 5], packing, 100_000), Err(ErrorCode::InvalidTensor));
        }
        zlib.push(0);
        assert_eq!(unpacked(&zlib, Packing::Deflate, 100_000), Err(ErrorCode::InvalidTensor));
        assert_eq!(unpacked(&gzip, Packing::Deflate, 100_000), Err(ErrorCode::InvalidTensor));
    }

    #[test]
    fn one_known_packing_is_taken() {
        let of = |values: &[&'static str]| {
            let map = values.iter().map(|value| (CONTENT_ENCODING, axum::http::HeaderValue::from_static(value)));
            packing(&map.collect()).map_err(|error| error.code)
        };
        assert_eq!(of(&[]), Ok(Packing::Plain));
        assert_eq!(of(&["identity", ""]), Ok(Packing::Plain));
        assert_eq!(of(&["GZip"]), Ok(Packing::Gzip));
        assert_eq!(of(&["deflate"]), Ok(Packing::Deflate));
        assert_eq!(of(&["br"]), Err(ErrorCode::UnsupportedMediaType));
        assert_eq!(of(&["gzip, deflate"]), Err(ErrorCode::UnsupportedMediaType));
        assert_eq!(of(&["gzip", "gzip"]), Err(ErrorCode::UnsupportedMediaType));
    }
}
