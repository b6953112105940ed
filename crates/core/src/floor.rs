//! What all runs share: workers, modules, queue, timers, and the effects of the step that is going on.
//!
//! Everything here acts on one run at a time, which its caller took out of the pool. What an event means for other
//! runs goes to [`Floor::followups`], which the pool works off before the step ends.

use super::attempt::Attempt;
use super::credibility::Seat;
use super::explain::Note;
use super::modules::Modules;
use super::placement::{Draw, barred, choose, draw, lacking};
use super::queue::Queue;
use super::reach::out_of_reach;
use super::repair::Repair;
use super::run::Run;
use super::settle::Ending;
use super::share::Flights;
use super::timers::{Timer, Timers};
use super::workers::Crew;
use super::{AttemptState, Config, Effect, Time, Write};
use vocabulary::id::{RunId, WorkerId};
use vocabulary::result::{FailReason, Fault};

/// What a change means for others.
pub(super) enum Followup {
    /// A run that still waits for a worker cannot go on.
    Fail(RunId, FailReason, String),
    /// A run has waited too long for workers of its class.
    Short(RunId, String),
    /// A worker failed too many different modules, or claimed too often what nobody confirms.
    Drain(WorkerId, String),
    /// A module crashed too many runs.
    Poisoned(u32, String),
    /// What a worker voted gives it away: nothing of it counts any more.
    Quarantine(WorkerId, String),
    /// Nothing is left of what a worker was quarantined for.
    Rehabilitate(WorkerId, String),
    /// The arbiters are not who they were.
    Arbiters,
    /// Somebody is trusted more, or less: who may decide what is worked out anew.
    Trust,
    /// A run may be verified anew now.
    Resume(RunId),
    /// A result is that of these as well.
    Landed(Vec<RunId>, Box<Ending>),
    /// Whom these waited for brings nothing.
    Adrift { followers: Vec<RunId>, leader: RunId, keep_together: bool },
}

/// The shared part of the pool.
pub(super) struct Floor {
    pub config: Config,
    pub now: Time,
    /// Until then nobody is lost, and recovered attempts may be claimed.
    pub grace_until: Time,
    pub crew: Crew,
    pub modules: Modules,
    pub queue: Queue,
    pub timers: Timers,
    pub effects: Vec<Effect>,
    pub followups: Vec<Followup>,
    /// Workers that are trusted less since a moment ago: their open votes weigh less.
    pub doubted: Vec<WorkerId>,
    /// Workers that are active.
    pub active: usize,
    /// Runs with an attempt.
    pub running: usize,
    pub attempts_live: usize,
    /// What verifying anew holds.
    pub repair: Repair,
    /// Equal runs that share attempts.
    pub flights: Flights,
    /// Slots of the workers that may get work.
    pub slots: u32,
    /// Arbiters that may get work.
    pub arbiters: usize,
    /// Second attempts of slow ones that may be handed out, in thousandths.
    pub hedge_milli: u64,
}

impl Floor {
    pub(super) fn new(config: Config, now: Time) -> Floor {
        Floor {
            hedge_milli: u64::from(config.hedge_burst) * 1_000,
            config,
            now,
            grace_until: now,
            crew: Crew::default(),
            modules: Modules::default(),
            queue: Queue::default(),
            timers: Timers::default(),
            effects: Vec::new(),
            followups: Vec::new(),
            doubted: Vec::new(),
            active: 0,
            running: 0,
            attempts_live: 0,
            repair: Repair::default(),
            flights: Flights::default(),
            slots: 0,
            arbiters: 0,
        }
    }

    /// Explains a decision.
    pub(super) fn note(&self, run: &mut Run, note: Note) {
        run.log.note(self.now, note);
        run.is_changed = true;
    }

    /// Somebody joined, left or changed standing.
    pub(super) fn crew_changed(&mut self) {
        self.active = self.crew.iter().filter(|worker| worker.is_active()).count();
        self.slots = self.crew.iter().filter(|worker| worker.is_eligible()).map(|worker| worker.slots).sum();
        self.crew.survey();
        let there = |place: &&usize| self.crew.at(**place).is_eligible();
        let arbiters = self.crew.arbiters().iter().filter(there).count();
        if std::mem::replace(&mut self.arbiters, arbiters) != arbiters {
            self.followups.push(Followup::Arbiters);
        }
        for shape in self.queue.crew_changed(&self.crew, self.now) {
            self.watch_short(shape);
        }
    }

