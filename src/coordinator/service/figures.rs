//! Use cases of people who look at the pool: figures, and one worker in detail.

use super::{
    Caller, CurrentAttempt, Evidence, Glance, Outlook, Service, ServiceError, Usage, WorkerNow, WorkerRow,
};
use crate::coordinator::owner::Command;
use crate::core::{Time, WorkerStanding, WorkerView};
use crate::id::WorkerId;
use crate::protocol::api::{SlotCounts, Tally, WorkerCounts};

/// Observations that come with a worker.
const EVIDENCE_SHOWN: u32 = 50;

/// The pool at a glance, with what is stored.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// The caller's runs.
    pub glance: Glance,
    /// Workers by standing.
    pub workers: WorkerCounts,
    /// Their slots.
    pub slots: SlotCounts,
    /// The store, as of a moment ago.
    pub usage: Usage,
    /// What retention will do.
    pub outlook: Outlook,
}

/// A worker with what was seen of it.
#[derive(Clone, Debug)]
pub struct WorkerReport {
    /// Its row.
    pub row: WorkerRow,
    /// What the pool sees of it, if it is connected.
    pub view: Option<WorkerView>,
    /// What it holds, the oldest first.
    pub current: Vec<CurrentAttempt>,
    /// When this was true.
    pub at: Time,
    /// Its newest evidence, with positions in its log.
    pub recent: Vec<(u64, Evidence)>,
    /// How much there is, by kind.
    pub counts: Vec<(String, u64)>,
}

impl Service {
    /// The pool at a glance, as the caller's workspace sees it.
    pub async fn figures(&self, caller: &Caller) -> Result<Figures, ServiceError> {
        let glance = self.ask(|reply| Command::Glance(caller.workspace, reply)).await?;
        let (usage, outlook) = match self.parts.usage.fresh() {
            Some(known) => known,
            None => {
                let usage = self.parts.store.usage().await?;
                let retention = self.parts.facts.retention.of_runs(self.now());
                let outlook = self.parts.store.outlook(retention).await?;
                self.parts.usage.remember(usage, outlook);
                (usage, outlook)
            }
        };
        let (workers, slots) = counts(&self.workers(caller).await?);
        Ok(Figures { glance, workers, slots, usage, outlook })
    }

    /// The figures of each of the last `minutes`, and since when they are complete.
    pub async fn series(
        &self,
        caller: &Caller,
        minutes: u64,
    ) -> Result<(Time, Vec<(Time, Tally)>), ServiceError> {
        self.ask(|reply| Command::Series(caller.workspace, minutes, reply)).await
    }

    /// The longest series that is kept, in minutes.
    pub fn series_minutes_max(&self) -> u64 {
        crate::coordinator::ledger::MINUTES_MAX
    }

    /// A worker in detail.
    pub async fn worker_report(&self, _caller: &Caller, id: WorkerId) -> Result<WorkerReport, ServiceError> {
        let now = self.ask(|reply| Command::Worker(id, reply)).await?;
        let stored = self.parts.store.workers().await?.into_iter().find(|row| row.id == id);
        let row = stored.ok_or_else(|| ServiceError::NotFound { what: "worker", id: id.to_string() })?;
        let recent = self.parts.store.evidence(id, None, EVIDENCE_SHOWN).await?;
        let counts = self.parts.store.evidence_counts(id).await?;
        Ok(match now {
            // the record of a session follows its beginning
            Some(WorkerNow { row: linked, view, current, at }) => {
                let row = WorkerRow { session: linked.session, ..row };
                WorkerReport { row, view: Some(view), current, at, recent, counts }
            }
            None => WorkerReport { row, view: None, current: Vec::new(), at: self.now(), recent, counts },
        })
    }

    /// What was seen of a worker, also of one that is gone: newest first, before position `before` in its log.
    pub async fn evidence(
        &self,
        _caller: &Caller,
        id: WorkerId,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<(u64, Evidence)>, ServiceError> {
        Ok(self.parts.store.evidence(id, before, limit).await?)
    }

    /// When this process started, and how long ago that is, in milliseconds.
    pub fn uptime(&self) -> (Time, u64) {
        let started_at = self.parts.facts.started_at;
        (started_at, self.now().ms_since(started_at))
    }
}

fn counts(workers: &[(WorkerRow, Option<WorkerView>)]) -> (WorkerCounts, SlotCounts) {
    let (mut counts, mut slots) = (WorkerCounts::default(), SlotCounts::default());
    for (_, view) in workers {
        let Some(view) = view else {
            counts.gone += 1;
            continue;
        };
        match view.standing {
            WorkerStanding::Active => {
                counts.active += 1;
                slots.total += u64::from(view.slots);
                slots.busy += u64::from(view.slots).min(view.holds.len() as u64);
            }
            WorkerStanding::Suspect => counts.suspect += 1,
            WorkerStanding::Draining => counts.draining += 1,
            WorkerStanding::Lost => counts.lost += 1,
            WorkerStanding::Quarantined => counts.quarantined += 1,
        }
    }
    (counts, slots)
}
