//! The metrics of the queue: what was handed in, what became of it, and what is there now.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::families::{Count, Declaring, Number, TierLabels};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct TaskLabels {
    pub(super) task: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    task: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    task: String,
    result: &'static str,
}

/// A task's queue at one moment.
#[derive(Debug, Clone, Default)]
pub struct QueueState {
    /// The task.
    pub task: String,
    /// Of each tier: unsettled jobs, and those of them that a consumer holds.
    pub tiers: Vec<TierState>,
    /// How long the unsettled jobs take, in seconds, as far as that is known.
    pub seconds: Option<f64>,
    /// Dead letters kept.
    pub dead: u64,
}

/// A tier's part of a queue.
#[derive(Debug, Clone, Default)]
pub struct TierState {
    /// The tier.
    pub tier: String,
    /// Unsettled jobs.
    pub backlog: u64,
    /// Those of them that a consumer holds.
    pub inflight: u64,
}

#[derive(Debug)]
pub(super) struct QueueFamilies {
    backlog: Family<TierLabels, Count>,
    inflight: Family<TierLabels, Count>,
    seconds: Family<TaskLabels, Number>,
    dead: Family<TaskLabels, Count>,
    hand_ins: Family<ResultLabels, Counter>,
    settled: Family<OutcomeLabels, Counter>,
    retried: Family<TaskLabels, Counter>,
    lost: Family<TaskLabels, Counter>,
}

impl QueueFamilies {
    pub(super) fn declare(to: &mut Declaring<'_>) -> Self {
        Self {
            backlog: to.add("router_backlog_jobs", "Jobs accepted and not yet settled"),
            inflight: to.add("router_inflight_jobs", "Jobs that a consumer holds"),
            seconds: to.add("router_backlog_seconds", "How long the backlog takes at the rate seen"),
            dead: to.add("router_dead_letters", "Jobs that were given up and are kept"),
            hand_ins: to.add("router_hand_ins", "Jobs handed in"),
            settled: to.add("router_jobs_settled", "Jobs that got their result"),
            retried: to.add("router_jobs_retried", "Tries that came to nothing and were put aside for another"),
            lost: to.add("router_jobs_lost", "Accepted jobs that are gone from the queue's store without a result"),
        }
    }

    /// Tells what the queues hold, and of no others.
    pub(super) fn set(&self, queues: &[QueueState]) {
        self.backlog.clear();
        self.inflight.clear();
        self.seconds.clear();
        self.dead.clear();
        for queue in queues {
            for tier in &queue.tiers {
                let labels = TierLabels { task: queue.task.clone(), tier: tier.tier.clone() };
                self.backlog.get_or_create(&labels).set(tier.backlog);
                self.inflight.get_or_create(&labels).set(tier.inflight);
            }
            let labels = TaskLabels { task: queue.task.clone() };
            if let Some(seconds) = queue.seconds {
                self.seconds.get_or_create(&labels).set(seconds);
            }
            self.dead.get_or_create(&labels).set(queue.dead);
        }
    }

    pub(super) fn hand_in(&self, task: &str, result: &'static str) {
        self.hand_ins.get_or_create(&ResultLabels { task: task.to_owned(), result }).inc();
    }

    pub(super) fn settled(&self, task: &str, outcome: &'static str) {
        self.settled.get_or_create(&OutcomeLabels { task: task.to_owned(), outcome }).inc();
    }

    pub(super) fn retried(&self, task: &str) {
        self.retried.get_or_create(&TaskLabels { task: task.to_owned() }).inc();
    }

    pub(super) fn lost(&self, task: &str, jobs: u64) {
        self.lost.get_or_create(&TaskLabels { task: task.to_owned() }).inc_by(jobs);
    }
}