    /// Asks again when a shape has been short of workers for long enough.
    pub(super) fn watch_short(&mut self, shape: u32) {
        let at = self.now.plus_ms(self.config.quorum_wait_ms);
        let timer_at = self.queue.timer_of_shape(shape);
        if timer_at.is_none() {
            *timer_at = Some(at);
            self.timers.set(at, Timer::Short(shape));
        }
    }

    /// The run waits no longer.
    pub(super) fn unqueue(&mut self, run: &mut Run) {
        self.unwatch_idle(run);
        if let Some(ticket) = run.ticket.take()
            && let Some((shape, at)) = self.queue.leave(ticket, &mut self.modules)
        {
            self.timers.unset(at, Timer::Short(shape));
        }
    }

    /// A rerun need not wait for a worker that held none any more.
    pub(super) fn unset_fresh(&mut self, run: &mut Run) {
        if let Some(at) = run.fresh_until.take() {
            self.timers.unset(at, Timer::Fresh(run.id));
        }
    }

    /// Lets the run wait for a worker, in the shape of what it wants now.
    pub(super) fn requeue(&mut self, run: &mut Run, missing: u32, seat: Seat) {
        if !self.is_within_reach(run) {
            return self.fail(run, FailReason::NoQuorum, &out_of_reach(run));
        }
        if !self.take_token(run) {
            return;
        }
        if run.live() == 0 && !run.has_ballot() {
            // nothing is there to compare with: any class will do again
            run.unbind();
        }
        let mut shape = run.shape(missing, seat);
        let claimers = self.avoid_claimers(run, &mut shape);
        if run.ticket.is_some_and(|ticket| *self.queue.shape(self.queue.shape_of(ticket)).0 == shape) {
            return;
        }
        self.unqueue(run);
        if !shape.avoided.is_empty() {
            if self.queue.suited(&shape, &self.crew, self.now).1.places.is_empty() {
                let (barred, more) = barred(&shape, &self.crew, self.now);
                run.is_relaxed = true;
                shape.avoided.clear();
                self.unset_fresh(run);
                if claimers.is_empty() {
                    self.note(run, Note::NoOther { barred, more });
                }
            } else if run.fresh_until.is_none() {
                let wait_ms = self.config.fresh_worker_wait_ms;
                let at = self.now.plus_ms(wait_ms);
                run.fresh_until = Some(at);
                self.timers.set(at, Timer::Fresh(run.id));
                self.note_avoided(run, &shape.avoided, claimers);
            }
        }
        run.waits_since = self.now;
        let place = (run.workspace, run.policy.priority, run.age, run.id);
        let shared = (&self.crew, &mut self.modules, &self.config);
        let (ticket, short) = self.queue.enter(place, shape, run.module, shared, self.now);
        run.ticket = Some(ticket);
        if let Some(shape) = short {
            self.watch_short(shape);
        }
        let (shape, suited) = self.queue.shape(self.queue.shape_of(ticket));
        let there = suited.there;
        if there == 0 {
            let lacks = lacking(shape, &self.crew).into();
            self.note(run, Note::NobodySuits { lacks });
        } else if suited.short_since.is_some() {
            let wait_ms = self.config.quorum_wait_ms;
            self.note(run, Note::Short { wanted: missing, there, wait_ms });
        }
    }

