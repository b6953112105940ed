//! The pool: every run that is not final, and the door through which events come in.
//!
//! One event is applied whole: the run that it names is changed, what follows for others is worked off, and then whoever
//! is free gets work. Events that come too late (for a run that is gone, for an attempt that ended) change nothing; at
//! most a worker is told to stop or to forget.

use super::attempt::Attempt;
use super::credibility::Seat;
use super::explain::Note;
use super::floor::{Floor, Followup};
use super::grace::Grace;
use super::hash::Map;
use super::placement::lacking;
use super::reach::could_decide;
use super::run::{Phase, Run};
use super::timers::Timer;
use super::{AttemptState, Config, Effect, Event, Submission, SubmitError, Time, Write, WriteKind};
use vocabulary::id::{AttemptId, Epoch, RunId, WorkerId};
use vocabulary::result::{FailReason, Fault};

/// Why a run fails whose module may not run.
pub(super) const REFUSED: &str = "its module was refused at admission";

/// Runs of a module that is taken out of service that end in one step, those that follow others included (but for the first
/// one's): a step of more would keep everybody else waiting.
const FAILED_AT_ONCE_MAX: usize = 1_000;

/// The scheduler and the rules of verification, without a clock of its own.
///
/// Call [`Pool::submit`] and [`Pool::step`] with a time that never goes back, carry out the effects in their order, and
/// send [`Event::Tick`] when [`Pool::next_deadline`] has come.
pub struct Pool {
    pub(super) runs: Map<RunId, Box<Run>>,
    pub(super) floor: Floor,
    pub(super) grace: Grace,
    next_age: u64,
}

/// Its beginning.
impl Pool {
    /// An empty pool that starts at `now`, with nobody to wait for; see [`Pool::restarted`] for the other case.
    pub fn new(config: Config, now: Time) -> Pool {
        Pool { runs: Map::default(), floor: Floor::new(config, now), grace: Grace::default(), next_age: 0 }
    }

    /// When to send the next [`Event::Tick`].
    pub fn next_deadline(&self) -> Option<Time> {
        self.floor.timers.next()
    }
}

/// Submission.
impl Pool {
    /// Takes a run in, or says why not; then nothing was changed. A recovered run is never refused.
    pub fn submit(
        &mut self,
        now: Time,
        submission: Submission,
        effects: &mut Vec<Effect>,
    ) -> Result<(), SubmitError> {
        self.floor.now = self.floor.now.max(now);
        if self.runs.contains_key(&submission.run) {
            return Ok(());
        }
        if !submission.recovered && submission.reverify.is_none() {
            self.check_bounds(&submission)?;
        }
        let module = self.floor.modules.number(submission.module);
        let module_ready = submission.module_ready;
        let mut run = Box::new(Run::new(submission, module, self.next_age));
        if !run.is_recovered && run.reverify.is_none() {
            self.check_workers(&run).inspect_err(|_| self.rest(module))?;
        }
        std::mem::swap(&mut self.floor.effects, effects);
        self.next_age += 1;
        self.floor.modules[module].runs += 1;
        self.floor.queue.opened(run.workspace);
        self.admit(&mut run, module_ready);
        let leader = self.leader_for(&run);
        self.floor.board(&mut run, leader);
        let id = run.id;
        self.runs.insert(id, run);
        self.with_run(id, |floor, run| floor.advance(run));
        self.settle_down();
        std::mem::swap(&mut self.floor.effects, effects);
        Ok(())
    }

    fn check_bounds(&self, submission: &Submission) -> Result<(), SubmitError> {
        let module = self.floor.modules.known(submission.module);
        if let Some(why) = module.and_then(|module| self.floor.modules[module].quarantined.clone()) {
            return Err(SubmitError::ModuleQuarantined { why });
        }
        let config = &self.floor.config;
        let of_workspace = self.floor.queue.runs_of_workspace(submission.workspace);
        if self.runs.len() >= config.runs_max {
            return Err(SubmitError::QueueFull { queued: self.runs.len() });
        }
        if of_workspace >= config.runs_per_workspace_max {
            return Err(SubmitError::QueueFull { queued: of_workspace });
        }
        Ok(())
    }

