//! `infer-router models optimize`: rewrite, prove, measure, write.
//!
//! Owns that order: a file is written only when the rewritten model has answered like the original on every row, and
//! the input is never touched unless asked.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use prost::Message as _;
use serde::Serialize;

use super::bench::{self, Cost};
use super::parity::{self, Parity, TOLERANCE, Worst};
use super::rows::{Rows, Wishes, parse_range};
use super::{print, read, table};
use crate::onnx::oracle::{Loaded, Oracle};
use crate::onnx::proto::ModelProto;
use crate::onnx::proto::tensor_proto::data_location;
use crate::onnx::rewrite::{self, Distances, Done};

/// Rows that runs rotate through while they are timed, and values in them at most.
const TIMED_ROWS: usize = 16_384;
const TIMED_VALUES: usize = 8 << 20;

/// Arguments of `models optimize`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Rewrites: isolation forests of one node per tree into one ensemble; distance loops (LOF, \
    neighbours) into CDist; ZipMap into a plain tensor; Reshape(-1, 1) behind several outputs into [rows, outputs]; \
    nodes that do nothing. What is not understood stays as it is.\n\n\
    Examples:\n  infer-router models optimize forest.onnx\n  \
    infer-router models optimize forest.onnx -o models/pump/forest/1/model.onnx --rows held_out.csv")]
pub(super) struct OptimizeArgs {
    /// The model.
    file: PathBuf,
    /// Where to write [default: FILE with .optimized.onnx].
    #[arg(short, long, value_name = "FILE", conflicts_with = "in_place")]
    out: Option<PathBuf>,
    /// Replace FILE itself.
    #[arg(long)]
    in_place: bool,
    /// Rows to compare on as well: CSV with a header line, or JSON (a list of lists, or that under "inputs").
    #[arg(long, value_name = "FILE")]
    rows: Option<PathBuf>,
    /// How many rows to make up and compare on.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1_000..=1_000_000))]
    random: u32,
    /// Seed of the made rows.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Made values lie in LOW:HIGH; once for all columns or once for each [default: where the model's numbers lie].
    #[arg(long, value_name = "LOW:HIGH", value_parser = parse_range, allow_hyphen_values = true)]
    range: Vec<(f64, f64)>,
    /// Do not measure.
    #[arg(long)]
    no_bench: bool,
    /// The ONNX Runtime library [default: ORT_DYLIB_PATH].
    #[arg(long, value_name = "FILE")]
    onnxruntime: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    file: String,
    written: Option<String>,
    rewrites: Done,
    /// What took the place of loops over distances, where there were any.
    distances: Option<Distances>,
    parity: Option<Parity>,
    before: Option<Cost>,
    after: Option<Cost>,
}

/// Runs the command.
///
/// # Errors
/// A file that cannot be used, and answers that differ: then nothing was written.
pub(super) fn run(args: &OptimizeArgs, library: Option<&Path>) -> Result<()> {
    let out = target(args)?;
    let (bytes, model) = read(&args.file)?;
    refuse_parts(&model)?;
    let mut attempt = Attempt::new(args, &model, Distances::CDist);
    if attempt.report.rewrites.anything() {
        let oracle = Oracle::open(args.onnxruntime.as_deref().or(library)).map_err(|error| anyhow!(error))?;
        let prove = |attempt: &mut Attempt| {
            let proven = attempt.prove(args, &oracle, (&bytes, &model));
            proven.with_context(|| format!("{} was not rewritten", args.file.display()))
        };
        prove(&mut attempt)?;
        // The way to compute distances may be what makes them differ: there is an exact one, and there is the loop.
        for form in [Distances::Exact, Distances::Loop] {
            if attempt.worst().is_none() || attempt.report.rewrites.distances == 0 {
                break;
            }
            attempt = Attempt::new(args, &model, form);
            if attempt.report.rewrites.anything() {
                prove(&mut attempt)?;
            }
        }
    }
    let Attempt { bytes, mut report } = attempt;
    let worst = report.parity.as_ref().and_then(|parity| parity.worst.clone());
    if report.rewrites.anything() && worst.is_none() {
        write(&out, &bytes).with_context(|| format!("cannot write {}", out.display()))?;
        report.written = Some(out.display().to_string());
    }
    print(&if args.json { serde_json::to_string_pretty(&report)? } else { words(&report) })?;
    match worst {
        None => Ok(()),
        Some(worst) => bail!(
            "nothing was written: the rewritten model answers differently. Worst is row {} of output {:?}: {} before, \
             {} after (tolerance {TOLERANCE})",
            worst.row,
            worst.output,
            worst.before,
            worst.after
        ),
    }
}

