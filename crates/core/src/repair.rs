//! Finals that rested on a worker that is not trusted any more: which of them are looked at again, in which order, and
//! what becomes of them.
//!
//! The shell keeps finals and finds those in which a quarantined worker voted for the winner; [`is_decisive`] says whether
//! the others would have done, [`what_is_left_ppb`] how much is left: the shell keeps its suspects in an index of that figure,
//! in the order that [`repair_order`] has for whoever holds them in memory. What is submitted to be verified anew takes its
//! turn in the queue like any run, but holds only a part of the slots.

use std::collections::BTreeSet;

use super::credibility::{Opinion, Weight, group_error_ppb};
use super::explain::Note;
use super::floor::{Floor, Followup};
use super::frame::Patience;
use super::quorum::majority;
use super::run::{Phase, Run};
use super::{Conclusion, Effect, Final, Reverified, Time, Write};
use vocabulary::digest::Digest;
use vocabulary::id::{RunId, WorkerId};
use vocabulary::result::FailReason;
use vocabulary::spec::Verify;

/// A vote that a final rests on, or that lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PastVote {
    /// Whose.
    pub worker: WorkerId,
    /// For what.
    pub result: Digest,
    /// What it weighed; where its worker is trusted less now, what it would weigh now.
    pub weight: Weight,
}

/// Whether a final would not have been without the votes of some workers. `epsilon_ppb` is what its policy allows; under a
/// quorum the count decides, and under `once` its only vote.
pub fn is_decisive(
    verify: Verify,
    won: Digest,
    votes: &[PastVote],
    is_out: impl Fn(WorkerId) -> bool,
) -> bool {
    let had = votes.iter().any(|vote| vote.result == won && is_out(vote.worker));
    let rest: Vec<Opinion> = votes
        .iter()
        .filter(|vote| !is_out(vote.worker))
        .map(|vote| Opinion { worker: vote.worker, result: vote.result, weight: vote.weight })
        .collect();
    let for_it = rest.iter().filter(|vote| vote.result == won);
    had && match verify {
        Verify::Once => true,
        Verify::Quorum { n } => for_it.count() < majority(n),
        Verify::Standard | Verify::High => {
            let is_proven = for_it.clone().any(|vote| vote.weight.is_proven()) || for_it.clone().count() > 1;
            let epsilon_ppb = verify.epsilon_ppb().unwrap_or(0);
            for_it.count() == 0 || !is_proven || group_error_ppb(&rest, won) > epsilon_ppb
        }
    }
}

/// The probability that a final is wrong without the votes of some workers, in parts per billion: what [`repair_order`]
/// goes by.
pub fn what_is_left_ppb(won: Digest, votes: &[PastVote], is_out: impl Fn(WorkerId) -> bool) -> u64 {
    let rest: Vec<Opinion> = votes
        .iter()
        .filter(|vote| !is_out(vote.worker))
        .map(|vote| Opinion { worker: vote.worker, result: vote.result, weight: vote.weight })
        .collect();
    group_error_ppb(&rest, won)
}

/// A final that is to be verified anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Suspect {
    /// Which.
    pub run: RunId,
    /// The probability that it is wrong without the votes that count no more, in parts per billion.
    pub error_ppb: u64,
    /// When it ended.
    pub finished_at: Time,
}

/// Puts finals into the order in which they are verified anew: the weakest first, then the newest.
pub fn repair_order(suspects: &mut [Suspect]) {
    suspects.sort_by_key(|it| (std::cmp::Reverse(it.error_ppb), std::cmp::Reverse(it.finished_at), it.run));
}

/// What verifying anew holds, and who waits for it.
#[derive(Default)]
pub(super) struct Repair {
    tokens: usize,
    /// By age.
    parked: BTreeSet<(u64, RunId)>,
}

impl Repair {
    /// Checks what must hold between events.
    pub(super) fn check(&self, tokens: usize, parked: usize) -> Result<(), String> {
        if (tokens, parked) == (self.tokens, self.parked.len()) {
            return Ok(());
        }
        Err(format!("I9: {tokens} runs have a token and {parked} wait: the figures are wrong"))
    }
}

impl Floor {
    /// Whether a run could be verified anew, where only one class can tell, by those of it that are there or away for a
    /// moment. Asked before it takes its turn: finals of a class that is gone would have others wait that can be decided. After a
    /// start everybody has the time of the grace to join, expected or not.
    pub(super) fn is_within_reach(&self, run: &Run) -> bool {
        let have_joined = self.now.ms_since(self.grace_until) >= self.config.start_grace_ms;
        let is_new = !run.has_token && run.live() == 0 && !run.has_ballot() && have_joined;
        match run.bound().filter(|_| is_new) {
            Some(frame) => self.may_decide(run, frame, Patience::AWhile),
            None => true,
        }
    }

