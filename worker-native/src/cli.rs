//! The command line: `infer-router serve | load | dlq | why | models | doctor`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{Config, Source};
use crate::{dlq, doctor, load, models_cli, serve, telemetry, why};

#[derive(Debug, Parser)]
#[command(
    name = "infer-router",
    version,
    about = "Sends every sensor reading to the best model that can still answer in time"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the native service: HTTP API, queue consumers, models.
    Serve(ServeArgs),
    /// Replay real readings from a CSV file to the edge and report what came back.
    Load(Box<load::LoadArgs>),
    /// Look at jobs that were given up, hand them in again, drop them.
    Dlq(Box<dlq::DlqArgs>),
    /// Tell why a reading got its tier: the numbers behind a decision, in words and figures.
    Why(why::WhyArgs),
    /// Look at model files, make slow ones fast, check the model repository.
    Models(models_cli::ModelsArgs),
    /// Check Redis (or the queue's file) and the models, and say what to change.
    Doctor(DoctorArgs),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Settings come from the environment and from a TOML file (the same names in lower case).\n\
                  `--print-config` lists them all with what they are for; docs/configuration.md explains them.\n\n\
                  Examples:\n  infer-router serve\n  REDIS_URL=redis://127.0.0.1:6379 API_PORT=9000 infer-router serve\n  \
                  infer-router serve --role worker --config /etc/infer-router.toml\n  infer-router serve --print-config --json")]
struct ServeArgs {
    /// The settings file; without it ./infer-router.toml is read if it is there.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Which parts this process runs: all, api or worker (wins over ROLE).
    #[arg(long)]
    role: Option<String>,
    /// Start also with a Redis that would lose jobs: one that evicts, keeps nothing, is a replica (wins over ACCEPT_LOSS).
    #[arg(long)]
    accept_loss: bool,
    /// Check and print every setting with its value, origin and purpose, then stop.
    #[arg(long)]
    print_config: bool,
    /// With --print-config: JSON instead of a table.
    #[arg(long, requires = "print_config")]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "It looks at what `serve` would use with the same settings, and changes nothing. It may run beside a service.\n\n\
                  Exit code: 0 no fault, 1 at least one fault, 2 wrong arguments or settings.\n\n\
                  Examples:\n  infer-router doctor\n  REDIS_URL=redis://127.0.0.1:6379 infer-router doctor --json --no-models"
)]
struct DoctorArgs {
    /// The settings file; without it ./infer-router.toml is read if it is there.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Leave the models out; loading them all takes seconds.
    #[arg(long)]
    no_models: bool,
}

/// Parses the command line and runs it to its end; gives the exit code.
///
/// # Errors
/// What went wrong, for a person at a terminal.
pub async fn run() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Command::Serve(args) => run_serve(args).await?,
        Command::Load(args) => load::run(*args).await?,
        Command::Dlq(args) => dlq::run(*args).await?,
        Command::Why(args) => why::run(args).await?,
        Command::Models(args) => models_cli::run(args, model_defaults()).await?,
        Command::Doctor(args) => return run_doctor(&args).await,
    }
    Ok(ExitCode::SUCCESS)
}

/// A command was given settings it cannot use; its other failures have another exit code.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct UsageError(anyhow::Error);

async fn run_doctor(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let settings = source(args.config.as_deref(), []).and_then(|source| Ok(Config::read(source)?));
    let config = settings.map_err(UsageError)?;
    let (report, healthy) = doctor::examine(&config, doctor::Wish { json: args.json, models: !args.no_models }).await?;
    models_cli::print(&report)?;
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn run_serve(args: ServeArgs) -> anyhow::Result<()> {
    let accept_loss = args.accept_loss.then(|| "true".to_owned());
    let options = [("ROLE", args.role.clone()), ("ACCEPT_LOSS", accept_loss)];
    let config = Config::read(source(args.config.as_deref(), options)?)?;
    if args.print_config {
        return print_config(&config, args.json);
    }
    telemetry::start(&config.log)?;
    let shutdown = CancellationToken::new();
    let signals = TaskTracker::new();
    serve::on_signal(&signals, shutdown.clone())?;
    serve::serve(config, shutdown).await
}

/// Where settings come from: options of the command line, the environment, the file.
fn source<const N: usize>(config: Option<&Path>, options: [(&str, Option<String>); N]) -> anyhow::Result<Source> {
    let mut env: BTreeMap<String, String> =
        environment().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect();
    for (name, value) in options {
        if let Some(value) = value {
            env.insert(name.to_owned(), value);
        }
    }
    let default = PathBuf::from("infer-router.toml");
    let path = match config {
        Some(path) => Some(path.to_owned()),
        None => default.is_file().then_some(default),
    };
    let file = match path {
        Some(path) => {
            let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            Some((path, text))
        }
        None => None,
    };
    Ok(Source::new(env, file)?)
}

fn model_defaults() -> models_cli::Defaults {
    let path = |wanted: &str| {
        let found = environment().find(|(name, value)| name == wanted && !value.is_empty());
        found.map(|(_, value)| PathBuf::from(value))
    };
    models_cli::Defaults { onnxruntime: path("ORT_DYLIB_PATH"), model_dir: path("MODEL_DIR") }
}

/// The one place where the environment enters the configuration.
#[expect(clippy::disallowed_methods, reason = "the one place where the environment enters the configuration")]
fn environment() -> std::env::VarsOs {
    std::env::vars_os()
}

fn print_config(config: &Config, json: bool) -> anyhow::Result<()> {
    let text = if json {
        serde_json::to_string_pretty(&config.settings)?
    } else {
        let mut table = comfy_table::Table::new();
        table.load_preset(comfy_table::presets::UTF8_FULL_CONDENSED);
        table.set_content_arrangement(comfy_table::ContentArrangement::Dynamic);
        table.set_header(["setting", "value", "from", "what it is for"]);
        for setting in &config.settings {
            table.add_row([setting.name, &setting.value, setting.origin, setting.help]);
        }
        table.to_string()
    };
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}
