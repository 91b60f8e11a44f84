//! Elements as the protocol's binary extension writes them: little-endian, row-major, no padding.
//!
//! A `BOOL` is one byte, 0 or 1; an element of `BYTES` is its length in four bytes and then itself.
//! Nothing is allocated for a shape before the bytes for it are seen.

use crate::engine::tensor::{Data, DataType};

/// Reads exactly `count` elements out of exactly these bytes.
///
/// # Errors
/// Says what does not fit, without the tensor's name.
pub(super) fn decode(data_type: DataType, count: usize, bytes: &[u8]) -> Result<Data, String> {
    if let Some(size) = data_type.size() {
        let want = count.checked_mul(size).ok_or("its shape is absurdly large")?;
        if want != bytes.len() {
            return Err(format!("its shape takes {want} bytes, there are {}", bytes.len()));
        }
    }
    Ok(match data_type {
        DataType::Bool => Data::Bool(truths(bytes)?),
        DataType::Uint8 => Data::Uint8(bytes.to_vec()),
        DataType::Int8 => Data::Int8(fixed(bytes, i8::from_le_bytes)),
        DataType::Uint16 => Data::Uint16(fixed(bytes, u16::from_le_bytes)),
        DataType::Int16 => Data::Int16(fixed(bytes, i16::from_le_bytes)),
        DataType::Uint32 => Data::Uint32(fixed(bytes, u32::from_le_bytes)),
        DataType::Int32 => Data::Int32(fixed(bytes, i32::from_le_bytes)),
        DataType::Uint64 => Data::Uint64(fixed(bytes, u64::from_le_bytes)),
        DataType::Int64 => Data::Int64(fixed(bytes, i64::from_le_bytes)),
        DataType::Fp16 => Data::Fp16(fixed(bytes, u16::from_le_bytes)),
        DataType::Fp32 => Data::Fp32(fixed(bytes, f32::from_le_bytes)),
        DataType::Fp64 => Data::Fp64(fixed(bytes, f64::from_le_bytes)),
        DataType::Bytes => Data::Bytes(texts(count, bytes)?),
    })
}

fn fixed<const N: usize, T>(bytes: &[u8], read: fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|chunk| read(*chunk)).collect()
}

fn truths(bytes: &[u8]) -> Result<Vec<bool>, String> {
    let truth = |byte: &u8| match byte {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(format!("a BOOL is 0 or 1, not {other}")),
    };
    bytes.iter().map(truth).collect()
}

fn texts(count: usize, mut bytes: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    // Each element brings at least its length: so `count` is bounded by the bytes that are there.
    if count.checked_mul(4).is_none_or(|least| least > bytes.len()) {
        return Err(format!("its shape has {count} elements, {} bytes are too few for them", bytes.len()));
    }
    let mut texts = Vec::with_capacity(count);
    for i in 0..count {
        let (text, rest) = text(bytes).ok_or_else(|| format!("element {i} is longer than the bytes left for it"))?;
        texts.push(text.to_vec());
        bytes = rest;
    }
    if bytes.is_empty() { Ok(texts) } else { Err(format!("{} bytes are left after its {count} elements", bytes.len())) }
}

fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)
}

/// Bytes that [`encode`] writes; none where an element of `BYTES` is too long for its length field.
pub(super) fn encoded_len(data: &Data) -> Option<usize> {
    match data {
        Data::Bytes(texts) => texts.iter().try_fold(0_usize, |sum, text| {
            u32::try_from(text.len()).ok()?;
            sum.checked_add(text.len())?.checked_add(4)
        }),
        other => other.len().checked_mul(other.data_type().size()?),
    }
}

/// Writes all elements.
pub(super) fn encode(data: &Data, out: &mut Vec<u8>) {
    match data {
        Data::Bool(values) => out.extend(values.iter().map(|value| u8::from(*value))),
        Data::Uint8(values) => out.extend_from_slice(values),
        Data::Int8(values) => write(values, i8::to_le_bytes, out),
        Data::Uint16(values) | Data::Fp16(values) => write(values, u16::to_le_bytes, out),
        Data::Int16(values) => write(values, i16::to_le_bytes, out),
        Data::Uint32(values) => write(values, u32::to_le_bytes, out),
        Data::Int32(values) => write(values, i32::to_le_bytes, out),
        Data::Uint64(values) => write(values, u64::to_le_bytes, out),
        Data::Int64(values) => write(values, i64::to_le_bytes, out),
        Data::Fp32(values) => write(values, f32::to_le_bytes, out),
        Data::Fp64(values) => write(values, f64::to_le_bytes, out),
        Data::Bytes(texts) => {
            for text in texts {
                // `encoded_len` has refused what is longer.
                out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
                out.extend_from_slice(text);
            }
        }
    }
}

fn write<const N: usize, T: Copy>(values: &[T], bytes: fn(T) -> [u8; N], out: &mut Vec<u8>) {
    out.extend(values.iter().flat_map(|value| bytes(*value)));
}
