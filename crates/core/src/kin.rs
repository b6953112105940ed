//! What workers must have in common for one run, so that their votes can be compared.
//!
//! A run of `det-1` is compared within one class of machine code. One of `det-1-portable` is compared among all that promise
//! the same results, with one exception: where a stack ends depends on the machine code even there. So as soon as a vote says
//! that the stack overflowed, the run is bound to the machine code of its first vote. What others voted is not compared with
//! it (and blames nobody), what they execute is stopped, and the missing votes come from workers of that machine code.

use super::Class;
use super::explain::Note;
use super::floor::Floor;
use super::run::Run;
use super::workers::Worker;
use vocabulary::result::{Outcome, Trap};
use vocabulary::spec::Profile;

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

impl Floor {
    /// After a vote: binds a portable run to the machine code of its first vote, if a stack overflowed.
    pub(super) fn bind_to_code(&mut self, run: &mut Run) {
        let ballot = |run: &Run, position: usize| {
            let ballot = run.attempts[position].ballot.as_ref().filter(|ballot| ballot.counts)?;
            Some((ballot.code, is_of_the_code(&ballot.outcome)))
        };
        let counted: Vec<(Class, bool)> =
            run.voted.iter().filter_map(|position| ballot(run, *position)).collect();
        let overflowed = counted.iter().any(|(_, overflowed)| *overflowed);
        let Some((code, _)) = counted.first().copied() else { return };
        if run.kin == Kin::Native || !run.compares() || (run.kin == Kin::Portable && !overflowed) {
            return;
        }
        run.kin = Kin::PortableCode;
        run.class = Some(code);
        for position in 0..run.attempts.len() {
            let attempt = &mut run.attempts[position];
            let (number, worker) = (attempt.record.number, attempt.record.worker);
            let is_kin = match &attempt.ballot {
                Some(ballot) => ballot.code == code || !ballot.counts,
                None if !attempt.is_live() => true,
                None => self.crew.get(worker).is_some_and(|it| it.class_of(Kin::PortableCode) == code),
            };
            if is_kin {
                continue;
            }
            if let Some(ballot) = &mut attempt.ballot {
                (ballot.counts, ballot.delivers) = (false, false);
            } else {
                self.stop(run, position);
            }
            self.note(run, Note::OtherCode { number, worker });
        }
    }
}
