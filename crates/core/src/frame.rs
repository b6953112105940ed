//! Which of its votes a run looks at, and whose votes it asks for.
//!
//! A run is bound to a class by its first attempt (`kin.rs`). It turns to other votes that it has in two cases: these decide
//! it; or, once nobody executes it any more, the class to which it is bound cannot decide it, not even if everybody agreed
//! who is left there, and another can. So whoever makes up a class of its own, or says of a portable run that the stack
//! overflowed, holds a run up for an attempt or two and binds it to nothing. Whom it turned away from loses no vote: it
//! counts again if the run turns back. Nobody is blamed for having been turned away from.
//!
//! Bounded: all frames together have twice the votes of one ([`Run::votes_left`]), and a run turns [`TURNS_MAX`] times.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::credibility::{Weighing, leading, voters_max};
use super::explain::Note;
use super::floor::Floor;
use super::kin::{Frame, Kin};
use super::quorum::{Tally, tally};
use super::reach::Group;
use super::retry::{Cost, cost};
use super::run::Run;
use super::workers::Worker;
use super::{Class, Opinion};
use vocabulary::digest::Digest;
use vocabulary::id::WorkerId;
use vocabulary::result::FailReason;

/// Times that a run turns to other votes. Far above what honest workers cause; it ends a game of those that come and go.
const TURNS_MAX: u8 = 16;

/// Whether everybody counts who may come back, those of them that were heard of within the time that a run waits for a
/// quorum, or only those that may get work now.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    Waits,
    AWhile,
    Over,
}

impl Floor {
    /// After anything happened to a run: turns it to other votes of it, if these decide or its own cannot.
    pub(super) fn choose_frame(&mut self, run: &mut Run) {
        if !run.compares() || run.is_held || !run.has_ballot() {
            return;
        }
        let Some(current) = run.frame() else { return };
        let is_idle = run.live() == 0;
        let frames = run.frames();
        if !is_idle && frames.iter().all(|frame| *frame == current) {
            return;
        }
        if self.settles(run, current) {
            return;
        }
        let others = || frames.iter().copied().filter(|frame| *frame != current);
        let settling = others().find(|frame| self.settles(run, *frame));
        let chosen = settling.or_else(|| is_idle.then(|| self.steer(run, &frames, Patience::Waits))?);
        if let Some(frame) = chosen {
            self.turn_to(run, frame);
        }
    }

    /// Too few workers of its class were there for too long: turns the run to another class, or ends it.
    pub(super) fn short(&mut self, run: &mut Run, why: &str) {
        if self.short_shape(run).is_some() {
            self.turn_or_fail(run, why);
        }
        // it may have been turned back by what else is known of it
        if let Some(shape) = self.short_shape(run) {
            self.watch_short(shape);
        }
    }

    /// The shape in which a run waits, if too few workers are there for it.
    fn short_shape(&self, run: &Run) -> Option<u32> {
        let shape = self.queue.shape_of(run.ticket?);
        self.queue.shape(shape).1.short_since.map(|_| shape)
    }

    /// The class to which a run is bound will not decide it: turns it to another one that could, or ends it.
    pub(super) fn turn_or_fail(&mut self, run: &mut Run, why: &str) {
        let may_turn = run.compares() && run.live() == 0 && run.has_ballot();
        match may_turn.then(|| self.steer(run, &run.frames(), Patience::Over)).flatten() {
            Some(frame) => {
                run.leave();
                self.turn_to(run, frame);
                self.advance(run);
            }
            None => self.fail(run, FailReason::NoQuorum, why),
        }
    }

    pub(super) fn turn_to(&mut self, run: &mut Run, frame: Frame) {
        (run.kin, run.class) = (frame.kin, Some(frame.class));
        run.left.retain(|left| *left != frame);
        run.turns = run.turns.saturating_add(1);
        let votes = run.votes().len();
        self.note(run, Note::Turned { frame, votes });
    }

    /// Whether the votes of a frame end the run.
    fn settles(&self, run: &Run, frame: Frame) -> bool {
        match run.rule() {
            None => matches!(tally(run.policy.verify, &run.votes_in(Some(frame))), Tally::Decided { .. }),
            Some(mut rule) => {
                rule.arbiters = self.arbiters_in(run, Some(frame));
                let said = run.weigh(&rule, &run.opinions_in(Some(frame)));
                matches!(said, Weighing::Decided { .. } | Weighing::Nondeterministic)
            }
        }
    }

