//! Which receivers have room: whoever answers has some, whatever the others do.
//!
//! Invariants: a receiver whose last try was delivered takes at most [`PER_RECEIVER_MAX`] of the [`AT_ONCE_MAX`] places; one
//! whose last try failed takes one, and so does one of which nothing is known. All that fail take no more than
//! [`FAILING_AT_ONCE_MAX`] together, all that are not known no more than [`UNKNOWN_AT_ONCE_MAX`]: the rest is for those that
//! answer. What is known of receivers at the start is what the outbox says of their last tries.

use std::collections::HashMap;

use tokio::task::{Id, JoinError, JoinSet};

use crate::store::{CallbackId, Receivers, SkippedCallbacks};

/// Deliveries on their way at once.
pub(super) const AT_ONCE_MAX: usize = 24;
/// Of them, to one receiver that answers.
pub(super) const PER_RECEIVER_MAX: usize = 4;
/// Of them, to receivers whose last try failed: those that hang hold up nobody who answers …
const FAILING_AT_ONCE_MAX: usize = AT_ONCE_MAX / 3;
/// … and to receivers that were not tried yet: nor do those that are named in order to hang.
const UNKNOWN_AT_ONCE_MAX: usize = AT_ONCE_MAX / 3;
/// Receivers that are known to answer, and as many that are known to fail; beyond it the ones of longest ago are as good as
/// new.
pub(super) const KNOWN_MAX: usize = 1_000;

/// Deliveries on their way.
#[derive(Default)]
pub(super) struct Flying {
    /// Each tells whether it was delivered.
    pub tasks: JoinSet<bool>,
    on_their_way: HashMap<Id, (CallbackId, String)>,
    known: Known,
}

impl Flying {
    /// Nothing yet, where the last tries of receivers ended so, the latest first.
    pub fn after(tried: Vec<(String, bool)>) -> Flying {
        let mut known = Known::default();
        tried.into_iter().rev().for_each(|(receiver, is_delivered)| known.note(receiver, is_delivered));
        Flying { known, ..Flying::default() }
    }

    /// Places that nobody has.
    pub fn room(&self) -> usize {
        AT_ONCE_MAX.saturating_sub(self.on_their_way.len())
    }

    /// This task delivers that.
    pub fn launched(&mut self, task: Id, id: CallbackId, receiver: String) {
        self.on_their_way.insert(task, (id, receiver));
    }

    pub fn has_room_for(&self, receiver: &str) -> bool {
        self.taken().leave_room(&self.known, receiver)
    }

    /// What a look at the outbox has to leave out.
    pub fn skipped(&self) -> SkippedCallbacks {
        let ids = self.on_their_way.values().map(|(id, _)| *id).collect();
        SkippedCallbacks { ids, receivers: self.taken().receivers(&self.known) }
    }

    /// A task has ended.
    pub fn landed(&mut self, ended: Result<(Id, bool), JoinError>) {
        let (task, is_delivered) = match &ended {
            Ok((task, is_delivered)) => (*task, *is_delivered),
            Err(error) => (error.id(), false),
        };
        if let Some((_, receiver)) = self.on_their_way.remove(&task) {
            self.known.note(receiver, is_delivered);
        }
    }

    fn taken(&self) -> Taken<'_> {
        Taken::of(&self.known, self.on_their_way.values().map(|(_, to)| to.as_str()))
    }
}

/// What the last try of a receiver said of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    Answers,
    Fails,
    Unknown,
}

/// Receivers that were tried, with what their last try said and how many had ended before it.
#[derive(Default)]
struct Known {
    receivers: HashMap<String, (Standing, u64)>,
    tries: u64,
}

impl Known {
    fn standing(&self, receiver: &str) -> Standing {
        self.receivers.get(receiver).map_or(Standing::Unknown, |(standing, _)| *standing)
    }

    fn note(&mut self, receiver: String, is_delivered: bool) {
        let standing = if is_delivered { Standing::Answers } else { Standing::Fails };
        self.tries += 1;
        self.receivers.insert(receiver, (standing, self.tries));
        let alike = || self.receivers.iter().filter(|(_, (other, _))| *other == standing);
        if alike().count() > KNOWN_MAX
            && let Some((oldest, _)) = alike().min_by_key(|(_, (_, at))| *at)
        {
            let oldest = oldest.clone();
            self.receivers.remove(&oldest);
        }
    }
}

/// The places that are taken.
#[derive(Default)]
struct Taken<'a> {
    by: HashMap<&'a str, usize>,
    failing: usize,
    unknown: usize,
}

