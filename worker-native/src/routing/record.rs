//! What is kept of a decision, and what the edge said of its own.
//!
//! A record travels with its job through queue, result and log. Owns names and reading only; who
//! decides is `routing`'s and `consumer::bind`'s.

use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use shared::headers;
use shared::policy::{Decision, Mode, PolicyKind, Reason};
use shared::snapshot::TaskLoad;

use super::Cascaded;

/// Why a model was chosen, and on which numbers; kept with the job.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DecisionRecord {
    /// Which side decided: `edge` or `native`.
    pub by: String,
    /// The tier; none for a model that serves no tier.
    pub tier: Option<String>,
    /// The name of a [`shared::policy::Reason`].
    pub reason: String,
    /// The backlog seen, in jobs.
    pub depth: u32,
    /// The chosen model's accuracy as seen.
    pub accuracy: Option<f32>,
    /// Age of the edge's snapshot; none when the native side decided on live numbers.
    pub snapshot_age_ms: Option<u64>,
    /// How much was known: the name of a [`shared::policy::Mode`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// With which probability a reading like this one gets this tier, 0..=1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub propensity: Option<f32>,
    /// The share of the dearer tier that was aimed at, 0..=1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f32>,
    /// The tier's chance to answer by the deadline, as predicted, 0..=1; none without a deadline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_time: Option<f32>,
    /// The tier that was chosen before a worker looked at the job again; none where no worker did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hinted: Option<String>,
    /// What a cascade made of the first answer; none where none was in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cascade: Option<Box<Cascaded>>,
}

impl DecisionRecord {
    /// The tier that was chosen before a worker looked at it again, or a cascade asked another.
    #[must_use]
    pub fn chosen(&self) -> Option<&str> {
        self.hinted.as_deref().or_else(|| self.first_tier())
    }

    /// Notes the tier of the model that answered: of a reading that went through the queue a worker may have chosen another.
    pub fn answered_by(&mut self, tier: Option<&str>) {
        if let Some(tier) = tier.filter(|tier| self.tier.as_deref() != Some(tier)) {
            let chosen = self.tier.replace(tier.to_owned());
            self.hinted = self.hinted.take().or(chosen);
        }
    }

    /// The chance that this tier had to answer: of one that a worker put in another's place it is not known, since that
    /// hung on the queue and not on a draw; nor of one that was asked since a first answer was in doubt.
    #[must_use]
    pub fn propensity_of_the_answer(&self) -> Option<f32> {
        self.propensity_of_the_first().filter(|_| self.escalated().is_none())
    }

    /// The chance that the tier of the first answer had, which is the only answer where no cascade asked again.
    #[must_use]
    pub fn propensity_of_the_first(&self) -> Option<f32> {
        let moved = self.hinted.is_some() && self.hinted.as_deref() != self.first_tier();
        self.propensity.filter(|_| !moved)
    }

    /// The tier that answered first: before a cascade asked another one.
    #[must_use]
    pub fn first_tier(&self) -> Option<&str> {
        let first = self.escalated().map(|cascaded| cascaded.from.tier.as_str());
        first.or(self.tier.as_deref())
    }

    /// The first answer, where another tier answered after it.
    #[must_use]
    pub fn escalated(&self) -> Option<&Cascaded> {
        self.cascade.as_deref().filter(|cascaded| cascaded.is_escalated())
    }

    /// Takes in what a cascade did; `tier` is the one that answered last.
    pub fn took(&mut self, cascaded: Option<&Cascaded>, tier: Option<&str>) {
        let Some(cascaded) = cascaded else { return };
        if cascaded.is_escalated() {
            self.tier = tier.map(str::to_owned);
        }
        self.cascade = Some(Box::new(cascaded.clone()));
    }
}

/// What a worker may change of a decision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Binding {
    /// May another tier answer? Not where the caller named a model, a version or a type, or chance chose the tier.
    pub movable: bool,
    /// The least accuracy the caller can live with, 0..=1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_accuracy: Option<f32>,
}

impl Binding {
    /// Is there nothing that may be changed, and nothing to keep to?
    #[must_use]
    pub const fn is_fixed(&self) -> bool {
        !self.movable && self.min_accuracy.is_none()
    }
}

