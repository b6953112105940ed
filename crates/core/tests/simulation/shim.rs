//! The pool, or a pool that breaks one rule: the checks must notice each of these.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_core::{
    AttemptState, Class, Config, Effect, Event, Evidence, Final, Pool, RunView, Submission, SubmitError,
    Time, WorkerView, Write,
};
use vocabulary::digest::Digest;
use vocabulary::id::{AttemptId, Epoch, RunId, WorkerId};
use vocabulary::result::{FailReason, Fault, RunState};
use vocabulary::spec::{Retry, Verify};

/// A rule that is broken on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mutant {
    /// Hands an attempt to a second worker as well.
    AssignsTwice,
    /// Gives a rerun to a worker that already voted.
    ForgetsExclusion,
    /// Never writes the final of a run that succeeded.
    DropsFinish,
    /// Writes a final twice.
    FinishesTwice,
    /// Takes a lie for what the first voter said.
    CountsLiars,
    /// Is content with fewer votes than the policy asks for.
    TakesMinority,
    /// Does not hear that a worker is quarantined.
    TrustsQuarantined,
    /// Forgets a run at a restart.
    LosesRun,
    /// Goes on after a cancel.
    IgnoresCancel,
    /// Lets attempts run on when their run is final.
    LeavesAttempts,
    /// Tries again what must be tried at most once.
    RetriesNever,
    /// Believes in more room than a worker has.
    InflatesCredits,
    /// Names an old term in its writes.
    WritesStale,
    /// Finishes without having collected the result.
    SkipsCollecting,
    /// Counts the time that storing takes against the voter that delivered.
    BlamesForStoring,
    /// Hands recovered runs out at once, though their workers may come back.
    IgnoresGrace,
    /// Gives work to workers that are not heard of.
    TrustsSilence,
    /// Takes a vote for the attempt of that number, whatever the term that it names.
    AcceptsAnyEpoch,
    /// Takes the vote on an attempt that was lost for one on an attempt that is live.
    CountsLateVotes,
    /// Does not see what a worker that comes back shows.
    ForgetsHolds,
    /// Takes every worker for one that has proven itself.
    TrustsNewcomers,
    /// Draws no audits.
    SkipsAudits,
    /// Lets workers go on that named the same wrong digest.
    KeepsColluders,
    /// Forgets what was dissented.
    ForgivesDissent,
    /// Blames those that voted on a nondeterministic module.
    BlamesNondeterminism,
    /// Does not look at what rested on a worker that was caught.
    ForgetsRepair,
    /// Corrects a result that was confirmed.
    CorrectsAnyway,
    /// Lets runs share attempts that are not equal.
    SharesUnequal,
    /// Forgets those that shared attempts when these gave a result.
    ForgetsFollowers,
    /// Lets in whom it has just caught.
    ForgivesLiars,
    /// Takes back what was said against somebody who had not been right.
    AbsolvesAnybody,
}

impl Mutant {
    pub const ALL: [Mutant; 31] = [
        Mutant::AssignsTwice,
        Mutant::ForgetsExclusion,
        Mutant::DropsFinish,
        Mutant::FinishesTwice,
        Mutant::CountsLiars,
        Mutant::TakesMinority,
        Mutant::TrustsQuarantined,
        Mutant::LosesRun,
        Mutant::IgnoresCancel,
        Mutant::LeavesAttempts,
        Mutant::RetriesNever,
        Mutant::InflatesCredits,
        Mutant::WritesStale,
        Mutant::SkipsCollecting,
        Mutant::BlamesForStoring,
        Mutant::IgnoresGrace,
        Mutant::TrustsSilence,
        Mutant::AcceptsAnyEpoch,
        Mutant::CountsLateVotes,
        Mutant::ForgetsHolds,
        Mutant::TrustsNewcomers,
        Mutant::SkipsAudits,
        Mutant::KeepsColluders,
        Mutant::ForgivesDissent,
        Mutant::BlamesNondeterminism,
        Mutant::ForgetsRepair,
        Mutant::CorrectsAnyway,
        Mutant::SharesUnequal,
        Mutant::ForgetsFollowers,
        Mutant::ForgivesLiars,
        Mutant::AbsolvesAnybody,
    ];

