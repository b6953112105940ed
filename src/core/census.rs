//! Who is there: workers that join, leave, fall silent, come back, are taken out and let in again.

use super::pool::Pool;
use super::run::Phase;
use super::timers::Timer;
use super::types::{AttemptRecord, AttemptState, Effect, Joining, Time, WorkerStanding, Write};
use super::worker::Worker;
use crate::id::{AttemptId, Epoch, RunId, WorkerId};
use crate::result::Fault;
use crate::spec::Verify;

impl Pool {
    pub(super) fn joined(&mut self, now: Time, joining: &Joining, effects: &mut Vec<Effect>) {
        let id = joining.worker;
        let before = self.workers.remove(&id);
        self.free.remove(&id);
        let mut worker = Worker::new(joining, now);
        if let Some(before) = before {
            // the same worker over a new connection: what was seen of it stays
            (worker.view.votes, worker.view.dissents, worker.view.faults) =
                (before.view.votes, before.view.dissents, before.view.faults);
            for (attempt, memory) in before.leases {
                worker.hold(attempt, memory);
            }
        }
        let leased: Vec<AttemptId> = worker.view.holds.clone();
        self.workers.insert(id, worker);
        for attempt in
            leased.into_iter().filter(|attempt| !joining.holds.iter().any(|(held, _)| held == attempt))
        {
            let begun = self.has_begun(attempt);
            self.attempt_failed(now, attempt, id, Fault::Lost, begun, 0, effects);
        }
        for (attempt, epoch) in &joining.holds {
            if !self.is_current(*attempt, *epoch, id) && !self.adopt(now, *attempt, *epoch, id) {
                effects.push(Effect::Abort { attempt: *attempt, worker: id });
                effects.push(Effect::Release { attempt: *attempt, worker: id });
            }
        }
        self.timers.set(now.plus_ms(self.config.worker_lost_ms), Timer::Silence(id));
        effects.push(Effect::WorkerChanged { worker: id });
        self.census_changed(now, effects);
    }

    /// A worker brings back an attempt from before a restart: it goes on instead of being executed again.
    fn adopt(&mut self, now: Time, attempt: AttemptId, epoch: Epoch, id: WorkerId) -> bool {
        let Some(worker) = self.workers.get(&id) else { return false };
        let Some(run) = self.runs.get(&attempt.run) else { return false };
        let is_known = run.attempts.iter().any(|record| record.number == attempt.number);
        let class_fits = run.class.is_none_or(|class| class == worker.view.class);
        let fits =
            run.phase == Phase::Open && epoch <= run.epoch && !is_known && class_fits && worker.is_active();
        if !fits || run.wants() == 0 || run.excludes(id) {
            return false;
        }
        self.dequeue(attempt.run);
        let (Some(run), Some(worker)) = (self.runs.get_mut(&attempt.run), self.workers.get_mut(&id)) else {
            return false;
        };
        self.running += usize::from(run.attempts.is_empty());
        self.live += 1;
        run.class = Some(worker.view.class);
        run.adopted.insert(attempt.number, epoch);
        run.attempts.push(AttemptRecord {
            number: attempt.number,
            worker: id,
            state: AttemptState::Begun,
            assigned_at: now,
            begun_at: Some(now),
            ended_at: None,
            cpu_us: 0,
        });
        run.explain(now, format!("{id} still executes attempt {} from before the restart", attempt.number));
        worker.hold(attempt, run.memory_bytes);
        self.modules.entry(run.module).or_default().live += 1;
        self.reconsider(now, attempt.run, &mut Vec::new());
        true
    }

    fn has_begun(&self, attempt: AttemptId) -> bool {
        let run = self.runs.get(&attempt.run);
        let record = run.and_then(|run| run.attempts.iter().find(|record| record.number == attempt.number));
        record.is_some_and(|record| record.begun_at.is_some())
    }

    /// Its session ended: what it held is lost, at once.
    pub(super) fn left(&mut self, now: Time, id: WorkerId, effects: &mut Vec<Effect>) {
        let Some(worker) = self.workers.get(&id) else { return };
        let drained = worker.view.standing == WorkerStanding::Draining;
        let fault = if drained { Fault::Drained } else { Fault::Lost };
        self.take_attempts(now, id, &fault, effects);
        self.workers.remove(&id);
        self.free.remove(&id);
        effects.push(Effect::WorkerChanged { worker: id });
        self.census_changed(now, effects);
    }

    /// It was not heard of for too long.
    pub(super) fn lost(&mut self, now: Time, id: WorkerId, effects: &mut Vec<Effect>) {
        self.stand(id, WorkerStanding::Lost, Some("it missed its heartbeats".to_owned()), effects);
        self.take_attempts(now, id, &Fault::Lost, effects);
        self.census_changed(now, effects);
    }

