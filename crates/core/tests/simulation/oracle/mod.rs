//! What must be true of every step, worked out from events and effects alone and without the core's code.
//!
//! Here is what the oracle takes note of; `effects`, `comparable` and `finals` judge.

mod comparable;
mod effects;
mod finals;

use std::collections::{BTreeMap, BTreeSet};

use lockstep_core::{AttemptState, Class, Event, Final, Portable, Submission, WriteKind};
use vocabulary::digest::Digest;
use vocabulary::id::{AttemptId, Epoch, RunId, WorkerId};
use vocabulary::result::{Fault, Outcome, Trap};

use crate::credibility::Books;

/// A worker that was silent for longer is suspect: two beats of a second, and a half for their jitter.
const SUSPECT_AFTER: u64 = 2_500_000;
/// After a start nothing of an earlier life is handed out for so long.
const GRACE: u64 = 5_000_000;
/// Runners that one run may kill: the pool's default, told here once more so that a change is noticed.
const CRASHES_MAX: u32 = 3;
/// More attempts than all budgets together allow, free faults included.
const ATTEMPTS_MAX: u32 = 70;

pub struct Heard {
    pub number: u32,
    pub worker: WorkerId,
    pub class: Class,
    portable: Portable,
    /// The how manyeth vote on its run it is.
    turn: usize,
    pub result: Digest,
    outcome: Outcome,
    is_there: bool,
    /// What it weighs by the oracle's own count.
    pub error: f64,
    pub k: f64,
    pub is_arbiter: bool,
}

#[derive(Clone, Copy)]
struct Try {
    worker: WorkerId,
    /// The term that its worker names.
    epoch: Epoch,
    is_live: bool,
    has_begun: bool,
    /// Its worker handed it back: it counts for nothing.
    is_returned: bool,
}

/// What the oracle knows of a run.
pub struct Known {
    pub submission: Submission,
    /// The term of its present owner.
    pub epoch: Epoch,
    pub is_acked: bool,
    /// The final that this coordinator made of it.
    pub last: Option<Final>,
    /// The store refused it: it belongs to somebody else.
    pub is_foreign: bool,
    was_canceled: bool,
    tries: BTreeMap<u32, Try>,
    rows: BTreeSet<u32>,
    pub votes: Vec<Heard>,
    /// Votes that its final does not compare with the others.
    pub aside: Vec<Heard>,
    /// Whether a vote ever said something that may be different in other machine code.
    has_overflowed: bool,
    heard: usize,
    /// What its votes say of workers was told.
    pub is_judged: bool,
    /// Voters that were quarantined: they count no more, and may not vote again.
    discarded: BTreeSet<WorkerId>,
    crashes: u32,
    timeouts: u32,
    /// Assignments over all lives of the coordinator.
    assigned: u32,
    /// In this one.
    assigned_now: u32,
    /// Taken back in this one.
    claimed_now: u32,
    /// Taken over from an earlier one.
    is_recovered: bool,
}

/// Keeps count and finds fault.
#[derive(Default)]
pub struct Oracle {
    pub runs: BTreeMap<RunId, Known>,
    classes: BTreeMap<WorkerId, (Class, Portable)>,
    /// What is known of each worker's honesty.
    pub books: Books,
    connected: BTreeSet<WorkerId>,
    draining: BTreeSet<WorkerId>,
    /// Workers that left as they were being drained.
    drained: BTreeSet<WorkerId>,
    quarantined: BTreeSet<WorkerId>,
    /// Those of them that the pool quarantined, for their votes.
    for_votes: BTreeSet<WorkerId>,
    pub poisoned: BTreeSet<Digest>,
    /// Modules that the admission ever refused.
    refused: BTreeSet<Digest>,
    /// Attempts whose result is there and is being stored.
    storing: BTreeSet<AttemptId>,
    now: u64,
    /// When each worker was last heard of.
    heard: BTreeMap<WorkerId, u64>,
    /// Workers of an earlier life that may still come back.
    expected: BTreeSet<WorkerId>,
    grace_until: u64,
    /// Rare states that were seen.
    pub seen: BTreeMap<&'static str, u64>,
}

