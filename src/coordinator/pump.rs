//! Carries the owner's writes to the store, one batch in flight: what gathers meanwhile shares the next commit.
//!
//! Writes stay in the order in which the core made them. A full disk refuses what is new and keeps what finishes
//! work that was acknowledged: those writes are tried again, in order, until there is room. It decides nothing else.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::owner::Command;
use crate::core::WriteKind;
use crate::id::RunId;
use crate::store::{RunWrite, Store, StoreError, WriteAnswer};

/// Between two tries of a write that a full disk refused.
const FULL_DISK_PAUSE: Duration = Duration::from_millis(500);
/// Batches of the owner that share one commit at most; the store bounds its transactions itself.
const BATCHES_MAX: usize = 1_024;

/// How one write ended, as the owner hears it.
#[derive(Debug)]
pub enum Written {
    /// The store answered.
    Answered(WriteAnswer),
    /// There was no room for a new run.
    DiskFull,
}

/// The run and the kind of a write.
pub fn subject(write: &RunWrite) -> (RunId, WriteKind) {
    match write {
        RunWrite::Insert(new) => (new.id, WriteKind::Inserted),
        RunWrite::Attempt { run, record, .. } => (*run, WriteKind::Attempt(record.number)),
        RunWrite::Finish(last) => (last.record.run, WriteKind::Finished),
    }
}

/// Runs until the owner drops its sender. Ends the process's work by returning the error if the store cannot be trusted.
pub async fn run(
    store: Arc<dyn Store>,
    mut batches: mpsc::UnboundedReceiver<Vec<RunWrite>>,
    owner: mpsc::UnboundedSender<Command>,
) -> Result<(), StoreError> {
    let mut received = Vec::new();
    while batches.recv_many(&mut received, BATCHES_MAX).await > 0 {
        let mut writes: Vec<RunWrite> = received.drain(..).flatten().collect();
        let mut has_tried_last = false;
        while !writes.is_empty() {
            let batch = Arc::new(writes);
            match store.write_runs(Arc::clone(&batch)).await {
                Ok(answers) => {
                    let written = batch.iter().map(subject).zip(answers.into_iter().map(Written::Answered));
                    let _ = owner.send(Command::Written(written.collect()));
                    writes = Vec::new();
                }
                Err(StoreError::Full) => {
                    writes = keep_what_was_acknowledged(Arc::unwrap_or_clone(batch), &owner);
                    if has_tried_last && !writes.is_empty() {
                        // Their runs are open in the store: the next start executes them again.
                        tracing::warn!(
                            writes = writes.len(),
                            "the disk is full, and the process ends without them"
                        );
                        return Ok(());
                    }
                    has_tried_last = wait_for_room(&mut batches, &mut writes, &owner).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Lets some time pass. What comes meanwhile is refused at once if it is new, and joins the others if not: nobody waits for
/// an answer until there is room. Gives whether nothing can come any more.
async fn wait_for_room(
    batches: &mut mpsc::UnboundedReceiver<Vec<RunWrite>>,
    writes: &mut Vec<RunWrite>,
    owner: &mpsc::UnboundedSender<Command>,
) -> bool {
    let pause = tokio::time::sleep(FULL_DISK_PAUSE);
    tokio::pin!(pause);
    loop {
        tokio::select! {
            biased;
            () = &mut pause => return batches.is_closed() && batches.is_empty(),
            batch = batches.recv() => match batch {
                Some(batch) => writes.extend(keep_what_was_acknowledged(batch, owner)),
                None => {
                    pause.await;
                    return true;
                }
            },
        }
    }
}

/// Refuses the insertions of a batch (and what follows from them) and returns the rest, to be tried again.
fn keep_what_was_acknowledged(batch: Vec<RunWrite>, owner: &mpsc::UnboundedSender<Command>) -> Vec<RunWrite> {
    let mut refused = Vec::new();
    let kept = batch
        .into_iter()
        .filter(|write| {
            let (run, kind) = subject(write);
            let is_new = kind == WriteKind::Inserted || refused.iter().any(|((other, _), _)| *other == run);
            if is_new {
                refused.push(((run, kind), Written::DiskFull));
            }
            !is_new
        })
        .collect();
    let _ = owner.send(Command::Written(refused));
    kept
}
