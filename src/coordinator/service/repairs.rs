//! Use cases of what is verified anew: whose finals are looked at, and the revisions of a run.

use std::sync::Arc;

use super::{Caller, Repair, RunDetail, Service, ServiceError, StoredRun};
use crate::id::RunId;

impl Service {
    /// The workers whose finals are or were looked at, those that were taken out last first.
    pub async fn repairs(&self, _caller: &Caller) -> Result<Vec<Repair>, ServiceError> {
        Ok(self.parts.store.repairs().await?)
    }

    /// A run as it is now or, with a revision, as it was then.
    pub async fn run_at(
        &self,
        caller: &Caller,
        id: RunId,
        revision: Option<u32>,
    ) -> Result<Arc<RunDetail>, ServiceError> {
        let Some(revision) = revision else { return self.run(caller, id).await };
        let now = self.run(caller, id).await?;
        if now.run.revision == revision {
            return Ok(now);
        }
        let there = self.parts.store.revision(id, revision).await?;
        let missing = || ServiceError::NotFound { what: "revision", id: format!("{revision} of run {id}") };
        self.with_outputs(there.ok_or_else(missing)?).await.map(Arc::new)
    }

    /// All revisions of a run's final, the first one first; none while it has not ended.
    pub async fn revisions(&self, caller: &Caller, id: RunId) -> Result<Vec<StoredRun>, ServiceError> {
        // whose it is
        let now = self.run(caller, id).await?;
        if !now.run.policy.durable {
            return Ok(if now.run.state.is_final() { vec![now.run.clone()] } else { Vec::new() });
        }
        Ok(self.parts.store.revisions(id).await?)
    }
}