    /// Gives the run one attempt, on the best of the free workers.
    pub(super) fn place(&mut self, run: &mut Run) {
        let Some(ticket) = run.ticket else { return };
        let (shape, suited) = self.queue.shape(self.queue.shape_of(ticket));
        let module = &mut self.modules[run.module];
        let is_adaptive = run.rule().is_some();
        // who was asked for the same module before would otherwise be asked together for every run of it, and two colluders
        // that happened to be could go on as long as they like; the first under an adaptive policy is checked by lot
        let is_drawn = if is_adaptive { !run.attempts.is_empty() } else { run.policy.verify.voters() > 1 };
        let chosen = if is_drawn && shape.seat == Seat::Voter {
            let odds_milli = is_adaptive.then(|| run.missing_odds_milli());
            let draw_of = Draw { odds_milli, lottery: run.lottery, now: self.now };
            draw(shape, suited, &self.crew, &run.held(), draw_of)
        } else {
            choose(shape, suited, &self.crew, &module.loaded, &run.held())
        };
        let Some((place, choice)) = chosen else { return };
        module.live += 1;
        let estimate_us = module.estimate_us;
        self.unqueue(run);
        self.unset_fresh(run);
        run.is_relaxed = false;
        run.wants_hedge = false;
        self.earn_hedge();
        let (worker, class, credits) = {
            let worker = self.crew.at(place);
            (worker.id, worker.class_of(run.kin), worker.credits)
        };
        let number = run.next_number();
        let id = run.attempt_id(number);
        self.crew.lease(place, id, run.memory_bytes);
        self.queue.charge(run.workspace, charged(estimate_us));
        self.running += usize::from(run.attempts.is_empty());
        self.attempts_live += 1;
        let voters = u32::from(run.policy.verify.voters());
        if run.compares() {
            run.class = Some(class);
        }
        let voter = run.seated().len() as u32 + 1;
        self.note(run, Note::Assigned { number, worker, choice, credits, voter, voters });
        let mut attempt = Attempt::new(number, run.epoch, worker, self.now, estimate_us);
        if is_adaptive {
            attempt.weight = self.crew.weight(place, self.now);
        }
        let (run_id, epoch) = (run.id, run.epoch);
        if run.is_tried_once() && run.policy.durable {
            // the row must be there before the guest may run: otherwise a restart could run it twice
            let record = attempt.record.clone();
            self.crew.update(place, |worker| worker.reserved += 1);
            self.effects.push(Effect::Write(Write::Attempt { run: run_id, epoch, record }));
            run.attempts.push(attempt);
        } else {
            attempt.sent = true;
            self.effects.push(Effect::Assign { attempt: id, epoch, worker });
            run.attempts.push(attempt);
            self.watch_begin(run, run.attempts.len() - 1);
        }
    }

    /// The row of an attempt is committed: under `retry: never` it may be handed out now.
    pub(super) fn row_committed(&mut self, run: &mut Run, number: u32) {
        let id = run.attempt_id(number);
        let Some(position) = run.position(number) else { return };
        let attempt = &mut run.attempts[position];
        if !attempt.is_live() || attempt.sent {
            return;
        }
        let worker = attempt.record.worker;
        if !self.crew.get(worker).is_some_and(|worker| worker.is_active()) {
            // it stopped taking work while the row was written; nothing was tried
            return self.faulted(run, position, Fault::Drained, false, 0);
        }
        attempt.sent = true;
        attempt.signs.mentioned_at = self.now;
        let epoch = attempt.epoch;
        self.unreserve(worker);
        self.effects.push(Effect::Assign { attempt: id, epoch, worker });
        self.watch_begin(run, position);
    }

    fn unreserve(&mut self, worker: WorkerId) {
        if let Some(worker) = self.crew.get_mut(worker) {
            worker.reserved -= 1;
        }
    }

    /// CPU time that an attempt may have used, of what its worker says: a guest has one thread, so no more than the time
    /// that passed, nor than its timeout. More would let a worker make a workspace wait for ever.
    pub(super) fn plausible_us(&self, run: &Run, position: usize, cpu_us: u64) -> u64 {
        let attempt = &run.attempts[position];
        let most_us = run.policy.timeout_ms.saturating_mul(1_000);
        match attempt.epoch == run.epoch {
            true => cpu_us.min(most_us).min(self.now.0.saturating_sub(attempt.record.assigned_at.0)),
            // it was assigned by an earlier life, nobody knows when
            false => cpu_us.min(most_us),
        }
    }