    /// Lets a run be queued, unless it is verified anew and others that are hold their part of the slots.
    pub(super) fn take_token(&mut self, run: &mut Run) -> bool {
        if run.reverify.is_none() || run.has_token {
            return true;
        }
        let most = (u64::from(self.slots) * u64::from(self.config.reverify_percent) / 100).max(1) as usize;
        if self.repair.tokens < most {
            self.unpark(run);
            self.repair.tokens += 1;
            run.has_token = true;
            if self.repair.tokens < most {
                self.resume_next();
            }
            return true;
        }
        if !std::mem::replace(&mut run.is_parked, true) {
            self.repair.parked.insert((run.age, run.id));
            self.note(run, Note::Parked { most });
        }
        false
    }

    /// A run does not wait for a token any more.
    pub(super) fn unpark(&mut self, run: &mut Run) {
        if std::mem::take(&mut run.is_parked) {
            self.repair.parked.remove(&(run.age, run.id));
        }
    }

    /// A run that was verified anew is gone, whether it had a token or not: the next one may have its turn.
    pub(super) fn return_token(&mut self, has_token: bool) {
        self.repair.tokens -= usize::from(has_token);
        self.resume_next();
    }

    fn resume_next(&mut self) {
        let next = self.repair.parked.first().map(|(_, run)| Followup::Resume(*run));
        self.followups.extend(next);
    }

    /// What was verified anew has ended: a changed result replaces the one of before, anything else is told and forgotten.
    pub(super) fn verified_anew(&mut self, run: &mut Run, mut last: Box<Final>, known: Digest) {
        let revision = last.revision;
        let conclusion = match (last.result, last.reason) {
            (Some(result), _) if result != known => {
                last.revision += 1;
                run.log.conclude(self.now, Note::Corrected { revision: revision + 1 });
                last.explain = run.log.all();
                run.phase = Phase::Finishing;
                return self.effects.push(Effect::Write(Write::Correct(last)));
            }
            (Some(_), _) => {
                run.log.conclude(self.now, Note::Confirmed { revision });
                last.explain = run.log.all();
                Conclusion::Confirmed
            }
            (None, Some(FailReason::Nondeterministic)) => Conclusion::Nondeterministic,
            (None, _) => Conclusion::Undecided,
        };
        self.effects.push(Effect::Reverified(Box::new(Reverified { last: *last, conclusion })));
        self.release_voters(run);
        run.phase = Phase::Gone;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vote(worker: u32, error_ppb: u64) -> PastVote {
        let weight = Weight { error_ppb, k_milli: 100_000, domain: worker, is_arbiter: false };
        PastVote { worker: WorkerId(worker), result: Digest::EMPTY, weight }
    }

    fn decisive(verify: Verify, votes: &[PastVote], out: &[u32]) -> bool {
        is_decisive(verify, Digest::EMPTY, votes, |worker| out.contains(&worker.0))
    }

    #[test]
    fn a_vote_is_decisive_if_the_others_would_not_have_done() {
        let votes = [vote(1, 900_000), vote(2, 900_000)];
        assert!(decisive(Verify::Standard, &votes[..1], &[1]), "it stood alone");
        assert!(!decisive(Verify::Standard, &votes, &[1]), "the other one would have stood alone");
        assert!(decisive(Verify::Standard, &votes, &[1, 2]));
        assert!(decisive(Verify::High, &votes, &[1]), "9e-4 is more than 1e-6");
        assert!(!decisive(Verify::Standard, &votes, &[3]), "it did not vote");
        let weak = [vote(1, 900_000), vote(2, 30_000_000)];
        assert!(decisive(Verify::Standard, &weak, &[1]) && !decisive(Verify::Standard, &weak, &[2]));
        assert!(decisive(Verify::Quorum { n: 2 }, &votes, &[1]));
        let three = [vote(1, 1), vote(2, 1), vote(3, 1)];
        assert!(!decisive(Verify::Quorum { n: 3 }, &three, &[1]), "two of three are a majority");
        assert!(decisive(Verify::Quorum { n: 3 }, &three, &[1, 2]));
        assert!(decisive(Verify::Once, &votes[..1], &[1]));
        let mut lost = votes;
        lost[0].result = Digest::from_bytes([1; 32]);
        assert!(!decisive(Verify::Standard, &lost, &[1]), "its vote had lost");
    }

    #[test]
    fn the_weakest_come_first_and_of_those_the_newest() {
        let of = |run, error_ppb, at| Suspect { run: RunId(run), error_ppb, finished_at: Time(at) };
        let mut suspects = [of(1, 5, 1), of(2, 9, 1), of(3, 9, 2), of(4, 9, 2)];
        repair_order(&mut suspects);
        assert_eq!(suspects.map(|it| it.run.0), [3, 4, 2, 1]);
    }
}
