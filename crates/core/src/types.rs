//! The words that go into the core: submissions, workers, events, and the records of attempts.
//!
//! Everything here is plain data. Each event says who may send it.

use std::collections::BTreeMap;

use super::Explained;
use super::evidence::{Prior, Standing};
use vocabulary::class::Portable;
use vocabulary::digest::Digest;
use vocabulary::id::{AttemptId, Class, Epoch, RunId, WorkerId, WorkspaceId};
use vocabulary::result::{Fault, Outcome};
use vocabulary::spec::{Policy, Profile, Verify};

/// Microseconds since the Unix epoch. The shell sees to it that it never goes back within a process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Time(pub u64);

impl Time {
    /// The instant `ms` milliseconds later.
    pub const fn plus_ms(self, ms: u64) -> Time {
        Time(self.0.saturating_add(ms.saturating_mul(1_000)))
    }

    /// Milliseconds from `earlier` to `self`, 0 if it is later.
    pub const fn ms_since(self, earlier: Time) -> u64 {
        self.0.saturating_sub(earlier.0) / 1_000
    }
}

/// The trust domain of the operator's own machines. They are not assumed to cheat together: each of them is a fault domain
/// of its own, whoever else is there.
pub const OWN_DOMAIN: &str = "local";

/// Timings and bounds; every one is configurable by the operator.
#[derive(Clone, Debug)]
pub struct Config {
    /// Runs that may be queued or running at once in this coordinator; more are refused with 429.
    pub runs_max: usize,
    /// The same for one workspace.
    pub runs_per_workspace_max: usize,
    /// A rerun waits so long for a worker that held no attempt of the run; then it goes to any.
    pub fresh_worker_wait_ms: u64,
    /// How long too few workers of one class may last before a quorum run ends as `no_quorum`.
    pub quorum_wait_ms: u64,
    /// Runners that one run may kill (I10).
    pub crashes_max: u32,
    /// Lost or drained-away workers after which a run gives up.
    pub losses_max: u32,
    /// Refusals (no memory, no blob) after which a run gives up.
    pub refusals_max: u32,
    /// Attempts at once of a module that has completed none yet.
    pub probation_attempts_max: u32,
    /// Runs of one module that may crash within a day before it is quarantined, as others say than any one foreign fault
    /// domain.
    pub module_crashes_max: u32,
    /// Different modules that may fail in a row on one worker, none succeeding, before it is drained.
    pub worker_failures_max: u32,
    /// For so long after workers can connect again nobody is declared lost and no run of before is handed out.
    pub start_grace_ms: u64,
    /// Between two heartbeats of a worker. One that missed two of them (and a half, for their jitter) is suspect.
    pub heartbeat_ms: u64,
    /// A worker that was not heard of for so long is lost.
    pub worker_lost_ms: u64,
    /// An attempt that has begun is called slow after so long, and after half as long again as most of its module take.
    pub slow_after_ms: u64,
    /// An attempt that has begun and used no CPU time for so long is called stuck.
    pub stuck_after_ms: u64,
    /// How long a voter may take to deliver the blobs of its result, before the next one is asked.
    pub collect_timeout_ms: u64,
    /// How long a worker may hold an attempt without beginning it (it fetches, compiles, or has others before it), before
    /// it is given to another one.
    pub begin_within_ms: u64,
    /// Added to an attempt's timeout before the core gives up on a worker that should have killed it.
    pub timeout_grace_ms: u64,
    /// Second attempts of slow ones that all attempts together earn, in thousandths of their number. 0 turns them off.
    pub hedge_permille: u32,
    /// Such attempts that may be saved up.
    pub hedge_burst: u32,
    /// The part of all slots that may hold attempts of results that are verified anew, in percent.
    pub reverify_percent: u32,
    /// Runs that may wait for the result of one that is equal to them; more are executed by themselves.
    pub followers_max: usize,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            runs_max: 1_000_000,
            runs_per_workspace_max: 1_000_000,
            fresh_worker_wait_ms: 5_000,
            quorum_wait_ms: 60_000,
            crashes_max: 3,
            losses_max: 5,
            refusals_max: 5,
            probation_attempts_max: 3,
            module_crashes_max: 5,
            worker_failures_max: 5,
            start_grace_ms: 5_000,
            heartbeat_ms: 1_000,
            worker_lost_ms: 3_000,
            slow_after_ms: 1_000,
            stuck_after_ms: 5_000,
            collect_timeout_ms: 30_000,
            begin_within_ms: 300_000,
            timeout_grace_ms: 5_000,
            hedge_permille: 50,
            hedge_burst: 10,
            reverify_percent: 25,
            followers_max: 1_000,
        }
    }
}

