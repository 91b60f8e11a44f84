//! The settings of the model repository and of how its models run.

use std::path::PathBuf;
use std::time::Duration;

use super::source::Reader;
use super::{millis, to_u32, to_usize};
use crate::rollout::CanarySetting;

/// Where models lie and how they are run.
#[derive(Debug, Clone)]
pub struct ModelsConfig {
    /// The model repository.
    pub dir: PathBuf,
    /// The ONNX Runtime library; empty: searched for.
    pub onnxruntime: Option<PathBuf>,
    /// The task of a body that names none and fits several.
    pub default_task: Option<String>,
    /// The version that answers of every model that has it, instead of its own default.
    pub default_version: Option<u32>,
    /// Load every version at start; else each on its first use.
    pub load_all: bool,
    /// With `load_all` off: a version nobody asked for this long leaves memory.
    pub idle: Option<Duration>,
    /// How often the repository is looked at for changes.
    pub poll: Option<Duration>,
    /// A run that takes longer is interrupted.
    pub max_run: Duration,
    /// A version that gets part of the traffic, of models without a plan of their own.
    pub canary: CanarySetting,
    /// Sessions for each model version.
    pub sessions: usize,
    /// Most readings in one run; less where the timing at warm-up finds no gain in more.
    pub max_batch: usize,
    /// Readings that may wait for one model; beyond it 503.
    pub max_waiting: usize,
}

pub(super) fn read(read: &mut Reader) -> ModelsConfig {
    ModelsConfig {
        dir: PathBuf::from(read.text("MODEL_DIR", "models", "the model repository")),
        onnxruntime: read
            .optional("ORT_DYLIB_PATH", "the ONNX Runtime library; searched for where not set")
            .map(PathBuf::from),
        default_task: read.optional("DEFAULT_TASK", "the task of a reading that names none and fits several, or none"),
        default_version: read
            .optional_number(
                "DEFAULT_MODEL_VERSION",
                1..=u64::from(u32::MAX),
                "the version that answers, of every model that has it",
            )
            .map(to_u32),
        canary: canary(read),
        load_all: read.flag(
            "LOAD_ALL_MODELS",
            true,
            "load every model version at start; false loads each on its first use, as ROLE=api always does",
        ),
        idle: some_millis(
            read.number(
                "MODEL_IDLE_SECONDS",
                0,
                0..=31_536_000,
                "with LOAD_ALL_MODELS=false: a version nobody asked for this long leaves memory; 0 keeps it",
            ) * 1_000,
        ),
        poll: some_millis(read.number(
            "MODEL_POLL_MS",
            5_000,
            0..=86_400_000,
            "how often MODEL_DIR is looked at for new and changed models; 0 never",
        )),
        max_run: millis(read.number(
            "MODEL_MAX_RUN_MS",
            10_000,
            10..=3_600_000,
            "a model's run that takes longer is interrupted",
        )),
        sessions: to_usize(read.number(
            "MODEL_SESSIONS",
            cores(),
            1..=256,
            "sessions for each model version (default: one a core)",
        )),
        max_batch: to_usize(read.number(
            "BATCH_MAX_SIZE",
            256,
            1..=1_024,
            "most readings in one run of a model; less where more gains nothing",
        )),
        max_waiting: to_usize(read.number(
            "MODEL_MAX_WAITING",
            4_096,
            1..=1_000_000,
            "readings that may wait for one model; beyond it 503",
        )),
    }
}

fn canary(read: &mut Reader) -> CanarySetting {
    let version = read.text(
        "CANARY_VERSION",
        "",
        "a version on trial: 2 for every model that has it, or task/model=2, several with commas",
    );
    let percent = read.number("CANARY_PERCENT", 10, 0..=100, "the canary's part of the traffic that names no version");
    CanarySetting::read(&version, to_f64(percent)).unwrap_or_else(|faults| {
        faults.iter().for_each(|fault| read.fault(fault));
        CanarySetting::default()
    })
}

fn cores() -> u64 {
    std::thread::available_parallelism().map_or(1, |n| u64::try_from(n.get()).unwrap_or(1)).min(4)
}

const fn some_millis(value: u64) -> Option<Duration> {
    if value == 0 { None } else { Some(millis(value)) }
}

#[expect(clippy::cast_precision_loss, reason = "a percentage")]
const fn to_f64(value: u64) -> f64 {
    value as f64
}
