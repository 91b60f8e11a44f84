//! A plan as numbers on the wire: positional, `:` between them, each an integer in the unit of its row in [`ROWS`].
//!
//! Rows are only ever added at the end. A reader takes a text with more rows than it knows, and treats one with fewer as
//! no plan: the task is then served as if there were none.

use crate::policy::{Mode, Plan, Policy, PolicyKind};

/// What each row is, and how many of its units make one: below 1 for rows in milliseconds.
const ROWS: [(&str, f32); 31] = [
    ("policy: 0 for none, else one more than its position in PolicyKind::ALL", 1.0),
    ("mode: the 0 of M0", 1.0),
    ("workers", 10.0),
    ("isolates", 1.0),
    ("work, us", 1.0),
    ("target, us", 1.0),
    ("residual, us", 1.0),
    ("rate, jobs a second", 10.0),
    ("idc", 100.0),
    ("period, us", 0.001),
    ("busy", 1_000.0),
    ("lower", 1.0),
    ("upper", 1.0),
    ("x0", 10_000.0),
    ("x_inf", 10_000.0),
    ("bias, logits", 1_000.0),
    ("usual, us", 0.001),
    ("tau0", 10_000.0),
    ("price, right answers a second", 100.0),
    ("relax, us", 0.001),
    ("epsilon", 10_000.0),
    ("explore", 1.0),
    ("reject high", 1_000.0),
    ("reject normal", 1_000.0),
    ("reject low", 1_000.0),
    ("kappa", 1_000.0),
    ("net, us", 1.0),
    ("net_sd, us", 1.0),
    ("rank_gap", 10_000.0),
    ("policy: queue threshold", 1.0),
    ("policy: accuracy floor", 10_000.0),
];

/// Microseconds of a millisecond.
const MS: f32 = 1_000.0;

/// Appends a plan.
pub(super) fn push(text: &mut String, plan: &Plan) {
    let [high, normal, low] = plan.reject;
    let policy = plan.policy.map_or(0, |policy| position(policy.kind) + 1);
    let parameters = plan.policy.unwrap_or_default();
    let values = [
        small(policy),
        f32::from(plan.mode.number()),
        plan.workers,
        count(plan.isolates),
        plan.work_us,
        plan.target_us,
        plan.residual_us,
        plan.rate,
        plan.idc,
        plan.period_us,
        plan.busy,
        small(plan.lower),
        small(plan.upper),
        plan.x0,
        plan.x_inf,
        plan.bias,
        plan.usual_us,
        plan.tau0,
        plan.price,
        plan.relax_us,
        plan.epsilon,
        small(plan.explore),
        high,
        normal,
        low,
        plan.kappa,
        plan.net_us,
        plan.net_sd_us,
        plan.rank_gap,
        count(parameters.queue_threshold),
        parameters.accuracy_floor,
    ];
    for (i, (value, (_, units))) in values.into_iter().zip(ROWS).enumerate() {
        if i > 0 {
            text.push(':');
        }
        text.push_str(&whole(value * units).to_string());
    }
}

/// Reads a plan; none where a row is missing or no number.
pub(super) fn read(text: &str) -> Option<Plan> {
    let mut parts = text.split(':');
    let mut values = [0.0_f32; ROWS.len()];
    for (value, (_, units)) in values.iter_mut().zip(ROWS) {
        // Divided where it can be: 0.33 is 3300 / 10000 exactly, and not 3300 times a rounded 0.0001.
        let read = real(parts.next()?.parse().ok()?);
        *value = if units < 1.0 { read * MS } else { read / units };
    }
    let [
        policy,
        mode,
        workers,
        isolates,
        work_us,
        target_us,
        residual_us,
        rate,
        idc,
        period_us,
        busy,
        lower,
        upper,
        x0,
        x_inf,
        bias,
        usual_us,
        tau0,
        price,
        relax_us,
        epsilon,
        explore,
        high,
        normal,
        low,
        kappa,
        net_us,
        net_sd_us,
        rank_gap,
        queue_threshold,
        accuracy_floor,
    ] = values;
    let policy = match index(policy) {
        0 => None,
        // A policy that is not known here is decided by the keeper's own.
        kind => PolicyKind::ALL.get(kind - 1).map(|kind| Policy {
            kind: *kind,
            queue_threshold: u32::try_from(index(queue_threshold)).unwrap_or(u32::MAX),
            accuracy_floor,
        }),
    };
    Some(Plan {
        policy,
        mode: Mode::from_number(u8::try_from(index(mode)).ok()?)?,
        workers,
        isolates: u32::try_from(index(isolates)).ok()?,
        work_us,
        target_us,
        residual_us,
        rate,
        idc,
        period_us,
        busy,
        lower: index(lower),
        upper: index(upper),
        x0,
        x_inf,
        bias,
        usual_us,
        tau0,
        price,
        relax_us,
        epsilon,
        explore: index(explore),
        reject: [high, normal, low],
        kappa,
        net_us,
        net_sd_us,
        rank_gap,
    })
}

fn position(kind: PolicyKind) -> usize {
    PolicyKind::ALL.iter().position(|other| *other == kind).unwrap_or(0)
}

#[expect(clippy::cast_precision_loss, reason = "a position among tiers or policies")]
const fn small(position: usize) -> f32 {
    position as f32
}

#[expect(clippy::cast_precision_loss, reason = "24 bits of a number of workers are enough")]
const fn count(count: u32) -> f32 {
    count as f32
}

#[expect(clippy::cast_precision_loss, reason = "24 bits are what a decision rests on")]
const fn real(value: i64) -> f32 {
    value as f32
}

#[expect(clippy::cast_possible_truncation, reason = "the cast saturates, and a NaN is 0")]
fn whole(value: f32) -> i64 {
    value.round() as i64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates, and a NaN is 0")]
const fn index(value: f32) -> usize {
    value as usize
}
