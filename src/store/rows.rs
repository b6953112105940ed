//! Runs, modules, blobs and tokens as they go into a store and come out of it: plain data, the same for every backend.

use std::sync::Arc;

use bytes::Bytes;

use super::Reverification;
use crate::core::{AttemptRecord, Class, Explained, Final, Time, Weight};
use crate::digest::Digest;
use crate::id::{AttemptId, Epoch, RunId, WorkerId, WorkspaceId};
use crate::receipt::VoteProof;
use crate::result::{FailReason, Outcome, ResultManifest, RunState, Verdict, VerdictKind};
use crate::spec::{Callback, Policy, RunSpec, Verify};

/// A run as it is inserted.
#[derive(Clone, Debug)]
pub struct NewRun {
    /// Its id.
    pub id: RunId,
    /// Whose.
    pub workspace: WorkspaceId,
    /// Its owner's first term.
    pub epoch: Epoch,
    /// What it executes.
    pub spec: Arc<RunSpec>,
    /// Digest of the spec.
    pub run_key: Digest,
    /// The rest of what was asked.
    pub policy: Policy,
    /// When it was submitted.
    pub created_at: Time,
    /// The caller's key and the digest of the payload that came with it (I11).
    pub idempotency: Option<(String, Digest)>,
    /// The run that it repeats, if it is a rerun.
    pub rerun_of: Option<RunId>,
    /// Small inputs that came in the request: their rows are made in the same transaction. The run refers to each.
    pub blobs: Vec<(Digest, Bytes)>,
}

/// A run as it is finished.
#[derive(Clone, Debug)]
pub struct FinalRun {
    /// What the core decided.
    pub record: Final,
    /// The manifest of the result, if there is one.
    pub manifest: Option<ResultManifest>,
    /// Small outputs and the manifest itself; their rows are made in the same transaction. Every other blob of the
    /// manifest must have its row already. The run refers to each, also to one that no manifest names.
    pub blobs: Vec<(Digest, Bytes)>,
    /// Dissenting attempts whose manifest (the digest) was kept for comparison; its row must exist or be in `blobs`.
    pub dissents: Vec<(AttemptId, Digest)>,
    /// The votes that were counted, those that lost included: what a receipt is made of.
    pub votes: Vec<CastVote>,
    /// Whose result it is, if not its own.
    pub source: Option<Source>,
    /// Whether it may answer equal runs: it was verified, and its policy lets it.
    pub reusable: bool,
    /// Who is to be told: a delivery of this revision is made in the same transaction.
    pub callback: Option<Callback>,
}

/// Whose result a run has that was not executed itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// Of a run that had ended before.
    Cached(RunId),
    /// Of an equal run that was in flight.
    Shared(RunId),
}

impl Source {
    /// The run that computed it.
    pub fn run(self) -> RunId {
        match self {
            Source::Cached(run) | Source::Shared(run) => run,
        }
    }
}

/// A vote as its worker stated it, and what proves that it did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CastVote {
    /// Number of the attempt.
    pub number: u32,
    /// Who voted.
    pub worker: WorkerId,
    /// Its Ed25519 public key: the worker's row may be gone when a receipt is asked for.
    pub key: [u8; 32],
    /// Who answers for it.
    pub domain: String,
    /// The assignment's nonce.
    pub nonce: [u8; 16],
    /// As what it was executed.
    pub class: Class,
    /// The class of machine code as which it was executed: under `det-1` that is the class.
    pub code: Class,
    /// The machine code that was executed.
    pub artifact: Digest,
    /// What came out.
    pub result: Digest,
    /// Its signature. `None`: an embedded worker, which signs when a receipt is asked for.
    pub proof: Option<Box<VoteProof>>,
    /// What it weighed, under a policy that decides by credibility.
    pub weight: Option<Weight>,
}

/// A conditional write.
#[derive(Clone, Debug)]
pub enum RunWrite {
    /// Insert a run. With an `Insert` and a `Finish` of one run in one batch the row is written once.
    Insert(Arc<NewRun>),
    /// Record an attempt.
    Attempt {
        /// Whose.
        run: RunId,
        /// The writer's term.
        epoch: Epoch,
        /// The attempt.
        record: AttemptRecord,
        /// The run's explain log so far.
        explain: Arc<Vec<Explained>>,
    },
    /// Finish a run.
    Finish(Box<FinalRun>),
    /// Put the next revision in the place of a final: refused unless it is of the revision before and no later owner's, and of
    /// one whose result another run computed, which is corrected with that one ([`super::Store::follow_corrections`]).
    /// When the run ended stays; [`Final::finished_at`] is when this was found.
    Correct(Box<FinalRun>),
}