    /// The votes to turn to, if those that the run looks at will not do.
    ///
    /// Where stacks overflowed and some did not, the votes of the latter come first, whatever the others' number: then a
    /// further vote comes from anybody, and nobody's word chooses who is asked. Only after as many votes as one frame may have
    /// does it turn to the largest group that could decide. Votes that it left, because nobody was there or had room to add to them, come
    /// last of all: whoever claims an overflow would otherwise turn it back at once to whoever keeps it waiting.
    fn steer(&self, run: &Run, frames: &[Frame], patience: Patience) -> Option<Frame> {
        let current = run.frame()?;
        if !run.may_turn() {
            return None;
        }
        let may_decide = |frame: &Frame| self.may_decide(run, *frame, patience);
        let (overflowed, _) = run.overflows();
        if !overflowed && may_decide(&current) {
            return None;
        }
        let wide = self.wide_classes(run, patience);
        let is_wide = |frame: &Frame| {
            frame.kin != run.base || wide.as_ref().is_none_or(|classes| classes.contains(&frame.class))
        };
        let may_decide = |frame: &Frame| is_wide(frame) && may_decide(frame);
        let mut possible: Vec<Frame> = frames.iter().copied().filter(may_decide).collect();
        if !run.left.is_empty() {
            // it may have turned to a class that has no vote yet
            possible.extend(Some(current).filter(|current| !frames.contains(current) && may_decide(current)));
            if possible.iter().any(|frame| !run.left.contains(frame)) {
                possible.retain(|frame| !run.left.contains(frame));
            }
        }
        let votes = |frame: Frame| run.votes_in(Some(frame));
        let plain = possible.iter().filter(|frame| frame.kin == Kin::Portable && !votes(**frame).is_empty());
        let plain = plain.max_by_key(|frame| votes(**frame).len()).copied();
        let ballots = run.attempts.iter().filter(|attempt| attempt.counted().is_some()).count();
        let rank = |(position, frame): &(usize, Frame)| {
            (most_named(&votes(*frame)), frame.kin != Kin::PortableCode, Reverse(*position))
        };
        let largest = || possible.iter().copied().enumerate().max_by_key(rank).map(|(_, frame)| frame);
        let chosen = match plain.filter(|_| ballots < run.votes_of_frame()) {
            Some(plain) => Some(plain),
            None => largest().or_else(|| self.another_class(run, frames, may_decide)),
        };
        chosen.filter(|frame| *frame != current)
    }

    /// A class that has no vote yet and could decide a run, the one with the most workers.
    fn another_class(
        &self,
        run: &Run,
        frames: &[Frame],
        may_decide: impl Fn(&Frame) -> bool,
    ) -> Option<Frame> {
        if run.bound().is_some() {
            return None;
        }
        let suitable = self.crew.iter().filter(|worker| self.may_vote(run, worker, Patience::Over));
        let mut classes: Vec<Class> = suitable.map(|worker| worker.class_of(run.base)).collect();
        classes.sort_unstable();
        let sized = classes.chunk_by(PartialEq::eq).map(|of_one| (of_one.len(), of_one[0]));
        let mut sized: Vec<(usize, Class)> = sized.collect();
        sized.sort_by_key(|(workers, _)| Reverse(*workers));
        let mut others = sized.into_iter().map(|(_, class)| Frame { kin: run.base, class });
        others.find(|frame| !frames.contains(frame) && may_decide(frame))
    }

    /// Where votes are counted, the classes that have as many trust domains as voters are needed, if there are any: as in
    /// placement, a run turns to no other one as long as one of these is there.
    pub(super) fn wide_classes(&self, run: &Run, patience: Patience) -> Option<BTreeSet<Class>> {
        if run.rule().is_some() {
            return None;
        }
        let mut classes: BTreeMap<Class, BTreeSet<_>> = BTreeMap::new();
        for worker in self.crew.iter().filter(|worker| self.may_vote(run, worker, patience)) {
            classes.entry(worker.class_of(run.base)).or_default().insert(worker.own_place());
        }
        let needed = usize::from(run.policy.verify.voters());
        classes.retain(|_, places| places.len() >= needed);
        (!classes.is_empty()).then(|| classes.into_keys().collect())
    }

