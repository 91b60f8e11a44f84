//! Infer Router's native service, in reading order: from the command line to the running parts.

pub mod cli;
pub mod serve;

pub mod app;
pub mod config;
pub mod telemetry;

pub mod http;
pub mod routing;

pub mod consumer;
pub mod engine;
pub mod generate;
pub mod queue;

pub mod load;

mod clock;
