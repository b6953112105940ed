//! Judges which votes a final compares: those of one class, and under `det-1-portable` of one machine code where stacks
//! overflowed. Votes of a class that the run turned away from are kept, and not compared either. What is not compared neither wins nor loses, and needs a reason.

use lockstep_core::{AttemptState, Class, Final};
use vocabulary::digest::Digest;
use vocabulary::result::{Outcome, Trap};
use vocabulary::spec::{Profile, Verify};

use super::{Heard, Known};

impl Heard {
    /// Whether it says something that may be different in other machine code.
    pub(super) fn overflowed(&self) -> bool {
        matches!(self.outcome, Outcome::Trapped { trap: Trap::StackOverflow })
    }
}

impl Known {
    pub(super) fn is_portable(&self) -> bool {
        self.submission.profile == Profile::Det1Portable
    }

    /// The class in which a vote on this run is compared.
    pub(super) fn class_of(&self, vote: &Heard) -> Class {
        if self.is_portable() { vote.portable.results } else { vote.class }
    }

    /// All votes are compared again.
    pub(super) fn compare_all(&mut self) {
        self.votes.append(&mut self.aside);
        self.votes.sort_by_key(|vote| vote.turn);
    }

    /// Whether two votes cannot be compared.
    fn are_strangers(&self, one: &Heard, other: &Heard) -> bool {
        let is_of_code = one.overflowed() || other.overflowed();
        self.class_of(one) != self.class_of(other)
            || (self.is_portable() && is_of_code && one.portable.code != other.portable.code)
    }

    /// I3: takes the votes out that the final does not compare with those for its result.
    pub(super) fn set_aside(&mut self, last: &Final, result: Digest) -> Result<(), String> {
        self.compare_all();
        if self.submission.policy.verify == Verify::Once && self.submission.reverify.is_none() {
            return Ok(());
        }
        let record = |vote: &Heard| last.attempts.iter().find(|record| record.number == vote.number);
        let is_voted = |vote: &Heard| match record(vote).map(|record| &record.state) {
            Some(AttemptState::Voted { won, .. }) => won.is_some(),
            // what it voted for was not delivered; the vote counts all the same
            record => record.is_some(),
        };
        let is_weighed = !last.votes.is_empty();
        let is_named = |vote: &Heard| last.votes.iter().any(|counted| counted.number == vote.number);
        let is_compared = |vote: &Heard| if is_weighed { is_named(vote) } else { is_voted(vote) };
        let (compared, aside) = std::mem::take(&mut self.votes).into_iter().partition(is_compared);
        (self.votes, self.aside) = (compared, aside);
        let (for_it, lost): (Vec<&Heard>, Vec<&Heard>) =
            self.votes.iter().partition(|vote| vote.result == result);
        let figures = (last.verdict.votes as usize, last.verdict.dissenters.len());
        if !is_weighed && (for_it.len(), lost.len()) != figures {
            // of those that did not deliver no record says it
            let delivered =
                |vote: &Heard| matches!(record(vote).map(|it| &it.state), Some(AttemptState::Voted { .. }));
            let winner = self.votes.iter().find(|vote| vote.result == result && delivered(vote));
            let is_kin = |vote: &Heard| {
                delivered(vote)
                    || winner.is_some_and(|winner| {
                        vote.overflowed() == winner.overflowed() && !self.are_strangers(vote, winner)
                    })
            };
            let are_kin: Vec<bool> = self.votes.iter().map(is_kin).collect();
            for (vote, is_kin) in std::mem::take(&mut self.votes).into_iter().zip(are_kin) {
                if is_kin { self.votes.push(vote) } else { self.aside.push(vote) }
            }
        }
        let winners = || self.votes.iter().filter(|vote| vote.result == result);
        for vote in &self.aside {
            // it may have been put aside because of a vote that was discarded since
            let is_divided = self.is_portable() && self.has_overflowed;
            if !is_divided && !winners().any(|other| self.are_strangers(vote, other)) {
                return Err(format!(
                    "I3: vote {} of {} is not compared, and could be",
                    vote.number, last.run
                ));
            }
        }
        let mut pairs = winners().flat_map(|one| winners().map(move |other| (one, other)));
        match pairs.find(|(one, other)| self.are_strangers(one, other)) {
            Some((one, other)) => Err(format!(
                "I3: votes {} and {} of {} cannot be compared, and both won",
                one.number, other.number, last.run
            )),
            None => Ok(()),
        }
    }
}
