//! JSON objects and values kept raw, with names given twice noticed.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::Fault;

/// A JSON object whose values are still text.
#[derive(Debug)]
pub struct Object<'a> {
    /// Names and values in the order of the text; of a name given twice, the first.
    pub entries: Vec<(Cow<'a, str>, &'a RawValue)>,
    /// Names given again.
    pub duplicates: Vec<String>,
}

impl<'a> Object<'a> {
    /// The value of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.entries.iter().find(|(key, _)| key == name).map(|(_, value)| *value)
    }

    /// Reads an optional field; anything but an absent field, `null` or a good value is a fault.
    pub fn read<T>(
        &self,
        faults: &mut Vec<Fault>,
        name: &str,
        wanted: &str,
        read: impl FnOnce(&'a RawValue) -> Option<T>,
    ) -> Option<T> {
        let raw = self.get(name).filter(|raw| raw.get() != "null")?;
        let value = read(raw);
        if value.is_none() {
            faults.push(wrong_type(name, wanted, raw));
        }
        value
    }
}

/// Outside of the generic function, which would repeat it for every type in the wasm.
#[inline(never)]
fn wrong_type(name: &str, wanted: &str, raw: &RawValue) -> Fault {
    Fault::new(pointer(&[name]), "wrong_type", format!("`{name}` must be {wanted}, not {}", excerpt(raw)))
}

/// Reads a body as one JSON object; `Err` has the reason in words that help.
///
/// Checked as UTF-8 first, so that all JSON here is read from text: the parser for bytes would be a second one in the
/// wasm.
///
/// # Errors
/// What is wrong with the text as a whole.
pub fn body(bytes: &[u8]) -> Result<Object<'_>, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| format!("the body is not UTF-8: {error}"))?;
    // The library would repeat it, and it is as long as the caller likes.
    if text.trim_ascii_start().starts_with('"') {
        return Err("the body must be one JSON object, not a string".to_owned());
    }
    serde_json::from_str(text)
        .map_err(|error| format!("the body must be one JSON object (NaN and Infinity are not JSON): {error}"))
}

/// Most names one object may have: the comparison with each earlier name stays cheap.
const MAX_NAMES: usize = 1_024;

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor;
        impl<'de> Visitor<'de> for ObjectVisitor {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Object<'de>, M::Error> {
                let mut object = Object { entries: Vec::new(), duplicates: Vec::new() };
                while let Some((Name(name), value)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
                    if object.entries.len() + object.duplicates.len() == MAX_NAMES {
                        return Err(serde::de::Error::custom(format!("more than {MAX_NAMES} names in one object")));
                    }
                    if object.entries.iter().any(|(known, _)| *known == name) {
                        object.duplicates.push(name.into_owned());
                    } else {
                        object.entries.push((name, value));
                    }
                }
                Ok(object)
            }
        }
        deserializer.deserialize_map(ObjectVisitor)
    }
}

/// An object's name, borrowed unless it has escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl<'de> Visitor<'de> for NameVisitor {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(name)))
            }

            fn visit_str<E>(self, name: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(NameVisitor)
    }
}

/// A JSON array whose elements are still text; what is over the limit is counted, not kept.
#[derive(Debug)]
pub struct Array<'a> {
    /// The first ones, up to the limit.
    pub elements: Vec<&'a RawValue>,
    /// How many there are.
    pub length: usize,
}

/// Reads an array, keeping at most `limit` elements.
///
/// `None` when the value is no array.
#[must_use]
pub fn array<'a>(raw: &'a RawValue, limit: usize) -> Option<Array<'a>> {
    struct ArrayVisitor(usize);
    impl<'de> Visitor<'de> for ArrayVisitor {
        type Value = Array<'de>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array")
        }

        fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<Array<'de>, S::Error> {
            let mut array = Array { elements: Vec::new(), length: 0 };
            while let Some(raw) = seq.next_element::<&'de RawValue>()? {
                if array.length < self.0 {
                    array.elements.push(raw);
                }
                array.length += 1;
            }
            Ok(array)
        }
    }
    serde_json::Deserializer::from_str(raw.get()).deserialize_seq(ArrayVisitor(limit)).ok()
}

/// Why a raw value is no usable number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotANumber {
    /// It is something else.
    WrongType,
    /// It is too large for a float.
    NotFinite,
}

/// Reads a JSON number; one too large for a float is told apart from another type.
///
/// # Errors
/// [`NotANumber`].
pub fn number(raw: &RawValue) -> Result<f64, NotANumber> {
    let text = raw.get();
    if !text.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
        return Err(NotANumber::WrongType);
    }
    // Not by `str::parse`, whose tables would be a tenth of the edge's wasm; this reader is in it anyway. It is exact up
    // to 15 digits and a power of ten up to 22, and else right to 15 digits; a model takes seven. What is JSON and begins
    // like a number fails here for its size only.
    serde_json::from_str(text).map_err(|_| NotANumber::NotFinite)
}

/// Reads a JSON string.
#[must_use]
pub fn string<'a>(raw: &'a RawValue) -> Option<Cow<'a, str>> {
    raw.get().starts_with('"').then(|| serde_json::from_str::<Name<'a>>(raw.get()).ok().map(|name| name.0)).flatten()
}

/// A JSON Pointer in URI fragment form (RFC 6901 §6) from its steps.
#[must_use]
pub fn pointer(steps: &[&str]) -> String {
    let mut pointer = String::from("#");
    for step in steps {
        pointer.push('/');
        for c in step.chars() {
            match c {
                '~' => pointer.push_str("~0"),
                '/' => pointer.push_str("~1"),
                c if c.is_ascii_alphanumeric() || "-._".contains(c) => pointer.push(c),
                c => {
                    let mut utf8 = [0; 4];
                    for byte in c.encode_utf8(&mut utf8).bytes() {
                        pointer.push_str(&format!("%{byte:02X}"));
                    }
                }
            }
        }
    }
    pointer
}

/// The beginning of a raw value, for a message.
#[must_use]
pub fn excerpt(raw: &RawValue) -> String {
    let text = raw.get();
    if text.chars().count() <= 24 {
        return format!("`{text}`");
    }
    let head: String = text.chars().take(24).collect();
    format!("`{head}…`")
}
