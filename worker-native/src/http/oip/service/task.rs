//! A task under its own name: readings as rows of a tensor, each answered by the model that the policy chooses.

use std::sync::Arc;
use std::time::Instant;

use axum::http::HeaderMap;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use shared::catalog::{Catalog, CatalogTask};
use shared::reading::{Input, Priority, Request};

use super::super::engine::{Stats, Version};
use crate::answering::{self, Asked};
use crate::app::App;
use crate::clock::now_ms;
use crate::decisions::Case;
use crate::engine::index::Index;
use crate::engine::tensor::{Data, DataType, Signature, Tensor, TensorSpec};
use crate::engine::{Answer, PoolError, Prediction};
use crate::http::shed;
use crate::routing::{Advice, NoVersion, choose};

/// Rows of one request that are under way at once; the engine makes batches of them.
const AT_ONCE: usize = 256;
/// Most rows of one request.
const MOST_ROWS: usize = 4_096;

/// A task that takes readings.
#[derive(Debug)]
pub(super) struct Routed {
    app: App,
    catalog: Arc<Catalog>,
    task: String,
}

impl Routed {
    /// The task of that name, where it takes readings.
    pub(super) fn find(app: &App, index: &Index, name: &str) -> Option<Self> {
        let task = index.catalog.task(name)?.schema.name.clone();
        Some(Self { app: app.clone(), catalog: Arc::clone(&index.catalog), task })
    }

    fn task(&self) -> Result<&CatalogTask, PoolError> {
        let gone = || PoolError::Unavailable(format!("task `{}` is not served any more", self.task));
        self.catalog.task(&self.task).ok_or_else(gone)
    }

    fn signature_of(task: &CatalogTask) -> Signature {
        let spec =
            |name: &str, data_type, axes: &[i64]| TensorSpec { name: name.to_owned(), data_type, shape: axes.to_vec() };
        let input = if task.schema.text_field().is_some() {
            spec("text", DataType::Bytes, &[-1, 1])
        } else {
            spec("features", DataType::Fp32, &[-1, i64::try_from(task.schema.width()).unwrap_or(-1)])
        };
        let outputs = vec![
            spec("prediction", DataType::Bytes, &[-1, 1]),
            spec("score", DataType::Fp32, &[-1, 1]),
            spec("model", DataType::Bytes, &[-1, 1]),
        ];
        Signature { inputs: vec![input], outputs, max_batch: MOST_ROWS, platform: "infer_router" }
    }

    /// One row: a version is chosen for it, and answers.
    async fn row(&self, input: Input, deadline: Option<Instant>) -> Result<(Answer, String), PoolError> {
        let task = self.task()?;
        let request = Request {
            task,
            sensor_id: None,
            timestamp: None,
            model_name: None,
            model_type: None,
            model_version: None,
            strict: false,
            deadline_ms: None,
            min_accuracy: None,
            priority: None,
            callback_url: None,
            input,
        };
        let id = uuid::Uuid::now_v7().simple().to_string();
        let (app, advice) = (&self.app, Advice::from_headers(&HeaderMap::new()));
        let (in_force, started, at) = (app.policies.of(&self.task), Instant::now(), now_ms());
        let mut routed = choose(&app.engine.index(), &app.snapshots, &in_force.policy, (&request, &id), &advice)
            .map_err(|none| match none {
                NoVersion::Unknown(text) | NoVersion::Unavailable(text) => PoolError::Unavailable(text),
            })?;
        routed.weighed.policy_version = in_force.version;
        if let Some(error) = shed::call(app, (&request, &id), &routed, started) {
            return Err(error);
        }
        app.planner.routed(task, (None, Priority::Normal), (&routed.decision, &advice), app.config.role.consumes());
        let decision = &routed.decision;
        app.metrics.decision(&self.task, decision.tier.as_deref(), &decision.reason, false);
        let counted = app.snapshots.begin_synchronous(&self.task, &routed.lane);
        let asked = Asked {
            version: &routed.version,
            assignment: &routed.assignment,
            rollout: &routed.rollout,
            input: &request.input,
            deadline,
            request_id: &id,
            job_id: None,
            sensor_id: None,
            decision: Some(&routed.decision),
            binding: routed.binding,
            class: Priority::Normal,
            awaited: false,
        };
        let given = answering::answer(app, asked).await;
        drop(counted);
        routed.took(given.as_ref().ok());
        let by = given.as_ref().map(|given| &*given.card);
        app.decisions.tell(Case::of_call((&id, &self.task), &routed, by, (at, started.elapsed())));
        let given = given?;
        Ok((given.answer, format!("{}.{} v{}", given.card.task, given.card.model, given.card.version)))
    }

