//! Carries the owner's writes to the store, one batch in flight: what gathers meanwhile shares the next commit.
//!
//! Writes stay in the order in which the core made them. A full disk refuses what is new and keeps what finishes
//! work that was acknowledged: those writes are tried again, in order, until there is room. It decides nothing else.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::owner::Command;
use crate::core::WriteKind;
use crate::id::RunId;
use crate::store::{RunWrite, Store, StoreError, WriteAnswer};

/// Between two tries of a write that a full disk refused.
const FULL_DISK_PAUSE: Duration = Duration::from_millis(500);
/// Writes in one commit at most: a bound on how long the first of them waits for the others, and on how much the owner
/// hears at once.
const WRITES_MAX: usize = 2_000;

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
        RunWrite::Finish(last) | RunWrite::Correct(last) => (last.record.run, WriteKind::Finished),
    }
}

/// Runs until the owner drops its sender. Ends the process's work by returning the error if the store cannot be trusted.
pub async fn run(
    store: Arc<dyn Store>,
    mut batches: mpsc::UnboundedReceiver<Vec<RunWrite>>,
    owner: mpsc::UnboundedSender<Command>,
) -> Result<(), StoreError> {
    let mut waiting: VecDeque<RunWrite> = VecDeque::new();
    let mut has_tried_last = false;
    loop {
        if waiting.is_empty() {
            let Some(writes) = batches.recv().await else { return Ok(()) };
            waiting.extend(writes);
            has_tried_last = false;
        }
        take_ready(&mut batches, &mut waiting);
        let count = waiting.len().min(WRITES_MAX);
        let batch: Arc<Vec<RunWrite>> = Arc::new(waiting.drain(..count).collect());
        match store.write_runs(Arc::clone(&batch)).await {
            Ok(answers) => {
                let written = batch.iter().map(subject).zip(answers.into_iter().map(Written::Answered));
                let _ = owner.send(Command::Written(written.collect()));
            }
            Err(StoreError::Full) => {
                take_ready(&mut batches, &mut waiting);
                let all = Arc::unwrap_or_clone(batch).into_iter().chain(waiting.drain(..)).collect();
                waiting = keep_what_was_acknowledged(all, &owner).into();
                if has_tried_last && !waiting.is_empty() {
                    // Their runs are open in the store: the next start executes them again.
                    let writes = waiting.len();
                    tracing::warn!(writes, "the disk is full, and the process ends without them");
                    return Ok(());
                }
                has_tried_last = wait_for_room(&mut batches, &mut waiting, &owner).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Takes what has gathered.
fn take_ready(batches: &mut mpsc::UnboundedReceiver<Vec<RunWrite>>, waiting: &mut VecDeque<RunWrite>) {
    while let Ok(writes) = batches.try_recv() {
        waiting.extend(writes);
    }
}

/// Lets some time pass. What comes meanwhile is refused at once if it is new, and joins the others if not: nobody waits for
/// an answer until there is room. Gives whether nothing can come any more.
async fn wait_for_room(
    batches: &mut mpsc::UnboundedReceiver<Vec<RunWrite>>,
    writes: &mut VecDeque<RunWrite>,
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
    if !refused.is_empty() {
        let _ = owner.send(Command::Written(refused));
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::testing::{PATIENCE, make_full, make_room, new_run};
    use crate::core::{Final, Time};
    use crate::id::Epoch;
    use crate::result::{RunState, Verdict};
    use crate::store::sqlite::{Options, SqliteStore};
    use crate::store::{Failure, FinalRun, NewRun};

    fn insert(new: NewRun) -> RunWrite {
        RunWrite::Insert(Arc::new(new))
    }

    fn cancel(run: RunId) -> RunWrite {
        let record = Final {
            run,
            epoch: Epoch(1),
            revision: 1,
            state: RunState::Canceled,
            reason: None,
            outcome: None,
            verdict: Verdict::default(),
            result: None,
            votes: Vec::new(),
            error_ppb: None,
            attempts: Vec::new(),
            explain: Arc::default(),
            finished_at: Time(9),
            shared_with: None,
        };
        // too large for the room that is left in any page
        let large = bytes::Bytes::from(vec![b'x'; 12_000]);
        let blobs = vec![(crate::digest::Digest::of(&large), large)];
        RunWrite::Finish(Box::new(FinalRun {
            record,
            manifest: None,
            blobs,
            dissents: Vec::new(),
            votes: Vec::new(),
            source: None,
            reusable: false,
            callback: None,
        }))
    }

    async fn hears(owner: &mut mpsc::UnboundedReceiver<Command>) -> Vec<((RunId, WriteKind), Written)> {
        match tokio::time::timeout(PATIENCE, owner.recv()).await.expect("the pump answers") {
            Some(Command::Written(written)) => written,
            _ => panic!("the pump says nothing else"),
        }
    }

    #[tokio::test]
    async fn a_full_disk_refuses_what_comes_while_it_is_full_and_keeps_what_ends_work() {
        let dir = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(
            SqliteStore::open(dir.path(), Options { pages_max: Some(400) }, Failure::new()).unwrap(),
        );
        let open = new_run();
        store.write_runs(Arc::new(vec![insert(open.clone())])).await.unwrap();
        make_full(store.as_ref()).await;
        let (writes, batches) = mpsc::unbounded_channel();
        let (owner, mut heard) = mpsc::unbounded_channel();
        let pump = tokio::spawn(run(Arc::clone(&store), batches, owner));

        writes.send(vec![cancel(open.id)]).unwrap();
        for _ in 0..3 {
            // each comes while the final is tried again and again
            let new = new_run();
            writes.send(vec![insert(new.clone())]).unwrap();
            let refused = loop {
                let written = hears(&mut heard).await;
                if !written.is_empty() {
                    break written;
                }
            };
            assert!(
                matches!(refused.as_slice(), [((run, WriteKind::Inserted), Written::DiskFull)] if *run == new.id)
            );
        }
        make_room(store.as_ref()).await;
        let done = loop {
            let written = hears(&mut heard).await;
            if !written.is_empty() {
                break written;
            }
        };
        assert!(matches!(
            done.as_slice(),
            [((run, WriteKind::Finished), Written::Answered(WriteAnswer::Committed))] if *run == open.id
        ));
        drop(writes);
        pump.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_commit_has_a_bound_and_every_write_its_answer() {
        let dir = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> =
            Arc::new(SqliteStore::open(dir.path(), Options::default(), Failure::new()).unwrap());
        let (writes, batches) = mpsc::unbounded_channel();
        let (owner, mut heard) = mpsc::unbounded_channel();
        let all: Vec<RunWrite> = (0..WRITES_MAX + 10).map(|_| insert(new_run())).collect();
        let subjects: Vec<_> = all.iter().map(subject).collect();
        writes.send(all).unwrap();
        drop(writes);
        run(store, batches, owner).await.unwrap();
        let (first, second) = (hears(&mut heard).await, hears(&mut heard).await);
        assert_eq!((first.len(), second.len()), (WRITES_MAX, 10));
        let answered: Vec<_> = first.into_iter().chain(second).map(|(subject, _)| subject).collect();
        assert_eq!(answered, subjects);
    }
}
