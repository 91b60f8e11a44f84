//! Tensors as they come from callers and go back to them: a name, a shape, and plain numbers or bytes.
//!
//! Owns the data types and the arithmetic of shapes; it knows neither a wire format nor ONNX Runtime.

/// The type of a tensor's elements, in the words of the Open Inference Protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DataType {
    /// `BOOL`, one byte on the wire.
    Bool,
    /// `UINT8`.
    Uint8,
    /// `UINT16`.
    Uint16,
    /// `UINT32`.
    Uint32,
    /// `UINT64`.
    Uint64,
    /// `INT8`.
    Int8,
    /// `INT16`.
    Int16,
    /// `INT32`.
    Int32,
    /// `INT64`.
    Int64,
    /// `FP16`, kept as its bits.
    Fp16,
    /// `FP32`.
    Fp32,
    /// `FP64`.
    Fp64,
    /// `BYTES`: texts of any length.
    Bytes,
}

/// One input or output of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name in the graph.
    pub name: String,
    /// The type of its elements.
    pub data_type: DataType,
    /// All its axes, the batch included; -1 where any length will do.
    pub shape: Vec<i64>,
}

/// A tensor's elements, row-major.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// Truth values.
    Bool(Vec<bool>),
    /// Unsigned, 8 bits.
    Uint8(Vec<u8>),
    /// Unsigned, 16 bits.
    Uint16(Vec<u16>),
    /// Unsigned, 32 bits.
    Uint32(Vec<u32>),
    /// Unsigned, 64 bits.
    Uint64(Vec<u64>),
    /// Signed, 8 bits.
    Int8(Vec<i8>),
    /// Signed, 16 bits.
    Int16(Vec<i16>),
    /// Signed, 32 bits.
    Int32(Vec<i32>),
    /// Signed, 64 bits.
    Int64(Vec<i64>),
    /// Half floats, as bits.
    Fp16(Vec<u16>),
    /// Floats.
    Fp32(Vec<f32>),
    /// Doubles.
    Fp64(Vec<f64>),
    /// Texts.
    Bytes(Vec<Vec<u8>>),
}

/// Applies one expression to the elements of whichever type a [`Data`] holds.
macro_rules! each {
    ($data:expr, $values:ident => $body:expr) => {
        match $data {
            Data::Bool($values) => $body,
            Data::Uint8($values) => $body,
            Data::Uint16($values) | Data::Fp16($values) => $body,
            Data::Uint32($values) => $body,
            Data::Uint64($values) => $body,
            Data::Int8($values) => $body,
            Data::Int16($values) => $body,
            Data::Int32($values) => $body,
            Data::Int64($values) => $body,
            Data::Fp32($values) => $body,
            Data::Fp64($values) => $body,
            Data::Bytes($values) => $body,
        }
    };
}

/// A named tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Its name in the graph.
    pub name: String,
    /// Its axes; their product is the number of elements.
    pub shape: Vec<usize>,
    /// Its elements.
    pub data: Data,
}

/// What a loaded model takes and gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// Its inputs, in the graph's order.
    pub inputs: Vec<TensorSpec>,
    /// Its outputs, in the graph's order.
    pub outputs: Vec<TensorSpec>,
    /// Most rows in one run; 0 where the first axis is no batch.
    pub max_batch: usize,
    /// `onnxruntime_onnx`, as Triton calls it.
    pub platform: &'static str,
}

impl Data {
    /// The type of the elements.
    #[must_use]
    pub const fn data_type(&self) -> DataType {
        match self {
            Self::Bool(_) => DataType::Bool,
            Self::Uint8(_) => DataType::Uint8,
            Self::Uint16(_) => DataType::Uint16,
            Self::Uint32(_) => DataType::Uint32,
            Self::Uint64(_) => DataType::Uint64,
            Self::Int8(_) => DataType::Int8,
            Self::Int16(_) => DataType::Int16,
            Self::Int32(_) => DataType::Int32,
            Self::Int64(_) => DataType::Int64,
            Self::Fp16(_) => DataType::Fp16,
            Self::Fp32(_) => DataType::Fp32,
            Self::Fp64(_) => DataType::Fp64,
            Self::Bytes(_) => DataType::Bytes,
        }
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        each!(self, values => values.len())
    }