    /// What a check may say when it notices.
    pub fn noticed_as(self) -> &'static [&'static str] {
        match self {
            Mutant::AssignsTwice => &["I5"],
            Mutant::ForgetsExclusion => &["I4", "I5"],
            // a cancel of a run whose final went missing shows it too
            Mutant::DropsFinish => &["L1", "I8", "I15"],
            Mutant::FinishesTwice => &["I2"],
            Mutant::CountsLiars => &["I3", "I12"],
            Mutant::TakesMinority => &["I3"],
            Mutant::TrustsQuarantined => &["I14"],
            Mutant::LosesRun => &["I1:"],
            Mutant::IgnoresCancel => &["I8"],
            Mutant::LeavesAttempts => &["I7"],
            Mutant::RetriesNever => &["I9"],
            Mutant::InflatesCredits => &["I13"],
            Mutant::WritesStale => &["I6"],
            Mutant::SkipsCollecting => &["I12"],
            Mutant::BlamesForStoring => &["blame"],
            Mutant::IgnoresGrace => &["grace"],
            Mutant::TrustsSilence => &["suspect"],
            Mutant::AcceptsAnyEpoch => &["I3", "I4", "I10", "I12"],
            // I5 and I13 are true of it: where the late vote is of the worker that holds the live attempt as well (it came back
            // and was given a new one), the pool takes that one for ended while it is executed, and hands the worker another
            // attempt of the run beside it (seen in a world with seed 2522), or one beyond its slots
            // and so is I12: the late vote came with its blobs, so the pool, which takes it for one that counts, collects nothing,
            // while none of the votes that do count came with them (traced in the world of seed 68: the pool itself is right)
            Mutant::CountsLateVotes => &["I3", "I4", "I5", "I10", "I12", "I13"],
            // seen in the worlds of restarts only: see there
            Mutant::ForgetsHolds => &["kept"],
            Mutant::TrustsNewcomers | Mutant::SkipsAudits => &["I3"],
            // whoever is not known to be out is counted
            Mutant::KeepsColluders => &["integrity", "I3"],
            Mutant::ForgivesDissent => &["integrity"],
            Mutant::BlamesNondeterminism => &["I15"],
            Mutant::ForgetsRepair => &["repair"],
            Mutant::CorrectsAnyway => &["I2"],
            Mutant::SharesUnequal => &["share"],
            // one in memory is gone at once; a cancel of the others shows it too
            Mutant::ForgetsFollowers => &["L1", "I1", "I8"],
            Mutant::ForgivesLiars => &["I14"],
            Mutant::AbsolvesAnybody => &["integrity"],
        }
    }
}

/// A pool behind an interface that can lie to both sides.
pub struct Shim {
    pool: Pool,
    mutant: Option<Mutant>,
    voted: BTreeMap<RunId, (WorkerId, Digest)>,
    /// Under which term each attempt was assigned last.
    terms: BTreeMap<AttemptId, Epoch>,
}

impl Shim {
    /// A pool after a restart, or with nobody `expected` the first one.
    pub fn new(mut config: Config, now: Time, expected: &BTreeSet<WorkerId>, mutant: Option<Mutant>) -> Shim {
        let mut expected = expected.clone();
        match mutant {
            Some(Mutant::IgnoresGrace) => expected.clear(),
            Some(Mutant::TrustsSilence) => config.heartbeat_ms = config.worker_lost_ms,
            _ => {}
        }
        let pool = Pool::restarted(config, now, expected);
        Shim { pool, mutant, voted: BTreeMap::new(), terms: BTreeMap::new() }
    }

    pub fn submit(
        &mut self,
        now: Time,
        mut submission: Submission,
        effects: &mut Vec<Effect>,
    ) -> Result<(), SubmitError> {
        match self.mutant {
            Some(Mutant::LosesRun) if submission.recovered => return Ok(()),
            Some(Mutant::TakesMinority) => {
                if let Verify::Quorum { n: n @ 3.. } = &mut submission.policy.verify {
                    *n = 2;
                }
            }
            Some(Mutant::RetriesNever) => submission.policy.retry = Retry::Reassign,
            Some(Mutant::SkipsAudits) => submission.lottery = u64::MAX,
            Some(Mutant::SharesUnequal) => {
                submission.share = submission.share.map(|_| Digest::EMPTY);
            }
            _ => {}
        }
        let answer = self.pool.submit(now, submission, effects);
        self.corrupt(effects);
        answer
    }

