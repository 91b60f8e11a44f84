//! Elements as JSON: read from a flat or a nested array, written as a flat one.
//!
//! A nested array must have the tensor's shape; a flat one only its number of elements. JSON has
//! no NaN and no infinity: both are written as `null`, and `null` is read as NaN.

use std::fmt;

use serde::Serialize;
use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};
use serde::ser::{SerializeSeq, Serializer};
use serde_json::value::RawValue;

use crate::engine::tensor::{Data, DataType};

/// Reads the elements of a tensor of this shape; `count` is the product of its axes.
///
/// # Errors
/// Says what does not fit, without the tensor's name.
pub(super) fn decode(data_type: DataType, shape: &[usize], count: usize, json: &RawValue) -> Result<Data, String> {
    Ok(match data_type {
        DataType::Bool => Data::Bool(read(shape, count, json)?),
        DataType::Uint8 => Data::Uint8(read(shape, count, json)?),
        DataType::Int8 => Data::Int8(read(shape, count, json)?),
        DataType::Uint16 => Data::Uint16(read(shape, count, json)?),
        DataType::Int16 => Data::Int16(read(shape, count, json)?),
        DataType::Uint32 => Data::Uint32(read(shape, count, json)?),
        DataType::Int32 => Data::Int32(read(shape, count, json)?),
        DataType::Uint64 => Data::Uint64(read(shape, count, json)?),
        DataType::Int64 => Data::Int64(read(shape, count, json)?),
        DataType::Fp16 => Data::Fp16(read(shape, count, json)?.into_iter().map(half::f16::to_bits).collect()),
        DataType::Fp32 => Data::Fp32(read(shape, count, json)?),
        DataType::Fp64 => Data::Fp64(read(shape, count, json)?),
        DataType::Bytes => Data::Bytes(read(shape, count, json)?),
    })
}

fn read<T: Element>(shape: &[usize], count: usize, json: &RawValue) -> Result<Vec<T>, String> {
    // Grows with the elements that are there, never by what the shape claims.
    let mut found = Found { shape, count, values: Vec::new(), leaves: None };
    let mut parser = serde_json::Deserializer::from_str(json.get());
    // The parser counts lines and columns from the start of `data`: of no use to the caller.
    let short = |error: serde_json::Error| match error.to_string().rsplit_once(" at line ") {
        Some((what, _)) => what.to_owned(),
        None => error.to_string(),
    };
    Level { found: &mut found, depth: 0 }.deserialize(&mut parser).map_err(short)?;
    if found.values.len() == count {
        Ok(found.values)
    } else {
        Err(format!("its shape has {count} elements, `data` has {}", found.values.len()))
    }
}

/// One element out of a JSON scalar; none where it does not fit.
trait Element: Sized {
    const NAME: &'static str;

    fn from_bool(_: bool) -> Option<Self> {
        None
    }
    fn from_integer(_: i128) -> Option<Self> {
        None
    }
    fn from_float(_: f64) -> Option<Self> {
        None
    }
    fn from_null() -> Option<Self> {
        None
    }
    fn from_text(_: &str) -> Option<Self> {
        None
    }
}

macro_rules! integers {
    ($($type:ty => $name:literal),*) => {$(
        impl Element for $type {
            const NAME: &'static str = $name;
            fn from_integer(value: i128) -> Option<Self> {
                Self::try_from(value).ok()
            }
        }
    )*};
}

integers!(u8 => "UINT8", u16 => "UINT16", u32 => "UINT32", u64 => "UINT64", i8 => "INT8", i16 => "INT16", i32 => "INT32",
    i64 => "INT64");

macro_rules! floats {
    ($($type:ty, $name:literal, $from:expr;)*) => {$(
        impl Element for $type {
            const NAME: &'static str = $name;
            #[expect(clippy::cast_precision_loss, reason = "the nearest float is what a float tensor holds")]
            fn from_integer(value: i128) -> Option<Self> {
                Self::from_float(value as f64)
            }
            fn from_float(value: f64) -> Option<Self> {
                // What JSON can write is finite: where it becomes infinite, it did not fit.
                Some($from(value)).filter(|fits: &Self| fits.is_finite())
            }
            fn from_null() -> Option<Self> {
                Some(Self::NAN)
            }
        }
    )*};
}

#[expect(clippy::cast_possible_truncation, reason = "rounds to the nearest; the caller refuses an overflow")]
const fn narrow(value: f64) -> f32 {
    value as f32
}

