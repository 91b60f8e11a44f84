//! The jobs a consumer holds now: whose leases it renews, and what it calls off.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::queue::Ticket;

#[derive(Debug, Clone)]
struct Job {
    serial: u64,
    ticket: Ticket,
    called_off: CancellationToken,
}

/// All jobs held by one consumer.
#[derive(Debug, Clone, Default)]
pub(super) struct Held(Arc<Mutex<HashMap<String, Job>>>, Arc<AtomicU64>);

/// One held job; when this goes, its lease is not renewed any more.
#[derive(Debug)]
pub(super) struct Hold {
    held: Held,
    serial: u64,
    job_id: String,
    called_off: CancellationToken,
}

impl Held {
    fn jobs(&self) -> MutexGuard<'_, HashMap<String, Job>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn hold(&self, ticket: &Ticket) -> Hold {
        let called_off = CancellationToken::new();
        let serial = self.1.fetch_add(1, Ordering::Relaxed);
        let job = Job { serial, ticket: ticket.clone(), called_off: called_off.clone() };
        self.jobs().insert(ticket.job_id.clone(), job);
        Hold { held: self.clone(), serial, job_id: ticket.job_id.clone(), called_off }
    }

    /// Is this very claim of a job held already?
    pub(super) fn has(&self, ticket: &Ticket) -> bool {
        self.jobs().get(&ticket.job_id).is_some_and(|job| job.ticket == *ticket)
    }

    pub(super) fn tickets(&self) -> Vec<Ticket> {
        self.jobs().values().map(|job| job.ticket.clone()).collect()
    }

    /// How many jobs are held.
    pub(super) fn count(&self) -> usize {
        self.jobs().len()
    }

    /// Takes in which leases were renewed: what is somebody else's, or ended, is called off.
    pub(super) fn keep(&self, tickets: &[Ticket], ours: &[bool]) {
        let mut jobs = self.jobs();
        for (ticket, _) in tickets.iter().zip(ours).filter(|(_, ours)| !**ours) {
            // The same job may have been claimed again meanwhile.
            if jobs.get(&ticket.job_id).is_some_and(|job| job.ticket == *ticket)
                && let Some(job) = jobs.remove(&ticket.job_id)
            {
                job.called_off.cancel();
            }
        }
    }
}

impl Hold {
    /// Ends when the job is not this consumer's any more: cancelled, or taken over.
    pub(super) const fn called_off(&self) -> &CancellationToken {
        &self.called_off
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut jobs = self.held.jobs();
        // This consumer may have claimed the same job again.
        if jobs.get(&self.job_id).is_some_and(|job| job.serial == self.serial) {
            jobs.remove(&self.job_id);
        }
    }
}
