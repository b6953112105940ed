//! Workers that say of a portable run that its stack overflowed, which nobody confirms.
//!
//! Such a claim may be true of its machine code, so nobody is blamed for it (`kin.rs`); but it cost a run an attempt. One that
//! makes [`CLAIMS_MAX`] of them of one module gets runs of it only where nobody else can be had, until it is confirmed once or
//! executes other code. One that makes them of many modules is drained.

use super::Class;
use super::attempt::Attempt;
use super::credibility::Seat;
use super::explain::Note;
use super::floor::{Floor, Followup};
use super::kin::{Kin, is_of_the_code};
use super::placement::Shape;
use super::run::Run;
use vocabulary::id::WorkerId;

/// Claims of one module that nobody confirmed, after which its runs go elsewhere.
const CLAIMS_MAX: u8 = 3;
/// Workers of which a module remembers them, the newest.
const CLAIMERS_MAX: usize = 64;
/// Different modules of which a worker said that their stack overflowed, which nobody confirmed, less the results of it that
/// somebody did, after which it is drained. An honest one whose code needs more stack than that of others says so only of
/// modules that recurse deeply; one such module counts once, however often it is run.
const UNCONFIRMED_MAX: usize = 10;

/// Who claimed it of one module, by which machine code, and how often in vain.
#[derive(Default)]
pub(super) struct Claims(Vec<(WorkerId, Class, u8)>);

impl Claims {
    fn in_vain(&mut self, worker: WorkerId, code: Class) {
        let before = self.0.iter().position(|(claimer, of, _)| (*claimer, *of) == (worker, code));
        let times = before.map_or(0, |position| self.0[position].2).saturating_add(1);
        self.confirmed(worker);
        if self.0.len() >= CLAIMERS_MAX {
            self.0.remove(0);
        }
        self.0.push((worker, code, times));
    }

    fn confirmed(&mut self, worker: WorkerId) {
        self.0.retain(|(claimer, ..)| *claimer != worker);
    }
}

impl Floor {
    /// A run has a result: what it says of those that claimed that a stack overflowed.
    pub(super) fn remember_claims(&mut self, run: &Run) {
        match run.kin {
            Kin::Native => {}
            Kin::Portable => self.remember_unconfirmed(run),
            Kin::PortableCode => {
                let claims = &mut self.modules[run.module].claims;
                let voters = run.votes().into_iter().filter(|(_, result)| Some(*result) == run.agreed);
                voters.for_each(|(worker, _)| claims.confirmed(worker));
            }
        }
    }

    /// A run was decided by those that did not overflow: whoever said that its own code does, and was confirmed by nobody, may
    /// be right and is not blamed. One that says so again and again gets no more work.
    fn remember_unconfirmed(&mut self, run: &Run) {
        let module = self.modules[run.module].digest;
        for position in run.voted.iter().copied().filter(|position| run.compared(*position).is_none()) {
            let attempt = &run.attempts[position];
            let claim = attempt.counted().filter(|ballot| is_of_the_code(&ballot.outcome));
            let Some(code) = claim.map(|ballot| ballot.classes.portable.code) else { continue };
            self.modules[run.module].claims.in_vain(attempt.record.worker, code);
            let Some(worker) = self.crew.get_mut(attempt.record.worker) else { continue };
            if worker.unconfirmed.len() < UNCONFIRMED_MAX && !worker.unconfirmed.contains(&module) {
                worker.unconfirmed.push_back(module);
            }
            if worker.unconfirmed.len() >= UNCONFIRMED_MAX && worker.drain.is_none() {
                let why = format!(
                    "it said of {UNCONFIRMED_MAX} modules more than its results were confirmed that a stack overflowed, \
                     which nobody else found"
                );
                self.followups.push(Followup::Drain(worker.id, why));
            }
        }
    }

    /// Adds those to whom a shape avoids that claimed an overflow of its module too often; gives them.
    pub(super) fn avoid_claimers(&self, run: &Run, shape: &mut Shape) -> Vec<WorkerId> {
        let claims = &self.modules[run.module].claims;
        // where a stack did overflow the word of those is asked for that say so
        let is_asked = shape.seat != Seat::Voter || run.kin != Kin::Portable || !run.compares();
        if claims.0.is_empty() || is_asked || run.is_relaxed {
            return Vec::new();
        }
        let is_there = |worker: WorkerId, code: Class| {
            self.crew.get(worker).is_some_and(|worker| worker.is_eligible() && worker.portable.code == code)
        };
        let often = claims.0.iter().filter(|(worker, code, times)| {
            *times >= CLAIMS_MAX && is_there(*worker, *code) && !shape.seated.contains(worker)
        });
        let claimers: Vec<WorkerId> = often.map(|(worker, ..)| *worker).collect();
        shape.avoided.extend(&claimers);
        shape.avoided.sort_unstable();
        shape.avoided.dedup();
        claimers
    }

    /// Explains whom a run that waits until another worker is free avoids.
    pub(super) fn note_avoided(&self, run: &mut Run, avoided: &[WorkerId], claimers: Vec<WorkerId>) {
        let wait_ms = self.config.fresh_worker_wait_ms;
        let held = |attempt: &Attempt| avoided.contains(&attempt.record.worker);
        if run.reverify.is_some() || run.attempts.iter().any(held) {
            self.note(run, Note::Excluding { workers: avoided.to_vec(), wait_ms });
        }
        if !claimers.is_empty() {
            self.note(run, Note::Claimers { workers: claimers, wait_ms });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vocabulary::digest::Digest;

    #[test]
    fn claims_are_counted_for_a_machine_code_and_bounded() {
        let code = |number: u8| Class(Digest::from_bytes([number; 32]));
        let mut claims = Claims::default();
        (0..3).for_each(|_| claims.in_vain(WorkerId(1), code(1)));
        assert_eq!(claims.0, [(WorkerId(1), code(1), 3)]);
        claims.in_vain(WorkerId(1), code(2));
        assert_eq!(claims.0, [(WorkerId(1), code(2), 1)], "it executes something else now");
        claims.confirmed(WorkerId(1));
        assert!(claims.0.is_empty());
        (0..1_000).for_each(|number| claims.in_vain(WorkerId(number), code(1)));
        assert_eq!(claims.0.len(), CLAIMERS_MAX);
        assert_eq!(claims.0.last(), Some(&(WorkerId(999), code(1), 1)));
    }
}
