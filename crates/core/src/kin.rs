//! What workers must have in common for one run, so that their votes can be compared.
//!
//! A run of `det-1` is compared within one class of machine code. One of `det-1-portable` is compared among all that promise
//! the same results, with one exception: where a stack ends depends on the machine code even there. So a vote that says that
//! the stack overflowed is compared with those of its own machine code only, and votes that say something else with each
//! other. A [`Frame`] is such a set of votes; every frame has to satisfy the policy by itself. No vote is thrown away: a run
//! looks at one frame at a time (`frame.rs` chooses), and a vote that is outside of it neither wins nor loses.
//!
//! Only what the same machine code said tells that an overflow was a lie: where an arbiter of that code, or more fault domains
//! of it than say that it overflowed, name one other result, the overflow is compared with everybody and loses. Of which code
//! somebody is, only it itself says; so two that say so are no proof against two.

use std::collections::BTreeSet;

use super::attempt::{Attempt, Ballot};
use super::credibility::{Rule, VOTERS_MAX, Weighing, Why, group_error_ppb, voters_max, weigh};
use super::quorum::EXTRA_VOTERS_MAX;
use super::run::Run;
use super::workers::Worker;
use super::{Class, Opinion, PastVoter};
use vocabulary::digest::Digest;
use vocabulary::result::{Outcome, Trap};
use vocabulary::spec::{Profile, Verify};

/// Which of a worker's classes decides with whom it is compared.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Kin {
    /// The same machine code of `det-1`.
    Native,
    /// The same results of `det-1-portable`.
    Portable,
    /// The same machine code of `det-1-portable`.
    PortableCode,
}

impl Kin {
    /// As long as no vote says more.
    pub(super) fn of(profile: Profile) -> Kin {
        match profile {
            Profile::Det1 => Kin::Native,
            Profile::Det1Portable => Kin::Portable,
        }
    }
}

/// Votes that can be compared with each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Frame {
    pub kin: Kin,
    pub class: Class,
}

impl Worker {
    /// Its class for runs of this kin.
    pub(super) fn class_of(&self, kin: Kin) -> Class {
        match kin {
            Kin::Native => self.class,
            Kin::Portable => self.portable.results,
            Kin::PortableCode => self.portable.code,
        }
    }
}

/// Whether an outcome may be another one with other machine code.
pub(super) fn is_of_the_code(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Trapped { trap: Trap::StackOverflow })
}

/// Which votes are compared.
impl Run {
    /// The votes that it looks at, if it is bound to any.
    pub(super) fn frame(&self) -> Option<Frame> {
        self.class.map(|class| Frame { kin: self.kin, class })
    }

    /// Binds it to no class, unless it verifies anew what only one can tell.
    pub(super) fn unbind(&mut self) {
        (self.kin, self.class) = (self.base, None);
        if let Some(frame) = self.bound() {
            (self.kin, self.class) = (frame.kin, Some(frame.class));
        }
    }

    /// The only votes that can tell about what it verifies anew: under `det-1` those of the class that decided it; where a
    /// stack overflowed those of the machine code that did. Of a final of which nobody kept which that was, nobody can be
    /// asked.
    pub(super) fn bound(&self) -> Option<Frame> {
        let reverify = self.reverify.as_ref()?;
        if self.base == Kin::Native {
            return reverify.class.map(|class| Frame { kin: Kin::Native, class });
        }
        let class = reverify.codes.first().copied().unwrap_or(Class(Digest::EMPTY));
        reverify.overflowed.then_some(Frame { kin: Kin::PortableCode, class })
    }

    /// The vote of the attempt at a position, if it is compared with others now.
    pub(super) fn compared(&self, position: usize) -> Option<&Ballot> {
        self.compared_in(self.frame(), position)
    }

    /// The same in a frame.
    pub(super) fn compared_in(&self, frame: Option<Frame>, position: usize) -> Option<&Ballot> {
        let ballot = self.attempts[position].counted()?;
        if !self.compares() {
            return Some(ballot);
        }
        let Frame { kin, class } = frame?;
        let is_in = match kin {
            Kin::Native => ballot.classes.native == class,
            Kin::PortableCode => ballot.classes.portable.code == class,
            Kin::Portable => {
                ballot.classes.portable.results == class
                    && (!is_of_the_code(&ballot.outcome) || self.is_contradicted(ballot))
            }
        };
        is_in.then_some(ballot)
    }

