//! Runs that a cached result answers, results that are offered to the cache, and what is withdrawn from it.
//!
//! A hit is answered by the service before its row is written: it is no promise of work, and what it shows is durable already,
//! with the run that computed it. Until the commit the row is shown from here. If the process ends before, the id is gone
//! and nothing else: the same submission gets the same answer again. One that came with an Idempotency-Key is
//! answered after the commit, because the key has to stay with its run.

use std::sync::Arc;

use super::Owner;
use super::commands::Hit;
use crate::coordinator::cache::{Entry, keep_withdrawal};
use crate::coordinator::open_run::{OpenRun, Waiter, join_waiters};
use crate::coordinator::pump::Written;
use crate::coordinator::service::{PoolEvent, RunDetail, ServiceError};
use crate::core::{Final, WriteKind};
use crate::digest::Digest;
use crate::id::{RunId, WorkspaceId};
use crate::result::{Outcome, Trap};
use crate::spec::{CacheUse, Profile};
use crate::store::{FinalRun, NewRun, RunWrite, Source, Withdrawal, WriteAnswer};

/// Whether other machine code, for which an entry would be as good, may do something else: how deep a stack goes is the
/// code's, and the classes of portable results do not say which code it was.
fn is_of_the_code(profile: Profile, outcome: &Outcome) -> bool {
    profile == Profile::Det1Portable && matches!(outcome, Outcome::Trapped { trap: Trap::StackOverflow })
}

/// A hit whose row is on its way.
pub(super) struct Unwritten {
    new: Arc<NewRun>,
    detail: Arc<RunDetail>,
    waiters: Vec<Waiter>,
    /// Whether it was answered and counts against the bound of those.
    is_counted: bool,
}

impl Owner {
    /// Takes a hit: keeps it in memory, or writes its row with the next commit.
    pub(super) fn hit(&mut self, hit: Hit) {
        let Hit { new, detail, outputs, reply, is_counted } = hit;
        let computed_by = detail.run.source.map(Source::run);
        if reply.is_some() && !computed_by.is_some_and(|run| self.parts.cache.holds(run)) {
            // withdrawn since it was found, and not answered yet: whoever waits submits it as if it had not been found
            return;
        }
        if let Some((key, payload)) = &new.idempotency {
            if let Some((run, known)) = self.keys.get(&(new.workspace, key.clone())) {
                let same_payload = known == payload;
                if let Some(reply) = reply {
                    let _ = reply.send(Err(ServiceError::Duplicate { run: *run, same_payload }));
                }
                return;
            }
            self.keys.insert((new.workspace, key.clone()), (new.id, *payload));
        }
        if !new.policy.durable {
            self.count_hit(&detail);
            self.parts.cache.forget(&self.ring.put(detail, outputs));
            return;
        }
        let new = Arc::new(*new);
        self.writes.push(RunWrite::Insert(Arc::clone(&new)));
        self.writes.push(RunWrite::Finish(Box::new(final_of(&new, &detail))));
        let unwritten = Unwritten { new, detail, waiters: reply.into_iter().collect(), is_counted };
        self.hits.insert(unwritten.new.id, unwritten);
    }

    fn count_hit(&mut self, detail: &RunDetail) {
        self.count_acknowledged(detail.run.workspace, detail.run.created_at);
        self.count_final(&detail.run);
        let _ = self.parts.events.send((Some(detail.run.workspace), PoolEvent::Run(detail.run.id)));
    }

    /// A hit whose row is not written yet, as callers see it.
    pub(super) fn unwritten(&mut self, workspace: WorkspaceId, run: RunId) -> Option<Arc<RunDetail>> {
        let hit = self.hits.get(&run).filter(|hit| hit.new.workspace == workspace)?;
        Some(Arc::clone(&hit.detail))
    }

    /// Waits for the row of a hit; gives the waiter back if there is no such hit.
    pub(super) fn await_hit(
        &mut self,
        workspace: WorkspaceId,
        run: RunId,
        waiter: Waiter,
    ) -> Result<(), Waiter> {
        match self.hits.get_mut(&run).filter(|hit| hit.new.workspace == workspace) {
            Some(hit) => {
                join_waiters(&mut hit.waiters, waiter);
                Ok(())
            }
            None => Err(waiter),
        }
    }

    /// The store's answer about a hit; false if the run is none.
    pub(super) fn hit_written(&mut self, run: RunId, kind: WriteKind, written: &Written) -> bool {
        if !self.hits.contains_key(&run) {
            return false;
        }
        match written {
            Written::Answered(WriteAnswer::Committed) => {
                if kind == WriteKind::Finished
                    && let Some(hit) = self.end_hit(run)
                {
                    self.final_committed(&hit.detail);
                    self.count_hit(&hit.detail);
                    for waiter in hit.waiters {
                        let _ = waiter.send(Ok(Arc::clone(&hit.detail)));
                    }
                }
            }
            Written::Answered(WriteAnswer::Refused) => self.drop_hit(run, &ServiceError::TakenOver),
            Written::Answered(WriteAnswer::MissingBlob(_)) => {
                // the run that computed it went at this very moment, and its blobs with it: there is no row, and who waits
                // for one submits the run as if nothing had been found. One that was answered is final: it is never executed.
                // Whoever joined with the same key named no such blob, and is to come again
                self.drop_hit(run, &ServiceError::AnswerGone);
            }
            Written::Answered(WriteAnswer::Duplicate { run: other, same_payload }) => {
                let error = ServiceError::Duplicate { run: *other, same_payload: *same_payload };
                self.drop_hit(run, &error);
            }
            Written::DiskFull => {
                // the next ones hear of it, instead of getting ids that nobody knows
                self.parts.cache.suspend(true);
                self.drop_hit(run, &ServiceError::DiskFull);
            }
        }
        true
    }