/// How a write ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WriteAnswer {
    /// It is durable.
    Committed,
    /// Another owner, or final already: nothing was changed.
    Refused,
    /// The idempotency key belongs to another run: nothing was inserted.
    Duplicate {
        /// That run.
        run: RunId,
        /// Whether its payload is the same.
        same_payload: bool,
    },
    /// A blob that the run refers to has no row (any more): nothing was changed. The result of another run is as good as missing
    /// where that run has no row, or none any more; the insertion of a cached answer is taken back then.
    MissingBlob(Digest),
}

/// A run as it is read.
#[derive(Clone, Debug)]
pub struct StoredRun {
    /// Its id.
    pub id: RunId,
    /// Whose.
    pub workspace: WorkspaceId,
    /// Its owner's term.
    pub epoch: Epoch,
    /// `Queued` until it is final: what happens between is the owner's memory.
    pub state: RunState,
    /// Why it failed.
    pub reason: Option<FailReason>,
    /// What it executes.
    pub spec: Arc<RunSpec>,
    /// Digest of the spec.
    pub run_key: Digest,
    /// The rest of what was asked.
    pub policy: Policy,
    /// 0 until it is final.
    pub revision: u32,
    /// The agreed outcome.
    pub outcome: Option<Outcome>,
    /// What the votes say.
    pub verdict: Verdict,
    /// The result digest.
    pub result: Option<Digest>,
    /// The result's manifest.
    pub manifest: Option<ResultManifest>,
    /// Attempts that were written: all of a final run, the faulted ones of another.
    pub attempts: Vec<AttemptRecord>,
    /// Decisions that were written.
    pub explain: Arc<Vec<Explained>>,
    /// Attempts whose result did not win (or, where none won, each that was voted for) and whose manifest was kept.
    pub dissents: Vec<(AttemptId, Digest)>,
    /// The run that it repeats.
    pub rerun_of: Option<RunId>,
    /// When it was submitted.
    pub created_at: Time,
    /// When it ended.
    pub finished_at: Option<Time>,
    /// Whose result it is, if not its own.
    pub source: Option<Source>,
    /// When this revision replaced the one before; `None` of the first one.
    pub corrected_at: Option<Time>,
    /// What verifying this revision anew said last.
    pub verification: Option<Reverification>,
}

/// Which runs a list shows; a run has to pass every filter that is set.
#[derive(Clone, Debug, Default)]
pub struct RunFilter {
    /// Of one workspace; `None` for all.
    pub workspace: Option<WorkspaceId>,
    /// In one of these states, none for all. `Queued` and `Running` both find every run that is not final.
    pub states: Vec<RunState>,
    /// Of one module.
    pub module: Option<Digest>,
    /// Final runs with an attempt on this worker. Runs that are not final pass: who holds them is their owner's memory.
    pub worker: Option<WorkerId>,
    /// Final runs with this verdict. Runs that are not final pass.
    pub verdict: Option<VerdictKind>,
    /// A text that occurs in the run's id, its module's digest or name (both whatever their case), its entry, or
    /// one of its arguments.
    pub text: Option<String>,
    /// Created at or after.
    pub since: Option<Time>,
    /// Created before.
    pub until: Option<Time>,
}

/// A page of runs.
#[derive(Clone, Debug, Default)]
pub struct FoundRuns {
    /// Newest first. May be fewer than were asked for although there are more: a search looks at a bounded number.
    pub runs: Vec<StoredRun>,
    /// The cursor with which the search goes on; `None` if everything was looked at.
    pub next: Option<RunId>,
}

/// What the figures need of a run that ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecentFinal {
    /// Whose.
    pub workspace: WorkspaceId,
    /// How it ended.
    pub state: RunState,
    /// What the votes said.
    pub verdict: VerdictKind,
    /// Attempts that met a fault; drained ones are none.
    pub faults: u32,
    /// Attempts that were handed out after the first fault.
    pub reruns: u32,
    /// Votes that lost.
    pub dissents: u32,
    /// When it was submitted.
    pub created_at: Time,
    /// When it ended.
    pub finished_at: Time,
}

