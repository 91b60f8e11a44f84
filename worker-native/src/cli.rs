//! The command line: `infer-router serve | load | dlq | models`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Parser, Subcommand};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{Config, Source};
use crate::{dlq, load, models_cli, serve, telemetry};

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
    /// Look at model files, make slow ones fast, check the model repository.
    Models(models_cli::ModelsArgs),
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
    /// Check and print every setting with its value, origin and purpose, then stop.
    #[arg(long)]
    print_config: bool,
    /// With --print-config: JSON instead of a table.
    #[arg(long, requires = "print_config")]
    json: bool,
}

/// Parses the command line and runs it to its end.
///
/// # Errors
/// What went wrong, for a person at a terminal.
pub async fn run() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Serve(args) => run_serve(args).await,
        Command::Load(args) => load::run(*args).await,
        Command::Dlq(args) => dlq::run(*args).await,
        Command::Models(args) => models_cli::run(args, model_defaults()).await,
    }
}

async fn run_serve(args: ServeArgs) -> anyhow::Result<()> {
    let config = Config::read(source(&args)?)?;
    if args.print_config {
        return print_config(&config, args.json);
    }
    telemetry::start(&config.log)?;
    let shutdown = CancellationToken::new();
    let signals = TaskTracker::new();
    serve::on_signal(&signals, shutdown.clone())?;
    serve::serve(config, shutdown).await
}

fn source(args: &ServeArgs) -> anyhow::Result<Source> {
    let mut env: BTreeMap<String, String> =
        environment().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect();
    if let Some(role) = &args.role {
        env.insert("ROLE".to_owned(), role.clone());
    }
    let default = PathBuf::from("infer-router.toml");
    let path = match &args.config {
        Some(path) => Some(path.clone()),
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
