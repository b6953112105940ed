//! What is recorded of workers' sessions, for people who look for a machine that is missing.
//!
//! Recorded off the owner's task and in no order: each record names its session. Losing one costs an observation, never a
//! rule.

use std::sync::Arc;

use super::Owner;
use crate::id::WorkerId;
use crate::store::{StoreError, WorkerFacts, WorkerRow, WorkerSession};

impl Owner {
    /// A worker said what it is: its session begins.
    pub(super) fn begin_session(&mut self, worker: WorkerId, facts: WorkerFacts) {
        let at = self.now();
        let Some(link) = self.links.get_mut(&worker) else { return };
        link.row.session =
            Some(WorkerSession { facts: facts.clone(), connected_at: at, left_at: None, seen_at: at });
        let store = Arc::clone(&self.parts.store);
        self.record(async move { store.begin_session(worker, facts, at).await.map(drop) });
    }

    /// A worker's session ended, if it had begun.
    pub(super) fn end_session(&self, row: WorkerRow) {
        let Some(session) = row.session.filter(|session| session.left_at.is_none()) else { return };
        let at = self.now();
        let store = Arc::clone(&self.parts.store);
        self.record(async move { store.end_session(row.id, session.connected_at, at).await });
    }

    fn record(&self, write: impl Future<Output = Result<(), StoreError>> + Send + 'static) {
        tokio::spawn(async move {
            // at the end of the process the service has recorded all of them
            if let Err(error) = write.await
                && !matches!(error, StoreError::Closed)
            {
                tracing::warn!(%error, "a worker's session was not recorded");
            }
        });
    }
}