/// A run as the shell hands it in: validated, its inputs present, its module admitted or being compiled.
#[derive(Clone, Debug)]
pub struct Submission {
    /// Its new id.
    pub run: RunId,
    /// The term in which this coordinator owns it.
    pub epoch: Epoch,
    /// Whose turn it takes.
    pub workspace: WorkspaceId,
    /// What it executes: unit of affinity, of probation and of the poison rule.
    pub module: Digest,
    /// Memory that an attempt may hold, with what it writes, leased from the worker (I13).
    pub memory_bytes: u64,
    /// Everything that does not determine the result.
    pub policy: Policy,
    /// Whether the module's artifact is there; otherwise the run waits for [`Event::ModuleReady`].
    pub module_ready: bool,
    /// Whether it was accepted in an earlier life: then it is not inserted again and not refused.
    pub recovered: bool,
    /// When it was submitted: base of its deadline. Earlier than `now` for recovered runs.
    pub submitted_at: Time,
    /// Attempts of an earlier life of the coordinator, read back from the store; empty for new runs.
    /// They count against the budgets and for the exclusion of workers.
    pub history: Vec<AttemptRecord>,
    /// The explanations written with them.
    pub explained: Vec<Explained>,
    /// Its draw in the audit lottery: uniform over all numbers, the same for every coordinator, unknown to workers
    /// (the shell gives an HMAC of the run's id).
    pub lottery: u64,
    /// Set if a final of this run is verified anew: then nothing is inserted and nobody is refused.
    pub reverify: Option<Reverify>,
    /// What makes it equal to others of its workspace: those that name the same may share attempts. `None`: it is executed
    /// by itself.
    pub share: Option<Digest>,
    /// The semantics: which of its classes a worker votes in.
    pub profile: Profile,
}

/// A result that is verified anew, because a worker on which it rested is not trusted any more. Nothing is written about it
/// before its end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reverify {
    /// The result of the final.
    pub result: Digest,
    /// The final's revision.
    pub revision: u32,
    /// Who voted for it, quarantined or not. If it turns out wrong, they all named the same wrong digest.
    pub voters: Vec<PastVoter>,
    /// Attempts of the run up to this number have been.
    pub attempts: u32,
    /// Whose votes lost against it: those that named what it turns out to be were right.
    pub dissents: Vec<Dissent>,
    /// The class of `det-1` that decided it, where that was kept; `None` under `det-1-portable`. A result may hold what
    /// depends on it (the bits of a NaN), so that nobody else can tell.
    pub class: Option<Class>,
    /// Whether it says that a stack overflowed. Under `det-1-portable` it is verified then by the machine code that said so,
    /// which is the first of `codes`, and by no other.
    pub overflowed: bool,
    /// The classes of portable machine code as which those executed it that voted for it, as far as that was kept.
    pub codes: Vec<Class>,
}

/// Somebody who voted for a final, or confirmed it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PastVoter {
    /// Who.
    pub worker: WorkerId,
    /// As what it was executed, where that was kept; without it the log of a worker that is not here is told nothing.
    pub class: Option<Class>,
    /// As what portable machine code it was executed, where that was kept: an overflow of the stack that other machine code
    /// finds says nothing against it.
    pub code: Option<Class>,
    /// Whether its vote counts for nothing, as far as the store knows: it is quarantined, or was, and an operator has let it
    /// in again since it voted. Then nobody blames it once more. The pool knows of those that joined it.
    pub is_out: bool,
}

/// A vote that lost against a final.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dissent {
    /// On which attempt.
    pub number: u32,
    /// Whose.
    pub worker: WorkerId,
    /// As what it was executed.
    pub class: Class,
    /// For what.
    pub result: Digest,
}

/// Why a submission is not accepted. Nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SubmitError {
    /// Backpressure: 429.
    #[error("the queue is full ({queued} runs)")]
    QueueFull {
        /// Runs that are there.
        queued: usize,
    },
    /// 409: `quorum: n` with fewer than n workers of one class that could ever run it.
    #[error("quorum {wanted} needs {wanted} workers of one class, and there are {there}")]
    TooFewWorkers {
        /// The quorum.
        wanted: u8,
        /// Eligible workers of the largest class.
        there: usize,
    },
    /// 409: a policy that weighs votes, and workers that could not satisfy it if all of them agreed.
    #[error(
        "`{verify}` leaves an error of {error_ppb}e-9 with the {there} workers that are there, and that is too much"
    )]
    Undecidable {
        /// The policy.
        verify: Verify,
        /// Eligible workers of the class that would do best.
        there: usize,
        /// Fault domains among them.
        domains: usize,
        /// The error that they leave at best, in parts per billion.
        error_ppb: u64,
    },
    /// 409: no worker that is there could ever run it.
    #[error("no worker {lacks}")]
    NoWorker {
        /// What every worker lacks: the rest of the sentence.
        lacks: String,
    },
    /// 409: the module may not run.
    #[error("the module is quarantined: {why}")]
    ModuleQuarantined {
        /// What it did.
        why: String,
    },
}

