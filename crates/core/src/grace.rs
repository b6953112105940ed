//! The grace after a start: what an earlier life of the coordinator had handed out may still be executing.
//!
//! The workers that were connected when that life ended are expected back. Until all of them have joined, or for
//! `start_grace_ms`, nobody is lost and no run of that life is handed out: it would be executed twice. A worker that comes
//! back shows what it holds, and each attempt that its run still wants goes on, under the term in which it was assigned.
//! New submissions do not wait.

use std::collections::BTreeSet;

use super::attempt::Attempt;
use super::explain::Note;
use super::floor::Floor;
use super::pool::Pool;
use super::quorum::Tally;
use super::run::Run;
use super::timers::Timer;
use super::{Config, Effect, Time};
use vocabulary::id::{AttemptId, Epoch, RunId, WorkerId};
use vocabulary::result::Fault;

/// End of a grace that has not begun: nobody can connect while runs are still being read back.
const NOT_YET: Time = Time(u64::MAX);

/// What waits for the end of the grace.
#[derive(Default)]
pub(super) struct Grace {
    /// Workers that may still come back.
    expected: BTreeSet<WorkerId>,
    /// Recovered runs that are held back.
    held: Vec<RunId>,
    /// Attempts whose row says that they were live: nobody has come back with them yet.
    pub(super) orphans: Vec<AttemptId>,
}

impl Pool {
    /// An empty pool that takes over from an earlier life, whose workers `expected` may come back with what they hold:
    /// until `start_grace_ms` after [`super::Event::Serving`]. With none, there is no grace.
    pub fn restarted(config: Config, now: Time, expected: impl IntoIterator<Item = WorkerId>) -> Pool {
        let mut pool = Pool::new(config, now);
        pool.grace.expected = expected.into_iter().collect();
        if !pool.grace.expected.is_empty() {
            pool.floor.grace_until = NOT_YET;
        }
        pool
    }

    /// Workers can connect from now on: the time of the grace runs.
    pub(super) fn serving(&mut self) {
        if self.floor.grace_until == NOT_YET {
            let until = self.floor.now.plus_ms(self.floor.config.start_grace_ms);
            self.floor.grace_until = until;
            self.floor.timers.set(until, Timer::Grace);
        }
    }

    /// Nothing was heard for so long, and that was our own doing: workers have as much more time to come back.
    pub(super) fn prolong_grace(&mut self, ms: u64) {
        let floor = &mut self.floor;
        let until = floor.grace_until;
        if until != NOT_YET && !self.grace.expected.is_empty() && floor.now < until.plus_ms(ms) {
            floor.timers.unset(until, Timer::Grace);
            floor.grace_until = until.plus_ms(ms);
            floor.timers.set(floor.grace_until, Timer::Grace);
        }
    }

    /// Holds a recovered run back while the grace lasts.
    pub(super) fn hold_back(&mut self, run: &mut Run) {
        if self.floor.is_grace() {
            run.is_held = true;
            self.grace.held.push(run.id);
            let workers = self.grace.expected.len();
            let wait_ms = self.floor.config.start_grace_ms;
            self.floor.note(run, Note::Held { workers, wait_ms });
        }
    }

