//! What past votes say now: which finals would not have been without those that are out, and who is to hear of it when one
//! turns out wrong.
//!
//! Pure: rows in, judgements out. What follows from them is the business of the core and of the repairer.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::{
    AttemptRecord, AttemptState, Class, Dissent, PastVote, PastVoter, Reverify, Time, Weight, day_of,
    is_decisive, what_is_left_ppb,
};
use crate::digest::Digest;
use crate::id::WorkerId;
use crate::result::{Outcome, Trap};
use crate::spec::{Profile, RunSpec, Verify};
use crate::store::{CastVote, Repair, StoredRun, SupportedFinal, Suspicion, WorkerRow};

/// The class to which the evidence of a vote belongs: the one that its worker has for `det-1`. A vote on a run of the other
/// profile names another class; then it is the one that the worker had last.
fn evidence_class(profile: Profile, vote: &CastVote, row: Option<&WorkerRow>) -> Class {
    match profile {
        Profile::Det1 => vote.class,
        Profile::Det1Portable => {
            let session = row.and_then(|row| row.session.as_ref());
            Class(session.map_or(Digest::EMPTY, |session| session.facts.class))
        }
    }
}

/// Votes with the classes to which their evidence belongs.
pub(super) fn in_evidence(spec: &RunSpec, votes: Vec<CastVote>, workers: &[WorkerRow]) -> Vec<CastVote> {
    let row = |worker| workers.iter().find(|row| row.id == worker);
    let named = |vote: CastVote| {
        let class = evidence_class(spec.profile, &vote, row(vote.worker));
        CastVote { class, ..vote }
    };
    votes.into_iter().map(named).collect()
}

/// What the core has to know of a final that is verified anew.
pub(super) fn reverify(
    run: &StoredRun,
    result: Digest,
    (votes, confirmations): (&[CastVote], &[CastVote]),
    workers: &Workers,
    numbers: u32,
) -> Reverify {
    let named = |number: u32| votes.iter().find(|vote| vote.number == number);
    let is_arbiter = |vote: &CastVote| vote.weight.is_some_and(|weight| weight.is_arbiter);
    let confirmed = confirmations.iter().filter(|vote| !is_arbiter(vote));
    let finished_at = run.finished_at.unwrap_or(Time(0));
    let confirmed_at = run.verification.as_ref().map_or(finished_at, |found| found.at);
    let mut voters: BTreeMap<WorkerId, (Option<&CastVote>, Time)> =
        confirmed.map(|vote| (vote.worker, (Some(vote), confirmed_at))).collect();
    let mut dissents = Vec::new();
    for attempt in &run.attempts {
        let (number, worker) = (attempt.number, attempt.worker);
        match attempt.state {
            AttemptState::Voted { won: Some(true), .. } if !named(number).is_some_and(is_arbiter) => {
                // of a worker that voted and confirmed, the latter
                voters.entry(worker).or_insert((named(number), attempt.ended_at.unwrap_or(finished_at)));
            }
            AttemptState::Voted { won: Some(false), result, .. } => {
                // of votes that were not kept nobody knows as what they were executed
                let class = named(number).map(|vote| vote.class);
                dissents.extend(class.map(|class| Dissent { number, worker, class, result }));
            }
            _ => {}
        }
    }
    let attempts = run.attempts.iter().map(|attempt| attempt.number).max().unwrap_or(0).max(numbers);
    // what a worker did before it was let in again as a newcomer is not held against it a second time: without a class its
    // log is told nothing
    let voter = |(worker, (vote, at)): (WorkerId, (Option<&CastVote>, Time))| {
        let class = vote.map(|vote| vote.class).filter(|_| !workers.is_new_since(worker, at));
        PastVoter { worker, class, code: vote.map(|vote| vote.code), is_out: workers.is_out(worker, at) }
    };
    let voters = voters.into_iter().map(voter).collect();
    let overflowed = run.outcome == Some(Outcome::Trapped { trap: Trap::StackOverflow });
    let mut codes: Vec<Class> = Vec::new();
    for vote in votes.iter().chain(confirmations).filter(|vote| vote.result == result) {
        if !codes.contains(&vote.code) {
            codes.push(vote.code);
        }
    }
    let is_native = run.spec.profile == Profile::Det1;
    let decided = votes.iter().chain(confirmations).find(|vote| vote.result == result);
    let class = decided.filter(|_| is_native).map(|vote| vote.class);
    Reverify { result, revision: run.revision, voters, attempts, dissents, class, overflowed, codes }
}

/// Who counts for what, as of now.
pub(super) struct Workers {
    rows: BTreeMap<WorkerId, WorkerRow>,
    /// Those that are quarantined.
    out: BTreeSet<WorkerId>,
    /// Up to when the votes count for nothing of workers that an operator let in again as newcomers.
    out_until: BTreeMap<WorkerId, Time>,
    now: Time,
}