    /// Whether a worker could be asked for a vote on a run.
    pub(super) fn may_vote(&self, run: &Run, worker: &Worker, patience: Patience) -> bool {
        let is_waited_for = || match patience {
            Patience::Waits => true,
            Patience::AWhile => self.now.ms_since(worker.heard_at) < self.config.quorum_wait_ms,
            Patience::Over => false,
        };
        let may_come_back = || worker.quarantine.is_none() && worker.drain.is_none() && is_waited_for();
        (worker.is_eligible() || may_come_back())
            && worker.memory_bytes >= run.memory_bytes
            && run.labels.as_ref().is_none_or(|labels| worker.carries(labels))
    }

    /// Whether a frame would be decided if everybody voted for its leading result who may still vote in it. Whoever has given
    /// up on the run is not counted on: it may have been there for nothing else.
    pub(super) fn may_decide(&self, run: &Run, frame: Frame, patience: Patience) -> bool {
        let seated = run.seated();
        let most = run.votes_left() as usize;
        let others = self.crew.iter().enumerate().filter(|(_, worker)| {
            worker.class_of(frame.kin) == frame.class
                && self.may_vote(run, worker, patience)
                && !seated.contains(&worker.id)
                && !run.was_given_up_by(worker.id)
        });
        match run.rule() {
            None => {
                let mut votes = run.votes_in(Some(frame));
                let result = votes.iter().map(|(_, result)| *result).max_by_key(|it| named(&votes, *it));
                let result = result.unwrap_or(Digest::EMPTY);
                votes.extend(others.take(most).map(|(_, worker)| (worker.id, result)));
                matches!(tally(run.policy.verify, &votes), Tally::Decided { .. })
            }
            Some(mut rule) => {
                let mut votes = run.opinions_in(Some(frame));
                let result = leading(&votes).map_or(Digest::EMPTY, |(result, _)| result);
                let mut group = Group::default();
                others.for_each(|(place, _)| {
                    group.add(self.crew.weight(place, self.now), voters_max(rule.epsilon_ppb))
                });
                rule.arbiters = 0;
                let decides = |votes: &[Opinion]| {
                    matches!(run.weigh(&rule, votes), Weighing::Decided { .. } | Weighing::Nondeterministic)
                };
                decides(&votes)
                    || group.opinions(result, most).any(|opinion| {
                        votes.push(opinion);
                        decides(&votes)
                    })
            }
        }
    }
}

/// How many of the votes name a result.
fn named(votes: &[(WorkerId, Digest)], result: Digest) -> usize {
    votes.iter().filter(|(_, other)| *other == result).count()
}

/// How many name the same at most.
fn most_named(votes: &[(WorkerId, Digest)]) -> usize {
    votes.iter().map(|(_, result)| named(votes, *result)).max().unwrap_or(0)
}

/// What a worker did with a run before.
impl Run {
    /// Whether it may turn to other votes once more.
    pub(super) fn may_turn(&self) -> bool {
        self.turns < TURNS_MAX && self.votes_left() > 0
    }

    /// Whether a worker refused it or failed at it. One that was lost before it began is waited for once.
    fn was_given_up_by(&self, worker: WorkerId) -> bool {
        let its = self.attempts.iter().filter(|attempt| attempt.record.worker == worker);
        let mut lost = 0;
        let mut paid = its.filter_map(|attempt| cost(&attempt.record));
        paid.any(|cost| {
            lost += u32::from(cost == Cost::Free);
            cost != Cost::Free || lost > 1
        })
    }

    /// Whether a worker has a vote that is not one of a frame: its word would be the same again.
    pub(super) fn has_voted_elsewhere(&self, frame: Option<Frame>, worker: WorkerId) -> bool {
        self.voted.iter().any(|position| {
            let attempt = &self.attempts[*position];
            let is_its = attempt.record.worker == worker && attempt.counted().is_some();
            is_its && self.compared_in(frame, *position).is_none()
        })
    }
}
