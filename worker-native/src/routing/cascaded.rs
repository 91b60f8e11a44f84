//! What a cascade made of a reading: the first answer, and whether another tier was asked after it.
//!
//! Owns the record, which travels in the decision's own, and its words; who asks again is `crate::answering`'s, and when,
//! `shared::policy::cascade`'s.

use serde::{Deserialize, Serialize};

use crate::engine::Prediction;

/// What became of a first answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hop {
    /// A dearer tier answered after it.
    Escalated,
    /// It was sure enough.
    Confident,
    /// A dearer tier would hardly have been in time.
    Late,
    /// A dearer tier's time was worth more to the jobs that waited.
    Load,
    /// Nothing is known of how sure it was.
    Untold,
    /// A dearer tier was asked and gave no answer.
    Failed,
}

impl Hop {
    /// All of them, for metrics and texts.
    pub const ALL: [Self; 6] = [Self::Escalated, Self::Confident, Self::Late, Self::Load, Self::Untold, Self::Failed];

    /// The name in records and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Escalated => "escalated",
            Self::Confident => "confident",
            Self::Late => "late",
            Self::Load => "load",
            Self::Untold => "untold",
            Self::Failed => "failed",
        }
    }
}

/// The first answer of a reading, and what became of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Cascaded {
    /// The first answer.
    pub from: FirstAnswer,
    /// The confidence from which on an answer stood.
    pub below: f32,
    /// The name of a [`Hop`].
    pub outcome: String,
    /// Why one of the two tiers gave no answer, where one gave none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// Who answered first, and what.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FirstAnswer {
    /// The tier.
    pub tier: String,
    /// Its model.
    pub model: String,
    /// The model's version.
    pub version: u32,
    /// What it said; none where its run failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prediction: Option<Prediction>,
    /// How sure it was, 0..=1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f32>,
}

impl Cascaded {
    /// Did another tier answer after the first?
    #[must_use]
    pub fn is_escalated(&self) -> bool {
        self.outcome == Hop::Escalated.name()
    }
}