    /// Refuses what nobody could execute. After a start the workers have a grace to join.
    fn check_workers(&mut self, run: &Run) -> Result<(), SubmitError> {
        let wanted = run.policy.verify.peers();
        let shape = run.shape(u32::from(wanted), Seat::Voter);
        let there = self.floor.queue.suited(&shape, &self.floor.crew, self.floor.now).1.there;
        if self.floor.is_grace() {
            return Ok(());
        }
        if there == 0 {
            return Err(SubmitError::NoWorker { lacks: lacking(&shape, &self.floor.crew) });
        }
        match run.rule() {
            Some(rule) => could_decide(run, &shape, &rule, &self.floor),
            None if there < usize::from(wanted) => Err(SubmitError::TooFewWorkers { wanted, there }),
            None => Ok(()),
        }
    }

    /// What is due once when a run is taken in.
    fn admit(&mut self, run: &mut Run, module_ready: bool) {
        let floor = &mut self.floor;
        if module_ready && !floor.modules[run.module].is_ready {
            floor.modules[run.module].is_ready = true;
            floor.ungate(run.module);
        }
        if let Some(at) = run.deadline_at {
            floor.timers.set(at, Timer::Deadline(run.id));
        }
        if let Some(reverify) = &run.reverify {
            let (result, revision) = (reverify.result, reverify.revision);
            floor.note(run, Note::Reverifies { result, revision });
        } else if run.is_recovered {
            let attempts = run.attempts.len();
            floor.note(run, Note::Recovered { attempts });
            self.take_up(run);
        } else {
            if run.policy.durable {
                floor.effects.push(Effect::Write(Write::Insert { run: run.id, epoch: run.epoch }));
            }
            let free = floor.crew.free().len();
            floor.note(run, Note::Submitted { ahead: floor.queue.len(), free, active: floor.active });
        }
        if !self.floor.modules[run.module].is_ready {
            self.floor.note(run, Note::ModuleAwaited);
        }
    }

    /// Makes sense of the attempts of an earlier life. Those that were live are lost, except under `retry: never`,
    /// where another attempt would be one too many: their workers have the grace to come back with them.
    fn take_up(&mut self, run: &mut Run) {
        let floor = &mut self.floor;
        floor.running += usize::from(!run.attempts.is_empty());
        for position in 0..run.attempts.len() {
            let is_kept = run.is_tried_once() && floor.is_grace();
            let attempt = &mut run.attempts[position];
            if attempt.is_live() && is_kept {
                let number = attempt.record.number;
                self.grace.orphans.push(run.attempt_id(number));
                floor.attempts_live += 1;
            } else if attempt.is_live() || attempt.was_vote() {
                attempt.is_orphan = false;
                attempt.fault(floor.now, Fault::Lost);
            }
        }
        self.hold_back(run);
    }

    fn rest(&mut self, module: u32) {
        if self.floor.modules[module].runs == 0
            && let Some(forgotten) = self.floor.modules.rest(module)
        {
            self.floor.crew.unload(forgotten);
        }
    }
}