    /// Is there no element?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes the elements hold in memory, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Bytes(texts) => texts.iter().map(|text| text.len() + size_of::<Vec<u8>>()).sum(),
            other => other.len() * other.data_type().size().unwrap_or(1),
        }
    }

    /// Adds another tensor's elements; false where the types differ, and nothing is added.
    #[must_use]
    pub fn append(&mut self, other: &Self) -> bool {
        match (self, other) {
            (Self::Bool(to), Self::Bool(from)) => to.extend_from_slice(from),
            (Self::Uint8(to), Self::Uint8(from)) => to.extend_from_slice(from),
            (Self::Uint16(to), Self::Uint16(from)) | (Self::Fp16(to), Self::Fp16(from)) => to.extend_from_slice(from),
            (Self::Uint32(to), Self::Uint32(from)) => to.extend_from_slice(from),
            (Self::Uint64(to), Self::Uint64(from)) => to.extend_from_slice(from),
            (Self::Int8(to), Self::Int8(from)) => to.extend_from_slice(from),
            (Self::Int16(to), Self::Int16(from)) => to.extend_from_slice(from),
            (Self::Int32(to), Self::Int32(from)) => to.extend_from_slice(from),
            (Self::Int64(to), Self::Int64(from)) => to.extend_from_slice(from),
            (Self::Fp32(to), Self::Fp32(from)) => to.extend_from_slice(from),
            (Self::Fp64(to), Self::Fp64(from)) => to.extend_from_slice(from),
            (Self::Bytes(to), Self::Bytes(from)) => to.extend_from_slice(from),
            _ => return false,
        }
        true
    }

    /// The elements of one range; none where it is not within.
    #[must_use]
    pub fn slice(&self, range: std::ops::Range<usize>) -> Option<Self> {
        Some(match self {
            Self::Bool(values) => Self::Bool(values.get(range)?.to_vec()),
            Self::Uint8(values) => Self::Uint8(values.get(range)?.to_vec()),
            Self::Uint16(values) => Self::Uint16(values.get(range)?.to_vec()),
            Self::Uint32(values) => Self::Uint32(values.get(range)?.to_vec()),
            Self::Uint64(values) => Self::Uint64(values.get(range)?.to_vec()),
            Self::Int8(values) => Self::Int8(values.get(range)?.to_vec()),
            Self::Int16(values) => Self::Int16(values.get(range)?.to_vec()),
            Self::Int32(values) => Self::Int32(values.get(range)?.to_vec()),
            Self::Int64(values) => Self::Int64(values.get(range)?.to_vec()),
            Self::Fp16(values) => Self::Fp16(values.get(range)?.to_vec()),
            Self::Fp32(values) => Self::Fp32(values.get(range)?.to_vec()),
            Self::Fp64(values) => Self::Fp64(values.get(range)?.to_vec()),
            Self::Bytes(values) => Self::Bytes(values.get(range)?.to_vec()),
        })
    }
}

impl DataType {
    /// Bytes of one element; none for texts, whose lengths differ.
    #[must_use]
    pub const fn size(self) -> Option<usize> {
        Some(match self {
            Self::Bool | Self::Uint8 | Self::Int8 => 1,
            Self::Uint16 | Self::Int16 | Self::Fp16 => 2,
            Self::Uint32 | Self::Int32 | Self::Fp32 => 4,
            Self::Uint64 | Self::Int64 | Self::Fp64 => 8,
            Self::Bytes => return None,
        })
    }

    /// All types.
    pub const ALL: [Self; 13] = [
        Self::Bool,
        Self::Uint8,
        Self::Uint16,
        Self::Uint32,
        Self::Uint64,
        Self::Int8,
        Self::Int16,
        Self::Int32,
        Self::Int64,
        Self::Fp16,
        Self::Fp32,
        Self::Fp64,
        Self::Bytes,
    ];

    /// The type of that name in the Open Inference Protocol.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }

    /// The name in the Open Inference Protocol.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::Uint8 => "UINT8",
            Self::Uint16 => "UINT16",
            Self::Uint32 => "UINT32",
            Self::Uint64 => "UINT64",
            Self::Int8 => "INT8",
            Self::Int16 => "INT16",
            Self::Int32 => "INT32",
            Self::Int64 => "INT64",
            Self::Fp16 => "FP16",
            Self::Fp32 => "FP32",
            Self::Fp64 => "FP64",
            Self::Bytes => "BYTES",
        }
    }
}

