//! A rollout's state between processes: what to store, and what to take over.
//!
//! Owns which of two states holds here; the text is `super::super::facts`'s, the store the caller's.

use super::super::facts::SharedState;
use super::Rollout;

impl Rollout {
    /// Under which name the shared state of this plan is kept; none without a plan.
    ///
    /// The versions are part of it: a new canary does not inherit the roll-back of the last one.
    #[must_use]
    pub fn fact_field(&self) -> Option<String> {
        let versions: Vec<String> = self.arms.iter().map(|arm| format!("{}={}", arm.arm, arm.version)).collect();
        (!versions.is_empty()).then(|| format!("{}:{}:{}", self.model, self.default_version, versions.join(",")))
    }

    /// The text other processes need; none as long as all is as configured.
    #[must_use]
    pub fn export(&self) -> Option<String> {
        let state = self.state();
        (state.changed_at > 0).then(|| state.to_text())
    }

    /// Takes over another process's state if it is newer; says whether it was.
    ///
    /// # Errors
    /// The text cannot be read; then nothing changes.
    pub fn import(&self, text: &str) -> Result<bool, String> {
        let theirs = SharedState::from_text(text)?;
        let mut all = self.locked();
        let ours = self.state();
        if self.arms.is_empty() || !theirs.is_newer_than(&ours) {
            return Ok(false);
        }
        if let Some(rolled_back) = theirs.rolled_back.as_ref().filter(|_| ours.rolled_back.is_none()) {
            tracing::warn!(
                task = %self.task, model = %self.model, reason = rolled_back.reason, by = ?rolled_back.by,
                "rollout taken out of traffic, as stored by another process or an earlier run"
            );
        }
        self.put_in_force(&mut all, theirs);
        Ok(true)
    }

    /// Brings this process's state and the stored one together: takes the newer one over, and returns the text to
    /// store where this process's is the newer one.
    ///
    /// # Errors
    /// The stored text cannot be read; nothing changes, and nothing is to be stored.
    pub fn reconcile(&self, stored: Option<&str>) -> Result<Option<String>, String> {
        let Some(stored) = stored else { return Ok(self.export()) };
        if self.import(stored)? {
            return Ok(None);
        }
        let newer = self.state().is_newer_than(&SharedState::from_text(stored)?);
        Ok(self.export().filter(|_| newer))
    }
}
