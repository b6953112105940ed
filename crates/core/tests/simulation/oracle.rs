//! What must be true of every step, worked out from events and effects alone and without the core's code.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_core::{
    AttemptRecord, AttemptState, Class, Effect, Event, Final, OWN_DOMAIN, Submission, WorkerStanding,
    WorkerView, Write, WriteKind,
};
use vocabulary::digest::Digest;
use vocabulary::id::{AttemptId, Epoch, RunId, WorkerId};
use vocabulary::result::{FailReason, Fault, Outcome, RunState, VerdictKind};
use vocabulary::spec::{Placement, Retry, Verify};

use crate::credibility::Books;
use crate::shim::{Shim, finished};

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
    class: Class,
    /// Whether it is of the class that decided: others are neither right nor wrong.
    pub is_compared: bool,
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
    classes: BTreeMap<WorkerId, Class>,
    /// What is known of each worker's honesty.
    pub books: Books,
    connected: BTreeSet<WorkerId>,
    draining: BTreeSet<WorkerId>,
    quarantined: BTreeSet<WorkerId>,
    /// Those of them that the pool quarantined, for their votes.
    for_votes: BTreeSet<WorkerId>,
    poisoned: BTreeSet<Digest>,
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
            let gone = Try { worker: record.worker, epoch: Epoch(0), is_live: false, has_begun: true };
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
                self.classes.insert(joining.worker, joining.class);
                self.books.joined(joining);
                self.connected.insert(joining.worker);
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
                if !self.draining.remove(worker) && self.is_grace() {
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
                let class = class.expect("a worker joins before it votes");
                known.votes.push(Heard {
                    number: attempt.number,
                    worker,
                    class,
                    is_compared: true,
                    result,
                    outcome,
                    is_there,
                    error,
                    k,
                    is_arbiter,
                });
            }
            _ if is_final => self.saw("a vote after the final"),
            _ => self.saw("a vote on an attempt that had ended"),
        }
    }

    /// Judges what the pool made of the event.
    pub fn after(&mut self, effects: &[Effect], pool: &Shim) -> Result<(), String> {
        let workers = if effects.iter().any(|effect| matches!(effect, Effect::Assign { .. })) {
            pool.workers()
        } else {
            Vec::new()
        };
        for effect in effects {
            match effect {
                Effect::Assign { attempt, epoch, worker } => {
                    self.assigned(*attempt, *epoch, *worker, &workers)?;
                }
                Effect::Abort { attempt, worker } => {
                    if let Some(found) = self.live(*attempt, *worker) {
                        found.is_live = false;
                    }
                }
                Effect::Write(Write::Attempt { run, epoch, record }) => {
                    self.wrote(*run, *epoch)?;
                    let attempt = AttemptId { run: *run, number: record.number };
                    if matches!(record.state, AttemptState::Faulted { .. }) && self.storing.contains(&attempt)
                    {
                        return Err(format!("blame: {attempt} delivered, and the store is slow"));
                    }
                }
                Effect::Write(Write::Correct(last)) => {
                    let known = self.runs.get(&last.run).and_then(|known| known.submission.reverify.as_ref());
                    if known.is_none_or(|known| last.result.is_none_or(|result| result == known.result)) {
                        return Err(format!("I2: {} is corrected by the same result", last.run));
                    }
                }
                Effect::QuarantineModule { module, .. } => {
                    self.saw("a module quarantined by the poison rule");
                    self.poisoned.insert(*module);
                }
                // asked once more, because a vote beside it was discarded: it has to deliver again
                Effect::Collect { attempt, .. } => drop(self.storing.remove(attempt)),
                Effect::Evidence { worker, attempt, evidence, .. } => {
                    self.witnessed(*worker, attempt.map(|attempt| attempt.run), *evidence)?;
                }
                Effect::NondeterministicModule { module, .. } => {
                    self.books.nondeterministic.insert(*module);
                }
                Effect::Dissented { .. } => self.saw("a dissenter"),
                Effect::QuarantineWorker { worker, .. } => {
                    self.saw("a worker quarantined for its votes");
                    self.quarantine(*worker);
                    self.for_votes.insert(*worker);
                }
                Effect::Rehabilitated { worker, .. } => {
                    self.check_rehabilitated(*worker)?;
                    self.quarantined.remove(worker);
                    self.for_votes.remove(worker);
                }
                _ => {}
            }
            if let Some(last) = finished(effect) {
                self.ended(last)?;
            }
        }
        self.check_evidence(effects)?;
        for last in effects.iter().filter_map(finished) {
            let known = &self.runs[&last.run];
            if known.tries.values().any(|found| found.is_live) {
                return Err(format!("I7: {} is final and an attempt of it still runs", last.run));
            }
        }
        for (run, known) in self.runs.iter().filter(|(_, known)| known.is_acked && !known.is_foreign) {
            if known.last.is_none() && pool.run(*run).is_none() {
                return Err(format!("I1: the pool does not know {run}"));
            }
            if known.was_canceled && known.last.is_none() {
                return Err(format!("I8: {run} goes on after a cancel"));
            }
        }
        Ok(())
    }

    /// Attempts that came back with their worker and were taken up.
    /// Gives them.
    pub fn claimed(&mut self, holds: &[(AttemptId, Epoch)], worker: WorkerId, pool: &Shim) -> Vec<AttemptId> {
        let mut back = Vec::new();
        for (attempt, epoch) in holds {
            let Some(view) = pool.run(attempt.run) else { continue };
            let record = view.attempts.iter().find(|record| record.number == attempt.number);
            let is_live = record.is_some_and(|record| record.worker == worker && record.state.is_live());
            let Some(known) = self.runs.get_mut(&attempt.run).filter(|_| is_live) else { continue };
            let found = Try { worker, epoch: *epoch, is_live: true, has_begun: true };
            if known.tries.insert(attempt.number, found).is_none_or(|before| !before.is_live) {
                known.claimed_now += 1;
                back.push(*attempt);
                self.saw("a recovered run took an attempt back");
            }
        }
        back
    }

    fn wrote(&self, run: RunId, epoch: Epoch) -> Result<(), String> {
        let Some(known) = self.runs.get(&run) else {
            return Err(format!("I1: a write of {run}, which nobody knows"));
        };
        if known.epoch != epoch {
            return Err(format!("I6: a write of {run} names term {} instead of {}", epoch.0, known.epoch.0));
        }
        match known.last {
            Some(_) => Err(format!("I7: a write of {run} after its final")),
            None => Ok(()),
        }
    }

    fn assigned(
        &mut self,
        attempt: AttemptId,
        epoch: Epoch,
        worker: WorkerId,
        workers: &[WorkerView],
    ) -> Result<(), String> {
        self.wrote(attempt.run, epoch)?;
        if self.quarantined.contains(&worker) {
            return Err(format!("I14: {attempt} goes to {worker}, which is quarantined"));
        }
        if self.draining.contains(&worker) || !self.connected.contains(&worker) {
            return Err(format!("{attempt} goes to {worker}, which takes no work"));
        }
        let silent = self.now - self.heard.get(&worker).copied().unwrap_or(0);
        if silent > SUSPECT_AFTER {
            return Err(format!("suspect: {attempt} goes to {worker}, silent for {} ms", silent / 1_000));
        }
        let is_grace = self.is_grace();
        let known = self.runs.get_mut(&attempt.run).ok_or("I1: an attempt of a run that nobody knows")?;
        if known.is_recovered && is_grace {
            return Err(format!("grace: {attempt} is handed out and its worker may come back"));
        }
        let policy = &known.submission.policy;
        let voters = u32::from(policy.verify.voters());
        let has_voted =
            known.votes.iter().any(|vote| vote.worker == worker) || known.discarded.contains(&worker);
        let compares = policy.verify != Verify::Once || known.submission.reverify.is_some();
        if has_voted && compares && !self.books.is_arbiter(worker) {
            return Err(format!("I4: {attempt} goes to {worker}, which voted"));
        }
        if known.tries.values().any(|found| found.is_live && found.worker == worker) {
            return Err(format!("I5: two live attempts of {} on {worker}", attempt.run));
        }
        if known.tries.contains_key(&attempt.number) && !known.rows.contains(&attempt.number) {
            return Err(format!("I5: {attempt} is handed out twice"));
        }
        if known.crashes >= CRASHES_MAX {
            return Err(format!("I10: {attempt} after {} crashes", known.crashes));
        }
        if known.crashes > 0 && known.tries.values().any(|found| found.is_live) {
            return Err(format!("I10: {attempt} beside another one after a crash"));
        }
        known.assigned += 1;
        known.assigned_now += 1;
        if known.assigned_now > ATTEMPTS_MAX || known.timeouts >= policy.attempts_max {
            return Err(format!("I9: {attempt} after {} timeouts", known.timeouts));
        }
        if policy.retry == Retry::Never {
            let allowed = match policy.verify {
                Verify::Once => 1,
                Verify::Quorum { n } => u32::from(n) + 2,
                Verify::Standard | Verify::High => 12 + 3,
            };
            if known.assigned > allowed {
                return Err(format!("I9: {attempt} of a run that is tried once"));
            }
            if policy.durable && !known.rows.contains(&attempt.number) {
                return Err(format!("I9: {attempt} is handed out before its row is committed"));
            }
        }
        if policy.retry != Retry::Never || !policy.durable {
            // the others were placed when their row was written, not now
            known.check_exclusion(attempt, worker, workers, &self.books)?;
        }
        let found = Try { worker, epoch, is_live: true, has_begun: false };
        known.tries.insert(attempt.number, found);
        if known.tries.len() > 1 && voters == 1 {
            self.saw("a rerun");
        }
        Ok(())
    }

    /// A run that was bound to a class which could not decide it keeps votes of that.
    fn compare_within_one_class(&mut self, last: &Final) {
        let Some(known) = self.runs.get_mut(&last.run) else { return };
        let won = |number: u32| {
            let its = |record: &&AttemptRecord| record.number == number;
            let record = last.attempts.iter().find(its).map(|record| &record.state);
            matches!(record, Some(AttemptState::Voted { won: Some(true), .. }))
        };
        let class = known.votes.iter().find(|vote| won(vote.number)).map(|vote| vote.class);
        for vote in &mut known.votes {
            vote.is_compared = class.is_none_or(|class| class == vote.class);
        }
        if known.votes.iter().any(|vote| !vote.is_compared) {
            self.saw("a run that turned to another class");
        }
    }

    /// I2, I3, I7, I8: the final is the only one and rests on what was heard.
    fn ended(&mut self, last: &Final) -> Result<(), String> {
        let Some(known) = self.runs.get(&last.run) else {
            return Err(format!("I1: a final of {}, which nobody knows", last.run));
        };
        if known.last.is_some() {
            return Err(format!("I2: a second final of {}", last.run));
        }
        if known.epoch != last.epoch {
            return Err(format!("I6: the final of {} names another term", last.run));
        }
        if known.was_canceled && last.state != RunState::Canceled {
            return Err(format!("I8: {} was canceled and is {}", last.run, last.state.name()));
        }
        self.compare_within_one_class(last);
        let known = &self.runs[&last.run];
        let rare = match last.result {
            Some(_) if last.shared_with.is_some() => {
                known.check_shared(last, &self.runs)?;
                vec!["a run that shared attempts"]
            }
            Some(result) => known.check_result(last, result)?,
            None => known.check_no_result(last, &self.poisoned)?,
        };
        if let Some(known) = self.runs.get_mut(&last.run) {
            known.last = Some(last.clone());
        }
        rare.into_iter().for_each(|what| self.saw(what));
        for explained in last.explain.iter() {
            for (words, what) in EXPLAINED {
                if explained.text().contains(words) {
                    self.saw(what);
                }
            }
        }
        Ok(())
    }
}

