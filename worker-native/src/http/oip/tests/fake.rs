//! Models without a file: Triton's `simple`, `simple_string` and `simple_identity`, and some of our own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use axum::Router;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::super::engine::{Batch, IndexEntry, Missing, Models, Refused, Stats, Tally, Times, Version};
use super::super::{ApiError, Oip, health_router, router};
use crate::config::{Config, Source};
use crate::engine::PoolError;
use crate::engine::tensor::{Data, DataType, Signature, Tensor, TensorSpec};

pub(super) type Run = fn(&[Tensor]) -> Result<Vec<Tensor>, PoolError>;

#[derive(Debug)]
pub(super) struct FakeModel {
    signature: Arc<Signature>,
    run: Run,
    loaded: AtomicBool,
    rows: AtomicU64,
}

#[derive(Debug, Default)]
pub(super) struct Fake {
    models: BTreeMap<&'static str, Arc<FakeModel>>,
    draining: bool,
}

pub(super) fn spec(name: &str, data_type: DataType, shape: &[i64]) -> TensorSpec {
    TensorSpec { name: name.to_owned(), data_type, shape: shape.to_vec() }
}

pub(super) fn signature(inputs: &[TensorSpec], outputs: &[TensorSpec], max_batch: usize) -> Signature {
    Signature { inputs: inputs.to_vec(), outputs: outputs.to_vec(), max_batch, platform: "onnxruntime_onnx" }
}

/// Two inputs and two outputs of one type, as Triton's example models have them.
pub(super) fn simple(data_type: DataType) -> Signature {
    let pair = |a, b| [spec(a, data_type, &[-1, 16]), spec(b, data_type, &[-1, 16])];
    signature(&pair("INPUT0", "INPUT1"), &pair("OUTPUT0", "OUTPUT1"), 8)
}

/// One input of each type, and the same as outputs.
pub(super) fn every_type() -> Signature {
    let specs: Vec<_> = DataType::ALL.iter().map(|one| spec(one.name(), *one, &[-1, -1])).collect();
    signature(&specs, &specs, 0)
}

fn identity(inputs: &[Tensor]) -> Result<Vec<Tensor>, PoolError> {
    Ok(inputs.iter().map(|one| Tensor { name: one.name.replace("INPUT", "OUTPUT"), ..one.clone() }).collect())
}

fn add_and_subtract(inputs: &[Tensor]) -> Result<Vec<Tensor>, PoolError> {
    let numbers = |data: &Data| -> Vec<i32> {
        match data {
            Data::Int32(values) => values.clone(),
            Data::Bytes(texts) => {
                texts.iter().map(|text| std::str::from_utf8(text).unwrap().parse().unwrap()).collect()
            }
            other => panic!("{other:?}"),
        }
    };
    let [a, b] = inputs else { panic!("{inputs:?}") };
    let pairs = || numbers(&a.data).into_iter().zip(numbers(&b.data));
    let output = |name: &str, values: Vec<i32>| {
        let data = match &a.data {
            Data::Bytes(_) => Data::Bytes(values.iter().map(|value| value.to_string().into_bytes()).collect()),
            _ => Data::Int32(values),
        };
        Tensor { name: name.to_owned(), shape: a.shape.clone(), data }
    };
    Ok(vec![
        output("OUTPUT0", pairs().map(|(a, b)| a + b).collect()),
        output("OUTPUT1", pairs().map(|(a, b)| a - b).collect()),
    ])
}

fn refuses(_: &[Tensor]) -> Result<Vec<Tensor>, PoolError> {
    Err(PoolError::Failed("a node of the graph failed".to_owned()))
}

/// Marks the model that never answers.
fn never(_: &[Tensor]) -> Result<Vec<Tensor>, PoolError> {
    Err(PoolError::Closed)
}

impl Fake {
    pub(super) fn new() -> Self {
        Self::draining(false)
    }

    pub(super) fn draining(draining: bool) -> Self {
        let mut fake = Self { draining, ..Self::default() };
        fake.add("simple", simple(DataType::Int32), add_and_subtract);
        fake.add("simple_string", simple(DataType::Bytes), add_and_subtract);
        let texts = [spec("INPUT0", DataType::Bytes, &[-1, 16])];
        fake.add("simple_identity", signature(&texts, &[spec("OUTPUT0", DataType::Bytes, &[-1, 16])], 8), identity);
        fake.add("every type", every_type(), identity);
        let floats = [spec("x", DataType::Fp32, &[-1, 2, -1])];
        fake.add("floats", signature(&floats, &floats, 4), identity);
        fake.add("fails", signature(&floats, &floats, 4), refuses);
        fake.add("slow", signature(&floats, &floats, 4), never);
        fake
    }

