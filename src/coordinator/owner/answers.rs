//! What the store and the collecting tasks answer.

use std::sync::Arc;

use bytes::Bytes;

use super::Owner;
use crate::coordinator::open_run::OpenRun;
use crate::coordinator::pump::Written;
use crate::coordinator::service::{PoolEvent, RunDetail, RunEvent, ServiceError};
use crate::core::{Event, WriteKind};
use crate::digest::Digest;
use crate::id::{AttemptId, RunId};
use crate::result::Fault;
use crate::store::WriteAnswer;

impl Owner {
    /// The store's answers, in the order of the writes.
    pub(super) fn written(&mut self, answers: Vec<((RunId, WriteKind), Written)>) {
        if answers.iter().any(|(_, written)| matches!(written, Written::Answered(WriteAnswer::Committed))) {
            // whatever it was, rows can be written
            self.parts.cache.suspend(false);
        }
        for ((run, kind), written) in answers {
            if self.hit_written(run, kind, &written) {
                continue;
            }
            match written {
                Written::Answered(WriteAnswer::Committed) => self.committed(run, kind),
                Written::Answered(WriteAnswer::Refused) => {
                    // somebody else finished it, or owns it: what they committed is the truth now
                    self.refused(run, ServiceError::TakenOver);
                }
                Written::Answered(WriteAnswer::Duplicate { run: other, same_payload }) => {
                    self.refused(run, ServiceError::Duplicate { run: other, same_payload });
                }
                Written::Answered(WriteAnswer::MissingBlob(digest)) if kind == WriteKind::Finished => {
                    self.not_finished(run, digest);
                }
                Written::Answered(WriteAnswer::MissingBlob(digest)) => {
                    self.refused(run, ServiceError::MissingBlob(digest));
                }
                Written::DiskFull => self.refused(run, ServiceError::DiskFull),
            }
        }
    }

    fn committed(&mut self, run: RunId, kind: WriteKind) {
        if let Some(open) = self.runs.get_mut(&run) {
            open.writes_in_flight = open.writes_in_flight.saturating_sub(1);
            if kind == WriteKind::Inserted {
                self.acknowledge(run);
            }
        }
        if kind == WriteKind::Finished
            && let Some(mut open) = self.forget(run)
            && let Some(detail) = open.finished.clone()
        {
            let offer = open.offer.take();
            self.remember(offer);
            self.final_committed(&detail);
            match open.anew {
                None => self.count_final(&detail.run),
                Some(_) => self.corrected(&detail),
            }
            self.announce(open, detail);
        }
        self.step(Event::Committed { run, write: kind });
        self.tell_held(run);
    }

    /// The run is durable: its submitter and everybody else may know it.
    fn acknowledge(&mut self, run: RunId) {
        let view = self.parts.pool.run(run);
        let Some(open) = self.runs.get_mut(&run) else { return };
        open.visible = true;
        let (workspace, created_at) = (open.new.workspace, open.new.created_at);
        self.count_acknowledged(workspace, created_at);
        let Some(open) = self.runs.get_mut(&run) else { return };
        if open.acks.is_empty() {
            return;
        }
        let detail = match (&open.finished, view) {
            (_, Some(view)) => Arc::new(open.detail(view)),
            (Some(finished), None) => Arc::clone(finished),
            (None, None) => return,
        };
        for waiter in open.acks.drain(..) {
            let _ = waiter.send(Ok(Arc::clone(&detail)));
        }
    }

    /// Tells what waited for the last write of a run.
    fn tell_held(&mut self, run: RunId) {
        let ready = self.runs.get_mut(&run).filter(|open| open.writes_in_flight == 0);
        let held = ready.map(|open| std::mem::take(&mut open.held)).unwrap_or_default();
        for effect in held {
            self.perform(effect);
        }
    }

    /// The final is there: everybody hears the same (I8). What was held for its commit is told too.
    pub(super) fn announce(&mut self, open: OpenRun, detail: Arc<RunDetail>) {
        for waiter in open.acks.into_iter().chain(open.finals) {
            let _ = waiter.send(Ok(Arc::clone(&detail)));
        }
        let _ = self.parts.events.send((Some(detail.run.workspace), PoolEvent::Run(detail.run.id)));
        if let Some(watchers) = open.watchers {
            let _ = watchers.send(RunEvent::Changed(detail));
        }
        for effect in open.held {
            self.perform(effect);
        }
    }

    fn refused(&mut self, run: RunId, error: ServiceError) {
        if self.runs.contains_key(&run) {
            self.fail(run, error);
            self.step(Event::Refused { run });
        }
    }

    /// Blobs of a result went before its final came: that ends no acknowledged run.
    fn not_finished(&mut self, run: RunId, digest: Digest) {
        let Some(open) = self.runs.get_mut(&run) else { return };
        let has_result = open.finished.take().is_some_and(|detail| detail.run.result.is_some());
        if !has_result {
            return self.refused(run, ServiceError::MissingBlob(digest));
        }
        tracing::error!(%run, %digest, "a blob of the result is gone; it is collected anew");
        open.writes_in_flight = open.writes_in_flight.saturating_sub(1);
        self.step(Event::BlobsMissing { run });
        self.tell_held(run);
    }

    /// A collecting task ended.
    pub(super) fn collected(&mut self, attempt: AttemptId, outcome: Result<Vec<(Digest, Bytes)>, Fault>) {
        match outcome {
            Ok(small) => {
                if let Some(open) = self.runs.get_mut(&attempt.run) {
                    open.keep_collected(attempt, small);
                }
                self.step(Event::Collected { attempt });
            }
            Err(fault) => self.step(Event::CollectFailed { attempt, fault }),
        }
    }
}
