//! ONNX Runtime for the tests of this kernel: what it answers is right.

use std::sync::OnceLock;

use ort::environment::Environment;
use ort::session::Session;
use ort::value::TensorRef;

/// The process's one environment; the tests of this library make no other.
fn environment() -> &'static Environment {
    static ENVIRONMENT: OnceLock<Environment> = OnceLock::new();
    ENVIRONMENT.get_or_init(|| {
        #[expect(clippy::disallowed_methods, reason = "tests have no configuration of their own")]
        let library = std::env::var_os("ORT_DYLIB_PATH");
        let library = library.expect("ORT_DYLIB_PATH is not set: run script/test, or source script/env.sh first");
        ort::init_from(library).unwrap().with_telemetry(false).build().unwrap()
    })
}

/// A model in ONNX Runtime, set up as the engine does.
pub(super) struct Oracle {
    session: Session,
    input: String,
    output: String,
    width: usize,
}

impl Oracle {
    pub(super) fn open(model: &[u8], output: &str, width: usize) -> ort::Result<Self> {
        let session = Session::builder(environment())?
            .with_intra_threads(1)?
            .with_inter_threads(1)?
            .with_intra_op_spinning(false)?
            .commit_from_memory(model)?;
        let input = session.inputs().first().unwrap().name().to_owned();
        Ok(Self { session, input, output: output.to_owned(), width })
    }

    pub(super) fn run(&mut self, features: &[f32]) -> Vec<f32> {
        let rows = features.len() / self.width;
        let tensor = TensorRef::from_array_view(([rows, self.width], features)).unwrap();
        let outputs = self.session.run(ort::inputs![self.input.as_str() => tensor]).unwrap();
        outputs.get(&self.output).unwrap().try_extract_tensor::<f32>().unwrap().1.to_vec()
    }
}
