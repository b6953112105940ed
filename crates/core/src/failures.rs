//! What the fault of an attempt says about its worker and its module.
//!
//! Whether anybody is blamed for a fault depends on what others did with the same run: a worker only for what somebody else
//! could execute, a module only for crashes that more than one foreign domain saw (`modules.rs`). Nothing here touches what a
//! worker's votes are worth.

use super::explain::Note;
use super::floor::{Floor, Followup};
use super::retry::{Cost, cost};
use super::run::Run;
use super::workers::Worker;
use super::{AttemptState, Effect, Prior};
use vocabulary::id::WorkerId;

impl Floor {
    /// What a fault says about the worker and the module.
    pub(super) fn blame(&mut self, run: &mut Run, position: usize) {
        let record = &run.attempts[position].record;
        let (paid, by) = (cost(record), record.worker);
        let digest = self.modules[run.module].digest;
        if paid != Some(Cost::Free)
            && let Some(worker) = self.crew.get_mut(by)
        {
            worker.faults += 1;
        }
        if matches!(paid, Some(Cost::Crash | Cost::Timeout)) {
            self.modules[run.module].measured(run.attempts[position].record.cpu_us);
            if !run.voted.is_empty() {
                self.blame_worker(run, position);
            }
        }
        if paid == Some(Cost::Crash) {
            let crashes = run.spent().crashes;
            if crashes == 1 {
                self.note(run, Note::Serial { crashes, crashes_max: self.config.crashes_max });
            }
            let witness = (by, self.is_believed(by));
            let most = self.config.module_crashes_max as usize;
            let module = &mut self.modules[run.module];
            if let Some(why) = module.crashed(self.now, run.id, witness, &self.crew, most) {
                self.modules[run.module].quarantined = Some(why.clone());
                self.effects.push(Effect::QuarantineModule { module: digest, why: why.clone() });
                self.followups.push(Followup::Poisoned(run.module, why));
            }
        }
    }

    /// Whether a worker's word is enough where no votes are compared: it is the operator's own or an arbiter.
    fn is_believed(&self, worker: WorkerId) -> bool {
        let is_trusted = |it: &Worker| it.prior == Prior::Owned || it.is_arbiter;
        self.crew.get(worker).is_some_and(is_trusted)
    }