impl Oracle {
    pub fn saw(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    /// Whether the pool knows the worker.
    pub fn knows(&self, worker: WorkerId) -> bool {
        self.classes.contains_key(&worker)
    }

    pub fn is_quarantined(&self, worker: WorkerId) -> bool {
        self.quarantined.contains(&worker)
    }

    pub fn is_out_for_votes(&self, worker: WorkerId) -> bool {
        self.for_votes.contains(&worker)
    }

    /// A run was accepted.
    pub fn accepted(&mut self, submission: &Submission) {
        let known = Known {
            submission: submission.clone(),
            epoch: submission.epoch,
            is_acked: !submission.policy.durable,
            last: None,
            is_foreign: false,
            was_canceled: false,
            tries: BTreeMap::new(),
            rows: BTreeSet::new(),
            votes: Vec::new(),
            aside: Vec::new(),
            has_overflowed: false,
            heard: 0,
            is_judged: false,
            discarded: BTreeSet::new(),
            crashes: 0,
            timeouts: 0,
            assigned: 0,
            assigned_now: 0,
            claimed_now: 0,
            is_recovered: false,
        };
        self.runs.insert(submission.run, known);
    }

    /// A final is verified anew: as far as the pool is concerned it is a run of its own.
    pub fn verified_anew(&mut self, submission: &Submission) {
        self.accepted(submission);
        if let Some(known) = self.runs.get_mut(&submission.run) {
            known.is_acked = false;
        }
    }

    /// The coordinator starts anew: what was in memory only is forgotten.
    pub fn restarted(&mut self, now: u64, expected: BTreeSet<WorkerId>) {
        self.grace_until = if expected.is_empty() { now } else { u64::MAX };
        self.expected = expected;
        self.connected.clear();
        self.draining.clear();
        self.storing.clear();
        self.runs.retain(|_, known| known.is_acked && known.submission.policy.durable);
        for known in self.runs.values_mut() {
            if known.tries.values().any(|attempt| attempt.is_live) {
                *self.seen.entry("a restart with work in flight").or_default() += 1;
            }
            known.tries.clear();
            known.votes.clear();
            known.aside.clear();
            known.discarded.clear();
            known.rows.clear();
            known.is_judged = false;
            known.was_canceled = false;
            known.assigned_now = 0;
            known.claimed_now = 0;
            known.is_recovered = true;
        }
    }

    /// Recovered runs that were given more attempts than they have voters, in this life.
    pub fn doubled(&self) -> u64 {
        let is_doubled = |known: &&Known| {
            let voters = u32::from(known.submission.policy.verify.voters());
            known.is_recovered && known.assigned_now + known.claimed_now > voters
        };
        self.runs.values().filter(is_doubled).count() as u64
    }

    pub fn is_grace(&self) -> bool {
        self.now < self.grace_until && !self.expected.is_empty()
    }

    /// Workers that did not come back within the grace hold nothing any more.
    fn pass(&mut self, now: u64) {
        self.now = now;
        if now >= self.grace_until && !self.expected.is_empty() {
            self.expected.clear();
            let gone: Vec<WorkerId> =
                self.classes.keys().copied().filter(|worker| !self.connected.contains(worker)).collect();
            gone.into_iter().for_each(|worker| self.lose(worker, &[]));
        }
    }

    /// The store gave the run to another coordinator.
    pub fn lost_to_another(&mut self, run: RunId) {
        if let Some(known) = self.runs.get_mut(&run) {
            known.is_foreign = true;
        }
    }

    /// The run was taken up again from the store's rows.
    pub fn recovered(&mut self, submission: &Submission) {
        let Some(known) = self.runs.get_mut(&submission.run) else { return };
        known.epoch = submission.epoch;
        known.last = None;
        // a fault whose row was not committed is forgotten with the coordinator
        let faults = submission.history.iter().filter(|record| record.begun_at.is_some());
        let faults: Vec<&Fault> = faults.filter_map(|record| fault_of(&record.state)).collect();
        known.crashes = faults.iter().filter(|fault| matches!(fault, Fault::Crashed { .. })).count() as u32;
        known.timeouts = faults.iter().filter(|fault| matches!(fault, Fault::TimedOut)).count() as u32;
        for record in &submission.history {
            known.rows.insert(record.number);
            let gone = Try {
                worker: record.worker,
                epoch: Epoch(0),
                is_live: false,
                has_begun: true,
                is_returned: false,
            };
            known.tries.insert(record.number, gone);
        }
    }

    /// Takes note of an event before the pool does.
    pub fn before(&mut self, now: u64, event: &Event) {
        self.now = now;
        if matches!(event, Event::Tick) {
            self.pass(now);
        }
        if let Some(worker) = speaker(event) {
            self.heard.insert(worker, now);
        }
        match event {
            Event::Serving if !self.expected.is_empty() => self.grace_until = now + GRACE,
            Event::Committed { run, write } => {
                if let Some(known) = self.runs.get_mut(run) {
                    match write {
                        WriteKind::Inserted => known.is_acked = true,
                        WriteKind::Attempt(number) => drop(known.rows.insert(*number)),
                        WriteKind::Finished => {}
                    }
                }
            }
            Event::BlobsMissing { run } => {
                self.saw("a final whose blobs were gone");
                if let Some(known) = self.runs.get_mut(run) {
                    known.last = None;
                    known.compare_all();
                    known.votes.iter_mut().for_each(|vote| vote.is_there = false);
                    let is_out = |vote: &Heard| self.quarantined.contains(&vote.worker);
                    known
                        .discarded
                        .extend(known.votes.iter().filter(|vote| is_out(vote)).map(|vote| vote.worker));
                    known.votes.retain(|vote| !is_out(vote));
                }
            }
            Event::Refused { run } => {
                if let Some(known) = self.runs.get_mut(run) {
                    known.is_foreign = true;
                    self.saw("a refused write");
                }
            }
            Event::WorkerJoined(joining) => {
                self.classes.insert(joining.worker, (joining.class, joining.portable));
                self.books.joined(joining);
                self.connected.insert(joining.worker);
                if self.drained.remove(&joining.worker) {
                    self.saw("a drained worker that came back");
                }
                self.draining.remove(&joining.worker);
                if !joining.holds.is_empty() {
                    self.saw("a worker returned holding attempts");
                }
                self.lose(joining.worker, &joining.holds);
                if self.expected.remove(&joining.worker) && self.expected.is_empty() && now < self.grace_until
                {
                    self.saw("a grace that ended early");
                }
            }
            Event::WorkerLeft { worker } => {
                self.connected.remove(worker);
                let is_drained = self.draining.remove(worker);
                if is_drained {
                    self.drained.insert(*worker);
                }
                if !is_drained && self.is_grace() {
                    self.expected.insert(*worker);
                    self.saw("a session that broke within the grace");
                } else {
                    self.lose(*worker, &[]);
                }
            }
            Event::Heartbeat { worker, beats } => {
                for beat in beats.iter().filter(|beat| beat.begun_at.is_some()) {
                    if let Some(found) = self.live(beat.attempt, *worker) {
                        found.has_begun = true;
                    }
                }
            }
            Event::WorkerDraining { worker, .. } => drop(self.draining.insert(*worker)),
            Event::WorkerQuarantined { worker, .. } => {
                self.for_votes.remove(worker);
                self.quarantine(*worker);
            }
            Event::WorkerReadmitted { worker } => {
                self.quarantined.remove(worker);
                self.for_votes.remove(worker);
                self.draining.remove(worker);
            }
            Event::AttemptBegun { attempt, worker, .. } => {
                if let Some(found) = self.live(*attempt, *worker) {
                    found.has_begun = true;
                }
            }
            Event::AttemptVoted { attempt, epoch, worker, vote } => {
                self.voted(*attempt, *epoch, *worker, (vote.result, vote.outcome.clone(), vote.complete));
            }
            Event::AttemptFaulted { attempt, epoch, worker, fault, begun, .. } => {
                let Some(found) = self.live(*attempt, *worker).filter(|found| found.epoch == *epoch) else {
                    return;
                };
                found.is_live = false;
                if let Some(known) = self.runs.get_mut(&attempt.run).filter(|_| *begun) {
                    known.crashes += u32::from(matches!(fault, Fault::Crashed { .. }));
                    known.timeouts += u32::from(*fault == Fault::TimedOut);
                }
            }
            Event::AttemptReturned { attempt, epoch, worker } => self.returned(*attempt, *epoch, *worker),
            Event::WasAway { ms } => {
                for heard in self.heard.values_mut() {
                    *heard = (*heard + ms * 1_000).min(now);
                }
            }
            Event::Delivered { attempt } => drop(self.storing.insert(*attempt)),
            Event::Collected { attempt } => {
                self.storing.remove(attempt);
                if let Some(known) = self.runs.get_mut(&attempt.run) {
                    let voted = known.votes.iter_mut().filter(|vote| vote.number == attempt.number);
                    voted.for_each(|vote| vote.is_there = true);
                }
            }
            Event::CollectFailed { .. } => self.saw("a voter did not deliver"),
            Event::Cancel { run } => {
                if let Some(known) = self.runs.get_mut(run).filter(|known| !known.is_foreign) {
                    match known.last {
                        Some(_) => self.saw("a cancel that came after the final"),
                        None => known.was_canceled = true,
                    }
                }
            }
            Event::ModuleQuarantined { module, .. } => drop(self.poisoned.insert(*module)),
            Event::ModuleRefused { module } => drop(self.refused.insert(*module)),
            Event::ModuleReadmitted { module } => {
                self.poisoned.remove(module);
                self.books.nondeterministic.remove(module);
            }
            _ => {}
        }
    }

    /// Nothing of a worker counts from now on.
    fn quarantine(&mut self, worker: WorkerId) {
        self.quarantined.insert(worker);
        for known in self.runs.values_mut().filter(|known| known.last.is_none()) {
            if known.votes.iter().any(|vote| vote.worker == worker) {
                known.discarded.insert(worker);
            }
            known.votes.retain(|vote| vote.worker != worker);
        }
    }

    fn live(&mut self, attempt: AttemptId, worker: WorkerId) -> Option<&mut Try> {
        let found = self.runs.get_mut(&attempt.run)?.tries.get_mut(&attempt.number)?;
        (found.is_live && found.worker == worker).then_some(found)
    }

    /// An attempt was handed back: as if it had never been, unless it had begun or that happens too often.
    fn returned(&mut self, attempt: AttemptId, epoch: Epoch, worker: WorkerId) {
        let Some(found) = self.live(attempt, worker).filter(|found| found.epoch == epoch) else { return };
        (found.is_live, found.is_returned) = (false, true);
        if let Some(known) = self.runs.get_mut(&attempt.run) {
            known.assigned -= 1;
            known.assigned_now = known.assigned_now.saturating_sub(1);
        }
        self.saw("an attempt that was handed back");
    }

    /// A worker holds nothing any more but what is named.
    fn lose(&mut self, worker: WorkerId, but: &[(AttemptId, Epoch)]) {
        for (run, known) in &mut self.runs {
            for (number, found) in &mut known.tries {
                let named = (AttemptId { run: *run, number: *number }, found.epoch);
                if found.worker == worker && !but.contains(&named) {
                    found.is_live = false;
                }
            }
        }
    }

    fn voted(&mut self, attempt: AttemptId, epoch: Epoch, worker: WorkerId, vote: (Digest, Outcome, bool)) {
        let class = self.classes.get(&worker).copied();
        let (error, k, is_arbiter) = self.books.weight(worker);
        let Some(known) = self.runs.get_mut(&attempt.run) else {
            return self.saw("a vote on a run that is gone");
        };
        let is_final = known.last.is_some();
        let found = known.tries.get_mut(&attempt.number).filter(|found| found.worker == worker);
        match found {
            Some(found) if found.is_live && found.epoch == epoch => {
                found.is_live = false;
                let (result, outcome, is_there) = vote;
                let (class, portable) = class.expect("a worker joins before it votes");
                known.heard += 1;
                known.has_overflowed |= matches!(outcome, Outcome::Trapped { trap: Trap::StackOverflow });
                known.votes.push(Heard {
                    turn: known.heard,
                    portable,
                    number: attempt.number,
                    worker,
                    class,
                    result,
                    outcome,
                    is_there,
                    error,
                    k,
                    is_arbiter,
                });
                if known.trusted_results() >= 3 {
                    self.books.divided.entry(known.submission.module).or_default().insert(attempt.run);
                }
            }
            _ if is_final => self.saw("a vote after the final"),
            _ => self.saw("a vote on an attempt that had ended"),
        }
    }
}

/// The worker whose word an event is.
fn speaker(event: &Event) -> Option<WorkerId> {
    match event {
        Event::WorkerJoined(joining) => Some(joining.worker),
        Event::Credits { worker, .. }
        | Event::Heartbeat { worker, .. }
        | Event::AttemptBegun { worker, .. }
        | Event::AttemptVoted { worker, .. }
        | Event::AttemptReturned { worker, .. }
        | Event::AttemptFaulted { worker, .. } => Some(*worker),
        _ => None,
    }
}

fn fault_of(state: &AttemptState) -> Option<&Fault> {
    match state {
        AttemptState::Faulted { fault } => Some(fault),
        _ => None,
    }
}
