//! ONNX files as data: what is in them, without running them.
//!
//! Owns the format's messages (`proto`), careful reading of them (`graph`), rewrites of slow exports (`rewrite`) and
//! the comparison of a rewritten model with its original (`oracle`). Serving a model is `engine`'s.

pub mod graph;
pub(crate) mod oracle;
#[expect(missing_docs, reason = "names and meanings of the fields are those of onnx.proto, which documents each")]
pub mod proto;
pub mod rewrite;
