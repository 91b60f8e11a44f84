//! What a decision says: the tier, why, in which mode, and the numbers it was based on.
//!
//! Owns names and records only; [`super::route`] makes them.

use super::profile::MAX_TIERS;

/// Why a tier was chosen; its name is also log field and header value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Reason {
    /// The caller named the model or the tier.
    CallerPinned,
    /// The policy always takes this tier.
    PolicyFixed,
    /// The backlog is below the threshold: time for the dear model.
    QueueShort,
    /// The backlog is at or over the threshold.
    QueueLong,
    /// A dearer tier's measured accuracy is below the floor, or below that of a cheaper one.
    AccuracyLow,
    /// A dearer tier would have missed the caller's deadline.
    DeadlineTight,
    /// A cheaper tier would have missed the accuracy the caller asked for.
    AccuracyAsked,
    /// Load and accuracy are unknown: the cheap path adds the least load.
    #[default]
    LoadUnknown,
    /// The planned split gave it the dearer of the two tiers in use.
    SplitDear,
    /// The planned split gave it the cheaper of the two tiers in use.
    SplitCheap,
    /// The dearer tier gains less than the time it takes is worth now.
    PriceHigh,
    /// Chosen at random so that a tier's accuracy stays known.
    Explored,
    /// Even the cheapest tier can hardly carry the load.
    Saturated,
    /// The cheapest tier first: a dearer one is asked where its answer is not sure enough.
    Cascade,
}

impl Reason {
    /// All reasons, for metrics and tests.
    pub const ALL: [Self; 14] = [
        Self::CallerPinned,
        Self::PolicyFixed,
        Self::QueueShort,
        Self::QueueLong,
        Self::AccuracyLow,
        Self::DeadlineTight,
        Self::AccuracyAsked,
        Self::LoadUnknown,
        Self::SplitDear,
        Self::SplitCheap,
        Self::PriceHigh,
        Self::Explored,
        Self::Saturated,
        Self::Cascade,
    ];

    /// The name used in headers, logs and answers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::CallerPinned => "caller_pinned",
            Self::PolicyFixed => "policy_fixed",
            Self::QueueShort => "queue_short",
            Self::QueueLong => "queue_long",
            Self::AccuracyLow => "accuracy_low",
            Self::DeadlineTight => "deadline_tight",
            Self::AccuracyAsked => "accuracy_asked",
            Self::LoadUnknown => "load_unknown",
            Self::SplitDear => "split_dear",
            Self::SplitCheap => "split_cheap",
            Self::PriceHigh => "price_high",
            Self::Explored => "explored",
            Self::Saturated => "saturated",
            Self::Cascade => "cascade",
        }
    }
}

/// How much of what the policy wants to know it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub enum Mode {
    /// M0: the picture is young, and everything in it is known.
    #[default]
    Normal,
    /// M1: the picture is older than two periods; the split fades to what needs no picture of the queue.
    Stale,
    /// M2: there is no picture, or one older than twenty periods.
    Blind,
    /// M3: accuracies are not known; tiers are taken in the order in which they are declared.
    Unranked,
    /// M4: the cheapest tier alone fills the workers; some classes are refused.
    Saturated,
    /// M5: how long a tier takes is known as a mean only, or not at all.
    Unprofiled,
}

impl Mode {
    /// All modes, by number.
    pub const ALL: [Self; 6] =
        [Self::Normal, Self::Stale, Self::Blind, Self::Unranked, Self::Saturated, Self::Unprofiled];

    /// The name used in metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Stale => "stale",
            Self::Blind => "blind",
            Self::Unranked => "unranked",
            Self::Saturated => "saturated",
            Self::Unprofiled => "unprofiled",
        }
    }

    /// Its number: the `0` of M0.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The mode of a number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

/// A tier, why, and the numbers it was based on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decision {
    /// Position of the tier, cheapest first.
    pub tier: usize,
    /// Why this one.
    pub reason: Reason,
    /// How much was known.
    pub mode: Mode,
    /// The backlog seen, in jobs.
    pub depth: u32,
    /// The chosen tier's accuracy as seen.
    pub accuracy: Option<f32>,
    /// With which probability a job like this one gets this tier, 0..=1: weigh its label with the inverse.
    pub propensity: f32,
    /// The share of the dearer tier that was aimed at, 0..=1, faded by the picture's age.
    pub share: f32,
    /// When each tier would be done, in microseconds from now; 0 for what is no tier, and under policies without a plan.
    pub completion_us: [f32; MAX_TIERS],
    /// The chance of each tier to be done in time, 0..=1; likewise.
    pub on_time: [f32; MAX_TIERS],
    /// The job had better be refused: it comes too late by any tier, or its class is being shed. When to come back, in
    /// milliseconds.
    pub refuse: Option<u32>,
    /// It is refused as part of the share of its class that the plan sheds. Without this a refusal rests on profiles,
    /// which may be wrong, and only runs mend them.
    pub shed: bool,
}

impl Decision {
    /// When a job whose class is being shed should come back, in milliseconds; none for every other.
    #[must_use]
    pub fn shed_ms(&self) -> Option<u32> {
        self.refuse.filter(|_| self.shed)
    }
}

impl Default for Decision {
    fn default() -> Self {
        Self {
            tier: 0,
            reason: Reason::LoadUnknown,
            mode: Mode::Normal,
            depth: 0,
            accuracy: None,
            propensity: 1.0,
            share: 0.0,
            completion_us: [0.0; MAX_TIERS],
            on_time: [0.0; MAX_TIERS],
            refuse: None,
            shed: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_names_and_differ() {
        let names = Reason::ALL.map(Reason::name);
        assert!(names.iter().enumerate().all(|(i, name)| crate::ids::is_name(name) && !names[..i].contains(name)));
        for mode in Mode::ALL {
            assert_eq!(Mode::from_number(mode.number()), Some(mode));
        }
    }
}