    pub fn step(&mut self, now: Time, mut event: Event, effects: &mut Vec<Effect>) {
        match (self.mutant, &mut event) {
            (Some(Mutant::TrustsQuarantined), Event::WorkerQuarantined { .. })
            | (Some(Mutant::BlamesForStoring), Event::Delivered { .. })
            | (Some(Mutant::IgnoresCancel), Event::Cancel { .. }) => return,
            (Some(Mutant::InflatesCredits), Event::Credits { credits, .. }) => *credits += 3,
            (Some(Mutant::CountsLiars), Event::AttemptVoted { attempt, vote, .. }) => {
                if let Some((_, first)) = self.voted.get(&attempt.run) {
                    vote.result = *first;
                }
            }
            (Some(Mutant::SkipsCollecting), Event::AttemptVoted { vote, .. }) => vote.complete = true,
            (Some(Mutant::ForgetsHolds), Event::WorkerJoined(joining)) => joining.holds.clear(),
            (Some(Mutant::TrustsNewcomers), Event::WorkerJoined(joining)) => {
                joining.standing.k_milli = 1_000_000;
            }
            (Some(Mutant::AcceptsAnyEpoch), Event::AttemptVoted { attempt, epoch, .. }) => {
                *epoch = self.terms.get(attempt).copied().unwrap_or(*epoch);
            }
            (Some(Mutant::CountsLateVotes), Event::AttemptVoted { attempt, epoch, worker, .. }) => {
                if let Some((number, by)) = self.stand_in(*attempt, *worker) {
                    (attempt.number, *worker) = (number, by);
                    *epoch = self.terms.get(attempt).copied().unwrap_or(*epoch);
                }
            }
            _ => {}
        }
        if let Event::AttemptVoted { attempt, worker, vote, .. } = &event {
            self.voted.entry(attempt.run).or_insert((*worker, vote.result));
        }
        self.pool.step(now, event, effects);
        self.corrupt(effects);
    }

    /// For a late vote on an attempt that was lost: one of the run that is live, and its worker.
    fn stand_in(&self, attempt: AttemptId, worker: WorkerId) -> Option<(u32, WorkerId)> {
        let attempts = self.pool.run(attempt.run)?.attempts;
        let is_lost = |state: &AttemptState| matches!(state, AttemptState::Faulted { fault: Fault::Lost });
        attempts.iter().find(|record| {
            record.number == attempt.number && record.worker == worker && is_lost(&record.state)
        })?;
        let live = attempts.iter().find(|record| record.state.is_live())?;
        Some((live.number, live.worker))
    }