fn target(args: &OptimizeArgs) -> Result<PathBuf> {
    if args.in_place {
        return Ok(args.file.clone());
    }
    let out = args.out.clone().unwrap_or_else(|| args.file.with_extension("optimized.onnx"));
    let same = |path: &Path| path.canonicalize().ok();
    if same(&out).is_some_and(|out| Some(out) == same(&args.file)) {
        bail!("{} is the input itself; say --in-place to replace it", out.display());
    }
    Ok(out)
}

fn refuse_parts(model: &ModelProto) -> Result<()> {
    let tensors = model.graph.iter().flat_map(|graph| &graph.initializer);
    if tensors.into_iter().any(|tensor| tensor.data_location() == data_location::EXTERNAL) {
        bail!("the model keeps constants in other files (external data); save it as one file first");
    }
    Ok(())
}

/// One way to rewrite the model, and what came of it.
struct Attempt {
    bytes: Vec<u8>,
    report: Report,
}

impl Attempt {
    fn new(args: &OptimizeArgs, model: &ModelProto, distances: Distances) -> Self {
        let (rewritten, rewrites) = rewrite::optimize(model.clone(), distances);
        let file = args.file.display().to_string();
        let distances = (rewrites.distances > 0 || distances == Distances::Loop).then_some(distances);
        let report = Report { file, written: None, rewrites, distances, parity: None, before: None, after: None };
        Self { bytes: rewritten.encode_to_vec(), report }
    }

    fn worst(&self) -> Option<&Worst> {
        self.report.parity.as_ref().and_then(|parity| parity.worst.as_ref())
    }

    /// Runs both models side by side, and measures them unless told not to.
    fn prove(&mut self, args: &OptimizeArgs, oracle: &Oracle, (bytes, model): (&[u8], &ModelProto)) -> Result<()> {
        let original = |error: String| anyhow!("the original: {error}");
        let rewritten = |error: String| anyhow!("the rewritten model: {error}");
        // Once for nothing: the first session of a process also starts the library. If it fails, it does so below.
        drop(oracle.load(&self.bytes));
        let (mut old, old_load) = bench::load(oracle, bytes).map_err(original)?;
        let (mut new, new_load) = bench::load(oracle, &self.bytes).map_err(rewritten)?;
        let given = args.rows.as_deref().map(|path| Rows::read(path, old.inputs())).transpose()?.unwrap_or_default();
        let count = usize::try_from(args.random).unwrap_or(usize::MAX);
        let wishes = Wishes { count, seed: args.seed, ranges: &args.range };
        let mut rows = Rows::make(old.inputs(), model, &wishes, &given)?;
        rows.append(&given);
        let parity =
            parity::compare(&mut old, &mut new, &rows, &self.report.rewrites).map_err(|error| anyhow!(error))?;
        self.report.parity = Some(parity);
        if args.no_bench || self.worst().is_some() {
            return Ok(());
        }
        let width: usize = old.inputs().iter().map(|input| input.width).sum();
        let count = TIMED_VALUES.checked_div(width).unwrap_or(TIMED_ROWS).clamp(256, TIMED_ROWS);
        let rows = Rows::make(old.inputs(), model, &Wishes { count, ..wishes }, &given)?;
        let cost = |model: &mut Loaded, bytes: &[u8], load: Duration| -> Result<Cost> {
            let mut us = |batch| bench::run_us(model, &rows, batch).map_err(|error| anyhow!(error));
            let (batch_1_us, batch_256_us) = (us(1)?, us(256)?);
            Ok(Cost { file_bytes: bytes.len(), load_ms: load.as_secs_f64() * 1e3, batch_1_us, batch_256_us })
        };
        self.report.before = Some(cost(&mut old, bytes, old_load)?);
        self.report.after = Some(cost(&mut new, &self.bytes, new_load)?);
        Ok(())
    }
}