    fn add(&mut self, name: &'static str, signature: Signature, run: Run) {
        let (loaded, rows) = (AtomicBool::new(true), AtomicU64::new(0));
        self.models.insert(name, Arc::new(FakeModel { signature: Arc::new(signature), run, loaded, rows }));
    }

    fn set_loaded(&self, name: &str, loaded: bool) -> Result<(), Refused> {
        if name == "fails" {
            return Err(Refused::Failed("its file was changed".to_owned()));
        }
        let model = self.models.get(name).ok_or_else(|| Refused::Unknown("there is no such model".to_owned()))?;
        model.loaded.store(loaded, Ordering::Relaxed);
        Ok(())
    }
}

impl Models for Fake {
    fn ready(&self) -> bool {
        !self.draining
    }

    fn find(&self, name: &str, version: Option<u32>) -> Result<Arc<dyn Version>, Missing> {
        if name == "twice" {
            return Err(Missing::Ambiguous(vec!["a.twice".to_owned(), "b.twice".to_owned()]));
        }
        let model = self.models.get(name).filter(|_| version.is_none_or(|version| version == 1));
        model.map(|model| Arc::clone(model) as Arc<dyn Version>).ok_or(Missing::Unknown)
    }

    fn versions(&self, name: &str) -> Vec<u32> {
        self.models.get(name).map(|_| 1).into_iter().collect()
    }

    fn index(&self) -> Vec<IndexEntry> {
        let entry = |(name, model): (&&'static str, &Arc<FakeModel>)| {
            let loaded = model.loaded.load(Ordering::Relaxed);
            let (state, reason) = if loaded { ("READY", "") } else { ("UNAVAILABLE", "unloaded") };
            IndexEntry { name: (*name).to_owned(), version: "1".to_owned(), state, reason: reason.to_owned() }
        };
        self.models.iter().map(entry).collect()
    }

    fn load<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), Refused>> {
        std::future::ready(self.set_loaded(name, true)).boxed()
    }

    fn unload<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), Refused>> {
        std::future::ready(self.set_loaded(name, false)).boxed()
    }
}

impl Version for FakeModel {
    fn number(&self) -> u32 {
        1
    }

    fn ready(&self) -> bool {
        self.loaded.load(Ordering::Relaxed)
    }

    fn signature(&self) -> BoxFuture<'_, Result<Arc<Signature>, PoolError>> {
        let signature = self.ready().then(|| Arc::clone(&self.signature));
        std::future::ready(signature.ok_or(PoolError::Closed)).boxed()
    }

    fn infer(&self, inputs: Vec<Tensor>, _: Option<Instant>) -> BoxFuture<'_, Result<Vec<Tensor>, PoolError>> {
        if std::ptr::fn_addr_eq(self.run, never as Run) {
            return std::future::pending().boxed();
        }
        let rows = inputs.first().map_or(0, Tensor::rows);
        self.rows.fetch_add(u64::try_from(rows).unwrap(), Ordering::Relaxed);
        std::future::ready((self.run)(&inputs)).boxed()
    }

    fn stats(&self) -> Stats {
        let rows = self.rows.load(Ordering::Relaxed);
        let tally = Tally { count: rows, ns: 1_000 * rows };
        let times = Times { success: tally, compute_infer: tally, ..Times::default() };
        let batches = vec![Batch { size: 1, infer: tally }];
        Stats { last_inference_ms: 1_720_000_000_000, inference_count: rows, execution_count: rows, times, batches }
    }
}

pub(super) fn oip(models: Fake, settings: &[(&str, &str)]) -> Oip {
    let env = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Oip::new(Box::new(models), &Config::read(Source::new(env, None).unwrap()).unwrap())
}

/// The whole router over the fake models, with the rim's error documents.
pub(super) fn app(settings: &[(&str, &str)]) -> Router {
    app_of(Fake::new(), settings)
}

pub(super) fn app_of(models: Fake, settings: &[(&str, &str)]) -> Router {
    let oip = oip(models, settings);
    router::<()>(oip.clone()).merge(health_router(oip)).layer(axum::middleware::from_fn(problems))
}

async fn problems(request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let mut response = next.run(request).await;
    if let Some(error) = response.extensions_mut().remove::<ApiError>() {
        crate::http::rim::write_problem(&mut response, &error, &path, "r1");
    }
    response
}
