//! Infer Router's native service, in reading order: from the command line to the running parts.

pub mod cli;
pub mod serve;

pub mod admission;
pub mod app;
pub mod cache;
pub mod config;
pub mod telemetry;

pub mod decisions;
pub mod http;
pub mod learning;
pub mod rollout;
pub mod routing;

pub mod answering;
pub mod consumer;
pub mod engine;
pub mod generate;
pub mod onnx;
pub mod queue;
pub mod webhook;

mod client;
pub mod dlq;
pub mod doctor;
pub mod load;
pub mod models_cli;
pub mod why;

pub mod clock;
