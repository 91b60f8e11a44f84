//! ONNX files as data: what is in them, without running them.
//!
//! Owns the format's messages (`proto`) and careful reading of them (`graph`). Running a model is `engine`'s.

pub mod graph;
#[expect(missing_docs, reason = "names and meanings of the fields are those of onnx.proto, which documents each")]
pub mod proto;