    /// The rows of the one input; each number within the field's range, as `/predict` wants it.
    fn inputs(&self, tensors: Vec<Tensor>) -> Result<Vec<Input>, PoolError> {
        let task = self.task()?;
        let invalid = |text: String| PoolError::Invalid(text);
        let [tensor] = tensors.try_into().map_err(|_| invalid("one input is wanted".to_owned()))?;
        if tensor.rows() > MOST_ROWS {
            return Err(invalid(format!("{} rows were sent, at most {MOST_ROWS} are taken", tensor.rows())));
        }
        let width = task.schema.width();
        let rows = match tensor.data {
            Data::Fp32(values) if width > 0 => {
                values.chunks_exact(width).map(|row| Input::Features(row.to_vec())).collect()
            }
            Data::Bytes(texts) => texts
                .into_iter()
                .map(|text| String::from_utf8(text).map(Input::Text))
                .collect::<Result<Vec<Input>, _>>()
                .map_err(|_| invalid("`text` must hold UTF-8".to_owned()))?,
            _ => return Err(invalid("the input is neither FP32 nor BYTES".to_owned())),
        };
        for (i, row) in rows.iter().enumerate() {
            if let Some(fault) = shared::reading::input_fault(&task.schema, row) {
                return Err(invalid(format!("row {i}: {fault}")));
            }
        }
        Ok(rows)
    }
}

impl Version for Routed {
    fn number(&self) -> u32 {
        1
    }

    fn ready(&self) -> bool {
        let index = self.app.engine.index();
        let models = index.tasks.get(&self.task).into_iter().flat_map(|task| task.models.values());
        models.flat_map(|model| model.versions.values()).any(|version| version.is_servable())
    }

    fn signature(&self) -> BoxFuture<'_, Result<Arc<Signature>, PoolError>> {
        let signature = self.task().map(|task| Arc::new(Self::signature_of(task)));
        async move { signature }.boxed()
    }

    fn infer(&self, inputs: Vec<Tensor>, deadline: Option<Instant>) -> BoxFuture<'_, Result<Vec<Tensor>, PoolError>> {
        async move {
            let rows = self.inputs(inputs)?;
            let count = rows.len();
            let answers: Vec<(Answer, String)> =
                stream::iter(rows).map(|row| self.row(row, deadline)).buffered(AT_ONCE).try_collect().await?;
            let column = |name: &str, data| Tensor { name: name.to_owned(), shape: vec![count, 1], data };
            let score = |answer: &Answer| match answer.prediction {
                Prediction::Value(value) => value,
                Prediction::Class(_) => answer.anomaly_score.unwrap_or_default(),
            };
            Ok(vec![
                column(
                    "prediction",
                    Data::Bytes(answers.iter().map(|(answer, _)| answer.prediction.to_string().into()).collect()),
                ),
                column("score", Data::Fp32(answers.iter().map(|(answer, _)| score(answer)).collect())),
                column("model", Data::Bytes(answers.into_iter().map(|(_, model)| model.into()).collect())),
            ])
        }
        .boxed()
    }

    /// The sum of what its models did, whoever asked them.
    fn stats(&self) -> Stats {
        let index = self.app.engine.index();
        let models = index.tasks.get(&self.task).into_iter().flat_map(|task| task.models.values());
        let versions = models.flat_map(|model| model.versions.values());
        versions.fold(Stats::default(), |sum, version| sum.plus(super::stats_of(version)))
    }
}
