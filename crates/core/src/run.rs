//! One run: where it stands, its attempts and votes, and what it wants next.
//!
//! Knows nothing of workers, queues or time beyond what it is told; `decide` and `settle` act on what it says.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::attempt::Attempt;
use super::explain::Log;
use super::placement::{Shape, leased_bytes};
use super::queue::Ticket;
use super::quorum::{Tally, tally};
use super::retry::{Spent, reason_of};
use super::{AttemptRecord, AttemptState, Class, RunView, Submission, Time};
use vocabulary::digest::Digest;
use vocabulary::id::{AttemptId, Epoch, RunId, WorkerId, WorkspaceId};
use vocabulary::result::{FailReason, RunState, Verdict, VerdictKind};
use vocabulary::spec::{Placement, Policy, Retry, Verify};

/// Where a run stands.
///
/// ```text
///          ┌────────────────────────────────┐ cancel, budget, deadline, no quorum
///  Open ───┴─▶ Collecting ──────────────▶ Finishing ──committed──▶ Gone
///   ▲             │    a complete vote needs no collecting
///   └─────────────┘ nobody delivers, or a vote that carried the decision was discarded
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// Attempts and votes are awaited.
    Open,
    /// The votes decided; a voter was asked for the blobs.
    Collecting {
        /// What won.
        result: Digest,
        /// Number of the attempt whose worker was asked.
        from: u32,
        /// When the next one is asked; `None` once this one has delivered.
        until: Option<Time>,
    },
    /// The final is with the store, or was refused by it: nothing changes any more (I7).
    Finishing,
    /// To be forgotten.
    Gone,
}

/// A run that is not final.
pub(super) struct Run {
    pub id: RunId,
    pub epoch: Epoch,
    pub workspace: WorkspaceId,
    /// Its module, by number.
    pub module: u32,
    /// Memory that each attempt leases, in bytes.
    pub memory_bytes: u64,
    pub policy: Policy,
    pub labels: Option<Arc<BTreeMap<String, String>>>,
    /// The order of submission.
    pub age: u64,
    pub deadline_at: Option<Time>,
    pub is_recovered: bool,
    /// Whether it is not handed out because the grace after a start lasts.
    pub is_held: bool,
    /// Numbers up to this name attempts of earlier lives.
    pub numbers_used: u32,
    pub phase: Phase,
    /// Where it waits for a worker, if it wants one.
    pub ticket: Option<Ticket>,
    /// What won, once the final rests on a comparison: later votes for anything else are evidence.
    pub agreed: Option<Digest>,
    /// Since when it waits in its present shape.
    pub waits_since: Time,
    /// Until when a rerun waits for a worker that held no attempt.
    pub fresh_until: Option<Time>,
    /// It has waited for that long enough.
    pub is_relaxed: bool,
    /// The class whose votes are compared.
    pub class: Option<Class>,
    pub attempts: Vec<Attempt>,
    /// Positions of the attempts that voted, in the order of their votes.
    pub voted: Vec<usize>,
    pub log: Log,
    /// Whether its view changed in this step.
    pub is_changed: bool,
}

impl Run {
    /// A run as it was submitted.
    pub(super) fn new(submission: Submission, module: u32, age: u64) -> Run {
        let labels = match &submission.policy.placement {
            Placement::Labels { labels } if !labels.is_empty() => Some(Arc::new(labels.clone())),
            Placement::Labels { .. } | Placement::Any => None,
        };
        let deadline_ms = submission.policy.deadline_ms;
        Run {
            id: submission.run,
            epoch: submission.epoch,
            workspace: submission.workspace,
            module,
            memory_bytes: leased_bytes(submission.memory_bytes),
            policy: submission.policy,
            labels,
            age,
            deadline_at: deadline_ms.map(|ms| submission.submitted_at.plus_ms(ms)),
            is_recovered: submission.recovered,
            is_held: false,
            numbers_used: 0,
            phase: Phase::Open,
            ticket: None,
            agreed: None,
            waits_since: submission.submitted_at,
            fresh_until: None,
            is_relaxed: false,
            class: None,
            attempts: submission.history.into_iter().map(Attempt::recovered).collect(),
            voted: Vec::new(),
            log: Log::of(submission.explained),
            is_changed: false,
        }
    }

    /// The name of one of its attempts.
    pub(super) fn attempt_id(&self, number: u32) -> AttemptId {
        AttemptId { run: self.id, number }
    }

    /// Position of the attempt with this number.
    pub(super) fn position(&self, number: u32) -> Option<usize> {
        self.attempts.iter().position(|attempt| attempt.record.number == number)
    }

    /// A number that no attempt has.
    pub(super) fn next_number(&self) -> u32 {
        let numbers = self.attempts.iter().map(|attempt| attempt.record.number);
        numbers.max().unwrap_or(0).max(self.numbers_used) + 1
    }

    /// Whether nothing can change any more.
    pub(super) fn is_settled(&self) -> bool {
        matches!(self.phase, Phase::Finishing | Phase::Gone)
    }

    /// Attempts that workers hold.
    pub(super) fn live(&self) -> u32 {
        self.attempts.iter().filter(|attempt| attempt.is_live()).count() as u32
    }