floats! {
    half::f16, "FP16", half::f16::from_f64;
    f32, "FP32", narrow;
    f64, "FP64", std::convert::identity;
}

impl Element for bool {
    const NAME: &'static str = "BOOL";

    fn from_bool(value: bool) -> Option<Self> {
        Some(value)
    }
}

impl Element for Vec<u8> {
    const NAME: &'static str = "BYTES";

    fn from_text(value: &str) -> Option<Self> {
        Some(value.as_bytes().to_vec())
    }
}

/// The elements found so far.
struct Found<'s, T> {
    shape: &'s [usize],
    count: usize,
    values: Vec<T>,
    /// In how many arrays the first element was; every other one must be in as many.
    leaves: Option<usize>,
}

/// One value of the JSON, `depth` arrays deep.
struct Level<'f, 's, T> {
    found: &'f mut Found<'s, T>,
    depth: usize,
}

impl<T: Element> Level<'_, '_, T> {
    fn push<E: Error>(self, element: Option<T>, shown: fmt::Arguments<'_>) -> Result<(), E> {
        let Found { shape, count, values, leaves } = self.found;
        let element = element.ok_or_else(|| E::custom(format_args!("{shown} is no {}", T::NAME)))?;
        let fits = self.depth == 1 || self.depth == shape.len();
        if self.depth == 0 || !fits || *leaves.get_or_insert(self.depth) != self.depth {
            return Err(E::custom(format_args!("`data` must be one flat array, or nested like the shape {shape:?}")));
        }
        if values.len() == *count {
            return Err(E::custom(format_args!("`data` has more than the {count} elements of its shape {shape:?}")));
        }
        values.push(element);
        Ok(())
    }
}

impl<'de, T: Element> DeserializeSeed<'de> for Level<'_, '_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, parser: D) -> Result<(), D::Error> {
        parser.deserialize_any(self)
    }
}

impl<'de, T: Element> Visitor<'de> for Level<'_, '_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an array of {}", T::NAME)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.push(T::from_bool(value), format_args!("{value}"))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.push(T::from_integer(value.into()), format_args!("{value}"))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.push(T::from_integer(value.into()), format_args!("{value}"))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.push(T::from_float(value), format_args!("{value:e}"))
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.push(T::from_null(), format_args!("null"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.push(T::from_text(value), format_args!("a text"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Self { found, depth } = self;
        // Ends what would nest without end, too.
        if depth >= found.shape.len().max(1) || found.leaves.is_some_and(|leaves| depth >= leaves) {
            let detail = format_args!("`data` is nested deeper than its shape {:?}", found.shape).to_string();
            return Err(A::Error::custom(detail));
        }
        let mut items_found = 0_usize;
        while items.next_element_seed(Level { found: &mut *found, depth: depth + 1 })?.is_some() {
            items_found += 1;
        }
        let nested = found.leaves == Some(found.shape.len());
        match found.shape.get(depth) {
            Some(axis) if nested && *axis != items_found => Err(A::Error::custom(format_args!(
                "axis {depth} of its shape is {axis}, `data` has {items_found} there"
            ))),
            _ => Ok(()),
        }
    }
}

/// Elements as a flat JSON array.
#[derive(Debug)]
pub(super) struct Flat<'a>(pub(super) &'a Data);

impl Serialize for Flat<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Data::Bool(values) => values.serialize(serializer),
            Data::Uint8(values) => values.serialize(serializer),
            Data::Uint16(values) => values.serialize(serializer),
            Data::Uint32(values) => values.serialize(serializer),
            Data::Uint64(values) => values.serialize(serializer),
            Data::Int8(values) => values.serialize(serializer),
            Data::Int16(values) => values.serialize(serializer),
            Data::Int32(values) => values.serialize(serializer),
            Data::Int64(values) => values.serialize(serializer),
            Data::Fp16(values) => {
                serializer.collect_seq(values.iter().map(|bits| half::f16::from_bits(*bits).to_f32()))
            }
            Data::Fp32(values) => values.serialize(serializer),
            Data::Fp64(values) => values.serialize(serializer),
            Data::Bytes(texts) => {
                let mut seq = serializer.serialize_seq(Some(texts.len()))?;
                for text in texts {
                    let text = std::str::from_utf8(text).map_err(|_| serde::ser::Error::custom("not UTF-8"))?;
                    seq.serialize_element(text)?;
                }
                seq.end()
            }
        }
    }
}
