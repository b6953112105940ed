//! Carrying out the core's effects.
//!
//! A [`Effect::Changed`] or [`Effect::Release`] of a run with a write on its way is held until the store has answered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::artifacts::{Artifacts, Trust};
use super::collect::{NotStored, store_body};
use super::{Link, Owner};
use crate::blobs::Blobs;
use crate::coordinator::open_run::{OpenRun, Reported};
use crate::coordinator::service::{PoolEvent, RunEvent};
use crate::core::{AttemptRecord, AttemptState, Effect, Final, Write};
use crate::digest::Digest;
use crate::id::{AttemptId, Epoch, RunId, WorkerId};
use crate::protocol::agent::{Assignment, BlobBody, ToAgent};
use crate::result::Fault;
use crate::store::{CastVote, FinalRun, INLINE_BLOB_BYTES_MAX, RunWrite, Source, StoredRun};

/// How long an output that was collected stays without its run's final, which takes the reference: longer than a full
/// disk may hold the final up.
pub(super) const COLLECTED_PIN_MS: u64 = 7 * 24 * 60 * 60 * 1_000;
/// How long a large output of a run stays that is not written: nothing ever refers to it.
pub(super) const UNWRITTEN_PIN_MS: u64 = 60 * 60 * 1_000;

impl Owner {
    /// Carries out `effects` in their order and leaves the list empty.
    pub(super) fn carry_out(&mut self, effects: &mut Vec<Effect>) {
        for effect in effects.drain(..) {
            let told_when_durable = match &effect {
                Effect::Changed { run } => Some(*run),
                Effect::Release { attempt, .. } => Some(attempt.run),
                _ => None,
            };
            let waits = told_when_durable.and_then(|run| self.runs.get_mut(&run));
            match waits.filter(|open| open.writes_in_flight > 0) {
                Some(open) => open.held.push(effect),
                None => self.perform(effect),
            }
        }
        self.landed.clear();
    }