    /// Votes that count, in the order in which they came.
    pub(super) fn votes(&self) -> Vec<(WorkerId, Digest)> {
        let counted = self.voted.iter().filter_map(|position| {
            let attempt = &self.attempts[*position];
            let ballot = attempt.ballot.as_ref().filter(|ballot| ballot.counts)?;
            Some((attempt.record.worker, ballot.result))
        });
        counted.collect()
    }

    /// What the votes say.
    pub(super) fn tally(&self) -> Tally {
        tally(self.policy.verify, &self.votes())
    }

    /// What its faults cost so far.
    pub(super) fn spent(&self) -> Spent {
        Spent::by(&self.attempts)
    }

    /// Attempts to add when the votes ask for `more`. One at a time once it has crashed; and never so many at once that
    /// it could kill more than `crashes_max` runners if all of them crashed (I10).
    pub(super) fn missing(&self, more: u32, crashes_max: u32) -> u32 {
        let (live, crashes) = (self.live(), self.spent().crashes);
        if live == 0 {
            return if crashes > 0 { more.min(1) } else { more.min(crashes_max.max(1)) };
        }
        if crashes > 0 { 0 } else { more.saturating_sub(live).min(crashes_max.saturating_sub(live)) }
    }

    /// Whether a worker executes it, or voted on it in a way that bars it from voting again (I4, I5).
    pub(super) fn is_seated(&self, attempt: &Attempt) -> bool {
        attempt.is_live() || (attempt.ballot.is_some() && self.compares())
    }

    /// Whether its policy compares votes.
    pub(super) fn compares(&self) -> bool {
        match self.policy.verify {
            Verify::Once => false,
            Verify::Quorum { .. } => true,
        }
    }

    /// Workers that may get no further attempt.
    pub(super) fn seated(&self) -> Vec<WorkerId> {
        sorted(self.attempts.iter().filter(|attempt| self.is_seated(attempt)))
    }

    /// Workers that held an attempt and did not hand it back.
    pub(super) fn held(&self) -> Vec<WorkerId> {
        sorted(self.attempts.iter().filter(|attempt| !attempt.is_returned))
    }

    /// What it asks of a worker.
    pub(super) fn shape(&self, missing: u32) -> Shape {
        let seated = self.seated();
        let mut avoided = if self.is_relaxed { Vec::new() } else { self.held() };
        avoided.retain(|worker| !seated.contains(worker));
        Shape {
            labels: self.labels.clone(),
            memory_bytes: self.memory_bytes,
            voters: self.policy.verify.voters(),
            missing: u8::try_from(missing).unwrap_or(u8::MAX),
            class: self.class,
            seated,
            avoided,
        }
    }

    /// Whether at most one attempt of it may ever be tried per voter.
    pub(super) fn is_tried_once(&self) -> bool {
        self.policy.retry == Retry::Never
    }

    /// Under `retry: never`, why one more attempt would be a second try of the same voter's place.
    pub(super) fn second_try(&self) -> Option<(FailReason, String)> {
        let is_good = |attempt: &&Attempt| {
            let ballot = attempt.ballot.as_ref();
            attempt.is_live() || ballot.is_some_and(|ballot| ballot.counts && ballot.delivers)
        };
        let spoiled = self.attempts.iter().find(|attempt| attempt.sent && !is_good(attempt))?;
        let number = spoiled.record.number;
        let (reason, what) = match &spoiled.record.state {
            AttemptState::Faulted { fault } => (reason_of(fault), format!("faulted: {fault}")),
            _ => (FailReason::Lost, "was taken from its worker".to_owned()),
        };
        let why = format!("the policy allows no second attempt, and attempt {number} {what}");
        self.is_tried_once().then_some((reason, why))
    }

    /// What the votes say, for people.
    pub(super) fn verdict(&self) -> Verdict {
        let votes = self.votes();
        let all = votes.len() as u32;
        match self.tally() {
            Tally::Decided { votes, dissenters, .. } => {
                let kind = match self.policy.verify {
                    Verify::Once => VerdictKind::Unchecked,
                    Verify::Quorum { .. } => VerdictKind::Agreed,
                };
                Verdict { kind, votes, dissenters }
            }
            Tally::Disputed => Verdict { kind: VerdictKind::Disputed, votes: all, dissenters: vec![] },
            Tally::Open { .. } => Verdict { kind: VerdictKind::Pending, votes: all, dissenters: vec![] },
        }
    }

    /// The attempts as they are stored.
    pub(super) fn records(&self) -> Vec<AttemptRecord> {
        // Under `retry: never` the row of a returned one was written before it was handed out, and has to end.
        let shown = self.attempts.iter().filter(|attempt| !attempt.is_returned || self.is_tried_once());
        shown.map(|attempt| attempt.record.clone()).collect()
    }

    /// As others may see it.
    pub(super) fn view(&self) -> RunView {
        let mut attempts = self.records();
        for record in &mut attempts {
            // nobody learns who won before the final is there
            if let AttemptState::Voted { won, .. } = &mut record.state {
                *won = None;
            }
        }
        let state = if attempts.is_empty() { RunState::Queued } else { RunState::Running };
        RunView { state, verdict: self.verdict(), attempts, explain: self.log.all() }
    }
}

fn sorted<'a>(attempts: impl Iterator<Item = &'a Attempt>) -> Vec<WorkerId> {
    let mut workers: Vec<WorkerId> = attempts.map(|attempt| attempt.record.worker).collect();
    workers.sort_unstable();
    workers.dedup();
    workers
}
