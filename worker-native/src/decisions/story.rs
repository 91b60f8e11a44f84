//! A decision in words: what was chosen, why, on which numbers, and how it went.
//!
//! Pure: from a [`Case`] to sentences. Every reason and mode of the policy has its words here.

use shared::policy::{Mode, Reason};

use super::{Case, End, REFUSED, SHED};
use crate::queue::Outcome;
use crate::routing::{Alternative, Cascaded, DecisionRecord, Hop, Weighed};

/// The sentences, in the order in which things happened.
#[must_use]
pub fn tell(case: &Case) -> Vec<String> {
    let mut story = vec![chosen(&case.decision)];
    story.push(seen(&case.decision));
    if let Some(weighed) = &case.weighed {
        story.extend(rule(&case.decision, weighed));
        story.extend(promised(weighed));
    }
    story.extend(bound(&case.decision));
    story.extend(case.decision.cascade.as_deref().map(cascaded));
    story.push(ended(case));
    story
}

fn chosen(decision: &DecisionRecord) -> String {
    let by = if decision.by == "edge" { "the edge" } else { "the service" };
    let known = Reason::ALL.into_iter().find(|reason| reason.name() == decision.reason);
    let why = known.map_or_else(|| format!("its reason is `{}`", decision.reason), |reason| because(reason).to_owned());
    match decision.chosen() {
        Some(tier) => format!("`{tier}` was chosen by {by}: {why}."),
        None => format!("A model that serves no tier was chosen by {by}: {why}."),
    }
}

/// Why, as the end of a sentence.
#[must_use]
pub const fn because(reason: Reason) -> &'static str {
    match reason {
        Reason::CallerPinned => "the caller named its model",
        Reason::PolicyFixed => "the policy takes this tier whatever happens",
        Reason::QueueShort => "the backlog was below the threshold, so there was time for it",
        Reason::QueueLong => "the backlog had reached the threshold, so a cheaper tier had to do",
        Reason::AccuracyLow => {
            "the accuracy of a dearer tier was below the floor, or below that of a cheaper tier, and not worth its time"
        }
        Reason::DeadlineTight => "a dearer tier was likely to miss the caller's deadline",
        Reason::AccuracyAsked => "a cheaper tier would have missed the accuracy that the caller asked for",
        Reason::LoadUnknown => "nothing was known of the load, and the cheapest tier adds least to it",
        Reason::SplitDear => "the planned split had room for it on the dearer of the two tiers in use",
        Reason::SplitCheap => "the planned split gave it the cheaper of the two tiers in use",
        Reason::PriceHigh => "the accuracy that a dearer tier adds was worth less than its time was to the jobs behind",
        Reason::Explored => "it was drawn to try this tier, so that the tier's accuracy stays known",
        Reason::Saturated => "even the cheapest tier could hardly carry the load",
        Reason::Cascade => "the cheapest tier answers first, and a dearer one where that answer is in doubt",
    }
}

/// How much was known, as the end of a sentence.
#[must_use]
pub const fn known(mode: Mode) -> &'static str {
    match mode {
        Mode::Normal => "the picture was young and everything in it known",
        Mode::Stale => "the picture was old, so the split was faded towards one that needs no picture of the queue",
        Mode::Blind => "there was no picture, or a far too old one",
        Mode::Unranked => "accuracies were not known, so the tiers were taken in the order in which they are declared",
        Mode::Saturated => "the cheapest tier alone filled the workers",
        Mode::Unprofiled => "how long a tier takes was known as a mean only, or not at all",
    }
}

fn seen(decision: &DecisionRecord) -> String {
    let backlog = match decision.depth {
        1 => "1 job".to_owned(),
        jobs => format!("{jobs} jobs"),
    };
    let accuracy = decision.accuracy.map(|accuracy| format!(" and an accuracy of {} for this tier", percent(accuracy)));
    let accuracy = accuracy.unwrap_or_default();
    match decision.snapshot_age_ms.filter(|_| decision.by == "edge") {
        Some(age) => format!("The edge saw a backlog of {backlog}{accuracy}, in a snapshot {age} ms old."),
        None => format!("It saw a backlog of {backlog}{accuracy}."),
    }
}

