//! What happens to workers, and what it means for the attempts that they hold and the votes that they gave.

use super::attempt::Attempt;
use super::explain::Note;
use super::floor::Floor;
use super::pool::Pool;
use super::run::{Phase, Run};
use super::timers::Timer;
use super::{Effect, Joining};
use vocabulary::id::{AttemptId, Epoch, RunId, WorkerId};
use vocabulary::result::Fault;

impl Pool {
    /// A connected worker said something; gives its place. One that was thought lost is back.
    pub(super) fn heard(&mut self, worker: WorkerId) -> Option<usize> {
        let place = self.floor.crew.place(worker)?;
        let now = self.floor.now;
        let was_silent = self.floor.crew.update(place, |worker| {
            worker.heard_at = now;
            worker.is_connected && std::mem::take(&mut worker.is_silent)
        });
        if was_silent {
            self.floor.crew_changed();
            self.floor.effects.push(Effect::WorkerChanged { worker });
            self.reachable_again(place);
        }
        self.floor.crew.at(place).is_connected.then_some(place)
    }

    /// A worker opened a session: what it holds goes on, what we thought it held and it does not is lost.
    pub(super) fn joined(&mut self, joining: Joining) {
        let worker = joining.worker;
        let holds = joining.holds.clone();
        let is_new = self.floor.crew.place(worker).is_none();
        let kept_class = self.floor.crew.get(worker).is_none_or(|known| known.class == joining.class);
        let place = self.floor.crew.join(joining, self.floor.now);
        if is_new {
            let at = self.floor.now.max(self.floor.grace_until).plus_ms(self.floor.config.worker_lost_ms);
            self.floor.timers.set(at, Timer::Silent(place));
        }
        let is_kept = |attempt: &AttemptId| kept_class && holds.iter().any(|(held, _)| held == attempt);
        let gone: Vec<AttemptId> =
            self.floor.crew.at(place).holds.iter().copied().filter(|held| !is_kept(held)).collect();
        for attempt in gone {
            self.lose(attempt, &Fault::Lost, false);
        }
        self.floor.crew_changed();
        for (attempt, epoch) in holds {
            self.presented(place, attempt, epoch);
        }
        self.floor.effects.push(Effect::WorkerChanged { worker });
        self.reachable_again(place);
    }

