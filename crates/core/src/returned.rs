//! Attempts that a worker hands back before it has begun them.
//!
//! A worker grants ahead while what it executes is short. When something turns out to be long, what waits behind it
//! goes back, so that another worker may have it at once. That says nothing about the run or the worker: no budget is
//! used, and the worker may get the run again.

use super::AttemptState;
use super::explain::Note;
use super::floor::Floor;
use super::run::Run;
use vocabulary::result::Fault;

/// Times that a run may be handed back; then it counts as refused. Far above what an honest worker causes, which grants
/// nothing while it is busy; it ends a loop of a broken one.
const RETURNS_MAX: usize = 64;

impl Floor {
    /// A worker hands back a live attempt.
    pub(super) fn returned(&mut self, run: &mut Run, position: usize) {
        let returns = run.attempts.iter().filter(|attempt| attempt.is_returned).count();
        let has_begun = run.attempts[position].record.state != AttemptState::Assigned;
        if has_begun || returns >= RETURNS_MAX {
            let detail = match has_begun {
                true => "it handed back what it had begun".to_owned(),
                false => format!("it was handed back {} times", returns + 1),
            };
            return self.faulted(run, position, Fault::Refused { detail }, has_begun, 0);
        }
        self.end(run, position, 0);
        let attempt = &mut run.attempts[position];
        attempt.cancel(self.now);
        (attempt.is_returned, attempt.sent) = (true, false);
        let (number, worker) = (attempt.record.number, attempt.record.worker);
        self.note(run, Note::HandedBack { number, worker });
        self.advance(run);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::{
        Class, Config, Effect, Event, Joining, Pool, Portable, Prior, Standing, Submission, Time, Vote,
    };
    use super::*;
    use vocabulary::digest::Digest;
    use vocabulary::id::{AttemptId, Epoch, RunId, WorkerId, WorkspaceId};
    use vocabulary::result::{FailReason, Outcome, RunState};
    use vocabulary::spec::{Policy, Profile, Retry, Verify};

    const RUN: RunId = RunId(1);
    const EPOCH: Epoch = Epoch(1);

    fn pool(workers: u32) -> Pool {
        let mut pool = Pool::new(Config::default(), Time(0));
        for number in 1..=workers {
            let joining = Joining {
                worker: WorkerId(number),
                class: Class(Digest::EMPTY),
                domain: "here".to_owned(),
                labels: BTreeMap::new(),
                slots: 1,
                memory_bytes: 1 << 30,
                holds: vec![],
                quarantined: false,
                standing: Standing::default(),
                prior: Prior::Owned,
                is_arbiter: false,
                portable: Portable::alike(Class(Digest::EMPTY)),
                for_votes: false,
                condemned_elsewhere: false,
            };
            pool.step(Time(1), Event::WorkerJoined(Box::new(joining)), &mut Vec::new());
        }
        pool
    }

    fn submit(pool: &mut Pool, policy: Policy) {
        let submission = Submission {
            run: RUN,
            epoch: EPOCH,
            workspace: WorkspaceId(0),
            module: Digest::EMPTY,
            memory_bytes: 1 << 20,
            policy,
            module_ready: true,
            recovered: false,
            submitted_at: Time(2),
            history: vec![],
            explained: vec![],
            lottery: u64::MAX,
            reverify: None,
            share: None,
            profile: Profile::Det1,
        };
        pool.submit(Time(2), submission, &mut Vec::new()).unwrap();
    }

    fn once(retry: Retry) -> Policy {
        Policy { verify: Verify::Once, durable: false, retry, ..Policy::default() }
    }

    /// Applies an event; the attempt that is assigned, and the final, if there are.
    fn step(pool: &mut Pool, event: Event) -> (Option<(AttemptId, WorkerId)>, Option<super::super::Final>) {
        let mut effects = Vec::new();
        pool.step(Time(3), event, &mut effects);
        let assigned = effects.iter().find_map(|effect| match effect {
            Effect::Assign { attempt, worker, .. } => Some((*attempt, *worker)),
            _ => None,
        });
        let ended = effects.into_iter().find_map(|effect| match effect {
            Effect::Finished(record) => Some(*record),
            _ => None,
        });
        (assigned, ended)
    }

    fn grant(worker: WorkerId) -> Event {
        Event::Credits { worker, credits: 1 }
    }

    fn back((attempt, worker): (AttemptId, WorkerId)) -> Event {
        Event::AttemptReturned { attempt, epoch: EPOCH, worker }
    }

    #[test]
    fn what_is_handed_back_goes_to_another_at_once_and_costs_nothing() {
        for retry in [Retry::Reassign, Retry::Never] {
            let mut pool = pool(2);
            submit(&mut pool, once(retry));
            let first = step(&mut pool, grant(WorkerId(1))).0.unwrap();
            assert_eq!(step(&mut pool, back(first)), (None, None), "nobody else is free");
            let second = step(&mut pool, grant(WorkerId(2))).0.unwrap();
            assert_eq!((second.1, second.0.number), (WorkerId(2), 2));
            // its late word changes nothing
            assert_eq!(step(&mut pool, back(first)), (None, None));
            let vote = Vote {
                result: Digest::EMPTY,
                outcome: Outcome::Exited { code: 0 },
                cpu_us: 1,
                complete: true,
            };
            let voted = Event::AttemptVoted { attempt: second.0, epoch: EPOCH, worker: second.1, vote };
            let ended = step(&mut pool, voted).1.unwrap();
            assert_eq!(ended.state, RunState::Succeeded);
            assert_eq!(pool.worker(WorkerId(1)).unwrap().faults, 0);
            assert_eq!(pool.stats().attempts_live, 0);
            assert!(ended.explain.iter().any(|line| line.text().contains("handed attempt 1 back")));
            let shown = if retry == Retry::Never { 2 } else { 1 };
            assert_eq!(ended.attempts.len(), shown);
        }
    }

    #[test]
    fn the_same_worker_may_have_it_again_without_waiting() {
        let mut pool = pool(2);
        submit(&mut pool, once(Retry::Reassign));
        let first = step(&mut pool, grant(WorkerId(1))).0.unwrap();
        step(&mut pool, back(first));
        assert_eq!(step(&mut pool, grant(WorkerId(1))).0.unwrap().1, WorkerId(1));
    }

    #[test]
    fn a_worker_that_hands_back_for_ever_ends_the_run_as_one_that_refuses() {
        let mut pool = pool(1);
        submit(&mut pool, once(Retry::Reassign));
        for times in 1.. {
            assert!(times < 200, "it is bounded");
            let assigned = step(&mut pool, grant(WorkerId(1))).0.unwrap();
            if let Some(ended) = step(&mut pool, back(assigned)).1 {
                assert!(times > RETURNS_MAX);
                assert_eq!(ended.reason, Some(FailReason::Lost));
                return;
            }
        }
    }

    #[test]
    fn what_had_begun_cannot_be_handed_back_for_nothing() {
        let mut pool = pool(1);
        submit(&mut pool, once(Retry::Never));
        let (attempt, worker) = step(&mut pool, grant(WorkerId(1))).0.unwrap();
        step(&mut pool, Event::AttemptBegun { attempt, worker, at: Time(3) });
        let ended = step(&mut pool, back((attempt, worker))).1.unwrap();
        assert_eq!(ended.reason, Some(FailReason::Lost));
    }
}