/// Words of the explanations that show rare states.
const EXPLAINED: [(&str, &str); 11] = [
    ("ended early: those that waited", "a follower whose leader was canceled or expired"),
    ("gave no result: it is executed", "a follower that was executed after all"),
    ("a second one is handed out", "a hedge"),
    ("audit lottery drew it", "an audit"),
    ("results are verified anew at once", "a run verified anew that waited for its turn"),
    ("lost its confirmations elsewhere", "a vote that lost its weight"),
    ("is slow", "a slow attempt"),
    ("is stuck", "a stuck attempt"),
    ("was not heard of", "a suspect worker"),
    ("is heard of again", "a suspect worker that was heard of again"),
    ("grace after the restart is over", "a run that was held back for the whole grace"),
];

/// The worker whose word an event is.
fn speaker(event: &Event) -> Option<WorkerId> {
    match event {
        Event::WorkerJoined(joining) => Some(joining.worker),
        Event::Credits { worker, .. }
        | Event::Heartbeat { worker, .. }
        | Event::AttemptBegun { worker, .. }
        | Event::AttemptVoted { worker, .. }
        | Event::AttemptFaulted { worker, .. } => Some(*worker),
        _ => None,
    }
}

impl Known {
    /// The votes that were compared, once it is final.
    pub fn compared(&self) -> impl Iterator<Item = &Heard> {
        self.votes.iter().filter(|vote| vote.is_compared)
    }

