//! What `lab compare` shows: tables for eyes, JSON and CSV for programs, charts and one page for both.

pub(crate) mod charts;
pub(crate) mod files;
pub(crate) mod html;
pub(crate) mod png;
pub(crate) mod svg;
pub(crate) mod tables;
