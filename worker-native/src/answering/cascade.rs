//! A second answer of a dearer tier, where the first is in doubt: the cascade's hands.
//!
//! When one is asked for is `shared::policy::cascade`'s. Here it is asked, by its own rollout and cache key and with a
//! deadline that leaves the first answer its way out: whatever becomes of the second one, the first is not lost.

use std::time::{Duration, Instant};

use shared::policy::cascade::{self, Kept, Said, Verdict};
use shared::policy::{Mode, PolicyKind, TierModel};
use shared::snapshot::TierLoad;

use super::{Asked, Given, ask, saw};
use crate::app::App;
use crate::engine::{Answer, Card, PoolError, Prediction};
use crate::routing::policies::CascadeKnobs;
use crate::routing::{Cascaded, FirstAnswer, Hop, tiers};

/// What is kept of the deadline for the first answer's way out, in case the second does not come: more than the pool's
/// own grace behind a deadline.
const RESERVE: Duration = Duration::from_millis(5);

/// The same where another process waits for the answer: it gives up before the deadline, and the result has its way.
const RESERVE_AWAITED: Duration = Duration::from_millis(20);

/// A first answer, or its failure.
type First = Result<Given, PoolError>;

/// Answers one reading, and asks a dearer tier where the policy in force wants that.
pub(super) async fn answer(app: &App, asked: &Asked<'_>) -> Result<Given, PoolError> {
    let first = ask(app, asked).await.map(|(given, run)| {
        saw(app, asked, &given, run);
        given
    });
    // What the caller named stays, and what was drawn so that a tier's accuracy is learned.
    let in_force = app.policies.of(&asked.version.card().task);
    let knobs = in_force.cascade().filter(|_| asked.binding.movable);
    match (knobs, said(&first)) {
        (Some(knobs), Some(said)) => {
            let beside = in_force.policy.kind == PolicyKind::SlackSplit;
            // Boxed: most answers stand.
            Box::pin(go_on(app, asked, (first, said), (knobs, beside))).await
        }
        _ => first,
    }
}

/// What a first answer says of itself; none where nothing can be gained by asking again.
fn said(first: &First) -> Option<Said> {
    match first {
        Ok(Given { answer: Answer { confidence: Some(sure), .. }, .. }) => Some(Said::Confidence(*sure)),
        Ok(Given { answer: Answer { prediction: Prediction::Value(_), .. }, .. }) => Some(Said::Nothing),
        Ok(_) => Some(Said::Confidence(f32::NAN)),
        Err(PoolError::Failed(_)) => Some(Said::Failed),
        Err(_) => None,
    }
}

async fn go_on(
    app: &App,
    asked: &Asked<'_>,
    (first, said): (First, Said),
    (knobs, beside): (CascadeKnobs, bool),
) -> Result<Given, PoolError> {
    let card = first.as_ref().map_or_else(|_| asked.version.card(), |given| &given.card).clone();
    let index = app.engine.index();
    let load = app.snapshots.load(&card.task);
    let answered = load.tiers.iter().position(|tier| card.tier.as_ref() == Some(&tier.tier));
    let (Some(task), Some(answered)) = (index.tasks.get(&card.task), answered) else { return first };
    let models: Vec<TierModel> = load.tiers.iter().map(TierLoad::model).collect();
    let reserve = if asked.awaited { RESERVE_AWAITED } else { RESERVE };
    let until = asked.deadline.map(|deadline| deadline.checked_sub(reserve).unwrap_or(deadline));
    let left = until.map(|until| until.saturating_duration_since(Instant::now()));
    let hop = cascade::Hop {
        tiers: &models,
        answered,
        said,
        class: asked.class,
        left_us: left.map_or(f32::INFINITY, |left| left.as_secs_f32() * 1e6),
        ahead_us: tiers::ahead_us(task, &load) + tiers::running_us(task, &load),
        // Of a plan that nobody renews it is not known what waits: then the deadline alone decides.
        load: load.plan.as_ref().filter(|plan| beside && plan.mode != Mode::Blind),
    };
    let mut record = record(&card, &first, &knobs);
    let to = match cascade::again(&knobs.cascade(), &hop) {
        Verdict::Escalate(to) => to,
        Verdict::Keep(Kept::Top) => return first,
        Verdict::Keep(kept) => return told(app, first, (record, outcome(kept))),
    };
    let tier = load.tiers.get(to).map(|tier| tier.tier.as_str()).unwrap_or_default();
    let key = asked.sensor_id.unwrap_or(asked.request_id);
    let found = tiers::model_of(task, tier).and_then(|model| {
        let assignment = tiers::version_for(model, key)?;
        Some((model, model.versions.get(&assignment.version)?, assignment))
    });
    let Some((model, version, assignment)) = found else {
        record.why = Some(format!("no model of tier `{tier}` can be served now"));
        return told(app, first, (record, Hop::Failed));
    };
    // It waits or runs like a reading that came now.
    let counted = app.snapshots.begin_synchronous(&card.task, tier);
    let second =
        ask(app, &Asked { version, assignment: &assignment, rollout: &model.rollout, deadline: until, ..*asked }).await;
    drop(counted);
    match second {
        Ok((given, run)) => {
            if let Err(error) = &first {
                record.why = Some(error.to_string());
                saw(app, asked, &given, run);
            }
            let given = Given { assignment: Some(assignment), ..given };
            told(app, Ok(given), (record, Hop::Escalated))
        }
        Err(error) => {
            record.why = Some(error.to_string());
            told(app, first, (record, Hop::Failed))
        }
    }
}

const fn outcome(kept: Kept) -> Hop {
    match kept {
        Kept::Confident => Hop::Confident,
        Kept::Untold | Kept::Top => Hop::Untold,
        Kept::Late => Hop::Late,
        Kept::Load => Hop::Load,
    }
}

fn record(card: &Card, first: &First, knobs: &CascadeKnobs) -> Cascaded {
    let answer = first.as_ref().ok().map(|given| &given.answer);
    Cascaded {
        from: FirstAnswer {
            tier: card.tier.clone().unwrap_or_default(),
            model: card.model.clone(),
            version: card.version,
            prediction: answer.map(|answer| answer.prediction.clone()),
            confidence: answer.and_then(|answer| answer.confidence),
        },
        below: knobs.below,
        outcome: String::new(),
        why: None,
    }
}

/// The answer that goes out, with what became of the first one.
fn told(app: &App, given: First, (record, hop): (Cascaded, Hop)) -> Result<Given, PoolError> {
    let mut given = given?;
    app.metrics.cascaded(&given.card.task, hop.name());
    given.cascaded = Some(Cascaded { outcome: hop.name().to_owned(), ..record });
    Ok(given)
}
