//! What is written down about workers: faults of their attempts, and what comparisons say of their integrity.
//!
//! Written off the owner's task, many entries in one write and in the order in which they came: a worker's standing is their
//! fold. Losing the last of them with the process costs observations, never a rule. A quarantine goes the same way, behind
//! what it is for: one that is stored has its reason stored, so that the pool can tell later whether anything is left of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::Owner;
use crate::coordinator::repair;
use crate::coordinator::service::PoolEvent;
use crate::core::{self, Class, Time};
use crate::digest::Digest;
use crate::id::{AttemptId, WorkerId};
use crate::store::{Evidence, Quarantine, Store, StoreError, Withdrawal};

/// Between two tries to write what a full disk refused.
const FULL_PAUSE: Duration = Duration::from_secs(1);

/// What is written down.
enum Entry {
    Seen(Vec<Evidence>),
    Quarantine(WorkerId, Quarantine),
    Lifted(WorkerId, Time),
}

/// Entries on their way to the store.
#[derive(Default)]
pub(super) struct Notes {
    /// Noted since the last flush.
    noted: Vec<Evidence>,
    writer: Option<mpsc::UnboundedSender<Entry>>,
}

impl Notes {
    /// Hands over what was noted. New evidence comes from results that were written, so a full disk bounds what waits.
    pub(super) fn leave(&mut self, store: &Arc<dyn Store>, repair: &repair::Handle) {
        if !self.noted.is_empty() {
            let noted = std::mem::take(&mut self.noted);
            self.send(Entry::Seen(noted), store, repair);
        }
    }

    /// Hands over an entry, behind what was noted before it.
    fn leave_one(&mut self, entry: Entry, store: &Arc<dyn Store>, repair: &repair::Handle) {
        self.leave(store, repair);
        self.send(entry, store, repair);
    }

    fn send(&mut self, entry: Entry, store: &Arc<dyn Store>, repair: &repair::Handle) {
        let writer = self.writer.get_or_insert_with(|| {
            let (writer, entries) = mpsc::unbounded_channel();
            tokio::spawn(write(Arc::clone(store), repair.clone(), entries));
            writer
        });
        // it ends with the store only
        let _ = writer.send(entry);
    }
}

async fn write(store: Arc<dyn Store>, repair: repair::Handle, mut entries: mpsc::UnboundedReceiver<Entry>) {
    let mut next = None;
    loop {
        let Some(mut entry) = (match next.take() {
            Some(entry) => Some(entry),
            None => entries.recv().await,
        }) else {
            return;
        };
        if let Entry::Seen(noted) = &mut entry {
            while let Ok(more) = entries.try_recv() {
                match more {
                    Entry::Seen(more) => noted.extend(more),
                    other => {
                        next = Some(other);
                        break;
                    }
                }
            }
        }
        // a full disk must not let somebody in again at the next start
        while let Err(error) = write_one(store.as_ref(), &entry).await {
            tracing::warn!(%error, "what was seen of workers was not stored");
            if !matches!(error, StoreError::Full) {
                break;
            }
            tokio::time::sleep(FULL_PAUSE).await;
        }
        if matches!(entry, Entry::Quarantine(..)) {
            repair.wake();
        }
    }
}

async fn write_one(store: &dyn Store, entry: &Entry) -> Result<(), StoreError> {
    match entry {
        Entry::Seen(noted) => store.append_evidence(noted.clone()).await,
        Entry::Quarantine(worker, quarantine) => {
            store.quarantine_worker(*worker, Some(quarantine.clone()), quarantine.at).await.map(drop)
        }
        Entry::Lifted(worker, at) => store.lift_quarantine(*worker, *at).await.map(drop),
    }
}

impl Owner {
    /// Takes a note of a fault, or of a vote that lost.
    pub(super) fn note(&mut self, worker: WorkerId, kind: &str, attempt: AttemptId, result: Option<Digest>) {
        // not from its link: what a lost worker did not finish is told when that is gone
        let Some(class) = self.parts.pool.worker(worker).map(|view| view.class) else { return };
        let (at, kind) = (self.now(), kind.to_owned());
        let attempt = Some(attempt);
        self.notes.noted.push(Evidence { worker, class: class.0, kind, count: 1, attempt, result, at });
    }

    /// Stores the quarantine of a worker whose votes gave it away; the pool keeps it out already.
    pub(super) fn quarantine_worker(&mut self, worker: WorkerId, why: String) {
        if self.parts.quarantined.has(worker) && self.parts.pool.worker(worker).is_none() {
            // it is out already, and has not joined since: what was said then stands
            return;
        }
        tracing::warn!(%worker, %why, "worker quarantined");
        self.parts.quarantined.set(worker, true);
        self.withdraw(Withdrawal::of_worker(worker, self.now()));
        let _ = self.parts.events.send((None, PoolEvent::Worker(worker)));
        let quarantine = Quarantine { why, at: self.now(), for_votes: true };
        self.notes.leave_one(Entry::Quarantine(worker, quarantine), &self.parts.store, &self.parts.repair);
    }

    /// Stores that a quarantine has ended, because its worker had been right.
    pub(super) fn note_lifted(&mut self, worker: WorkerId) {
        let entry = Entry::Lifted(worker, self.now());
        self.notes.leave_one(entry, &self.parts.store, &self.parts.repair);
    }

    /// Takes a note of what a comparison says of a worker's integrity. A readmission is recorded by whoever readmits.
    pub(super) fn testified(
        &mut self,
        (worker, class): (WorkerId, Class),
        attempt: Option<AttemptId>,
        at: Time,
        evidence: core::Evidence,
    ) {
        if evidence == core::Evidence::LoneDissent {
            let count = self.parts.cache.doubt(worker);
            self.parts.metrics.cache_withdrawn.inc_by(count as u64);
        }
        if let Some((kind, count)) = Evidence::name_of(evidence)
            && let Some(attempt) = attempt
        {
            let kind = kind.to_owned();
            let attempt = Some(attempt);
            let entry = Evidence { worker, class: class.0, kind, count, attempt, result: None, at };
            self.notes.noted.push(entry);
        }
    }
}
