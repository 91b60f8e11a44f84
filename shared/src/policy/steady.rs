//! Hysteresis of the published split: degrade at once, recover slowly, and only after the backlog is gone.
//!
//! All of it is here, at the one place that plans, so that keepers need no memory of their own.

use super::math::{larger, smaller, within};

/// What the next level depends on beside the one that is wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Steering {
    /// The level published before.
    pub(super) before: f32,
    /// The highest level there is.
    pub(super) top: f32,
    /// Changes smaller than this are noise.
    pub(super) dead_band: f32,
    /// How far the level may rise now; 0 while the backlog is not gone.
    pub(super) rise: f32,
    /// The backlog is over its target: fall however little.
    pub(super) pressed: bool,
}

/// A fall by this many dead bands is no noise.
const REAL: f32 = 2.5;

/// The level to publish.
///
/// Within the dead band it has play: it follows what is wanted at that distance, so that it turns only where what is
/// wanted has gone from one end of the play to the other.
pub(super) fn next(wanted: f32, steering: Steering) -> f32 {
    let Steering { before, top, dead_band, rise, pressed } = steering;
    let wanted = within(wanted, 0.0, top);
    let before = within(before, 0.0, top);
    if wanted < before {
        let fall = before - wanted;
        if pressed || fall > REAL * dead_band || wanted <= 0.0 { wanted } else { smaller(before, wanted + dead_band) }
    } else {
        let goal = if wanted < top { larger(before, wanted - dead_band) } else { wanted };
        smaller(goal, before + larger(rise, 0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALM: Steering = Steering { before: 0.5, top: 1.0, dead_band: 0.03, rise: 0.025, pressed: false };

    #[test]
    fn it_falls_at_once_and_rises_slowly_and_only_when_allowed() {
        assert_eq!(next(0.1, CALM), 0.1);
        assert_eq!(next(0.9, CALM), 0.525);
        assert_eq!(next(0.9, Steering { rise: 0.0, ..CALM }), 0.5);
    }

    #[test]
    fn what_is_small_is_noise_unless_a_backlog_presses() {
        assert_eq!((next(0.48, CALM), next(0.52, CALM)), (0.5, 0.5));
        assert_eq!(next(0.48, Steering { pressed: true, ..CALM }), 0.48);
        assert_eq!(next(1.0, Steering { before: 0.99, ..CALM }), 1.0);
        assert_eq!(next(0.0, Steering { before: 0.2, ..CALM }), 0.0);
        assert_eq!(next(f32::NAN, CALM), 0.0);
    }
}
