//! Workers: who is enrolled, who is connected, and what an operator does to them.

use std::collections::HashMap;

use super::super::owner::{Command, WorkerOrder};
use super::{Caller, Service, ServiceError, Withdrawal, WorkerRow};
use crate::core::WorkerView;
use crate::id::WorkerId;
use crate::store::Quarantine;

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
        let enrolled = self.parts.store.workers().await?.iter().any(|row| row.id == id);
        Err(if enrolled { ServiceError::WorkerNotConnected } else { no_worker(id) })
    }

    /// Takes a worker out: it gets nothing and its open votes count for nothing. One that is not connected is refused
    /// work when it comes back. What rested on it is verified anew, see [`Service::repairs`].
    pub async fn quarantine_worker(
        &self,
        _caller: &Caller,
        id: WorkerId,
        why: String,
    ) -> Result<(), ServiceError> {
        let at = self.now();
        let quarantine = Quarantine { why: why.clone(), at, for_votes: false };
        if !self.parts.store.quarantine_worker(id, Some(quarantine), at).await? {
            return Err(no_worker(id));
        }
        self.parts.pool.set_quarantined(id, true);
        let ordered = self.order(id, WorkerOrder::Quarantine(why)).await;
        // now that nothing new rests on it
        self.withdraw_everywhere(Withdrawal::of_worker(id, self.now())).await?;
        ordered?;
        self.parts.repair.wake();
        Ok(())
    }

    /// Lets a drained or quarantined worker work again.
    pub async fn readmit_worker(&self, _caller: &Caller, id: WorkerId) -> Result<(), ServiceError> {
        if !self.parts.store.quarantine_worker(id, None, self.now()).await? {
            return Err(no_worker(id));
        }
        self.parts.pool.set_quarantined(id, false);
        self.order(id, WorkerOrder::Readmit).await.map(drop)
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

fn no_worker(id: WorkerId) -> ServiceError {
    ServiceError::NotFound { what: "worker", id: id.to_string() }
}