/// Events.
impl Pool {
    /// Applies one event and appends what the shell owes for it.
    pub fn step(&mut self, now: Time, event: Event, effects: &mut Vec<Effect>) {
        if let Event::Submitted(submission) = event {
            // whoever sends the event instead of calling `submit` does not ask whether it was accepted
            let _ = self.submit(now, *submission, effects);
            return;
        }
        self.floor.now = self.floor.now.max(now);
        std::mem::swap(&mut self.floor.effects, effects);
        self.apply(event);
        self.settle_down();
        std::mem::swap(&mut self.floor.effects, effects);
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Submitted(_) => {}
            Event::Committed { run, write } => self.with_run(run, |floor, run| match write {
                WriteKind::Inserted => {}
                WriteKind::Attempt(number) => floor.row_committed(run, number),
                WriteKind::Finished => floor.committed(run),
            }),
            Event::BlobsMissing { run } => self.with_run(run, Floor::collect_anew),
            Event::Refused { run } => self.with_run(run, Floor::disown),
            Event::Serving => self.serving(),
            Event::WorkerJoined(joining) => self.joined(*joining),
            Event::WorkerLeft { worker } => self.left(worker),
            Event::Credits { worker, credits } => {
                if let Some(place) = self.heard(worker) {
                    self.floor.crew.grant(place, credits);
                }
            }
            Event::Heartbeat { worker, beats } => self.beats(worker, beats),
            Event::WorkerDraining { worker, why } => self.drain(worker, why),
            Event::WorkerQuarantined { worker, why } => self.quarantine(worker, why, false),
            Event::WorkerReadmitted { worker } => self.readmit(worker),
            Event::AttemptBegun { attempt, worker, at } => self.begun(attempt, worker, at),
            Event::AttemptVoted { attempt, epoch, worker, vote } => {
                self.heard(worker);
                match self.live(attempt, epoch, worker) {
                    Some(position) => {
                        self.with_run(attempt.run, |floor, run| floor.voted(run, position, vote));
                    }
                    None => self.voted_late(attempt, epoch, worker, &vote),
                }
            }
            Event::AttemptFaulted { attempt, epoch, worker, fault, begun, cpu_us } => {
                self.heard(worker);
                if let Some(position) = self.live(attempt, epoch, worker) {
                    self.with_run(attempt.run, |floor, run| {
                        floor.faulted(run, position, fault, begun, cpu_us)
                    });
                }
            }
            Event::AttemptReturned { attempt, epoch, worker } => {
                self.heard(worker);
                if let Some(position) = self.live(attempt, epoch, worker) {
                    self.with_run(attempt.run, |floor, run| floor.returned(run, position));
                }
            }
            Event::Delivered { attempt } => {
                self.with_run(attempt.run, |floor, run| floor.delivered(run, attempt.number));
            }
            Event::Collected { attempt } => self.collected(attempt),
            Event::CollectFailed { attempt, fault } => self.collect_failed(attempt, fault),
            Event::Cancel { run } => self.with_run(run, Floor::cancel),
            Event::ModuleReady { module } => {
                let module = self.floor.modules.number(module);
                self.floor.modules[module].is_ready = true;
                self.floor.modules[module].is_refused = false;
                self.floor.ungate(module);
                self.rest(module);
            }
            Event::ModuleRefused { module } => {
                if let Some(module) = self.floor.modules.known(module) {
                    self.floor.modules[module].is_refused = true;
                    self.fail_waiting(module);
                }
            }
            Event::ModuleQuarantined { module, why } => {
                let module = self.floor.modules.number(module);
                self.poisoned(module, why);
            }
            Event::ModuleNondeterministic { module } => {
                let module = self.floor.modules.number(module);
                self.floor.modules[module].is_nondeterministic = true;
                self.rest(module);
            }
            Event::ModuleReadmitted { module } => {
                if let Some(module) = self.floor.modules.known(module) {
                    self.floor.modules[module].is_nondeterministic = false;
                    self.floor.modules[module].discord = Default::default();
                    self.floor.modules[module].claims = Default::default();
                    self.floor.modules[module].quarantined = None;
                    self.floor.modules[module].crashed.clear();
                    self.floor.ungate(module);
                    self.rest(module);
                }
            }
            Event::WasAway { ms } => {
                self.floor.crew.excuse(self.floor.now, ms);
                self.prolong_grace(ms);
            }
            Event::Tick => self.tick(),
        }
    }

    /// Works off what the event means for others, and hands out work.
    fn settle_down(&mut self) {
        self.follow_up();
        while !self.floor.queue.is_empty() && !self.floor.crew.free().is_empty() {
            let Floor { queue, crew, modules, config, now, .. } = &mut self.floor;
            queue.keep_for_large(crew, modules, config, *now);
            let Some((_, run)) = queue.next(crew, modules, config) else { break };
            self.with_run(run, |floor, run| {
                floor.place(run);
                floor.advance(run);
            });
            self.follow_up();
        }
        if self.floor.queue.is_empty() {
            self.floor.crew.keep(None);
        }
    }

    /// What the event means for others.
    fn follow_up(&mut self) {
        while let Some(followup) = self.floor.followups.pop() {
            match followup {
                Followup::Fail(run, reason, why) => self.with_run(run, |floor, run| {
                    if run.ticket.is_some() || run.is_held {
                        floor.fail(run, reason, &why);
                    }
                }),
                Followup::Short(run, why) => self.with_run(run, |floor, run| floor.short(run, &why)),
                Followup::Drain(worker, why) => self.drain(worker, why),
                Followup::Poisoned(module, why) => self.poisoned(module, why),
                Followup::Quarantine(worker, why) => self.distrust(worker, why),
                Followup::Rehabilitate(worker, why) => self.rehabilitate(worker, why),
                Followup::Arbiters => {
                    for run in self.floor.queue.runs_for_arbiters() {
                        self.with_run(run, Floor::advance);
                    }
                }
                Followup::Trust => self.floor.crew_changed(),
                Followup::Resume(run) => self.with_run(run, Floor::advance),
                Followup::Landed(followers, ending) => self.landed(followers, &ending),
                Followup::Adrift { followers, leader, keep_together } => {
                    self.adrift(followers, leader, keep_together);
                }
            }
        }
    }

    /// Changes one run; forgets it if that was its end, and otherwise tells of the change.
    pub(super) fn with_run(&mut self, id: RunId, change: impl FnOnce(&mut Floor, &mut Run)) {
        self.change_run(id, change);
        // at once: no other run is decided by a vote that weighs less since
        let doubted = std::mem::take(&mut self.floor.doubted);
        if !doubted.is_empty() {
            self.doubt(&doubted);
        }
    }

    /// Lets runs go on when everything else is done that follows from the event: who is taken out by it is out then, so that
    /// nothing is decided by votes that are about to be discarded.
    pub(super) fn resume_last(&mut self, runs: impl DoubleEndedIterator<Item = RunId>) {
        drop(self.floor.followups.splice(0..0, runs.rev().map(Followup::Resume)));
    }

    fn change_run(&mut self, id: RunId, change: impl FnOnce(&mut Floor, &mut Run)) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        change(&mut self.floor, run);
        let is_changed = std::mem::take(&mut run.is_changed);
        if run.phase != Phase::Gone {
            if is_changed && !run.is_settled() {
                self.floor.effects.push(Effect::Changed { run: id });
            }
            return;
        }
        let (module, workspace, had_attempt) = (run.module, run.workspace, !run.attempts.is_empty());
        let (is_anew, has_token) = (run.reverify.is_some(), run.has_token);
        self.runs.remove(&id);
        if is_anew {
            self.floor.return_token(has_token);
        }
        self.floor.running -= usize::from(had_attempt);
        self.floor.queue.closed(workspace);
        self.floor.modules[module].runs -= 1;
        self.rest(module);
    }

    /// An attempt of a run that is not final.
    pub(super) fn attempt(&self, attempt: AttemptId) -> Option<&Attempt> {
        let run = self.runs.get(&attempt.run)?;
        run.position(attempt.number).map(|position| &run.attempts[position])
    }

    /// Position of an attempt that is live, on this worker and assigned under this term.
    fn live(&self, attempt: AttemptId, epoch: Epoch, worker: WorkerId) -> Option<usize> {
        self.attempt(attempt).filter(|found| found.epoch == epoch)?;
        self.live_on(attempt, worker)
    }

    /// Position of an attempt that is live, on this worker. It holds one of that number only: it shows what it holds
    /// before it is given anything, and a number that it has shown is not given again.
    pub(super) fn live_on(&self, attempt: AttemptId, worker: WorkerId) -> Option<usize> {
        let run = self.runs.get(&attempt.run)?;
        let position = run.position(attempt.number)?;
        let found = &run.attempts[position];
        (found.is_live() && found.sent && found.record.worker == worker && !found.is_orphan)
            .then_some(position)
    }

    fn begun(&mut self, attempt: AttemptId, worker: WorkerId, at: Time) {
        self.heard(worker);
        if let Some(position) = self.live_on(attempt, worker) {
            self.with_run(attempt.run, |floor, run| floor.begun(run, position, at));
        }
    }

    /// A vote on an attempt that is over: evidence at most, never state (I7). Its outputs may go, unless it is a vote
    /// that was taken already.
    fn voted_late(&mut self, attempt: AttemptId, epoch: Epoch, worker: WorkerId, vote: &super::Vote) {
        let effects = &mut self.floor.effects;
        if let Some(run) = self.runs.get_mut(&attempt.run) {
            run.numbers_used = run.numbers_used.max(attempt.number);
        }
        if let Some(run) = self.runs.get(&attempt.run)
            && let Some(known) = run.position(attempt.number).map(|position| &run.attempts[position])
            && (known.record.worker, known.epoch) == (worker, epoch)
        {
            if known.ballot.is_some() {
                return;
            }
            let is_compared =
                self.floor.crew.get(worker).is_some_and(|worker| run.would_compare(worker, &vote.outcome));
            if let Some(agreed) = run.agreed
                && agreed != vote.result
                && is_compared
            {
                effects.push(Effect::Dissented { worker, attempt, result: vote.result });
            }
        }
        effects.push(Effect::Release { attempt, worker });
    }

    /// The worker that holds a live attempt, or that held it and voted.
    pub fn holder(&self, attempt: AttemptId) -> Option<WorkerId> {
        let run = self.runs.get(&attempt.run)?;
        run.position(attempt.number).map(|position| run.attempts[position].record.worker)
    }

    /// The blobs are there, whoever was asked last: they hash to what won.
    fn collected(&mut self, attempt: AttemptId) {
        self.with_run(attempt.run, |floor, run| {
            if let Phase::Collecting { result, .. } = run.phase
                && let Some(position) = run.position(attempt.number)
                && run.compared(position).is_some_and(|ballot| ballot.result == result)
            {
                floor.accept(run, position);
            }
        });
    }

    pub(super) fn collect_failed(&mut self, attempt: AttemptId, fault: Fault) {
        self.with_run(attempt.run, |floor, run| {
            if let Some(position) = run.position(attempt.number) {
                floor.undelivered(run, position, fault);
            }
        });
    }

    /// A module is out of service: what waits for a worker ends, what runs may end by itself.
    fn poisoned(&mut self, module: u32, why: String) {
        self.floor.modules[module].quarantined = Some(why);
        self.fail_waiting(module);
    }

    /// Ends runs that wait and whose module may not run, a bounded number in this step; the others are not handed out
    /// meanwhile, and end in the next ones, unless the module is readmitted before.
    pub(super) fn fail_waiting(&mut self, module: u32) {
        let known = &self.floor.modules[module];
        let (reason, why) = match &known.quarantined {
            Some(why) => (FailReason::Poisoned, format!("its module is quarantined: {why}")),
            None if known.is_refused => (FailReason::ModuleRefused, REFUSED.to_owned()),
            None => return,
        };
        let waiting = known.lanes.iter().flat_map(|lane| self.floor.queue.runs_of_lane(*lane));
        let (mut ending, mut more, mut fails) = (0, None, Vec::new());
        for run in waiting.chain(self.held_of(module)) {
            ending += self.ends_with(run);
            if ending > FAILED_AT_ONCE_MAX && !fails.is_empty() {
                more = Some(known.digest);
                break;
            }
            fails.push(Followup::Fail(run, reason, why.clone()));
        }
        if let Some(module) = more {
            self.floor.timers.set(Time(self.floor.now.0 + 1), Timer::Unserved(module));
        }
        self.floor.followups.extend(fails);
    }
}

impl Attempt {
    /// Whether the store's row says that it voted; no vote comes with it, so it is worth nothing any more.
    fn was_vote(&self) -> bool {
        matches!(self.record.state, AttemptState::Voted { .. })
    }
}
