//! Workers as they are kept, and the evidence about each.

use std::collections::BTreeMap;

use crate::class::{Classes, Portable};
use crate::core::{self, Prior, Standing, Time, Witness};
use crate::digest::Digest;
use crate::id::{AttemptId, WorkerId};

/// A worker that asks to be enrolled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Enrolment {
    /// Its Ed25519 public key: the identity.
    pub key: [u8; 32],
    /// What people call it.
    pub name: String,
    /// Who answers for it: a token's domain, or the machine's own for an embedded one.
    pub domain: String,
    /// Whether it is an agent within the coordinator's process.
    pub embedded: bool,
    /// Whether it is the operator's own machine.
    pub owned: bool,
    /// Whether it is a trusted executor. Of an embedded worker this is what its latest enrolment says.
    pub arbiter: bool,
    /// The token that it came with.
    pub token: Option<u32>,
    /// Now.
    pub at: Time,
}

/// A worker's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerRow {
    /// Its number.
    pub id: WorkerId,
    /// Its Ed25519 public key: the identity.
    pub key: [u8; 32],
    /// What people call it.
    pub name: String,
    /// Who answers for it.
    pub domain: String,
    /// Whether it is an agent within the coordinator's process.
    pub embedded: bool,
    /// Whether it is the operator's own machine.
    pub owned: bool,
    /// Whether it is a trusted executor.
    pub arbiter: bool,
    /// What its evidence says, by class: the fold of all that was ever appended, trimmed since or not.
    pub standings: BTreeMap<Digest, Standing>,
    /// By class, with which classes for portable results the confirmations of its standing were earned. A standing that was
    /// stored before these were kept has none.
    pub proven_as: BTreeMap<Digest, Portable>,
    /// The token that it enrolled with.
    pub enrolled_by: Option<u32>,
    /// Why it is quarantined.
    pub quarantined: Option<String>,
    /// Whether the pool itself said so, for its votes.
    pub for_votes: bool,
    /// When it enrolled.
    pub created_at: Time,
    /// Its latest session; `None` if it never had one.
    pub session: Option<WorkerSession>,
}

impl WorkerRow {
    /// What is assumed of it without evidence.
    pub fn prior(&self) -> Prior {
        if self.owned { Prior::Owned } else { Prior::Foreign }
    }

    /// What its evidence says, if it executes as this class.
    pub fn standing(&self, class: Digest) -> Standing {
        self.standings.get(&class).copied().unwrap_or_default()
    }

    /// What its evidence says, if it executes as these classes. Those for portable results are its own word, so confirmations
    /// that it earned with others are worth nothing: it is a newcomer that keeps what it did wrong. A standing that does not
    /// say with which it was earned is that of the first that come.
    pub fn standing_as(&self, classes: Classes) -> Standing {
        let (class, standing) = (classes.native.0, self.standing(classes.native.0));
        let is_its = self.proven_as.get(&class).is_none_or(|portable| *portable == classes.portable);
        if is_its { standing } else { standing.unproven() }
    }

    /// Whether what it showed in another class than this is enough for a quarantine.
    pub fn is_condemned_elsewhere(&self, class: Digest) -> bool {
        self.standings.iter().any(|(other, standing)| *other != class && standing.condemns())
    }
}

/// What a worker said of itself when its session began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerFacts {
    /// What placement may ask for.
    pub labels: BTreeMap<String, String>,
    /// Its equivalence class.
    pub class: Digest,
    /// Its build.
    pub version: String,
    /// Attempts that it executes at once.
    pub slots: u32,
}

/// A worker's latest session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerSession {
    /// What it said of itself.
    pub facts: WorkerFacts,
    /// When the session began; names it.
    pub connected_at: Time,
    /// When it ended. `None` while it lasts, and also after a coordinator that ended without a word: whether a worker
    /// is connected is known to the owner only.
    pub left_at: Option<Time>,
    /// When it was last heard of, to the minute.
    pub seen_at: Time,
}