    /// A worker on which different modules fail in a row is the likelier culprit, if somebody else could execute them:
    /// otherwise a few modules that hang or crash everywhere would take all workers out of service.
    pub(super) fn blame_worker(&mut self, run: &Run, position: usize) {
        let record = &run.attempts[position].record;
        let AttemptState::Faulted { fault } = &record.state else { return };
        if !matches!(cost(record), Some(Cost::Crash | Cost::Timeout)) {
            return;
        }
        let failures_max = self.config.worker_failures_max as usize;
        let module = self.modules[run.module].digest;
        let is_others = |voted: &usize| run.attempts[*voted].record.worker != record.worker;
        let Some(worker) = self.crew.get_mut(record.worker) else { return };
        let has_voted_since = record.ended_at.is_some_and(|ended| worker.voted_at > ended);
        if has_voted_since
            || !run.voted.iter().any(is_others)
            || worker.failed.len() >= failures_max
            || worker.failed.contains(&module)
        {
            return;
        }
        worker.failed.push(module);
        if worker.failed.len() == failures_max {
            let why = format!(
                "{failures_max} different modules that others execute failed on it in a row, the last: {fault}"
            );
            self.followups.push(Followup::Drain(worker.id, why));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::{
        Class, Config, Event, Joining, Pool, Portable, Standing, Submission, Time, Vote, WorkerStanding,
    };
    use super::*;
    use vocabulary::digest::Digest;
    use vocabulary::id::{AttemptId, Epoch, RunId, WorkspaceId};
    use vocabulary::result::{Fault, Outcome};
    use vocabulary::spec::{Policy, Profile, Verify};

    const EPOCH: Epoch = Epoch(1);

    struct World {
        pool: Pool,
        now: u64,
        runs: u128,
    }

    impl World {
        fn new(workers: u32) -> World {
            let mut world = World { pool: Pool::new(Config::default(), Time(0)), now: 1, runs: 0 };
            for number in 1..=workers {
                let joining = Joining {
                    worker: WorkerId(number),
                    class: Class(Digest::EMPTY),
                    domain: "here".to_owned(),
                    labels: BTreeMap::new(),
                    slots: 1,
                    memory_bytes: 1 << 40,
                    holds: vec![],
                    quarantined: false,
                    standing: Standing::default(),
                    prior: Prior::Owned,
                    is_arbiter: false,
                    portable: Portable::alike(Class(Digest::EMPTY)),
                    for_votes: false,
                    condemned_elsewhere: false,
                };
                world.step(Event::WorkerJoined(Box::new(joining)));
            }
            world
        }

        fn step(&mut self, event: Event) -> Option<(AttemptId, WorkerId)> {
            self.now += 1;
            let mut effects = Vec::new();
            self.pool.step(Time(self.now), event, &mut effects);
            effects.iter().find_map(|effect| match effect {
                Effect::Assign { attempt, worker, .. } => Some((*attempt, *worker)),
                _ => None,
            })
        }

        /// A run of a module of its own.
        fn submit(&mut self) {
            self.runs += 1;
            self.now += 1;
            let submission = Submission {
                run: RunId(self.runs),
                epoch: EPOCH,
                workspace: WorkspaceId(0),
                module: Digest::of(&self.runs.to_be_bytes()),
                memory_bytes: 1 << 20,
                policy: Policy { verify: Verify::Once, durable: false, ..Policy::default() },
                module_ready: true,
                recovered: false,
                submitted_at: Time(self.now),
                history: vec![],
                explained: vec![],
                lottery: u64::MAX,
                reverify: None,
                share: None,
                profile: Profile::Det1,
            };
            self.pool.submit(Time(self.now), submission, &mut Vec::new()).unwrap();
        }

        /// The attempt that this worker gets for one free slot.
        fn grant(&mut self, worker: u32) -> AttemptId {
            let worker = WorkerId(worker);
            let (attempt, by) = self.step(Event::Credits { worker, credits: 1 }).expect("it waits");
            assert_eq!(by, worker);
            attempt
        }

        fn time_out(&mut self, worker: u32) {
            let (attempt, worker) = (self.grant(worker), WorkerId(worker));
            let fault = Fault::TimedOut;
            self.step(Event::AttemptFaulted { attempt, epoch: EPOCH, worker, fault, begun: true, cpu_us: 1 });
        }

        fn vote(&mut self, worker: u32) {
            let (attempt, worker) = (self.grant(worker), WorkerId(worker));
            let outcome = Outcome::Exited { code: 0 };
            let vote = Vote { result: Digest::EMPTY, outcome, cpu_us: 1, complete: true };
            self.step(Event::AttemptVoted { attempt, epoch: EPOCH, worker, vote });
        }

        fn standing(&self, worker: u32) -> WorkerStanding {
            self.pool.worker(WorkerId(worker)).unwrap().standing
        }
    }

    #[test]
    fn modules_that_hang_everywhere_take_no_worker_out_of_service() {
        let mut world = World::new(3);
        for _ in 0..20 {
            world.submit();
            for worker in 1..=3 {
                world.time_out(worker);
            }
        }
        assert_eq!(world.pool.stats().attempts_live, 0);
        for worker in 1..=3 {
            assert_eq!(world.standing(worker), WorkerStanding::Active);
        }
    }

    #[test]
    fn a_worker_on_which_modules_of_others_fail_is_drained() {
        let mut world = World::new(3);
        for number in 1..=5 {
            assert_eq!(world.standing(1), WorkerStanding::Active, "after {number} failures");
            world.submit();
            world.time_out(1);
            world.vote(2);
        }
        assert_eq!(world.standing(1), WorkerStanding::Draining);
        assert_eq!(world.standing(2), WorkerStanding::Active);
    }

    #[test]
    fn a_worker_that_voted_since_is_not_blamed() {
        let mut world = World::new(3);
        for _ in 0..20 {
            world.submit();
            world.time_out(1);
            world.submit();
            world.vote(3);
            world.vote(1);
        }
        assert_eq!(world.standing(1), WorkerStanding::Active);
    }
}