/// A worker as it joins.
#[derive(Clone, Debug)]
pub struct Joining {
    /// Its number, kept over reconnects.
    pub worker: WorkerId,
    /// Its equivalence class for `det-1`: covers all that it computes, so its evidence belongs to it.
    pub class: Class,
    /// Who answers for it. Where all workers share one domain, each counts as its own fault domain; so do always the
    /// operator's own of [`OWN_DOMAIN`].
    pub domain: String,
    /// What placement may ask for.
    pub labels: BTreeMap<String, String>,
    /// Attempts that it executes at once.
    pub slots: u32,
    /// Memory that its attempts may use together.
    pub memory_bytes: u64,
    /// Attempts that it still holds from before, each with the term under which it was assigned (their MACs were
    /// checked by the shell, so nobody made them up).
    pub holds: Vec<(AttemptId, Epoch)>,
    /// Excluded from work and votes until readmitted (from the store).
    pub quarantined: bool,
    /// What its log of evidence in this class says. The pool folds its own evidence on top, so that of a worker which comes
    /// back in the same class it takes over only a later suspicion.
    pub standing: Standing,
    /// What is assumed of it without evidence.
    pub prior: Prior,
    /// Whether it is a trusted executor of the operator, which settles disputes and audits.
    pub is_arbiter: bool,
    /// Its classes for `det-1-portable`.
    pub portable: Portable,
    /// Whether the pool itself quarantined it, for its votes: that ends when they turn out to have been right.
    pub for_votes: bool,
    /// Whether what it showed in another class is enough for a quarantine.
    pub condemned_elsewhere: bool,
}

/// A worker's checked statement about an attempt: signature, class, artifact and binding were verified by the shell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Vote {
    /// Digest of the result manifest.
    pub result: Digest,
    /// The manifest's outcome.
    pub outcome: Outcome,
    /// CPU time that the attempt used, in microseconds.
    pub cpu_us: u64,
    /// Whether all blobs of the result came with the vote, so that nothing needs collecting.
    pub complete: bool,
}

/// How a live attempt fares, by its worker's word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Beat {
    /// Which.
    pub attempt: AttemptId,
    /// CPU time used so far, in microseconds: while it rises the attempt is slow at most, while it is flat, stuck.
    pub cpu_us: u64,
    /// When its runner began it, if it has.
    pub begun_at: Option<Time>,
}