    /// I5: a worker that held an attempt gets no other while one that did not is free; and voters sit in distinct domains
    /// where there are enough.
    fn check_exclusion(
        &self,
        attempt: AttemptId,
        worker: WorkerId,
        workers: &[WorkerView],
        books: &Books,
    ) -> Result<(), String> {
        let Some(chosen) = workers.iter().find(|view| view.worker == worker) else {
            return Err(format!("{attempt} goes to {worker}, which is not there"));
        };
        let carries = |view: &&WorkerView| match &self.submission.policy.placement {
            Placement::Any => true,
            Placement::Labels { labels } => {
                labels.iter().all(|(name, value)| view.labels.get(name) == Some(value))
            }
        };
        let suits = |view: &&WorkerView| {
            matches!(view.standing, WorkerStanding::Active | WorkerStanding::Suspect)
                && view.memory_bytes >= self.submission.memory_bytes
        };
        if chosen.is_arbiter {
            // asked for what it is, or because there is nobody else
            return Ok(());
        }
        let suits = |view: &&WorkerView| suits(view) && !view.is_arbiter;
        let voters = usize::from(self.submission.policy.verify.peers());
        if self.submission.reverify.is_some() {
            return Ok(());
        }
        if voters == 1 {
            let held = |worker| self.tries.values().any(|found| found.worker == worker);
            let is_free = |view: &&WorkerView| {
                let may_take = view.standing == WorkerStanding::Active && view.credits > 0;
                may_take && view.memory_bytes - view.memory_leased >= self.submission.memory_bytes
            };
            let other =
                workers.iter().filter(suits).filter(carries).filter(is_free).find(|view| !held(view.worker));
            if let Some(other) = other.filter(|_| held(worker)) {
                return Err(format!("I5: {attempt} goes to {worker} again and {} is free", other.worker));
            }
            return Ok(());
        }
        let seated = self.tries.values().filter(|found| found.is_live).map(|found| found.worker);
        let seated =
            seated.chain(self.votes.iter().map(|vote| vote.worker)).chain(self.discarded.iter().copied());
        let is_peer = |worker: &WorkerId| {
            let class = workers.iter().find(|view| view.worker == *worker).map(|view| view.class);
            class == Some(chosen.class) && !books.is_arbiter(*worker)
        };
        let seated: BTreeSet<WorkerId> = seated.filter(is_peer).collect();
        let same_class =
            workers.iter().filter(suits).filter(carries).filter(|view| view.class == chosen.class);
        // where votes are weighed, the operator's own machines sit where they like
        let is_weighed = self.submission.policy.verify.epsilon_ppb().is_some();
        let is_apart =
            |view: &WorkerView| is_weighed && view.domain == OWN_DOMAIN && books.is_owned(view.worker);
        let domains: BTreeSet<&str> = same_class.map(|view| view.domain.as_str()).collect();
        let shares = workers
            .iter()
            .any(|view| seated.contains(&view.worker) && view.domain == chosen.domain && !is_apart(view));
        if shares && !is_apart(chosen) && domains.len() >= voters.max(seated.len() + 1) {
            return Err(format!("I5: {attempt} goes to {worker} and a voter sits in its domain already"));
        }
        Ok(())
    }

