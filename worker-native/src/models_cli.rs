//! `infer-router models optimize | inspect | validate`: what to do with a model file before it is served.
//!
//! Owns the commands' arguments and how they print. What a file means and how it is rewritten is `onnx`'s; what the
//! model repository means is `engine::repository`'s.

mod bench;
mod inspect;
mod optimize;
mod parity;
mod rows;
mod validate;

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Subcommand;

use crate::onnx::graph;
use crate::onnx::proto::ModelProto;

/// Looks at model files, makes them faster, checks the model repository.
#[derive(Debug, clap::Args)]
pub struct ModelsArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Rewrite a slow export, prove that it answers the same, and write it.
    Optimize(Box<optimize::OptimizeArgs>),
    /// Say what is in a model file and what would make it better; runs nothing.
    Inspect(inspect::InspectArgs),
    /// Check the model repository; every fault with its file and key.
    Validate(validate::ValidateArgs),
}

/// What the environment says, for those who give no option.
#[derive(Debug, Default)]
pub struct Defaults {
    /// The ONNX Runtime library (`ORT_DYLIB_PATH`); none: searched for.
    pub onnxruntime: Option<PathBuf>,
    /// The model repository (`MODEL_DIR`).
    pub model_dir: Option<PathBuf>,
}

/// Runs one of the commands to its end.
///
/// # Errors
/// What went wrong, for a person at a terminal; also when a model or the repository was found wanting.
pub async fn run(args: ModelsArgs, defaults: Defaults) -> Result<()> {
    match args.command {
        // The two below block; nothing else runs in this process.
        Command::Optimize(args) => optimize::run(&args, defaults.onnxruntime.as_deref()),
        Command::Inspect(args) => inspect::run(&args),
        Command::Validate(args) => validate::run(args, defaults).await,
    }
}

/// What the protobuf format can hold; more is no ONNX file.
const LARGEST_FILE: usize = 2 << 30;

/// Reads a model file.
fn read(path: &Path) -> Result<(Vec<u8>, ModelProto)> {
    let size = std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?.len();
    if size > u64::try_from(LARGEST_FILE).unwrap_or(u64::MAX) {
        bail!("{} has {size} bytes; a model in one file has at most {LARGEST_FILE}", path.display());
    }
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let model = graph::decode(&bytes, LARGEST_FILE).with_context(|| format!("cannot use {}", path.display()))?;
    Ok((bytes, model))
}

/// Prints to whoever reads standard output; that it has gone away is no fault.
pub(crate) fn print(text: &str) -> Result<()> {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// An empty table in the house's style.
fn table(header: &[&str]) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::UTF8_FULL_CONDENSED);
    table.set_content_arrangement(comfy_table::ContentArrangement::Dynamic);
    table.set_header(header);
    table
}