/// Number of elements of a tensor of this shape: the product of its axes, 1 for a scalar; none where it overflows.
#[must_use]
pub fn element_count(shape: &[usize]) -> Option<usize> {
    // An axis of length 0 behind an overflowing product would make an absurd shape look empty: no early end.
    shape.iter().try_fold(1_usize, |product, axis| product.checked_mul(*axis))
}

impl Tensor {
    /// Length of the first axis; 0 for a scalar.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(0)
    }

    /// Elements of one row; 0 where there is no row.
    #[must_use]
    pub fn row_len(&self) -> usize {
        self.shape.get(1..).map_or(0, |axes| axes.iter().product())
    }

    /// Adds another tensor's rows; false where types or other axes differ, and nothing is added.
    #[must_use]
    pub fn append_rows(&mut self, other: &Self) -> bool {
        if self.shape.get(1..) != other.shape.get(1..) {
            return false;
        }
        let Some(rows) = self.rows().checked_add(other.rows()) else { return false };
        if !self.data.append(&other.data) {
            return false;
        }
        if let Some(first) = self.shape.first_mut() {
            *first = rows;
        }
        true
    }

    /// The rows of a range as a tensor of their own; none where the shape does not fit the elements.
    #[must_use]
    pub fn rows_of(&self, range: std::ops::Range<usize>) -> Option<Self> {
        let width = self.row_len();
        let elements = range.start.checked_mul(width)?..range.end.checked_mul(width)?;
        let mut shape = self.shape.clone();
        *shape.first_mut()? = range.len();
        Some(Self { name: self.name.clone(), shape, data: self.data.slice(elements)? })
    }
}

impl TensorSpec {
    /// Can a tensor of this type and shape be given here?
    #[must_use]
    pub fn takes(&self, data_type: DataType, shape: &[usize]) -> bool {
        let fits = |(want, have): (&i64, &usize)| *want < 0 || usize::try_from(*want).is_ok_and(|want| want == *have);
        self.data_type == data_type && self.shape.len() == shape.len() && self.shape.iter().zip(shape).all(fits)
    }

    /// Type and shape, for a message: `FP32[-1,7]`.
    #[must_use]
    pub fn describe(&self) -> String {
        let axes: Vec<String> = self.shape.iter().map(i64::to_string).collect();
        format!("{}[{}]", self.data_type.name(), axes.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_cut_and_joined() {
        let whole = Tensor { name: "x".to_owned(), shape: vec![3, 2], data: Data::Int32(vec![1, 2, 3, 4, 5, 6]) };
        let mut head = whole.rows_of(0..1).unwrap();
        let tail = whole.rows_of(1..3).unwrap();
        assert_eq!((head.shape.as_slice(), tail.shape.as_slice()), ([1, 2].as_slice(), [2, 2].as_slice()));
        assert!(head.data.append(&tail.data));
        assert_eq!(head.data, whole.data);
        assert!(!head.data.append(&Data::Fp32(vec![1.0])));
        assert!(whole.rows_of(2..4).is_none());
    }

    #[test]
    fn names_are_read_back_and_shapes_are_counted() {
        for data_type in DataType::ALL {
            assert_eq!(DataType::from_name(data_type.name()), Some(data_type));
        }
        assert_eq!(DataType::from_name("BF16"), None);
        assert_eq!(element_count(&[]), Some(1));
        assert_eq!(element_count(&[2, 0, 3]), Some(0));
        assert_eq!(element_count(&[usize::MAX, 2]), None);
        assert_eq!(element_count(&[usize::MAX, 2, 0]), None);
    }

    #[test]
    fn a_spec_takes_what_its_open_axes_allow() {
        let spec = TensorSpec { name: "x".to_owned(), data_type: DataType::Fp32, shape: vec![-1, 7] };
        assert!(spec.takes(DataType::Fp32, &[5, 7]));
        assert!(!spec.takes(DataType::Fp64, &[5, 7]));
        assert!(!spec.takes(DataType::Fp32, &[5, 6]));
        assert!(!spec.takes(DataType::Fp32, &[7]));
        assert_eq!(spec.describe(), "FP32[-1,7]");
    }
}