    /// I3 and I12: what a result must rest on. Gives the rare states that it shows.
    fn check_result(&self, last: &Final, result: Digest) -> Result<Vec<&'static str>, String> {
        let run = last.run;
        let mut rare = Vec::new();
        let for_it: Vec<&Heard> = self.compared().filter(|vote| vote.result == result).collect();
        let Some(first) = for_it.first() else {
            return Err(format!("I3: nobody voted for the result of {run}"));
        };
        let is_known = self.submission.reverify.as_ref().is_some_and(|reverify| reverify.result == result);
        if !is_known && !for_it.iter().any(|vote| vote.is_there) {
            return Err(format!("I12: the result of {run} was not collected"));
        }
        if last.outcome.as_ref() != Some(&first.outcome) {
            return Err(format!("I3: the outcome of {run} is not what was voted for"));
        }
        if (last.state == RunState::Succeeded) != first.outcome.is_success()
            || last.state == RunState::Canceled
        {
            return Err(format!("I3: {run} is {} by {:?}", last.state.name(), first.outcome));
        }
        if self.submission.reverify.is_some() || self.submission.policy.verify.epsilon_ppb().is_some() {
            return self.check_weighed(last, result);
        }
        if !first.is_there {
            rare.push("the next voter delivered");
        }
        match self.submission.policy.verify {
            Verify::Once if last.verdict.kind != VerdictKind::Unchecked => {
                Err(format!("I3: {run} compared nothing and is {:?}", last.verdict.kind))
            }
            Verify::Once | Verify::Standard | Verify::High => Ok(rare),
            Verify::Quorum { n } => {
                let n = usize::from(n);
                let all = self.compared().count();
                let workers: BTreeSet<WorkerId> = self.compared().map(|vote| vote.worker).collect();
                let classes: BTreeSet<Class> = self.compared().map(|vote| vote.class).collect();
                if last.verdict.kind != VerdictKind::Agreed {
                    return Err(format!("I3: {run} has a result and is {:?}", last.verdict.kind));
                }
                if workers.len() != all {
                    return Err(format!("I4: a worker counts twice in {run}"));
                }
                if all < n || for_it.len() * 2 <= n || classes.len() != 1 {
                    let classes = classes.len();
                    return Err(format!(
                        "I3: {} of {all} votes of {classes} classes for {run}",
                        for_it.len()
                    ));
                }
                let lost: Vec<WorkerId> =
                    self.compared().filter(|vote| vote.result != result).map(|vote| vote.worker).collect();
                if last.verdict.votes as usize != for_it.len() || last.verdict.dissenters != lost {
                    return Err(format!("I3: the figures of the verdict of {run} are wrong"));
                }
                if all > n {
                    rare.push("a dispute that a further vote resolved");
                }
                Ok(rare)
            }
        }
    }

    /// I2 and I3: a result that another run's attempts gave is the result of that run, which is equal and asked for no less.
    fn check_shared(&self, last: &Final, runs: &BTreeMap<RunId, Known>) -> Result<(), String> {
        let (run, leader) = (last.run, last.shared_with.expect("it shared"));
        let known =
            runs.get(&leader).ok_or_else(|| format!("share: {run} and {leader}, which nobody knows"))?;
        let theirs = known.last.as_ref().ok_or_else(|| format!("share: {leader} has no final for {run}"))?;
        let of = |it: &Final| {
            (it.state, it.reason, it.outcome.clone(), it.verdict.clone(), it.result, it.error_ppb)
        };
        if of(last) != of(theirs) || theirs.shared_with.is_some() {
            return Err(format!("share: {run} is not what {leader} is"));
        }
        let (mine, other) = (&self.submission, &known.submission);
        if mine.share.is_none() || (mine.share, mine.workspace) != (other.share, other.workspace) {
            return Err(format!("share: {run} and {leader} are not equal"));
        }
        let asked = |it: &Submission| (it.policy.verify, it.policy.placement.clone());
        if asked(mine) != asked(other) {
            return Err(format!("share: {run} did not ask for what {leader} did"));
        }
        let once = [mine, other].iter().any(|it| it.policy.retry == Retry::Never);
        if once || !last.attempts.is_empty() || !last.votes.is_empty() {
            return Err(format!("share: {run} has attempts of its own"));
        }
        Ok(())
    }

    /// A run that ends without a result must have a reason that is true.
    fn check_no_result(
        &self,
        last: &Final,
        poisoned: &BTreeSet<Digest>,
    ) -> Result<Vec<&'static str>, String> {
        let run = last.run;
        if matches!(last.verdict.kind, VerdictKind::Agreed | VerdictKind::Unchecked) || last.outcome.is_some()
        {
            return Err(format!("I3: {run} has no result and is {:?}", last.verdict.kind));
        }
        if last.state == RunState::Canceled {
            return if self.was_canceled {
                Ok(vec!["a cancel in time"])
            } else {
                Err(format!("{run}: no cancel"))
            };
        }
        let is_poisoned = poisoned.contains(&self.submission.module);
        if last.reason != Some(FailReason::Nondeterministic)
            && last.verdict.kind == VerdictKind::Nondeterministic
        {
            return Err(format!("I3: {run} is {:?} for another reason", last.verdict.kind));
        }
        match last.reason {
            Some(FailReason::Poisoned) if is_poisoned => Ok(vec!["a run of a quarantined module"]),
            Some(FailReason::Poisoned) if self.crashes >= CRASHES_MAX => Ok(vec!["a poisoned run"]),
            Some(FailReason::Poisoned) => Err(format!("I10: {run} is poisoned by {} crashes", self.crashes)),
            Some(FailReason::Nondeterministic) => self.check_nondeterministic(run),
            Some(FailReason::NoQuorum)
                if self.submission.policy.verify == Verify::Once && self.submission.reverify.is_none() =>
            {
                Err(format!("{run} needs no quorum"))
            }
            Some(FailReason::NoQuorum) if last.verdict.kind == VerdictKind::Disputed => {
                Ok(vec!["no quorum: disputed"])
            }
            Some(FailReason::NoQuorum) => Ok(vec!["no quorum: too few workers"]),
            Some(FailReason::TimedOut) => Ok(vec!["a run timed out"]),
            Some(FailReason::Lost) => Ok(vec!["a run lost"]),
            Some(FailReason::Crashed) => match self.submission.policy.retry {
                Retry::Never => Ok(vec!["a crash that allows no rerun"]),
                Retry::Reassign => Err(format!("{run} may be rerun after a crash")),
            },
            Some(FailReason::Expired) => match self.submission.policy.deadline_ms {
                Some(_) => Ok(vec!["a deadline passed"]),
                None => Err(format!("{run} has no deadline")),
            },
            reason => Err(format!("{run} failed without a result: {reason:?}")),
        }
    }
}

fn fault_of(state: &AttemptState) -> Option<&Fault> {
    match state {
        AttemptState::Faulted { fault } => Some(fault),
        _ => None,
    }
}