/// Something that was seen of a worker; appended, never changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Of whom.
    pub worker: WorkerId,
    /// In which class.
    pub class: Digest,
    /// With which classes for portable results, where that is known. Not kept in the log: the standing has the latest.
    pub portable: Option<Portable>,
    /// What: `dissented`, `crashed`, `timed_out`, `lost`, `corrupt`, `refused`; or a fact of its integrity, see
    /// [`Evidence::integrity`].
    pub kind: String,
    /// So many of it: results that a confirmation stands for, 1 of everything else.
    pub count: u32,
    /// On which attempt; `None` for an operator's word.
    pub attempt: Option<AttemptId>,
    /// The result digest that it voted for, if it did.
    pub result: Option<Digest>,
    /// When.
    pub at: Time,
}

/// Kinds of evidence that change a worker's standing.
pub mod kind {
    /// A worker of another fault domain computed the same.
    pub const CONFIRMED: &str = "confirmed";
    /// A trusted executor did.
    pub const CONFIRMED_BY_ARBITER: &str = "confirmed_by_arbiter";
    /// The golden corpus did.
    pub const CONFIRMED_BY_GOLDEN: &str = "confirmed_by_golden";
    /// Its result lost, and nobody else had named the same.
    pub const LONE_DISSENT: &str = "lone_dissent";
    /// Its result lost, and others had named the very same.
    pub const COLLUSION: &str = "collusion";
    /// An operator let it in again: a newcomer.
    pub const READMITTED: &str = "readmitted";
    /// Its result had been right: what the run said against it is taken back.
    pub const ABSOLVED: &str = "absolved";
}

impl Evidence {
    /// How an entry is called, and how often it stands for. `None`: a readmission, which is
    /// [`crate::store::Store::quarantine_worker`]'s to record.
    pub fn name_of(evidence: core::Evidence) -> Option<(&'static str, u32)> {
        match evidence {
            core::Evidence::Confirmed { count, by: Witness::Peer } => Some((kind::CONFIRMED, count)),
            core::Evidence::Confirmed { count, by: Witness::Arbiter } => {
                Some((kind::CONFIRMED_BY_ARBITER, count))
            }
            core::Evidence::Confirmed { count, by: Witness::Golden } => {
                Some((kind::CONFIRMED_BY_GOLDEN, count))
            }
            core::Evidence::LoneDissent => Some((kind::LONE_DISSENT, 1)),
            core::Evidence::Collusion => Some((kind::COLLUSION, 1)),
            core::Evidence::Absolved => Some((kind::ABSOLVED, 1)),
            core::Evidence::Readmitted => None,
        }
    }

    /// What it says of its worker's integrity. Faults of reliability say nothing of it.
    pub fn integrity(&self) -> Option<core::Evidence> {
        let confirmed = |by| Some(core::Evidence::Confirmed { count: self.count, by });
        match self.kind.as_str() {
            kind::CONFIRMED => confirmed(Witness::Peer),
            kind::CONFIRMED_BY_ARBITER => confirmed(Witness::Arbiter),
            kind::CONFIRMED_BY_GOLDEN => confirmed(Witness::Golden),
            kind::LONE_DISSENT => Some(core::Evidence::LoneDissent),
            kind::COLLUSION => Some(core::Evidence::Collusion),
            kind::READMITTED => Some(core::Evidence::Readmitted),
            kind::ABSOLVED => Some(core::Evidence::Absolved),
            _ => None,
        }
    }
}

/// How much evidence is kept about each worker. What goes is gone: whoever computes something from evidence sees the
/// rest only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EvidenceRetention {
    /// The newest so many stay, however old.
    pub newest: u64,
    /// Beyond them, what was seen at or after this stays …
    pub since: Time,
    /// … up to so many.
    pub most: u64,
    /// At most so many go in one call, so that the writer is not held up.
    pub batch_max: u32,
}