    /// Carries out one effect now.
    pub(super) fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Write(write) => self.write(write),
            Effect::Finished(last) => self.finished_in_memory(*last),
            Effect::Assign { attempt, epoch, worker } => self.assign(attempt, epoch, worker),
            Effect::Abort { attempt, worker } => {
                self.tell(worker, ToAgent::Abort(attempt));
            }
            Effect::Collect { attempt, worker, result } => self.collect(attempt, worker, result),
            Effect::KeepDissent { attempt, worker, result } => self.keep_dissent(attempt, worker, result),
            Effect::Release { attempt, worker } => {
                self.tell(worker, ToAgent::Release(attempt));
            }
            Effect::Changed { run } => self.changed(run),
            Effect::WorkerChanged { worker } => {
                let _ = self.parts.events.send((None, PoolEvent::Worker(worker)));
            }
            Effect::QuarantineWorker { worker, why } => self.quarantine_worker(worker, why),
            Effect::Evidence { worker, class, portable, attempt, at, evidence } => {
                self.testified((worker, class, portable), attempt, at, evidence);
            }
            Effect::Rehabilitated { worker, why } => self.rehabilitated(worker, &why),
            // the quarantine's own write has put it down, and wakes who looks
            Effect::Repair { worker } => {
                tracing::info!(%worker, "finals that rest on its votes are looked at")
            }
            Effect::Reverified(done) => self.reverified(*done),
            Effect::NondeterministicModule { module, run } => self.blame_module(module, run),
            Effect::QuarantineModule { module, why } => self.quarantine_module(module, why),
            Effect::Faulted { worker, attempt, fault } => self.faulted(worker, attempt, &fault),
            Effect::Dissented { worker, attempt, result } => {
                self.parts.metrics.dissents.inc();
                self.count(attempt.run, |tally| tally.dissents += 1);
                tracing::warn!(%worker, %attempt, result = %result.short(), "vote lost against the agreed result");
                self.note(worker, "dissented", attempt, Some(result));
            }
        }
    }

    fn write(&mut self, write: Write) {
        let run = match &write {
            Write::Insert { run, .. } | Write::Attempt { run, .. } => *run,
            Write::Finish(last) | Write::Correct(last) => last.run,
        };
        if matches!(write, Write::Correct(_)) {
            self.withdraw_run(run);
        }
        let Some(open) = self.runs.get_mut(&run) else { return };
        open.writes_in_flight += 1;
        let has_patience = open.acks.is_empty() && !open.finals.is_empty();
        let new = Arc::clone(&open.new);
        let is_correction = matches!(write, Write::Correct(_));
        self.writes.extend(self.patience.take(run).map(RunWrite::Insert));
        match write {
            Write::Insert { .. } if has_patience => self.patience.keep(self.now(), new),
            Write::Insert { .. } => self.writes.push(RunWrite::Insert(new)),
            Write::Attempt { run, epoch, record } => {
                let explain = self.parts.pool.run(run).map(|view| view.explain).unwrap_or_default();
                self.writes.push(RunWrite::Attempt { run, epoch, record, explain });
            }
            Write::Finish(last) | Write::Correct(last) => {
                self.keep_disputed(&last);
                self.share_reported(&last);
                let Some(open) = self.runs.get_mut(&run) else { return };
                learn(&mut self.artifacts, &self.links, open, &last);
                let detail = Arc::new(open.final_detail(&last));
                open.offer = Owner::offer(open, &last, &detail);
                open.finished = Some(detail);
                let source = last.shared_with.map(Source::Shared);
                let reusable = open.offer.is_some();
                let mut blobs = Vec::new();
                let mut manifest = None;
                if let Some(reported) = last.result.and_then(|result| open.reported.get(&result)) {
                    blobs.extend(last.result.into_iter().flat_map(|result| reported.blobs(result)));
                    manifest = Some(reported.manifest.clone());
                }
                for (_, result) in &open.dissents {
                    blobs.extend(open.reported.get(result).into_iter().flat_map(|it| it.blobs(*result)));
                }
                let dissents = open.dissents.clone();
                let votes = open.counted(&last);
                let callback = open.new.policy.callback.clone();
                let last =
                    FinalRun { record: *last, manifest, blobs, dissents, votes, source, reusable, callback };
                let last = Box::new(last);
                self.writes.push(if is_correction {
                    RunWrite::Correct(last)
                } else {
                    RunWrite::Finish(last)
                });
            }
        }
    }

    /// A fault of an attempt is evidence about its worker.
    fn faulted(&mut self, worker: WorkerId, attempt: AttemptId, fault: &Fault) {
        self.count(attempt.run, |tally| tally.faults += 1);
        if let Some(open) = self.runs.get_mut(&attempt.run) {
            open.reruns_owed += 1;
        }
        self.note(worker, fault.name(), attempt, None);
    }

    /// Bumps the figures of a run that ended.
    pub(super) fn count_final(&mut self, run: &StoredRun) {
        self.ledgers.finished(run.workspace, self.now(), run.state, run.verdict.kind);
        let took = run.finished_at.unwrap_or(run.created_at).0.saturating_sub(run.created_at.0);
        self.parts.metrics.run_finished(run.state, run.verdict.kind, Duration::from_micros(took));
        let faulted = |attempt: &&AttemptRecord| matches!(attempt.state, AttemptState::Faulted { .. });
        let reruns = run.attempts.iter().filter(faulted).count() as u64;
        self.parts.metrics.reruns.inc_by(reruns);
    }

    fn finished_in_memory(&mut self, last: Final) {
        self.share_reported(&last);
        self.keep_disputed(&last);
        let Some(mut open) = self.forget(last.run) else { return };
        learn(&mut self.artifacts, &self.links, &open, &last);
        let detail = Arc::new(open.final_detail(&last));
        self.remember(Owner::offer(&open, &last, &detail));
        self.count_final(&detail.run);
        if !open.dissents.is_empty()
            && let Some(result) = last.result
            && let Some(won) = open.reported.get(&result)
        {
            // what lost is compared with it, and both sides are read as blobs
            let won = won.blobs(result).map(|(digest, bytes)| (digest, BlobBody::Inline(bytes)));
            self.store_dissent(won.collect());
        }
        let dropped = self.ring.put(Arc::clone(&detail), open.small_outputs(&last));
        self.parts.cache.forget(&dropped);
        if last.shared_with.is_none() {
            let reported = last.result.and_then(|result| open.reported.remove(&result));
            self.landed.extend(reported.map(|reported| (last.run, reported)));
        }
        self.announce(open, detail);
    }

    /// A run that shared the attempts of another has no votes of its own: it takes over what those of the other reported.
    fn share_reported(&mut self, last: &Final) {
        let (Some(leader), Some(result)) = (last.shared_with, last.result) else { return };
        let reported = match self.landed.get(&leader) {
            Some(reported) => Some(reported.clone()),
            None => self.runs.get(&leader).and_then(|open| open.reported.get(&result)).cloned(),
        };
        self.parts.metrics.runs_shared.inc();
        if let (Some(open), Some(reported)) = (self.runs.get_mut(&last.run), reported) {
            open.reported.insert(result, reported);
        }
    }

    fn assign(&mut self, attempt: AttemptId, epoch: Epoch, worker: WorkerId) {
        let Some(open) = self.runs.get(&attempt.run) else { return };
        let mac = self.parts.key.mac(attempt, epoch);
        let assignment = Assignment {
            attempt,
            epoch,
            mac,
            nonce: self.parts.key.nonce(attempt, epoch),
            workspace: open.new.workspace,
            spec: Arc::clone(&open.new.spec),
            run_key: open.new.run_key,
            inline: Arc::clone(&open.inline),
            timeout_ms: open.new.policy.timeout_ms,
            live: open.live,
        };
        // one that will not be heard is found out by the worker's heartbeats, which do not name it
        if self.tell(worker, ToAgent::Assign(Box::new(assignment)))
            && let Some(link) = self.links.get_mut(&worker)
        {
            link.sent += 1;
        }
        self.handed_out(attempt.run);
    }

    /// Says something to a worker, in order. `false`: it will not be heard, because the session is over or ends.
    pub(super) fn tell(&mut self, worker: WorkerId, message: ToAgent) -> bool {
        let Some(to) = self.links.get_mut(&worker).and_then(|link| link.to.as_mut()) else { return false };
        let is_said = to.send(message);
        if !is_said {
            tracing::warn!(%worker, "worker does not take messages");
        }
        is_said
    }

    fn changed(&mut self, run: RunId) {
        let Some(open) = self.runs.get_mut(&run).filter(|open| open.visible) else { return };
        let _ = self.parts.events.send((Some(open.new.workspace), PoolEvent::Run(run)));
        if open.is_watched()
            && let Some(view) = self.parts.pool.run(run)
        {
            open.tell(RunEvent::Changed(Arc::new(open.detail(view))));
        }
    }

    /// Asks agents to show their output as it comes.
    pub(super) fn show_live(&mut self, attempts: &[AttemptId]) {
        for attempt in attempts {
            let holder = self.parts.pool.run(attempt.run).and_then(|view| {
                view.attempts
                    .iter()
                    .find(|record| record.number == attempt.number)
                    .map(|record| record.worker)
            });
            if let Some(worker) = holder {
                self.tell(worker, ToAgent::Watch(*attempt));
            }
        }
    }

    fn collect(&mut self, attempt: AttemptId, worker: WorkerId, result: Digest) {
        let Some(open) = self.runs.get(&attempt.run) else { return };
        let digests = open.reported.get(&result).map(Reported::missing).unwrap_or_default();
        self.ask(attempt, worker, digests);
    }
}

/// Learns what machine code a module has, from a final. A worker that is not here any more teaches nothing.
fn learn(artifacts: &mut Artifacts, links: &BTreeMap<WorkerId, Link>, open: &OpenRun, last: &Final) {
    let trust = |vote: &CastVote| {
        links.get(&vote.worker).map_or(Trust::Stranger, |link| Trust::of(&link.row, link.remote.is_some()))
    };
    artifacts.learn(&open.new.spec, &open.votes, last, trust);
}

/// Stores dissenting outputs that an agent delivered, each checked against its digest.
pub(super) async fn store_bodies(
    blobs: &Blobs,
    bodies: Vec<(Digest, BlobBody)>,
    pin: crate::core::Time,
) -> Result<(), NotStored> {
    for (digest, body) in bodies {
        store_body(blobs, digest, &body, pin).await?;
    }
    Ok(())
}

const _: () = assert!(crate::protocol::agent::INLINE_BYTES_MAX <= INLINE_BLOB_BYTES_MAX);
