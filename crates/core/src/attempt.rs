//! One execution of a run on one worker, with the vote that came of it.
//!
//! ```text
//!             ┌──────────▶ Canceled (nobody needs it)
//! Assigned ─▶ Begun ─────▶ Faulted  (counts against a budget, see `retry`)
//!     └─────────┴────────▶ Voted ──▶ Faulted (what it voted for was not delivered)
//! ```
//!
//! An attempt that its worker hands back before it has begun (`returned`) was none: it ends as canceled and is not shown.
//! The arrow behind `Voted` keeps the vote: the worker did compute that digest, it only cannot show the bytes.

use super::credibility::Weight;
use super::signs::Signs;
use super::{AttemptRecord, AttemptState, Time, Vote};
use vocabulary::class::Classes;
use vocabulary::digest::Digest;
use vocabulary::id::{Epoch, WorkerId};
use vocabulary::result::{Fault, Outcome};

/// An attempt as the pool keeps it.
pub(super) struct Attempt {
    /// What is stored and shown.
    pub record: AttemptRecord,
    /// The term under which it was assigned, which its worker names in all it says of it. The same number under another
    /// term is another attempt (I6).
    pub epoch: Epoch,
    /// Its vote, kept beside the state because a vote outlives an undelivered result.
    pub ballot: Option<Ballot>,
    /// Whether the worker was told. Under `retry: never` the attempt's row must be committed before.
    pub sent: bool,
    /// Whether it was live when an earlier coordinator ended and its worker has not come back yet.
    pub is_orphan: bool,
    /// Whether its worker handed it back before it had begun: then it counts for nothing and is not shown.
    pub is_returned: bool,
    /// CPU time charged in advance to the run's workspace, in microseconds.
    pub estimate_us: u64,
    /// When the core gives up on its worker.
    pub timeout_at: Option<Time>,
    /// How it fares while it is live.
    pub signs: Signs,
    /// What its vote weighs, or will; as of when it was handed out, and again of when it voted.
    pub weight: Weight,
    /// Whether another one was handed out because it is slow.
    pub is_hedged: bool,
}

/// The term of an attempt that was read back and that nobody came back with: no assignment ever named it.
const NO_EPOCH: Epoch = Epoch(0);

/// A vote that was taken.
pub(super) struct Ballot {
    pub result: Digest,
    pub outcome: Outcome,
    /// All blobs came with it.
    pub complete: bool,
    /// Whether it counts: not when its worker was quarantined before the final (I14).
    pub counts: bool,
    /// Whether its worker may still deliver the blobs.
    pub delivers: bool,
    /// Its worker's classes when it voted: with whom it may be compared.
    pub classes: Classes,
    /// Its worker's fault domain then.
    pub domain: u32,
}

impl Attempt {
    /// An attempt that is about to be handed out.
    pub(super) fn new(number: u32, epoch: Epoch, worker: WorkerId, now: Time, estimate_us: u64) -> Attempt {
        let record = AttemptRecord {
            number,
            worker,
            state: AttemptState::Assigned,
            assigned_at: now,
            begun_at: None,
            ended_at: None,
            cpu_us: 0,
        };
        let signs = Signs::new(now);
        Attempt {
            record,
            epoch,
            ballot: None,
            sent: false,
            is_orphan: false,
            is_returned: false,
            estimate_us,
            timeout_at: None,
            signs,
            weight: Weight::UNKNOWN,
            is_hedged: false,
        }
    }

    /// An attempt of an earlier life of the coordinator. One that was live then is an orphan until its worker shows
    /// it; a vote cannot be one of them, because votes are written with the final only.
    pub(super) fn recovered(record: AttemptRecord) -> Attempt {
        let is_orphan = record.state.is_live();
        let signs = Signs::new(record.assigned_at);
        Attempt {
            record,
            epoch: NO_EPOCH,
            ballot: None,
            sent: true,
            is_orphan,
            is_returned: false,
            estimate_us: 0,
            timeout_at: None,
            signs,
            weight: Weight::UNKNOWN,
            is_hedged: false,
        }
    }

    /// Whether a worker may be executing it.
    pub(super) fn is_live(&self) -> bool {
        self.record.state.is_live()
    }

    /// Its vote, unless it counts for nothing any more.
    pub(super) fn counted(&self) -> Option<&Ballot> {
        self.ballot.as_ref().filter(|ballot| ballot.counts)
    }

    /// Its worker, which has these classes and sits in this fault domain, voted.
    pub(super) fn vote(&mut self, now: Time, vote: Vote, classes: Classes, domain: u32) {
        self.record.begun_at.get_or_insert(now);
        self.record.ended_at = Some(now);
        self.record.cpu_us = vote.cpu_us;
        self.record.state =
            AttemptState::Voted { result: vote.result, outcome: Some(vote.outcome.clone()), won: None };
        self.ballot = Some(Ballot {
            result: vote.result,
            outcome: vote.outcome,
            complete: vote.complete,
            counts: true,
            delivers: true,
            classes,
            domain,
        });
    }

    /// It met a fault.
    pub(super) fn fault(&mut self, now: Time, fault: Fault) {
        self.record.ended_at.get_or_insert(now);
        self.record.state = AttemptState::Faulted { fault };
        if let Some(ballot) = &mut self.ballot {
            ballot.delivers = false;
        }
    }

    /// It was stopped.
    pub(super) fn cancel(&mut self, now: Time) {
        self.record.ended_at = Some(now);
        self.record.state = AttemptState::Canceled;
    }
}