/// What happened. Each is applied whole, one at a time.
#[derive(Clone, Debug)]
pub enum Event {
    /// A new run. Use [`crate::Pool::submit`], which answers whether it was accepted.
    Submitted(Box<Submission>),
    /// The store committed a write of this run.
    Committed {
        /// Whose.
        run: RunId,
        /// Which.
        write: WriteKind,
    },
    /// The store did not take the final of this run, because blobs of its result are gone: they are collected anew.
    BlobsMissing {
        /// Whose.
        run: RunId,
    },
    /// The store refused a write of this run: somebody else owns it, or it is final. The core drops it.
    Refused {
        /// Whose.
        run: RunId,
    },
    /// Workers can connect from now on: the grace after a start begins.
    Serving,
    /// A worker opened its session.
    WorkerJoined(Box<Joining>),
    /// Its session ended; `drained` if it said so before.
    WorkerLeft {
        /// Who.
        worker: WorkerId,
    },
    /// It is alive and grants so many attempts beyond those it holds. Absolute, so a lost one does no harm.
    ///
    /// The pool takes one off with each [`crate::Effect::Assign`] and never adds one by itself. An assignment that is on
    /// its way when the worker counts would be granted twice: the shell subtracts what it sent and the worker had
    /// not received, so that the figure holds at the moment at which the pool hears it.
    Credits {
        /// Who.
        worker: WorkerId,
        /// Attempts it would take now.
        credits: u32,
    },
    /// It is alive, and so are these.
    Heartbeat {
        /// Who.
        worker: WorkerId,
        /// All that it holds, begun or not: what it does not name for long is lost.
        beats: Vec<Beat>,
    },
    /// No new work for it; what it holds may end.
    WorkerDraining {
        /// Who.
        worker: WorkerId,
        /// Who wants it: shown in the explanation.
        why: String,
    },
    /// It gets nothing and counts for nothing until readmitted (I14).
    WorkerQuarantined {
        /// Who.
        worker: WorkerId,
        /// Why.
        why: String,
    },
    /// An operator lets it work again (after a drain or a quarantine).
    WorkerReadmitted {
        /// Who.
        worker: WorkerId,
    },
    /// The runner marked it begun, at `at`: the clock of its timeout.
    AttemptBegun {
        /// Which.
        attempt: AttemptId,
        /// By whom.
        worker: WorkerId,
        /// When.
        at: Time,
    },
    /// A worker voted.
    AttemptVoted {
        /// On which attempt.
        attempt: AttemptId,
        /// Under which term it was assigned.
        epoch: Epoch,
        /// Who.
        worker: WorkerId,
        /// For what.
        vote: Vote,
    },
    /// An attempt met a fault.
    AttemptFaulted {
        /// Which.
        attempt: AttemptId,
        /// Under which term it was assigned.
        epoch: Epoch,
        /// Who.
        worker: WorkerId,
        /// What happened.
        fault: Fault,
        /// Whether its runner had marked it begun; otherwise it is handed out again and blames nobody.
        begun: bool,
        /// CPU time that it had used, in microseconds.
        cpu_us: u64,
    },
    /// A worker hands back an attempt that its runners had not begun: it has less room than it had granted. Costs no
    /// budget, and does not bar the worker from the run.
    AttemptReturned {
        /// Which.
        attempt: AttemptId,
        /// Under which term it was assigned.
        epoch: Epoch,
        /// Who.
        worker: WorkerId,
    },
    /// A voter that was asked delivered. The shell stores what came, however long that takes, and then answers with
    /// `Collected` or `CollectFailed`: it is not the voter that is waited for any more.
    Delivered {
        /// From which voter's attempt.
        attempt: AttemptId,
    },
    /// All blobs of the result are in the store (or go there with the final) and hash right.
    Collected {
        /// From which voter's attempt.
        attempt: AttemptId,
    },
    /// They are not to be had from this voter.
    CollectFailed {
        /// From which voter's attempt.
        attempt: AttemptId,
        /// Why.
        fault: Fault,
    },
    /// Somebody wants it stopped.
    Cancel {
        /// Which.
        run: RunId,
    },
    /// The artifact is there.
    ModuleReady {
        /// Whose.
        module: Digest,
    },
    /// Admission refused it; its waiting runs fail.
    ModuleRefused {
        /// Which.
        module: Digest,
    },
    /// An operator took it out of service.
    ModuleQuarantined {
        /// Which.
        module: Digest,
        /// Why.
        why: String,
    },
    /// Its trusted executions differed, in an earlier life or at another coordinator: nobody is blamed for a run of it
    /// until somebody readmits it.
    ModuleNondeterministic {
        /// Which.
        module: Digest,
    },
    /// An operator put it back.
    ModuleReadmitted {
        /// Which.
        module: Digest,
    },
    /// Whoever sends the events was away for so long (the process was stopped, the machine asleep) and heard nobody:
    /// that is not the silence of the workers.
    WasAway {
        /// In milliseconds.
        ms: u64,
    },
    /// `next_deadline()` has come.
    Tick,
}

/// Which write of a run the store committed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WriteKind {
    /// Its insertion: it is acknowledged now.
    Inserted,
    /// The row of an attempt: written before dispatch under `retry: never`, or when it faulted.
    Attempt(u32),
    /// Its final record.
    Finished,
}

/// Where an attempt stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AttemptState {
    /// Handed out; its runner has not begun it.
    Assigned,
    /// Its runner has begun it.
    Begun,
    /// Its worker voted.
    Voted {
        /// For which result.
        result: Digest,
        /// What the guest did, by this vote. `None` in records of before it was kept.
        outcome: Option<Outcome>,
        /// Whether the vote is for the result that won; `None` while undecided.
        won: Option<bool>,
    },
    /// It met a fault.
    Faulted {
        /// Which.
        fault: Fault,
    },
    /// It was stopped because nobody needs it any more.
    Canceled,
}

impl AttemptState {
    /// The name that JSON and the store use.
    pub fn name(&self) -> &'static str {
        match self {
            AttemptState::Assigned => "assigned",
            AttemptState::Begun => "begun",
            AttemptState::Voted { .. } => "voted",
            AttemptState::Faulted { .. } => "faulted",
            AttemptState::Canceled => "canceled",
        }
    }

    /// Whether a worker may still be executing it.
    pub fn is_live(&self) -> bool {
        matches!(self, AttemptState::Assigned | AttemptState::Begun)
    }
}

/// An attempt as it is stored and shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AttemptRecord {
    /// From 1.
    pub number: u32,
    /// Who held it.
    pub worker: WorkerId,
    /// Where it stands.
    pub state: AttemptState,
    /// When it was handed out.
    pub assigned_at: Time,
    /// When its runner began it.
    pub begun_at: Option<Time>,
    /// When it ended.
    pub ended_at: Option<Time>,
    /// CPU time used, in microseconds; while it is live, by its worker's last heartbeat.
    pub cpu_us: u64,
}