/// Writes beside the target and renames, so that a reader sees the old file or the new one, whole.
fn write(out: &Path, bytes: &[u8]) -> Result<()> {
    let name = out.file_name().context("it names no file")?.to_string_lossy().into_owned();
    let draft = out.with_file_name(format!(".{name}.{}.new", std::process::id()));
    let written = std::fs::File::create(&draft).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    let renamed = written.and_then(|()| std::fs::rename(&draft, out));
    if renamed.is_err()
        && let Err(error) = std::fs::remove_file(&draft)
    {
        tracing::debug!(%error, "the draft could not be removed");
    }
    Ok(renamed?)
}

fn words(report: &Report) -> String {
    if !report.rewrites.anything() {
        return match report.distances {
            Some(_) => "No rewrite of this model answers the same; no file was written.".to_owned(),
            None => "Nothing to rewrite; no file was written.".to_owned(),
        };
    }
    let mut lines = what_was_done(&report.rewrites, report.distances);
    if let Some(parity) = &report.parity {
        let (rows, largest) = (parity.rows, parity.largest_difference);
        lines.push(match &parity.worst {
            None if largest == 0.0 => format!("Both answer exactly the same on {rows} rows."),
            None => format!("Both answer the same on {rows} rows; the largest difference is {largest:.1e}."),
            Some(_) => format!("They differ on {rows} rows by up to {largest:.1e}."),
        });
    }
    if let (Some(before), Some(after)) = (&report.before, &report.after) {
        lines.push(costs(&report.rewrites, before, after));
    }
    lines.extend(report.written.as_ref().map(|path| format!("Written: {path}")));
    lines.join("\n")
}

fn what_was_done(done: &Done, distances: Option<Distances>) -> Vec<String> {
    let mut lines = Vec::new();
    if done.trees > 0 {
        lines.push(format!("{} trees became one ensemble.", done.trees));
    }
    let loops = done.distances;
    match distances {
        Some(Distances::CDist) => lines.push(format!("{loops} distance loop(s) became CDist (com.microsoft).")),
        Some(Distances::Exact) => lines.push(format!(
            "{loops} distance loop(s) became one subtraction of all pairs; with CDist, which is faster, answers differed."
        )),
        Some(Distances::Loop) => lines.push("The distance loop stays: nothing faster answered the same.".to_owned()),
        None => {}
    }
    for output in &done.unzipped {
        let classes = serde_json::to_string(&output.classes).unwrap_or_default();
        lines.push(format!("Output {:?} was a list of maps and is float [rows, classes]: {classes}.", output.output));
    }
    for output in &done.repaired {
        let (name, columns) = (&output.output, output.columns);
        lines.push(format!("Output {name:?} was [rows * {columns}, 1] and is [rows, {columns}]."));
    }
    if done.labels > 0 {
        lines.push(format!("{} label computation(s) became Where.", done.labels));
    }
    if done.signs > 0 {
        lines.push(format!("{} change(s) of sign went into the node beside them.", done.signs));
    }
    let cleaned = done.cleaned;
    if cleaned.identities + cleaned.casts + cleaned.dead > 0 {
        let (identities, casts, dead) = (cleaned.identities, cleaned.casts, cleaned.dead);
        lines.push(format!("Taken out: {identities} Identity, {casts} idle Cast, {dead} unused nodes."));
    }
    lines
}

fn costs(done: &Done, before: &Cost, after: &Cost) -> String {
    let mut table = table(&["", "before", "after", "times less"]);
    let mut row = |name: &str, pair: (Option<f64>, Option<f64>), unit: &str| {
        if let (Some(before), Some(after)) = pair {
            let number = |value: f64| if unit.is_empty() { format!("{value}") } else { format!("{value:.1} {unit}") };
            table.add_row([name, &number(before), &number(after), &format!("{:.1}", before / after.max(1e-9))]);
        }
    };
    #[expect(clippy::cast_precision_loss, reason = "counts of nodes and bytes stay far below 2^53")]
    let whole = |count: usize| Some(count as f64);
    row("nodes", (whole(done.nodes_before), whole(done.nodes_after)), "");
    row("load", (Some(before.load_ms), Some(after.load_ms)), "ms");
    row("run of 1 row", (before.batch_1_us, after.batch_1_us), "us");
    row("run of 256 rows", (before.batch_256_us, after.batch_256_us), "us");
    row("file, bytes", (whole(before.file_bytes), whole(after.file_bytes)), "");
    table.to_string()
}