    /// Whether the machine code that is said to have overflowed did not, by the word of an arbiter or of more fault domains
    /// that name one other result than say that it did.
    fn is_contradicted(&self, overflowed: &Ballot) -> bool {
        let code = overflowed.classes.portable.code;
        let of_code = |attempt: &Attempt| {
            let ballot = attempt.counted().filter(|ballot| ballot.classes.portable.code == code)?;
            let result = (!is_of_the_code(&ballot.outcome)).then_some(ballot.result);
            Some((result, ballot.domain, attempt.weight.is_arbiter))
        };
        let said: Vec<(Option<Digest>, u32, bool)> = self.attempts.iter().filter_map(of_code).collect();
        let domains = |of: Option<Digest>| {
            let its = said.iter().filter(|(result, ..)| *result == of).map(|(_, domain, _)| *domain);
            its.collect::<BTreeSet<u32>>().len()
        };
        let overflows = domains(None);
        said.iter()
            .any(|(result, _, is_arbiter)| result.is_some() && (*is_arbiter || domains(*result) > overflows))
    }

    /// Whether the vote of a worker would be compared now.
    pub(super) fn would_compare(&self, worker: &Worker, outcome: &Outcome) -> bool {
        self.class.is_none_or(|class| worker.class_of(self.kin) == class)
            && (self.kin != Kin::Portable || !is_of_the_code(outcome))
    }

    /// Whether what is found now says anything of a vote for the final that is verified anew.
    pub(super) fn is_comparable_with(&self, voter: &PastVoter) -> bool {
        match self.kin {
            Kin::Portable => true,
            // without a class its log is told nothing
            Kin::Native => voter.class.is_none() || voter.class == self.class,
            Kin::PortableCode => voter.code.is_some() && voter.code == self.class,
        }
    }

    /// Whether it has any vote that counts, whatever it is compared with.
    pub(super) fn has_ballot(&self) -> bool {
        self.attempts.iter().any(|attempt| attempt.counted().is_some())
    }

    /// Whether a vote says that the stack overflowed, and whether one says something else.
    pub(super) fn overflows(&self) -> (bool, bool) {
        let counted = self.attempts.iter().filter_map(Attempt::counted);
        counted.filter(|_| self.base == Kin::Portable).fold((false, false), |(over, other), ballot| {
            let is_over = is_of_the_code(&ballot.outcome);
            (over || is_over, other || !is_over)
        })
    }

    /// The frames that its votes belong to, in the order of the votes.
    pub(super) fn frames(&self) -> Vec<Frame> {
        if let Some(frame) = self.bound() {
            return vec![frame];
        }
        let mut frames = Vec::new();
        for ballot in self.voted.iter().filter_map(|position| self.attempts[*position].counted()) {
            let portable = ballot.classes.portable;
            let class = if self.base == Kin::Native { ballot.classes.native } else { portable.results };
            frames.push(Frame { kin: self.base, class });
            // a final that was none of an overflow is corrected by one only as those that voted for it executed it
            let is_allowed =
                || self.reverify.as_ref().is_none_or(|reverify| reverify.codes.contains(&portable.code));
            if self.base == Kin::Portable && is_of_the_code(&ballot.outcome) && is_allowed() {
                frames.push(Frame { kin: Kin::PortableCode, class: portable.code });
            }
        }
        let mut known = Vec::with_capacity(frames.len());
        frames.retain(|frame| {
            !known.contains(frame) && {
                known.push(*frame);
                true
            }
        });
        frames
    }
}

/// How many votes there may be.
impl Run {
    /// Votes after which one frame is disputed.
    pub(super) fn votes_of_frame(&self) -> usize {
        match (self.rule(), self.policy.verify) {
            (Some(rule), _) => voters_max(rule.epsilon_ppb),
            (None, Verify::Quorum { n }) => usize::from(n + EXTRA_VOTERS_MAX),
            (None, _) => VOTERS_MAX,
        }
    }

    /// Votes that may still come, of all frames together: twice as many as one frame may have, or as many as that where
    /// nothing is tried twice. Arbiters are not counted.
    pub(super) fn votes_left(&self) -> u32 {
        if !self.compares() {
            return u32::MAX;
        }
        let is_voter = |attempt: &&Attempt| attempt.counted().is_some() && !attempt.weight.is_arbiter;
        let votes = self.attempts.iter().filter(is_voter).count();
        let most = self.votes_of_frame() * if self.is_tried_once() { 1 } else { 2 };
        most.saturating_sub(votes) as u32
    }

    /// Applies a rule to votes of one frame. Where others contradict them that cannot be compared with them, none stands
    /// alone but an arbiter's.
    pub(super) fn weigh(&self, rule: &Rule, votes: &[Opinion]) -> Weighing {
        let said = weigh(rule, votes);
        let Weighing::Decided { result } = said else { return said };
        let mut winners = votes.iter().filter(|vote| vote.result == result).map(|vote| vote.weight);
        let Some(first) = winners.next() else { return said };
        let is_alone =
            !first.is_arbiter && winners.all(|other| other.domain == first.domain && !other.is_arbiter);
        if is_alone && self.overflows() == (true, true) {
            let error_ppb = group_error_ppb(votes, result);
            return Weighing::Wanting {
                seat: super::Seat::Voter,
                why: Why::Differ { results: 2, error_ppb },
            };
        }
        said
    }
}