fn rule(decision: &DecisionRecord, weighed: &Weighed) -> Vec<String> {
    let version = match weighed.policy_version {
        0 => "as configured".to_owned(),
        version => format!("version {version}"),
    };
    let mode = decision.mode.as_deref();
    let mode = mode.and_then(|name| Mode::ALL.into_iter().find(|mode| mode.name() == name));
    let mode = mode.map(|mode| format!(", in mode M{} ({}): {}", mode.number(), mode.name(), known(mode)));
    let mut told = vec![format!("The policy was `{}`, {version}{}.", weighed.policy, mode.unwrap_or_default())];
    if let (Some(share), Some(chance), Some(tier)) = (decision.share, decision.propensity, decision.chosen()) {
        told.push(format!(
            "It aimed at {} of the readings on the dearer tier; one like this had a chance of {} of getting `{tier}`.",
            percent(share),
            percent(chance)
        ));
    }
    told
}

fn promised(weighed: &Weighed) -> Option<String> {
    let one = |tier: &Alternative| {
        let done = tier.completion_ms.map(|ms| format!("done in {}", millis(ms.into())));
        let chance = tier.on_time.map(|chance| format!("in time with a chance of {}", percent(chance)));
        let right = tier.accuracy.map(|accuracy| format!("right {} of the time", percent(accuracy)));
        let told: Vec<String> = [done, chance, right].into_iter().flatten().collect();
        (!told.is_empty()).then(|| format!("`{}` {}", tier.tier, told.join(", ")))
    };
    let tiers: Vec<String> = weighed.tiers.iter().filter_map(one).collect();
    (!tiers.is_empty()).then(|| format!("Predicted were: {}.", tiers.join("; ")))
}

fn bound(decision: &DecisionRecord) -> Option<String> {
    let (hinted, tier) = (decision.hinted.as_deref()?, decision.first_tier()?);
    Some(if hinted == tier {
        format!("When its turn came, a worker looked at the queue again and left it at `{tier}`.")
    } else {
        format!("When its turn came, a worker looked at the queue again and moved it from `{hinted}` to `{tier}`.")
    })
}

/// The first answer, and what became of it.
fn cascaded(cascaded: &Cascaded) -> String {
    let from = &cascaded.from;
    let why = cascaded.why.as_deref().map(|why| format!(" ({why})")).unwrap_or_default();
    let first = match (&from.prediction, from.confidence) {
        (None, _) => format!("`{}` gave no answer{why}", from.tier),
        (Some(said), Some(sure)) => format!("`{}` said `{said}` with a confidence of {}", from.tier, percent(sure)),
        (Some(said), None) => format!("`{}` said `{said}`", from.tier),
    };
    let below = percent(cascaded.below);
    let hop = Hop::ALL.into_iter().find(|hop| hop.name() == cascaded.outcome);
    match hop {
        Some(Hop::Escalated) if from.prediction.is_none() => format!("{first}, so a dearer tier was asked."),
        Some(Hop::Escalated) => format!("{first}, less than the {below} asked for, so a dearer tier was asked too."),
        Some(Hop::Confident) => format!("{first}, and from {below} on no other tier was asked."),
        Some(Hop::Late) => format!("{first}; a dearer tier would hardly have been in time, so that stood."),
        Some(Hop::Load) => {
            format!("{first}; a dearer tier's time was worth more to the jobs that waited, so that stood.")
        }
        Some(Hop::Untold) => format!("{first}; how sure that is cannot be told, so it stood."),
        Some(Hop::Failed) => format!("{first}; a dearer tier was asked too and gave no answer{why}, so that stood."),
        None => format!("{first}; what became of it is called `{}`.", cascaded.outcome),
    }
}

