//! Which machine code a class makes of a module, as votes have shown it.
//!
//! Compilation is reproducible, so within one class of machine code every vote has to name the same artifact; another one is
//! a fault of its worker. What is right is not worked out here but learnt, so it matters from whom: what this process's own
//! agents compiled is never replaced; an operator's machine or an arbiter that was compared and won comes next. Strangers
//! teach nothing, however many agree: otherwise two that win one run could have every honest vote refused from then on.
//! Where only strangers are of a class, their results are compared as everybody's. The class is the one that a worker had
//! when it voted.
//!
//! Bounded: so many are remembered ([`ARTIFACTS_MAX`]); then all are forgotten, and learnt again.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::class::Classes;
use crate::core::{AttemptRecord, AttemptState, Class, Final};
use crate::digest::Digest;
use crate::result::VerdictKind;
use crate::spec::{Profile, RunSpec};
use crate::store::{CastVote, WorkerRow};

/// Artifacts that are remembered.
const ARTIFACTS_MAX: usize = 4_096;

/// What machine code is made of: its class, the profile, the module, and whether it counts fuel.
type Key = (Class, Profile, Digest, bool);

/// How much the word of somebody counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Trust {
    /// Somebody else's machine.
    Stranger,
    /// A machine of the operator, or an arbiter.
    Operator,
    /// An agent of this process: it executes what the coordinator compiled.
    Own,
}

impl Trust {
    /// In a worker, by its row and whether it speaks over the network.
    pub(super) fn of(row: &WorkerRow, is_remote: bool) -> Trust {
        match row {
            row if row.embedded && !is_remote => Trust::Own,
            row if row.owned || row.arbiter => Trust::Operator,
            _ => Trust::Stranger,
        }
    }
}

/// The artifacts that are known.
#[derive(Default)]
pub(super) struct Artifacts {
    known: HashMap<Key, (Digest, Trust)>,
}

impl Artifacts {
    /// Checks what a vote executed, and learns it if an agent of this process did.
    ///
    /// # Errors
    /// What its class is known to execute instead.
    pub(super) fn check(
        &mut self,
        classes: Classes,
        trust: Trust,
        spec: &RunSpec,
        artifact: Digest,
    ) -> Result<(), Digest> {
        let key = key(classes.code(spec.profile), spec);
        match self.known.get(&key) {
            Some((known, from)) if *known != artifact && *from >= trust => return Err(*known),
            _ if trust == Trust::Own => self.insert(key, artifact, trust),
            _ => {}
        }
        Ok(())
    }

    /// Learns from the votes of those for an agreed final that are no strangers. `trust` tells how much a vote counts.
    pub(super) fn learn(
        &mut self,
        spec: &RunSpec,
        votes: &[CastVote],
        last: &Final,
        trust: impl Fn(&CastVote) -> Trust,
    ) {
        if last.verdict.kind != VerdictKind::Agreed {
            return;
        }
        let has_won =
            |record: &&AttemptRecord| matches!(record.state, AttemptState::Voted { won: Some(true), .. });
        let winners: BTreeSet<u32> =
            last.attempts.iter().filter(has_won).map(|record| record.number).collect();
        let mut shown: BTreeMap<Class, BTreeMap<Digest, Trust>> = BTreeMap::new();
        for vote in votes.iter().filter(|vote| winners.contains(&vote.number)) {
            let trust = trust(vote);
            if trust > Trust::Stranger {
                let best = shown.entry(vote.code).or_default().entry(vote.artifact).or_insert(trust);
                *best = trust.max(*best);
            }
        }
        for (class, named) in shown {
            let mut named = named.into_iter();
            // where those differ whose word counts, nobody knows which is right
            if let (Some((artifact, best)), None) = (named.next(), named.next()) {
                self.insert(key(class, spec), artifact, best);
            }
        }
    }

    fn insert(&mut self, key: Key, artifact: Digest, trust: Trust) {
        if self.known.get(&key).is_some_and(|(_, from)| *from > trust) {
            return;
        }
        if self.known.len() >= ARTIFACTS_MAX && !self.known.contains_key(&key) {
            self.known.clear();
        }
        self.known.insert(key, (artifact, trust));
    }
}

fn key(class: Class, spec: &RunSpec) -> Key {
    (class, spec.profile, spec.module, spec.limits.fuel.is_some())
}

#[cfg(test)]
#[path = "artifacts/tests.rs"]
mod tests;