    fn corrupt(&mut self, effects: &mut Vec<Effect>) {
        for effect in effects.iter() {
            if let Effect::Assign { attempt, epoch, .. } = effect {
                self.terms.insert(*attempt, *epoch);
            }
        }
        match self.mutant {
            Some(Mutant::AssignsTwice) => {
                let again = effects.iter().find_map(|effect| match effect {
                    Effect::Assign { attempt, epoch, worker } if attempt.number > 1 => {
                        let second = AttemptId { run: attempt.run, number: attempt.number + 100 };
                        Some(Effect::Assign { attempt: second, epoch: *epoch, worker: *worker })
                    }
                    _ => None,
                });
                effects.extend(again);
            }
            Some(Mutant::ForgetsExclusion) => {
                for effect in effects {
                    if let Effect::Assign { attempt, worker, .. } = effect
                        && let Some((voter, _)) = self.voted.get(&attempt.run)
                    {
                        *worker = *voter;
                    }
                }
            }
            Some(Mutant::DropsFinish) => {
                effects.retain(|effect| match effect {
                    Effect::Write(Write::Finish(last)) => last.state != RunState::Succeeded,
                    _ => true,
                });
            }
            Some(Mutant::FinishesTwice) => {
                let is_finish = |effect: &&Effect| matches!(effect, Effect::Write(Write::Finish(_)));
                let again = effects.iter().find(is_finish).cloned();
                effects.extend(again);
            }
            Some(Mutant::LeavesAttempts) => {
                let ended: Vec<RunId> = effects.iter().filter_map(finished).map(|last| last.run).collect();
                effects.retain(|effect| match effect {
                    Effect::Abort { attempt, .. } => !ended.contains(&attempt.run),
                    _ => true,
                });
            }
            Some(Mutant::KeepsColluders) => {
                effects.retain(|effect| !matches!(effect, Effect::QuarantineWorker { .. }));
            }
            Some(Mutant::ForgivesDissent) => {
                let is_dissent = |evidence: &Evidence| matches!(evidence, Evidence::LoneDissent);
                effects.retain(
                    |effect| !matches!(effect, Effect::Evidence { evidence, .. } if is_dissent(evidence)),
                );
            }
            Some(Mutant::BlamesNondeterminism) => {
                let blamed = effects.iter().find_map(|effect| {
                    let last = finished(effect)?;
                    let voter = last.votes.first()?;
                    let is_it = last.reason == Some(FailReason::Nondeterministic);
                    is_it.then_some((voter.worker, AttemptId { run: last.run, number: voter.number }))
                });
                effects.extend(blamed.map(|(worker, attempt)| Effect::Evidence {
                    worker,
                    class: Class(Digest::EMPTY),
                    portable: None,
                    attempt: Some(attempt),
                    at: Time(0),
                    evidence: Evidence::LoneDissent,
                }));
            }
            Some(Mutant::ForgetsRepair) => {
                effects.retain(|effect| !matches!(effect, Effect::Repair { .. }));
            }
            Some(Mutant::CorrectsAnyway) => {
                for effect in effects {
                    if let Effect::Reverified(done) = effect
                        && done.last.result.is_some()
                    {
                        *effect = Effect::Write(Write::Correct(Box::new(done.last.clone())));
                    }
                }
            }
            Some(Mutant::ForgetsFollowers) => {
                effects.retain(|effect| finished(effect).is_none_or(|last| last.shared_with.is_none()));
            }
            Some(Mutant::ForgivesLiars) => {
                let caught = effects.iter().find_map(|effect| match effect {
                    Effect::QuarantineWorker { worker, why } => Some((*worker, why.clone())),
                    _ => None,
                });
                effects.extend(caught.map(|(worker, why)| Effect::Rehabilitated { worker, why }));
            }
            Some(Mutant::AbsolvesAnybody) => {
                let blamed = effects.iter().find_map(|effect| match effect {
                    Effect::Evidence { evidence: Evidence::LoneDissent, .. } => Some(effect.clone()),
                    _ => None,
                });
                effects.extend(blamed.map(|effect| match effect {
                    Effect::Evidence { worker, class, portable, attempt, at, .. } => Effect::Evidence {
                        worker,
                        class,
                        portable,
                        attempt,
                        at,
                        evidence: Evidence::Absolved,
                    },
                    other => other,
                }));
            }
            Some(Mutant::WritesStale) => {
                for effect in effects {
                    if let Effect::Write(Write::Finish(last)) = effect
                        && last.state == RunState::Succeeded
                    {
                        last.epoch = Epoch(last.epoch.0.saturating_sub(1));
                    }
                }
            }
            _ => {}
        }
    }

    pub fn next_deadline(&self) -> Option<Time> {
        self.pool.next_deadline()
    }

    pub fn run(&self, run: RunId) -> Option<RunView> {
        self.pool.run(run)
    }

    pub fn workers(&self) -> Vec<WorkerView> {
        self.pool.workers()
    }

    pub fn check_invariants(&self) -> Result<(), String> {
        self.pool.check_invariants()
    }
}

/// The final in an effect, written or kept in memory.
pub fn finished(effect: &Effect) -> Option<&Final> {
    match effect {
        Effect::Write(Write::Finish(last) | Write::Correct(last)) | Effect::Finished(last) => Some(last),
        Effect::Reverified(done) => Some(&done.last),
        _ => None,
    }
}
