//! The protocol over models that are a few lines of Rust: what goes in, what comes out, what is refused.

mod doors;
mod fake;
mod framing;
mod hostile;