/// The edge's advice, as far as it can be used.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Advice {
    tier: Option<String>,
    reason: Option<String>,
    depth: Option<u32>,
    snapshot_age_ms: Option<u64>,
    mode: Option<Mode>,
    propensity: Option<f32>,
    share: Option<f32>,
    keeper: Option<u64>,
}

impl Advice {
    /// Reads the edge's headers; what cannot be read counts as not sent.
    #[must_use]
    pub fn from_headers(map: &HeaderMap) -> Self {
        let text = |name: &str| map.get(name).and_then(|value| value.to_str().ok());
        let share = |name: &str| {
            let parsed = text(name).and_then(|share| share.parse::<u16>().ok());
            parsed.map(|share| f32::from(share) / f32::from(headers::SHARE_UNITS)).filter(|share| *share <= 1.0)
        };
        Self {
            tier: text(headers::ROUTE).filter(|tier| *tier != headers::ROUTE_AUTO).map(str::to_owned),
            reason: text(headers::ROUTE_REASON).filter(|reason| shared::ids::is_name(reason)).map(str::to_owned),
            depth: text(headers::ROUTE_DEPTH).and_then(|depth| depth.parse().ok()),
            snapshot_age_ms: text(headers::ROUTE_SNAPSHOT_AGE).and_then(|age| age.parse().ok()),
            mode: text(headers::ROUTE_MODE).and_then(|mode| Mode::from_number(mode.parse().ok()?)),
            propensity: share(headers::ROUTE_PROPENSITY),
            share: share(headers::ROUTE_SHARE),
            keeper: text(headers::ROUTE_KEEPER).and_then(|keeper| u64::from_str_radix(keeper, 16).ok()),
        }
    }

    /// The tier that is advised.
    pub(super) fn tier(&self) -> Option<&str> {
        self.tier.as_deref()
    }

    /// Why the edge advises it.
    pub(super) fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// How old the edge's snapshot was.
    pub(super) const fn snapshot_age_ms(&self) -> Option<u64> {
        self.snapshot_age_ms
    }

    /// Which isolate of the edge it was.
    #[must_use]
    pub const fn keeper(&self) -> Option<u64> {
        self.keeper
    }

    /// Did the edge see that the caller named a model? A wish in the query is for the native side only.
    pub(super) fn pinned(&self) -> bool {
        self.tier.is_some() && self.reason() == Some(Reason::CallerPinned.name())
    }

    /// The record of advice that is followed; `own` is what was found here.
    pub(super) fn record(&self, load: &TaskLoad, tier: usize, reason: &str, own: &Decision) -> DecisionRecord {
        DecisionRecord {
            by: "edge".to_owned(),
            tier: self.tier.clone(),
            reason: reason.to_owned(),
            depth: self.depth.unwrap_or_default(),
            accuracy: load.tiers.get(tier).and_then(|load| load.accuracy),
            snapshot_age_ms: self.snapshot_age_ms,
            mode: self.mode.map(|mode| mode.name().to_owned()),
            propensity: self.propensity.map(|edge| both(reason, edge, tier, own)),
            share: self.share,
            on_time: on_time(load, own, tier),
            hinted: None,
            cascade: None,
        }
    }
}

/// With which probability both sides together give this tier: they draw the same number, the dearer tier needs both,
/// and the cheaper one either.
fn both(reason: &str, edge: f32, tier: usize, own: &Decision) -> f32 {
    if own.tier != tier {
        edge
    } else if reason == Reason::SplitDear.name() {
        edge.min(own.propensity)
    } else if reason == Reason::SplitCheap.name() {
        edge.max(own.propensity)
    } else {
        edge
    }
}