    fn take_attempts(&mut self, now: Time, id: WorkerId, fault: &Fault, effects: &mut Vec<Effect>) {
        let holds = self.workers.get(&id).map(|worker| worker.view.holds.clone()).unwrap_or_default();
        for attempt in holds {
            let begun = self.has_begun(attempt);
            self.attempt_failed(now, attempt, id, fault.clone(), begun, 0, effects);
        }
        let asked: Vec<(u64, AttemptId)> = self
            .runs
            .values()
            .filter_map(|run| match run.phase {
                Phase::Collecting { attempt, .. } => Some((run.sequence, run, attempt)),
                _ => None,
            })
            .filter(|(_, run, attempt)| {
                run.votes.iter().any(|cast| cast.attempt == *attempt && cast.worker == id)
            })
            .map(|(sequence, run, attempt)| (sequence, run.attempt_id(attempt)))
            .collect();
        for (_, attempt) in asked {
            self.collect_failed(now, attempt, Fault::Lost, effects);
        }
    }

    fn stand(
        &mut self,
        id: WorkerId,
        standing: WorkerStanding,
        why: Option<String>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.view.standing = standing;
        worker.view.why = why;
        if standing == WorkerStanding::Active && worker.view.credits > 0 {
            self.free.insert(id);
        } else {
            self.free.remove(&id);
        }
        effects.push(Effect::WorkerChanged { worker: id });
    }

    /// It is alive. A lost one that is heard again may work again; what was taken from it stays taken.
    pub(super) fn heard(&mut self, now: Time, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.view.heard_at = now;
        if worker.view.standing == WorkerStanding::Lost {
            worker.view.standing = WorkerStanding::Active;
            worker.view.why = None;
            // it grants anew: what it granted before was for attempts that it no longer owns
            worker.view.credits = 0;
            self.timers.set(now.plus_ms(self.config.worker_lost_ms), Timer::Silence(id));
        }
    }

    pub(super) fn credited(&mut self, now: Time, id: WorkerId, credits: u32) {
        self.heard(now, id);
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.view.credits = credits;
        if worker.is_active() && credits > 0 {
            self.free.insert(id);
        } else {
            self.free.remove(&id);
        }
    }

    /// It gets nothing and counts for nothing (I14): what it holds is stopped, its open votes are void.
    pub(super) fn quarantined(&mut self, now: Time, id: WorkerId, why: &str, effects: &mut Vec<Effect>) {
        self.stand(id, WorkerStanding::Quarantined, Some(why.to_owned()), effects);
        let holds = self.workers.get(&id).map(|worker| worker.view.holds.clone()).unwrap_or_default();
        for attempt in holds {
            effects.push(Effect::Abort { attempt, worker: id });
            self.attempt_failed(now, attempt, id, Fault::Lost, false, 0, effects);
        }
        let mut voted: Vec<(u64, RunId)> = self
            .runs
            .values()
            .filter(|run| run.phase != Phase::Finishing && run.votes.iter().any(|cast| cast.worker == id))
            .map(|run| (run.sequence, run.id))
            .collect();
        voted.sort_unstable();
        for (_, run) in voted {
            self.void_vote(now, run, id, effects);
        }
        self.census_changed(now, effects);
    }

    fn void_vote(&mut self, now: Time, id: RunId, worker: WorkerId, effects: &mut Vec<Effect>) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        run.explain(now, format!("the vote of {worker} no longer counts: it is quarantined"));
        run.phase = Phase::Open;
        let (void, kept) = std::mem::take(&mut run.votes).into_iter().partition(|cast| cast.worker == worker);
        run.votes = kept;
        let void: Vec<super::run::Cast> = void;
        for cast in void {
            let (epoch, durable) = (run.epoch, run.policy.durable);
            let Some(record) = run.attempt_mut(cast.attempt) else { continue };
            record.state = AttemptState::Faulted {
                fault: Fault::Corrupt { detail: "its worker is quarantined".to_owned() },
            };
            let record = record.clone();
            effects.push(Effect::Release { attempt: AttemptId { run: id, number: cast.attempt }, worker });
            if durable {
                effects.push(Effect::Write(Write::Attempt { run: id, epoch, record }));
            }
        }
        self.decide(now, id, effects);
    }

    pub(super) fn readmitted(&mut self, id: WorkerId, effects: &mut Vec<Effect>) {
        self.stand(id, WorkerStanding::Active, None, effects);
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.failing.clear();
        }
    }

    /// Workers came or went: runs that wait for a worker that could vote are looked at again.
    fn census_changed(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let waiting: Vec<RunId> = self.queue.runs().collect();
        for id in waiting {
            let Some(run) = self.runs.get(&id) else { continue };
            let is_quorum = run.policy.verify != Verify::Once;
            if !run.attempts.is_empty() {
                self.reconsider(now, id, effects);
            } else if is_quorum && self.largest_class(run) < usize::from(run.policy.verify.voters()) {
                self.watch_for_voters(now, id);
            }
        }
    }
}