    /// A worker shows an attempt that it holds.
    fn presented(&mut self, place: usize, attempt: AttemptId, epoch: Epoch) {
        let worker = self.floor.crew.at(place).id;
        let is_quarantined = self.floor.crew.at(place).quarantine.is_some();
        let mut goes_on = false;
        self.with_run(attempt.run, |floor, run| {
            if run.epoch != epoch || run.is_settled() || is_quarantined {
                return;
            }
            let Some(position) = run.position(attempt.number) else {
                goes_on = floor.adopt(run, place, attempt.number);
                return;
            };
            let found = &run.attempts[position];
            goes_on = match found.record.worker == worker {
                true if found.is_orphan => floor.claim(run, place, position),
                true => found.is_live() || found.ballot.is_some(),
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

    /// Runs that wait for the blobs of a voter that is there again.
    fn reachable_again(&mut self, place: usize) {
        let runs: Vec<RunId> = self.floor.crew.at(place).voted.iter().copied().collect();
        for run in runs {
            self.with_run(run, |floor, run| floor.advance(run));
        }
    }

    /// A session ended.
    pub(super) fn left(&mut self, worker: WorkerId) {
        let Some(place) = self.floor.crew.place(worker) else { return };
        let drained = self.floor.crew.update(place, |worker| {
            worker.is_connected = false;
            worker.credits = 0;
            worker.drain.is_some()
        });
        self.floor.crew_changed();
        self.vanish(place, if drained { &Fault::Drained } else { &Fault::Lost }, false);
    }

    /// What a worker held is lost, and it delivers nothing.
    fn vanish(&mut self, place: usize, fault: &Fault, tell: bool) {
        let worker = self.floor.crew.at(place).id;
        for attempt in self.floor.crew.at(place).holds.clone() {
            self.lose(attempt, fault, tell);
        }
        let voted: Vec<RunId> = self.floor.crew.at(place).voted.iter().copied().collect();
        for run in voted {
            self.with_run(run, |floor, run| {
                // one that has delivered is not waited for any more
                if let Phase::Collecting { from, until: Some(_), .. } = run.phase
                    && let Some(position) = run.position(from)
                    && run.attempts[position].record.worker == worker
                {
                    floor.undelivered(run, position, Fault::Lost);
                }
            });
        }
        self.floor.effects.push(Effect::WorkerChanged { worker });
    }

    /// A live attempt is lost with its worker.
    fn lose(&mut self, attempt: AttemptId, fault: &Fault, tell: bool) {
        self.with_run(attempt.run, |floor, run| {
            let Some(position) = run.position(attempt.number) else { return };
            let found = &run.attempts[position];
            if !found.is_live() {
                return;
            }
            if tell && found.sent {
                floor.effects.push(Effect::Abort { attempt, worker: found.record.worker });
            }
            let begun = found.record.begun_at.is_some();
            floor.faulted(run, position, fault.clone(), begun, 0);
        });
    }

    /// Asks whether a worker was silent for too long.
    pub(super) fn check_silent(&mut self, place: usize) {
        let floor = &mut self.floor;
        let lost_ms = floor.config.worker_lost_ms;
        let worker = floor.crew.at(place);
        let due = worker.heard_at.max(floor.grace_until).plus_ms(lost_ms);
        let is_lost = worker.is_connected && !worker.is_silent && due <= floor.now;
        // one that is gone already is looked at again at leisure: it may come back
        let next = if due > floor.now { due } else { floor.now.plus_ms(lost_ms.max(1)) };
        floor.timers.set(next, Timer::Silent(place));
        if is_lost {
            floor.crew.update(place, |worker| worker.is_silent = true);
            floor.crew_changed();
            self.vanish(place, &Fault::Lost, true);
        }
    }

    /// No new work for a worker.
    pub(super) fn drain(&mut self, worker: WorkerId, why: String) {
        let Some(place) = self.floor.crew.place(worker) else { return };
        self.floor.crew.update(place, |worker| worker.drain = Some(why));
        self.floor.crew_changed();
        self.floor.effects.push(Effect::WorkerChanged { worker });
    }

    /// Nothing for a worker any more, and nothing of it counts (I14).
    pub(super) fn quarantine(&mut self, worker: WorkerId, why: String) {
        let Some(place) = self.floor.crew.place(worker) else { return };
        self.floor.crew.update(place, |worker| worker.quarantine = Some(why.clone()));
        self.floor.crew_changed();
        for attempt in self.floor.crew.at(place).holds.clone() {
            self.with_run(attempt.run, |floor, run| floor.withdrawn(run, attempt.number, &why));
        }
        let voted: Vec<RunId> = self.floor.crew.at(place).voted.iter().copied().collect();
        for run in voted {
            self.with_run(run, |floor, run| floor.discard_vote(run, worker, &why));
        }
        self.floor.effects.push(Effect::WorkerChanged { worker });
    }

    /// An operator trusts a worker again.
    pub(super) fn readmit(&mut self, worker: WorkerId) {
        let Some(place) = self.floor.crew.place(worker) else { return };
        self.floor.crew.update(place, |worker| {
            worker.drain = None;
            worker.quarantine = None;
            worker.failed.clear();
        });
        self.floor.crew_changed();
        self.floor.effects.push(Effect::WorkerChanged { worker });
    }

    /// Orphans that nobody came back with are lost.
    pub(super) fn grace_is_over(&mut self) {
        for attempt in std::mem::take(&mut self.orphans) {
            self.with_run(attempt.run, |floor, run| {
                let position = run.position(attempt.number);
                if let Some(position) = position.filter(|position| run.attempts[*position].is_orphan) {
                    floor.faulted(run, position, Fault::Lost, true, 0);
                }
            });
        }
    }
}

impl Floor {
    /// A worker came back with an attempt that was live when an earlier coordinator ended.
    fn claim(&mut self, run: &mut Run, place: usize, position: usize) -> bool {
        if !self.can_go_on(run, place) {
            return false;
        }
        run.attempts[position].is_orphan = false;
        self.take_back(run, place, position);
        true
    }

    /// A worker came back with an attempt of a recovered run that nobody wrote down, because it had not ended. It goes
    /// on if the run still wants one.
    fn adopt(&mut self, run: &mut Run, place: usize, number: u32) -> bool {
        let worker = self.crew.at(place).id;
        let is_wanted =
            run.is_recovered && !run.is_tried_once() && self.now < self.grace_until && run.ticket.is_some();
        let is_admitted = self.modules[run.module].admits(&self.config);
        if !is_wanted || !is_admitted || run.seated().contains(&worker) || !self.can_go_on(run, place) {
            return false;
        }
        let mut attempt = Attempt::new(number, worker, self.now, 0);
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
        let suits_class = run.class.is_none_or(|class| class == worker.class);
        suits_class && worker.memory_free() >= run.memory_bytes
    }

    fn take_back(&mut self, run: &mut Run, place: usize, position: usize) {
        let number = run.attempts[position].record.number;
        let (worker, class) = (self.crew.at(place).id, self.crew.at(place).class);
        if run.compares() {
            run.class = Some(class);
        }
        self.crew.hold(place, run.attempt_id(number), run.memory_bytes);
        self.modules[run.module].live += 1;
        self.note(run, Note::Returned { number, worker });
    }

    /// An attempt is taken from a quarantined worker. No budget pays for it.
    fn withdrawn(&mut self, run: &mut Run, number: u32, why: &str) {
        let Some(position) = run.position(number).filter(|position| run.attempts[*position].is_live()) else {
            return;
        };
        let worker = run.attempts[position].record.worker;
        self.stop(run, position);
        self.note(run, Note::Withdrawn { number, worker, why: why.into() });
        self.advance(run);
    }

    /// The vote of a quarantined worker counts no more; what it decided is open again.
    fn discard_vote(&mut self, run: &mut Run, worker: WorkerId, why: &str) {
        if run.is_settled() {
            return;
        }
        let counts = |attempt: &Attempt| attempt.ballot.as_ref().is_some_and(|ballot| ballot.counts);
        let is_its_vote = |attempt: &Attempt| attempt.record.worker == worker && counts(attempt);
        let Some(position) = run.attempts.iter().position(is_its_vote) else { return };
        let number = run.attempts[position].record.number;
        if let Some(ballot) = &mut run.attempts[position].ballot {
            ballot.counts = false;
            ballot.delivers = false;
        }
        if matches!(run.phase, Phase::Collecting { from, .. } if from == number) {
            self.stop_collecting(run);
        }
        self.note(run, Note::VoteDiscarded { number, worker, why: why.into() });
        self.advance(run);
    }
}