/// What retention is about to delete.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Outlook {
    /// When the oldest final run ended.
    pub oldest_finished_at: Option<Time>,
    /// Final runs that go at once, at most: those whose result others have stay as long as these.
    pub due: u64,
    /// Final runs that go within the next day if nothing new ends, at most.
    pub due_in_a_day: u64,
}

/// Life cycle of a module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ModuleState {
    /// Parsed and validated; its artifact is not there yet.
    Analysed,
    /// Being compiled.
    Compiling,
    /// Runs may start.
    Ready,
    /// Decided for good: it will never run here.
    Refused,
}

/// A module's row.
#[derive(Clone, Debug)]
pub struct StoredModule {
    /// Its id.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// A name for people, as uploaded.
    pub name: Option<String>,
    /// Where it stands.
    pub state: ModuleState,
    /// The analysis, JSON text as the sandbox wrote it.
    pub analysis: Option<String>,
    /// Why it was refused: stable code and text.
    pub refusal: Option<(String, String)>,
    /// Why it is quarantined.
    pub quarantined: Option<String>,
    /// How its runs are verified that ask for nothing else; `None`: as the pool does.
    pub verify: Option<Verify>,
    /// When it was first uploaded.
    pub created_at: Time,
    /// What showed that it gives different results where it is trusted, if something did.
    pub nondeterministic: Option<Nondeterminism>,
}

/// How a module was found out to be nondeterministic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Nondeterminism {
    /// The run that showed it.
    pub run: RunId,
    /// When.
    pub at: Time,
}

/// What a workspace has settled for all of its runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WorkspaceSettings {
    /// How runs are verified that ask for nothing else, and whose module does neither; `None`: as the pool does.
    pub verify: Option<Verify>,
}

/// A blob's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobRow {
    /// Its size in bytes.
    pub size: u64,
    /// The bytes, if they are small.
    pub inline: Option<Bytes>,
}

/// A token's row; the token itself is never stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRow {
    /// A number for people and for revoking.
    pub id: u32,
    /// SHA-256 of the token.
    pub hash: Digest,
    /// What people call it.
    pub name: String,
    /// Where it is valid.
    pub workspace: WorkspaceId,
    /// What it allows: `admin`, `submit`, `read`, `worker`.
    pub scopes: Vec<String>,
    /// When it was made.
    pub created_at: Time,
    /// When it ends.
    pub expires_at: Option<Time>,
    /// The trust domain in which workers land that enrol with it; a worker's own name for its domain is never asked.
    pub domain: Option<String>,
    /// Whether workers that enrol with it are the operator's own machines.
    pub owned: bool,
    /// Whether they are trusted executors, which settle disputes and audits.
    pub arbiter: bool,
    /// When a request last came with it, to the minute.
    pub last_used_at: Option<Time>,
}

/// What retention keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retention {
    /// Final runs that ended before this go.
    pub finished_before: Time,
    /// Of the rest, the newest so many stay.
    pub runs_max: u64,
    /// At most so many are looked at in one call, so that the writer is not held up.
    pub batch_max: u32,
}

/// What [`crate::store::Store::retain`] did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Retained {
    /// Which runs went, the oldest end first; each may take along the one whose result it had.
    pub gone: Vec<RunId>,
    /// Runs beyond the retention that were looked at: they went, or are held by those that have their results. None means
    /// that no more are left.
    pub looked_at: u32,
}

/// What [`crate::store::Store::take_garbage`] took.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Garbage {
    /// Rows that went; fewer than the limit means that no more are left.
    pub taken: u32,
    /// Bytes of their blobs.
    pub bytes: u64,
    /// Those that had their bytes in the blob store: the caller deletes them there.
    pub files: Vec<Digest>,
}

/// How much is stored, for people and metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// Runs.
    pub runs: u64,
    /// Runs that are not final.
    pub runs_open: u64,
    /// Modules.
    pub modules: u64,
    /// Blobs.
    pub blobs: u64,
    /// Their bytes.
    pub blob_bytes: u64,
    /// Bytes of blobs that nothing refers to.
    pub garbage_bytes: u64,
}