fn ended(case: &Case) -> String {
    let Some(end) = &case.end else { return "It has not ended yet.".to_owned() };
    let after = millis(end.latency_ms);
    let mut told = match end.outcome.as_str() {
        outcome if outcome == Outcome::Done.name() => {
            format!("`{}` version {} answered after {after}", end.model, end.model_version)
        }
        outcome if outcome == Outcome::Expired.name() => format!("Its deadline passed after {after}"),
        outcome if outcome == Outcome::Cancelled.name() => "It was called off".to_owned(),
        REFUSED => "It was refused: there was no room for it".to_owned(),
        SHED => "It was turned away: part of its class was shed, since more came in than could be answered".to_owned(),
        outcome => format!("It ended as `{outcome}` after {after}"),
    };
    let deadline = case.weighed.as_ref().and_then(|weighed| weighed.deadline_ms);
    let deadline = deadline.filter(|_| ![REFUSED, SHED].contains(&end.outcome.as_str()));
    match (deadline, case.is_on_time()) {
        (Some(ms), Some(true)) => told.push_str(&format!(", in time: the deadline was {ms} ms")),
        (Some(ms), Some(false)) => told.push_str(&format!(", too late: the deadline was {ms} ms")),
        _ => {}
    }
    told.push_str(&compared(case, end));
    told.push('.');
    if let Some(error) = &end.error {
        told.push_str(&format!(" The error was: {error}."));
    }
    told
}

/// What was predicted of the tier that ran.
fn compared(case: &Case, end: &End) -> String {
    // Of two answers together nothing was predicted.
    let tier = case.decision.tier.as_deref().filter(|_| case.decision.escalated().is_none());
    let promised = tier.and_then(|tier| case.weighed.as_ref()?.of(tier)?.completion_ms);
    let told = promised.filter(|_| end.outcome == Outcome::Done.name());
    told.map(|ms| format!("; {} had been predicted", millis(ms.into()))).unwrap_or_default()
}

fn percent(share: f32) -> String {
    let text = format!("{:.1}", share * 100.0);
    format!("{} %", text.strip_suffix(".0").unwrap_or(&text))
}