/// The chance of a tier to answer in time; none where no plan predicts it.
pub(super) fn on_time(load: &TaskLoad, own: &Decision, tier: usize) -> Option<f32> {
    let planned = load.plan.as_ref()?.policy.is_none_or(|policy| policy.kind == PolicyKind::SlackSplit);
    own.on_time.get(tier).copied().filter(|chance| planned && *chance > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_that_cannot_be_read_counts_as_not_sent() {
        let mut map = HeaderMap::new();
        map.insert(headers::ROUTE, "auto".parse().unwrap());
        map.insert(headers::ROUTE_DEPTH, "-3".parse().unwrap());
        map.insert(headers::ROUTE_REASON, "a reason; with spaces".parse().unwrap());
        map.insert(headers::ROUTE_MODE, "9".parse().unwrap());
        map.insert(headers::ROUTE_PROPENSITY, "10001".parse().unwrap());
        map.insert(headers::ROUTE_SHARE, "NaN".parse().unwrap());
        map.insert(headers::ROUTE_KEEPER, "me".parse().unwrap());
        assert_eq!(Advice::from_headers(&map), Advice::default());
        map.insert(headers::ROUTE, "fast".parse().unwrap());
        map.insert(headers::ROUTE_REASON, "split_cheap".parse().unwrap());
        map.insert(headers::ROUTE_MODE, "1".parse().unwrap());
        map.insert(headers::ROUTE_PROPENSITY, "6600".parse().unwrap());
        map.insert(headers::ROUTE_KEEPER, "1f".parse().unwrap());
        let advice = Advice::from_headers(&map);
        assert_eq!((advice.tier(), advice.reason()), (Some("fast"), Some("split_cheap")));
        assert_eq!((advice.mode, advice.propensity, advice.keeper()), (Some(Mode::Stale), Some(0.66), Some(31)));
    }

    #[test]
    fn a_tier_that_both_sides_must_want_is_as_likely_as_the_less_willing_side_makes_it() {
        let own = |propensity| Decision { tier: 1, propensity, ..Decision::default() };
        assert_eq!(both("split_dear", 0.8, 1, &own(0.3)), 0.3);
        assert_eq!(both("split_cheap", 0.2, 0, &own(0.3)), 0.2, "here it would be the other tier");
        assert_eq!(both("split_cheap", 0.2, 1, &own(0.7)), 0.7);
    }

    #[test]
    fn a_second_answer_has_no_propensity_and_the_first_keeps_its_own() {
        let mut record =
            DecisionRecord { tier: Some("fast".to_owned()), propensity: Some(0.9), ..DecisionRecord::default() };
        let from = crate::routing::FirstAnswer { tier: "fast".to_owned(), ..Default::default() };
        let cascaded =
            |outcome: &str| Cascaded { from: from.clone(), outcome: outcome.to_owned(), ..Cascaded::default() };
        let mut kept = record.clone();
        kept.took(Some(&cascaded("confident")), Some("fast"));
        assert_eq!((kept.propensity_of_the_answer(), kept.escalated()), (Some(0.9), None));
        record.took(Some(&cascaded("escalated")), Some("accurate"));
        assert_eq!((record.tier.as_deref(), record.first_tier()), (Some("accurate"), Some("fast")));
        assert_eq!((record.propensity_of_the_answer(), record.propensity_of_the_first()), (None, Some(0.9)));
        // Moved by a worker before: how likely that was, nobody drew. Back on the hinted tier by a cascade or not.
        record.hinted = Some("accurate".to_owned());
        assert_eq!((record.propensity_of_the_answer(), record.propensity_of_the_first()), (None, None));
        assert_eq!(record.chosen(), Some("accurate"));
    }

    #[test]
    fn the_tier_that_answered_is_noted_beside_the_one_that_was_chosen() {
        let mut record =
            DecisionRecord { tier: Some("accurate".to_owned()), propensity: Some(0.5), ..DecisionRecord::default() };
        record.answered_by(Some("accurate"));
        record.answered_by(None);
        assert_eq!((record.hinted.as_deref(), record.propensity_of_the_answer()), (None, Some(0.5)));
        record.answered_by(Some("fast"));
        assert_eq!((record.tier.as_deref(), record.chosen()), (Some("fast"), Some("accurate")));
        assert_eq!(record.propensity_of_the_answer(), None);
    }

    #[test]
    fn a_record_from_before_there_were_plans_is_read() {
        let text = r#"{"by":"edge","tier":"fast","reason":"queue_long","depth":3,"accuracy":null,"snapshot_age_ms":5}"#;
        let record: DecisionRecord = serde_json::from_str(text).unwrap();
        assert_eq!((record.mode.as_deref(), record.depth), (None, 3));
        assert_eq!(serde_json::to_string(&record).unwrap(), text);
    }
}
