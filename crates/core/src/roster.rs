//! What happens to workers, and what it means for the attempts that they hold and the votes that they gave.

use super::attempt::Attempt;
use super::explain::Note;
use super::floor::{Floor, Followup};
use super::pool::Pool;
use super::run::{Phase, Run};
use super::{Effect, Joining};
use vocabulary::id::{AttemptId, Epoch, RunId, WorkerId};
use vocabulary::result::Fault;

impl Pool {
    /// A worker opened a session: what it holds goes on, what we thought it held and it does not is lost.
    pub(super) fn joined(&mut self, joining: Joining) {
        let worker = joining.worker;
        let holds = joining.holds.clone();
        let kept_class = self
            .floor
            .crew
            .get(worker)
            .is_none_or(|known| (known.class, known.portable) == (joining.class, joining.portable));
        let was_arbiter = self.floor.crew.get(worker).is_some_and(|known| known.is_arbiter);
        let is_arbiter = joining.is_arbiter;
        let place = self.floor.crew.join(joining, self.floor.now);
        self.floor.watch_silence(place);
        let is_kept = |attempt: &AttemptId| {
            let shown = |(held, epoch): &(AttemptId, Epoch)| {
                held == attempt && self.attempt(*held).is_some_and(|attempt| attempt.epoch == *epoch)
            };
            kept_class && holds.iter().any(shown)
        };
        let gone: Vec<AttemptId> =
            self.floor.crew.at(place).holds.iter().copied().filter(|held| !is_kept(held)).collect();
        for attempt in gone {
            self.lose(attempt, &Fault::Lost, false);
        }
        self.floor.crew_changed();
        if was_arbiter || is_arbiter {
            // their number may be what it was, and yet nobody be left that suits a run that waits for one
            self.floor.followups.push(Followup::Arbiters);
        }
        for (attempt, epoch) in holds {
            self.presented(place, attempt, epoch);
        }
        self.floor.effects.push(Effect::WorkerChanged { worker });
        self.reachable_again(place);
        self.is_back(worker);
        let known = self.floor.crew.at(place);
        if known.quarantine.is_none() && known.evidence.condemns() {
            let why = "its record in this class says that it lied: results of it turned out wrong".to_owned();
            self.floor.followups.push(Followup::Quarantine(worker, why));
        } else if known.is_cleared() {
            let why = "what its votes had said against it was taken back while it was away".to_owned();
            self.floor.followups.push(Followup::Rehabilitate(worker, why));
        }
    }

    /// Runs that wait for the blobs of a voter that is there again.
    pub(super) fn reachable_again(&mut self, place: usize) {
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
        if self.floor.is_grace() && !drained {
            self.is_away(worker);
            self.floor.effects.push(Effect::WorkerChanged { worker });
            return;
        }
        self.vanish(place, if drained { &Fault::Drained } else { &Fault::Lost }, false);
    }

    /// What a worker held is lost, and it delivers nothing.
    pub(super) fn vanish(&mut self, place: usize, fault: &Fault, tell: bool) {
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

    /// No new work for a worker.
    pub(super) fn drain(&mut self, worker: WorkerId, why: String) {
        let Some(place) = self.floor.crew.place(worker) else { return };
        self.floor.crew.update(place, |worker| worker.drain = Some(why));
        self.floor.crew_changed();
        self.floor.effects.push(Effect::WorkerChanged { worker });
    }

    /// Nothing for a worker any more, and nothing of it counts (I14).
    /// `for_votes`: it is the pool that says so, and may take it back.
    pub(super) fn quarantine(&mut self, worker: WorkerId, why: String, for_votes: bool) {
        let Some(place) = self.floor.crew.place(worker) else { return };
        self.floor.crew.update(place, |worker| {
            worker.quarantine = Some(why.clone());
            worker.for_votes = for_votes;
        });
        self.floor.crew_changed();
        let held = self.floor.crew.at(place).holds.clone();
        for attempt in &held {
            self.with_run(attempt.run, |floor, run| floor.withdrawn(run, attempt.number, &why));
        }
        let voted: Vec<RunId> = self.floor.crew.at(place).voted.iter().copied().collect();
        for run in &voted {
            self.with_run(*run, |floor, run| floor.discard_vote(run, worker, &why));
        }
        self.resume_last(held.into_iter().map(|attempt| attempt.run).chain(voted));
        self.floor.effects.push(Effect::WorkerChanged { worker });
    }

    /// An operator trusts a worker again.
    pub(super) fn readmit(&mut self, worker: WorkerId) {
        let Some(place) = self.floor.crew.place(worker) else { return };
        if self.floor.crew.at(place).quarantine.is_some() {
            self.floor.witness(worker, None, super::Evidence::Readmitted);
        }
        self.floor.crew.update(place, |worker| {
            worker.drain = None;
            worker.quarantine = None;
            (worker.for_votes, worker.condemned_elsewhere) = (false, false);
            worker.failed.clear();
            worker.unconfirmed.clear();
        });
        self.floor.crew_changed();
        self.floor.effects.push(Effect::WorkerChanged { worker });
    }
}

impl Pool {
    /// A worker that was quarantined for its votes had been right: it is as it was.
    pub(super) fn rehabilitate(&mut self, worker: WorkerId, why: String) {
        let Some(place) = self.floor.crew.place(worker) else { return };
        if !self.floor.crew.at(place).is_cleared() {
            return;
        }
        self.floor.crew.update(place, |worker| (worker.quarantine, worker.for_votes) = (None, false));
        self.floor.crew_changed();
        self.floor.effects.push(Effect::Rehabilitated { worker, why });
        self.floor.effects.push(Effect::WorkerChanged { worker });
    }
}

impl Floor {
    /// An attempt is taken from a quarantined worker. No budget pays for it. The caller sees to what follows.
    fn withdrawn(&mut self, run: &mut Run, number: u32, why: &str) {
        let Some(position) = run.position(number).filter(|position| run.attempts[*position].is_live()) else {
            return;
        };
        let worker = run.attempts[position].record.worker;
        self.stop(run, position);
        self.note(run, Note::Withdrawn { number, worker, why: why.into() });
    }

    /// The vote of a quarantined worker counts no more; what it decided is open again. The caller sees to what follows.
    fn discard_vote(&mut self, run: &mut Run, worker: WorkerId, why: &str) {
        if run.is_settled() {
            return;
        }
        let counts = |attempt: &Attempt| attempt.ballot.as_ref().is_some_and(|ballot| ballot.counts);
        let is_its_vote = |attempt: &Attempt| attempt.record.worker == worker && counts(attempt);
        if !run.attempts.iter().any(is_its_vote) {
            return;
        }
        // an arbiter may have voted twice
        while let Some(position) = run.attempts.iter().position(is_its_vote) {
            let number = run.attempts[position].record.number;
            if let Some(ballot) = &mut run.attempts[position].ballot {
                ballot.counts = false;
                ballot.delivers = false;
            }
            if matches!(run.phase, Phase::Collecting { from, .. } if from == number) {
                self.stop_collecting(run);
            }
            self.note(run, Note::VoteDiscarded { number, worker, why: why.into() });
        }
    }
}