impl Workers {
    pub(super) fn new(rows: Vec<WorkerRow>, repairs: &[Repair], now: Time) -> Workers {
        let out = rows.iter().filter(|row| row.quarantined.is_some()).map(|row| row.id).collect();
        let until = repairs.iter().filter(|repair| repair.lifted_at.is_none());
        Workers {
            out,
            out_until: until.map(|repair| (repair.worker, repair.since)).collect(),
            rows: rows.into_iter().map(|row| (row.id, row)).collect(),
            now,
        }
    }

    /// What the voters of a revision had named, as far as their votes were kept; an arbiter is blamed for none.
    pub(super) fn named(&self, run: &StoredRun, votes: Vec<CastVote>) -> Vec<Dissent> {
        let is_counted = |vote: &CastVote| {
            let is_its = |attempt: &AttemptRecord| {
                attempt.number == vote.number
                    && matches!(attempt.state, AttemptState::Voted { won: Some(_), .. })
            };
            run.attempts.iter().any(is_its) && !vote.weight.is_some_and(|weight| weight.is_arbiter)
        };
        let dissent = |vote: CastVote| Dissent {
            number: vote.number,
            worker: vote.worker,
            class: evidence_class(run.spec.profile, &vote, self.rows.get(&vote.worker)),
            result: vote.result,
        };
        votes.into_iter().filter(is_counted).map(dissent).collect()
    }

    /// Whether a vote that this worker gave at that time counts for nothing.
    fn is_out(&self, worker: WorkerId, at: Time) -> bool {
        self.out.contains(&worker) || self.was_out(worker, at)
    }

    /// Whether an operator has let this worker in again since it gave a vote for which it was out.
    fn is_new_since(&self, worker: WorkerId, at: Time) -> bool {
        !self.out.contains(&worker) && self.was_out(worker, at)
    }

    fn was_out(&self, worker: WorkerId, at: Time) -> bool {
        self.out_until.get(&worker).is_some_and(|until| at <= *until)
    }

    /// What a vote weighs: as much as then, unless its worker is trusted less now.
    fn past(
        &self,
        profile: Profile,
        (worker, result): (WorkerId, Digest),
        vote: Option<&CastVote>,
    ) -> PastVote {
        let row = self.rows.get(&worker);
        let known = vote.and_then(|vote| vote.weight);
        let mut weight = known.unwrap_or(Weight { domain: worker.0, ..Weight::UNKNOWN });
        if let Some(row) = row.filter(|_| !weight.is_arbiter) {
            let class = vote.map_or(Digest::EMPTY, |vote| evidence_class(profile, vote, Some(row)).0);
            let standing = row.standing(class).aged(day_of(self.now));
            let error_ppb = standing.error_ppb(row.prior());
            match known {
                Some(_) => weight.error_ppb = weight.error_ppb.max(error_ppb),
                None => (weight.error_ppb, weight.k_milli) = (error_ppb, standing.k_milli),
            }
        }
        PastVote { worker, result, weight }
    }

    /// The final as one that is to be verified anew, if it would not have been without those that are out.
    pub(super) fn suspects(&self, of: WorkerId, found: &SupportedFinal) -> Option<Suspicion> {
        let run = &found.run;
        let (won, finished_at) = (run.result?, run.finished_at?);
        let named = |number: u32| found.votes.iter().find(|vote| vote.number == number);
        // of a worker that voted and confirmed, the latter
        let mut votes: BTreeMap<WorkerId, (PastVote, Time)> = BTreeMap::new();
        for attempt in &run.attempts {
            if let AttemptState::Voted { result, won: Some(_), .. } = attempt.state {
                let vote = self.past(run.spec.profile, (attempt.worker, result), named(attempt.number));
                votes.insert(attempt.worker, (vote, attempt.ended_at.unwrap_or(finished_at)));
            }
        }
        let confirmed_at = run.verification.as_ref().map_or(finished_at, |found| found.at);
        for vote in &found.confirmations {
            votes.insert(
                vote.worker,
                (self.past(run.spec.profile, (vote.worker, vote.result), Some(vote)), confirmed_at),
            );
        }
        let out: BTreeSet<WorkerId> = votes
            .iter()
            .filter(|(worker, (_, at))| self.is_out(**worker, *at))
            .map(|(worker, _)| *worker)
            .collect();
        // once it was confirmed, it rests on those that confirmed it as long as they count
        let confirmed = !found.confirmations.is_empty();
        if !out.contains(&of)
            || (confirmed && found.confirmations.iter().all(|vote| !out.contains(&vote.worker)))
        {
            return None;
        }
        // what was verified anew was decided by credibility, whatever had been asked for
        let verify = match run.policy.verify.epsilon_ppb() {
            None if confirmed || run.revision > 1 => Verify::Standard,
            _ => run.policy.verify,
        };
        let votes: Vec<PastVote> = votes.into_values().map(|(vote, _)| vote).collect();
        let is_out = |worker| out.contains(&worker);
        let is_suspect = is_decisive(verify, won, &votes, is_out);
        let error_ppb = what_is_left_ppb(won, &votes, is_out);
        is_suspect.then_some(Suspicion { run: run.id, error_ppb, finished_at })
    }
}
