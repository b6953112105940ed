//! What is written down about workers: faults of their attempts, and what comparisons say of their integrity.
//!
//! Written off the owner's task, many entries in one write and in the order in which they came: a worker's standing is their
//! fold. Losing the last of them with the process costs observations, never a rule.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::Owner;
use crate::core::{self, Class, Time};
use crate::digest::Digest;
use crate::id::{AttemptId, WorkerId};
use crate::store::{Evidence, Store, StoreError};

/// Between two tries to write what a full disk refused.
const FULL_PAUSE: Duration = Duration::from_secs(1);

/// Entries on their way to the store.
#[derive(Default)]
pub(super) struct Notes {
    /// Noted since the last flush.
    noted: Vec<Evidence>,
    writer: Option<mpsc::UnboundedSender<Vec<Evidence>>>,
}

impl Notes {
    /// Hands over what was noted. New evidence comes from results that were written, so a full disk bounds what waits.
    pub(super) fn leave(&mut self, store: &Arc<dyn Store>) {
        if self.noted.is_empty() {
            return;
        }
        let writer = self.writer.get_or_insert_with(|| {
            let (writer, entries) = mpsc::unbounded_channel();
            tokio::spawn(write(Arc::clone(store), entries));
            writer
        });
        // it ends with the store only
        let _ = writer.send(std::mem::take(&mut self.noted));
    }
}

async fn write(store: Arc<dyn Store>, mut entries: mpsc::UnboundedReceiver<Vec<Evidence>>) {
    while let Some(mut noted) = entries.recv().await {
        while let Ok(more) = entries.try_recv() {
            noted.extend(more);
        }
        while let Err(error) = store.append_evidence(noted.clone()).await {
            tracing::warn!(%error, "evidence was not stored");
            if !matches!(error, StoreError::Full) {
                break;
            }
            tokio::time::sleep(FULL_PAUSE).await;
        }
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

    /// Takes a note of what a comparison says of a worker's integrity. A readmission is recorded by whoever readmits.
    pub(super) fn testified(
        &mut self,
        (worker, class): (WorkerId, Class),
        attempt: Option<AttemptId>,
        at: Time,
        evidence: core::Evidence,
    ) {
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