fn millis(ms: f64) -> String {
    if ms < 10.0 { format!("{ms:.2} ms") } else { format!("{ms:.0} ms") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Prediction;
    use crate::routing::FirstAnswer;

    fn case() -> Case {
        let tier = |tier: &str, completion, on_time, accuracy| Alternative {
            tier: tier.to_owned(),
            completion_ms: Some(completion),
            on_time: Some(on_time),
            accuracy: Some(accuracy),
        };
        Case {
            request_id: "r".to_owned(),
            job_id: Some("t.1".to_owned()),
            task: "t".to_owned(),
            at: 0,
            decision: DecisionRecord {
                by: "edge".to_owned(),
                tier: Some("fast".to_owned()),
                reason: Reason::SplitDear.name().to_owned(),
                depth: 12,
                accuracy: Some(0.97),
                snapshot_age_ms: Some(132),
                mode: Some(Mode::Normal.name().to_owned()),
                propensity: Some(0.4),
                share: Some(0.4),
                on_time: Some(0.98),
                hinted: Some("accurate".to_owned()),
                cascade: None,
            },
            weighed: Some(Weighed {
                policy: "slack-split".to_owned(),
                policy_version: 3,
                deadline_ms: Some(100),
                tiers: vec![tier("fast", 3.125, 1.0, 0.9), tier("accurate", 41.0, 0.98, 0.97)],
                ..Weighed::default()
            }),
            end: Some(End {
                outcome: "done".to_owned(),
                model: "trees".to_owned(),
                model_version: 2,
                latency_ms: 4.0,
                waited_ms: None,
                attempts: Some(1),
                error: None,
            }),
        }
    }

    #[test]
    fn a_whole_case_is_told_from_the_choice_to_the_end() {
        let told = tell(&case());
        let expected = [
            "`accurate` was chosen by the edge: the planned split had room for it on the dearer of the two tiers in use.",
            "The edge saw a backlog of 12 jobs and an accuracy of 97 % for this tier, in a snapshot 132 ms old.",
            "The policy was `slack-split`, version 3, in mode M0 (normal): the picture was young and everything in it known.",
            "It aimed at 40 % of the readings on the dearer tier; one like this had a chance of 40 % of getting `accurate`.",
            "Predicted were: `fast` done in 3.12 ms, in time with a chance of 100 %, right 90 % of the time; \
             `accurate` done in 41 ms, in time with a chance of 98 %, right 97 % of the time.",
            "When its turn came, a worker looked at the queue again and moved it from `accurate` to `fast`.",
            "`trees` version 2 answered after 4.00 ms, in time: the deadline was 100 ms; 3.12 ms had been predicted.",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn both_hops_of_a_cascade_are_told() {
        let mut case = case();
        case.decision.hinted = None;
        case.decision.tier = Some("fast".to_owned());
        let record = |hop: Hop| Cascaded {
            from: FirstAnswer {
                tier: "fast".to_owned(),
                model: "trees".to_owned(),
                version: 2,
                prediction: Some(Prediction::Class("73".to_owned())),
                confidence: Some(0.62),
            },
            below: 0.8,
            outcome: hop.name().to_owned(),
            why: (hop == Hop::Failed).then(|| "it was full".to_owned()),
        };
        case.decision.took(Some(&record(Hop::Escalated)), Some("accurate"));
        let told = tell(&case);
        assert!(told[0].starts_with("`fast` was chosen"), "{told:?}");
        let sentence =
            "`fast` said `73` with a confidence of 62 %, less than the 80 % asked for, so a dearer tier was asked too.";
        assert_eq!(told[5], sentence, "{told:?}");
        let others = Hop::ALL.map(|hop| cascaded(&record(hop)));
        assert!(others.iter().enumerate().all(|(i, words)| !others[..i].contains(words)), "{others:?}");
        assert!(others[5].contains("(it was full)"), "{others:?}");
    }

    #[test]
    fn what_is_not_known_is_not_told() {
        let bare = Case {
            decision: DecisionRecord { reason: "from_tomorrow".to_owned(), ..DecisionRecord::default() },
            weighed: None,
            end: None,
            ..case()
        };
        let told = tell(&bare);
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[0].contains("`from_tomorrow`") && told[2].contains("not ended"), "{told:?}");
    }

    #[test]
    fn an_end_that_came_too_late_says_so() {
        let end = |outcome: &str, latency_ms, error: Option<&str>| End {
            outcome: outcome.to_owned(),
            latency_ms,
            error: error.map(str::to_owned),
            ..case().end.unwrap()
        };
        let told = |end| ended(&case().ended(end));
        assert!(told(end("done", 140.0, None)).contains("after 140 ms, too late: the deadline was 100 ms"));
        let expired = told(end("expired", 101.0, Some("the deadline passed before it ended")));
        assert!(expired.starts_with("Its deadline passed after 101 ms, too late") && expired.contains("The error was"));
        assert!(!told(end("cancelled", 0.0, None)).contains("too late"));
        assert_eq!(told(end(REFUSED, 0.0, None)), "It was refused: there was no room for it.");
        assert!(told(end(SHED, 0.0, None)).starts_with("It was turned away: part of its class was shed"));
    }

    #[test]
    fn every_reason_and_mode_has_words_of_its_own() {
        let reasons = Reason::ALL.map(because);
        assert!(reasons.iter().enumerate().all(|(i, words)| !words.is_empty() && !reasons[..i].contains(words)));
        let modes = Mode::ALL.map(known);
        assert!(modes.iter().enumerate().all(|(i, words)| !words.is_empty() && !modes[..i].contains(words)));
    }
}