    /// Takes back what a live attempt holds: its worker's memory, its place in the probation, its timer, and the
    /// difference between what was charged and what was used. The caller gives it its new state.
    pub(super) fn end(&mut self, run: &mut Run, position: usize, cpu_us: u64) {
        run.wants_hedge = false;
        let attempt = &mut run.attempts[position];
        let id = vocabulary::id::AttemptId { run: run.id, number: attempt.record.number };
        debug_assert!(attempt.is_live());
        // of one that was lost, the last heartbeat is all that is known
        let cpu_us = cpu_us.max(attempt.record.cpu_us).min(CPU_US_MAX);
        attempt.record.cpu_us = cpu_us;
        if let Some(at) = attempt.timeout_at.take() {
            self.timers.unset(at, Timer::Timeout(id));
        }
        let (worker, was_sent) = (attempt.record.worker, attempt.sent);
        if !std::mem::take(&mut attempt.is_orphan) {
            self.crew.release(attempt.record.worker, id, run.memory_bytes);
            self.modules[run.module].live -= 1;
        }
        self.queue.charge(run.workspace, charged(cpu_us) - charged(attempt.estimate_us));
        self.attempts_live -= 1;
        if !was_sent {
            self.unreserve(worker);
        }
        self.ungate(run.module);
    }

    /// Puts the lanes of a module back where they can be served, if it admits an attempt.
    pub(super) fn ungate(&mut self, module: u32) {
        if !self.modules[module].gated.is_empty() && self.modules[module].admits(&self.config) {
            self.queue.ungate(module, &mut self.modules);
        }
    }

    /// Stops a live attempt that nobody needs, or that its worker must not go on with.
    pub(super) fn stop(&mut self, run: &mut Run, position: usize) {
        self.end(run, position, 0);
        let attempt = &mut run.attempts[position];
        attempt.cancel(self.now);
        let (number, worker, sent) = (attempt.record.number, attempt.record.worker, attempt.sent);
        if sent {
            self.effects.push(Effect::Abort { attempt: run.attempt_id(number), worker });
        }
    }

    /// Stops every live attempt.
    pub(super) fn stop_all(&mut self, run: &mut Run) {
        for position in 0..run.attempts.len() {
            if run.attempts[position].is_live() {
                self.stop(run, position);
                let record = &run.attempts[position].record;
                let note = Note::Stopped { number: record.number, worker: record.worker };
                self.note(run, note);
            }
        }
    }

    /// Its runner began an attempt: the clock of its timeout starts.
    pub(super) fn begun(&mut self, run: &mut Run, position: usize, at: Time) {
        let attempt = &mut run.attempts[position];
        if attempt.record.state != AttemptState::Assigned {
            return;
        }
        attempt.record.state = AttemptState::Begun;
        // by the worker's clock, which may be off by hours: nothing begins before it was handed out
        let at = at.max(attempt.record.assigned_at).min(self.now);
        attempt.record.begun_at = Some(at);
        self.watch(run, position, at);
        run.is_changed = true;
    }

    /// Gives up on the worker of an attempt a while after its timeout has passed, counted from `since`.
    pub(super) fn watch(&mut self, run: &mut Run, position: usize, since: Time) {
        let patience_ms = run.policy.timeout_ms.saturating_add(self.config.timeout_grace_ms);
        self.give_up_at(run, position, since.plus_ms(patience_ms));
    }

    /// Gives up on a worker that does not begin what it was handed.
    fn watch_begin(&mut self, run: &mut Run, position: usize) {
        self.give_up_at(run, position, self.now.plus_ms(self.config.begin_within_ms));
    }

    fn give_up_at(&mut self, run: &mut Run, position: usize, until: Time) {
        let id = run.attempt_id(run.attempts[position].record.number);
        if let Some(before) = run.attempts[position].timeout_at.replace(until) {
            self.timers.unset(before, Timer::Timeout(id));
        }
        self.timers.set(until, Timer::Timeout(id));
    }
}

/// CPU time of one attempt that is believed, in microseconds: no worker's word moves a share or an average by more than
/// a day.
const CPU_US_MAX: u64 = 24 * 60 * 60 * 1_000_000;

/// CPU time as the fair shares count it.
fn charged(cpu_us: u64) -> i64 {
    i64::try_from(cpu_us.min(CPU_US_MAX)).unwrap_or(i64::MAX / 2)
}
