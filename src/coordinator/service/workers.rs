//! Workers: who is enrolled, who is connected, and what an operator does to them.

use std::collections::HashMap;

use tokio::sync::oneshot;

use super::super::owner::{Command, Stored, WorkerOrder};
use super::{Caller, Service, ServiceError, WorkerRow};
use crate::core::WorkerView;
use crate::id::WorkerId;
use crate::store::StoreError;

impl Service {
    /// The workers that are enrolled, by number; with what the pool sees of those that are connected.
    pub async fn workers(
        &self,
        _caller: &Caller,
    ) -> Result<Vec<(WorkerRow, Option<WorkerView>)>, ServiceError> {
        let rows = self.parts.store.workers().await?;
        let mut connected = self.connected().await?;
        let both = |row: WorkerRow| match connected.remove(&row.id) {
            // the record of a session follows its beginning
            Some((linked, view)) => (WorkerRow { session: linked.session, ..row }, Some(view)),
            None => (row, None),
        };
        Ok(rows.into_iter().map(both).collect())
    }

    async fn connected(&self) -> Result<HashMap<WorkerId, (WorkerRow, WorkerView)>, ServiceError> {
        let workers = self.ask(Command::Workers).await?;
        Ok(workers.into_iter().map(|(row, view)| (row.id, (row, view))).collect())
    }

    /// Lets a worker finish what it holds and gives it nothing more.
    pub async fn drain_worker(&self, caller: &Caller, id: WorkerId) -> Result<(), ServiceError> {
        let why = format!("drained with token {}", caller.token);
        if self.order(id, WorkerOrder::Drain(why)).await? {
            return Ok(());
        }
        self.check_enrolled(id).await?;
        Err(ServiceError::WorkerNotConnected)
    }

    async fn check_enrolled(&self, id: WorkerId) -> Result<(), ServiceError> {
        let is_there = self.parts.store.workers().await?.iter().any(|row| row.id == id);
        is_there.then_some(()).ok_or_else(|| no_worker(id))
    }

    /// Takes a worker out: it gets nothing and its open votes count for nothing. One that is not connected is refused
    /// work when it comes back. What rested on it answers nobody any more and is verified anew, see [`Service::repairs`].
    pub async fn quarantine_worker(
        &self,
        _caller: &Caller,
        id: WorkerId,
        why: String,
    ) -> Result<(), ServiceError> {
        self.settle(id, |stored| WorkerOrder::Quarantine(why, stored)).await
    }

    /// Lets a drained or quarantined worker work again.
    pub async fn readmit_worker(&self, _caller: &Caller, id: WorkerId) -> Result<(), ServiceError> {
        self.settle(id, WorkerOrder::Readmit).await
    }

    /// Says something that lasts of a worker that is enrolled, and waits until it is stored.
    async fn settle(
        &self,
        id: WorkerId,
        order: impl FnOnce(Stored) -> WorkerOrder,
    ) -> Result<(), ServiceError> {
        self.check_enrolled(id).await?;
        let (stored, is_stored) = oneshot::channel();
        self.order(id, order(stored)).await?;
        let is_there = said(is_stored.await.map_err(|_| ServiceError::ShuttingDown)?)?;
        is_there.then_some(()).ok_or_else(|| no_worker(id))
    }

    /// Forgets a worker that is not connected.
    pub async fn forget_worker(&self, _caller: &Caller, id: WorkerId) -> Result<(), ServiceError> {
        if self.connected().await?.contains_key(&id) {
            return Err(ServiceError::WorkerConnected);
        }
        // one that connects just now goes on without a row, and enrols anew next time
        self.parts.store.forget_worker(id).await?.then_some(()).ok_or_else(|| no_worker(id))
    }

    /// False if it is not connected.
    async fn order(&self, id: WorkerId, order: WorkerOrder) -> Result<bool, ServiceError> {
        self.ask(|reply| Command::Order(id, order, reply)).await
    }

    /// Writes down which tokens were used and which workers were heard of since the last time.
    pub async fn note_seen(&self) -> Result<(), ServiceError> {
        let used = self.parts.tokens.take_uses();
        if !used.is_empty() {
            self.parts.store.note_tokens_used(used).await?;
        }
        let seen: Vec<_> =
            self.connected().await?.into_values().map(|(row, view)| (row.id, view.heard_at)).collect();
        if !seen.is_empty() {
            self.parts.store.note_workers_seen(seen).await?;
        }
        Ok(())
    }

    /// Writes down, when the process ends, what [`Service::note_seen`] would, and that every session ends.
    pub async fn end_sessions(&self) {
        let end = async {
            self.note_seen().await?;
            let now = self.now();
            for (id, (row, _)) in self.connected().await? {
                let Some(session) = row.session else { continue };
                self.parts.store.end_session(id, session.connected_at, now).await?;
            }
            Ok::<(), ServiceError>(())
        };
        if let Err(error) = end.await {
            tracing::warn!(%error, "the workers' sessions were not recorded as ended");
        }
    }
}

/// How what an operator said was stored: on a full disk it holds all the same.
pub(super) fn said(stored: Result<bool, StoreError>) -> Result<bool, ServiceError> {
    stored.map_err(|error| match error {
        StoreError::Full => ServiceError::HoldsUnstored,
        error => error.into(),
    })
}

fn no_worker(id: WorkerId) -> ServiceError {
    ServiceError::NotFound { what: "worker", id: id.to_string() }
}