    fn end_hit(&mut self, run: RunId) -> Option<Unwritten> {
        let hit = self.hits.remove(&run)?;
        if hit.is_counted {
            self.parts.cache.end_unwritten();
        }
        if let Some((key, _)) = &hit.new.idempotency {
            self.keys.remove(&(hit.new.workspace, key.clone()));
        }
        Some(hit)
    }

    fn drop_hit(&mut self, run: RunId, error: &ServiceError) {
        let Some(hit) = self.end_hit(run) else { return };
        if hit.is_counted {
            tracing::warn!(%run, %error, "the row of a run that the cache had answered was not written");
        }
        for waiter in hit.waiters {
            let _ = waiter.send(Err(error.clone()));
        }
    }

    /// What the workers that are there could compute is what may answer for them.
    pub(super) fn tell_classes(&self) {
        let there = self.links.values().filter_map(|link| link.classes);
        let classes =
            there.flat_map(|classes| [Profile::Det1, Profile::Det1Portable].map(|it| classes.of(it)));
        self.parts.cache.set_classes(classes.collect());
    }

    /// What a final would put into the cache.
    pub(super) fn offer(open: &OpenRun, last: &Final, detail: &Arc<RunDetail>) -> Option<Entry> {
        // a correction was decided by another rule than its policy's
        if open.new.policy.cache == CacheUse::Off || last.shared_with.is_some() || last.revision > 1 {
            return None;
        }
        if last.outcome.as_ref().is_some_and(|outcome| is_of_the_code(open.new.spec.profile, outcome)) {
            return None;
        }
        let outputs = match open.is_durable() {
            true => Default::default(),
            false => open.small_outputs(last),
        };
        Entry::of(Arc::clone(detail), outputs, &open.counted(last))
    }

    /// A verified result may answer others from now on.
    pub(super) fn remember(&mut self, entry: Option<Entry>) {
        if let Some(entry) = entry {
            self.parts.cache.insert(entry, self.now());
        }
    }

    /// What a run computed is used no more: it was corrected.
    pub(super) fn withdraw_run(&mut self, run: RunId) {
        let count = self.parts.cache.correct(run);
        self.parts.metrics.cache_withdrawn.inc_by(count as u64);
    }

    /// What a module computed is used no more, and nothing further is kept of it.
    pub(super) fn withdraw_module(&mut self, module: Digest) {
        self.parts.cache.bar(module);
        let withdrawal = Withdrawal::of_module(module, self.now());
        self.withdraw(withdrawal);
    }

    /// Withdraws from memory at once, and for later lives as soon as the store takes it.
    pub(super) fn withdraw(&mut self, withdrawal: Withdrawal) {
        let (count, kept) = self.parts.cache.withdraw(withdrawal);
        self.parts.metrics.cache_withdrawn.inc_by(count as u64);
        let store = Arc::clone(&self.parts.store);
        tokio::spawn(async move {
            if let Err(error) = keep_withdrawal(store, kept).await {
                tracing::error!(%error, "a withdrawal from the cache was not stored");
            }
        });
    }
}

/// The final of a hit as it is written.
fn final_of(new: &NewRun, detail: &RunDetail) -> FinalRun {
    let run = &detail.run;
    FinalRun {
        record: Final {
            run: new.id,
            epoch: new.epoch,
            revision: run.revision,
            state: run.state,
            reason: run.reason,
            outcome: run.outcome.clone(),
            verdict: run.verdict.clone(),
            result: run.result,
            votes: Vec::new(),
            error_ppb: None,
            attempts: Vec::new(),
            explain: Arc::clone(&run.explain),
            finished_at: run.finished_at.unwrap_or(new.created_at),
            shared_with: None,
        },
        manifest: run.manifest.clone(),
        blobs: Vec::new(),
        dissents: Vec::new(),
        votes: Vec::new(),
        source: run.source,
        reusable: false,
        callback: new.policy.callback.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_that_overflows_says_nothing_of_other_machine_code() {
        let overflow = Outcome::Trapped { trap: Trap::StackOverflow };
        let other = Outcome::Trapped { trap: Trap::Unreachable };
        assert!(is_of_the_code(Profile::Det1Portable, &overflow));
        assert!(!is_of_the_code(Profile::Det1, &overflow), "its class is that of the code");
        assert!(!is_of_the_code(Profile::Det1Portable, &other));
    }
}