    /// Runs of a module that are held back.
    pub(super) fn held_of(&self, module: u32) -> impl Iterator<Item = RunId> + '_ {
        let held = self.grace.held.iter().copied();
        held.filter(move |run| self.runs.get(run).is_some_and(|run| run.is_held && run.module == module))
    }

    /// A worker is there again, and has shown what it holds. The grace ends with the last of them.
    pub(super) fn is_back(&mut self, worker: WorkerId) {
        if self.grace.expected.remove(&worker) && self.grace.expected.is_empty() && self.floor.is_grace() {
            self.floor.timers.unset(self.floor.grace_until, Timer::Grace);
            self.floor.grace_until = self.floor.now;
            self.grace_is_over(true);
        }
    }

    /// A session ended within the grace: the worker may come back once more, so what it holds is not lost yet.
    pub(super) fn is_away(&mut self, worker: WorkerId) {
        self.grace.expected.insert(worker);
    }

    /// What nobody came back with is lost, and what was held back may be handed out.
    pub(super) fn grace_is_over(&mut self, early: bool) {
        self.grace.expected.clear();
        for attempt in std::mem::take(&mut self.grace.orphans) {
            self.with_run(attempt.run, |floor, run| {
                let position = run.position(attempt.number);
                if let Some(position) = position.filter(|position| run.attempts[*position].is_orphan) {
                    floor.faulted(run, position, Fault::Lost, true, 0);
                }
            });
        }
        for place in 0..self.floor.crew.len() {
            let worker = self.floor.crew.at(place);
            if !worker.is_connected && !worker.holds.is_empty() {
                self.vanish(place, &Fault::Lost, false);
            }
        }
        for run in std::mem::take(&mut self.grace.held) {
            self.with_run(run, |floor, run| {
                run.is_held = false;
                if run.is_settled() {
                    return;
                }
                if run.wanted(floor.config.crashes_max) > 0 {
                    floor.note(run, Note::GraceOver { early });
                }
                floor.advance(run);
            });
        }
    }

    /// A worker shows an attempt that it holds, assigned under `epoch`.
    pub(super) fn presented(&mut self, place: usize, attempt: AttemptId, epoch: Epoch) {
        let worker = self.floor.crew.at(place).id;
        let is_quarantined = self.floor.crew.at(place).quarantine.is_some();
        let mut goes_on = false;
        self.with_run(attempt.run, |floor, run| {
            // whatever becomes of it: its number names nothing else from now on
            run.numbers_used = run.numbers_used.max(attempt.number);
            if epoch > run.epoch || run.is_settled() || is_quarantined {
                return;
            }
            let Some(position) = run.position(attempt.number) else {
                goes_on = floor.adopt(run, place, attempt.number, epoch);
                return;
            };
            let found = &run.attempts[position];
            goes_on = match found.record.worker == worker {
                true if found.is_orphan => floor.claim(run, place, position, epoch),
                true => found.epoch == epoch && (found.is_live() || found.ballot.is_some()),
                false => false,
            };
            if run.attempts[position].is_live() && goes_on {
                // that it began may have been said to nobody
                floor.watch(run, position, floor.now);
            }
        });
        if !goes_on {
            self.floor.effects.push(Effect::Abort { attempt, worker });
            self.floor.effects.push(Effect::Release { attempt, worker });
        }
    }
}

impl Floor {
    /// Whether workers of an earlier life may still come back.
    pub(super) fn is_grace(&self) -> bool {
        self.now < self.grace_until
    }

    /// A worker came back with an attempt whose row says that it was live when an earlier coordinator ended.
    fn claim(&mut self, run: &mut Run, place: usize, position: usize, epoch: Epoch) -> bool {
        if epoch >= run.epoch || !self.can_go_on(run, place) {
            return false;
        }
        run.attempts[position].is_orphan = false;
        run.attempts[position].epoch = epoch;
        self.take_back(run, place, position);
        true
    }

    /// A worker came back with an attempt of an earlier term that nobody wrote down, because it had not ended. It goes
    /// on if the run still wants one. That its module is on probation (again) does not matter: it is executing.
    fn adopt(&mut self, run: &mut Run, place: usize, number: u32, epoch: Epoch) -> bool {
        let worker = self.crew.at(place).id;
        let is_wanted = run.ticket.is_some() || (run.is_held && run.wanted(self.config.crashes_max) > 0);
        let may_go_on = run.is_recovered && epoch < run.epoch && !run.is_tried_once() && is_wanted;
        if !may_go_on || run.seated().contains(&worker) || !self.can_go_on(run, place) {
            return false;
        }
        let mut attempt = Attempt::new(number, epoch, worker, self.now, 0);
        attempt.sent = true;
        self.running += usize::from(run.attempts.is_empty());
        self.attempts_live += 1;
        run.attempts.push(attempt);
        let position = run.attempts.len() - 1;
        self.take_back(run, place, position);
        self.watch(run, position, self.now);
        self.unset_fresh(run);
        self.advance(run);
        true
    }

    fn can_go_on(&self, run: &Run, place: usize) -> bool {
        let worker = self.crew.at(place);
        let suits_class = run.class.is_none_or(|class| class == worker.class_of(run.kin));
        suits_class && worker.memory_free() >= run.memory_bytes
    }

    fn take_back(&mut self, run: &mut Run, place: usize, position: usize) {
        let number = run.attempts[position].record.number;
        let (worker, class) = (self.crew.at(place).id, self.crew.at(place).class_of(run.kin));
        if run.compares() {
            run.class = Some(class);
        }
        run.attempts[position].weight = self.crew.weight(place, self.now);
        self.crew.hold(place, run.attempt_id(number), run.memory_bytes);
        self.modules[run.module].live += 1;
        self.note(run, Note::Returned { number, worker });
    }
}

impl Run {
    /// Attempts that its votes ask for beyond those that are live.
    pub(super) fn wanted(&self, crashes_max: u32) -> u32 {
        match self.tally() {
            Tally::Open { more } => self.missing(more, crashes_max),
            Tally::Arbiter => self.missing(self.live() + 1, crashes_max),
            Tally::Decided { .. } | Tally::Disputed | Tally::Nondeterministic => 0,
        }
    }
}