impl<'a> Taken<'a> {
    fn of(known: &Known, there: impl Iterator<Item = &'a str>) -> Taken<'a> {
        let mut taken = Taken::default();
        for receiver in there {
            *taken.by.entry(receiver).or_default() += 1;
            match known.standing(receiver) {
                Standing::Answers => {}
                Standing::Fails => taken.failing += 1,
                Standing::Unknown => taken.unknown += 1,
            }
        }
        taken
    }

    /// Whether one more may be on its way to this receiver.
    fn leave_room(&self, known: &Known, receiver: &str) -> bool {
        let count = self.by.get(receiver).copied().unwrap_or(0);
        match known.standing(receiver) {
            Standing::Answers => count < PER_RECEIVER_MAX,
            Standing::Fails => count == 0 && self.failing < FAILING_AT_ONCE_MAX,
            Standing::Unknown => count == 0 && self.unknown < UNKNOWN_AT_ONCE_MAX,
        }
    }

    /// The receivers that have room. While those that nobody knows have some, they are all but the others; else they are among
    /// the known ones, which can be named.
    fn receivers(&self, known: &Known) -> Receivers {
        let known_ones = || known.receivers.keys().map(String::as_str);
        if self.unknown < UNKNOWN_AT_ONCE_MAX {
            let strangers =
                self.by.keys().copied().filter(|receiver| known.standing(receiver) == Standing::Unknown);
            let without = known_ones().filter(|receiver| !self.leave_room(known, receiver));
            Receivers::AllBut(strangers.chain(without).map(str::to_owned).collect())
        } else {
            let with = known_ones().filter(|receiver| self.leave_room(known, receiver));
            Receivers::Only(with.map(str::to_owned).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(kind: &str, count: usize) -> Vec<String> {
        (0..count).map(|number| format!("{kind}{number}.example")).collect()
    }

    /// Sends to each of these what there is room for.
    fn fill<'a>(known: &Known, there: &mut Vec<&'a str>, to: &'a [String]) {
        for name in to {
            while there.len() < AT_ONCE_MAX && Taken::of(known, there.iter().copied()).leave_room(known, name)
            {
                there.push(name);
            }
        }
    }

    #[test]
    fn who_answers_has_room_whatever_the_others_do() {
        let (up, down, new) = (names("up", 9), names("down", 40), names("new", 40));
        let mut known = Known::default();
        up.iter().for_each(|name| known.note(name.clone(), true));
        down.iter().for_each(|name| known.note(name.clone(), false));
        let mut there = Vec::new();
        // one place of each that may hang
        fill(&known, &mut there, &new);
        assert_eq!(there.len(), UNKNOWN_AT_ONCE_MAX);
        fill(&known, &mut there, &down);
        assert_eq!(there.len(), UNKNOWN_AT_ONCE_MAX + FAILING_AT_ONCE_MAX);
        let taken = Taken::of(&known, there.iter().copied());
        let Receivers::Only(mut with) = taken.receivers(&known) else { panic!("no stranger has room") };
        with.sort_unstable();
        assert_eq!(with, up);
        fill(&known, &mut there, &up[..1]);
        assert_eq!(there.iter().filter(|name| **name == up[0]).count(), PER_RECEIVER_MAX);
        fill(&known, &mut there, &up);
        assert_eq!(there.len(), AT_ONCE_MAX);
    }

    #[test]
    fn one_answer_is_enough_and_one_failure_too() {
        let mut known = Known::default();
        let (one, other) = ("one.example", "other.example");
        let room = |known: &Known, there: &[&str], to: &str| {
            Taken::of(known, there.iter().copied()).leave_room(known, to)
        };
        assert!(room(&known, &[], one) && !room(&known, &[one], one), "it was not tried yet");
        let Receivers::AllBut(without) = Taken::of(&known, [one].into_iter()).receivers(&known) else {
            panic!("other strangers have room");
        };
        assert_eq!(without, [one]);
        known.note(one.to_owned(), true);
        assert!(room(&known, &[one; PER_RECEIVER_MAX - 1], one));
        assert!(!room(&known, &[one; PER_RECEIVER_MAX], one));
        known.note(one.to_owned(), false);
        known.note(other.to_owned(), true);
        assert!(!room(&known, &[one], one) && room(&known, &[one, other], other));
    }

    #[test]
    fn who_answered_in_an_earlier_life_is_no_stranger() {
        let tried = [("up.example", true), ("down.example", false)];
        let flying = Flying::after(tried.map(|(name, is_delivered)| (name.to_owned(), is_delivered)).into());
        let standing = |name| flying.known.standing(name);
        assert_eq!(standing("up.example"), Standing::Answers);
        assert_eq!(standing("down.example"), Standing::Fails);
        assert_eq!(standing("new.example"), Standing::Unknown);
        assert_eq!(flying.room(), AT_ONCE_MAX);
        // strangers that hang have all the places that they may have
        let new = names("new", UNKNOWN_AT_ONCE_MAX);
        let taken = Taken::of(&flying.known, new.iter().map(String::as_str));
        assert!(taken.leave_room(&flying.known, "up.example") && !taken.leave_room(&flying.known, "other"));
        // the latest of too many are known
        let tried = names("up", KNOWN_MAX + 1).into_iter().map(|name| (name, true)).collect();
        let known = Flying::after(tried).known;
        assert_eq!(known.standing("up0.example"), Standing::Answers);
        assert_eq!(known.standing(&format!("up{KNOWN_MAX}.example")), Standing::Unknown);
    }

    #[test]
    fn what_is_known_is_bounded() {
        let mut known = Known::default();
        known.note("up.example".to_owned(), true);
        names("down", KNOWN_MAX + 5).into_iter().for_each(|name| known.note(name, false));
        assert_eq!(known.receivers.len(), KNOWN_MAX + 1);
        assert_eq!(known.standing("down4.example"), Standing::Unknown);
        assert_eq!(known.standing("down5.example"), Standing::Fails);
        assert_eq!(known.standing("up.example"), Standing::Answers);
    }
}
