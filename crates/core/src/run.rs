//! One run: where it stands, its attempts and votes, and what it wants next.
//!
//! Knows nothing of workers, queues or time beyond what it is told; `decide` and `settle` act on what it says.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::attempt::Attempt;
use super::credibility::{Opinion, Rule, Seat, Weighing, Why, leading, missing_odds_milli};
use super::explain::Log;
use super::kin::{Frame, Kin};
use super::placement::{Shape, leased_bytes};
use super::queue::Ticket;
use super::quorum::{Tally, tally};
use super::retry::{Spent, reason_of};
use super::{AttemptRecord, AttemptState, Class, CountedVote, Reverify, RunView, Submission, Time};
use vocabulary::digest::Digest;
use vocabulary::id::{AttemptId, Epoch, RunId, WorkerId, WorkspaceId};
use vocabulary::result::{FailReason, RunState, Verdict, VerdictKind};
use vocabulary::spec::{Placement, Policy, Retry, Verify};

/// The share in which results are verified anew: it is for the pool's sake, because a worker lied, so the workspace whose
/// results they are neither waits for its own runs longer nor may have fewer.
const THE_POOLS: WorkspaceId = WorkspaceId(u32::MAX);

/// Where a run stands.
///
/// ```text
///          ┌────────────────────────────────┐ cancel, budget, deadline, no quorum
///  Open ───┴─▶ Collecting ──────────────▶ Finishing ──committed──▶ Gone
///   ▲             │    a complete vote needs no collecting
///   └─────────────┘ nobody delivers, or a vote that carried the decision was discarded
///   ▲
///   └── Following ───────────────▶ Finishing   the leader's result; or it brings none
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
    /// Another run that is equal is executed for it.
    Following(RunId),
    /// To be forgotten.
    Gone,
}

/// A run that is not final.
pub(super) struct Run {
    pub id: RunId,
    pub epoch: Epoch,
    /// Whose share of the pool it uses.
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
    /// When it is asked whether its class has had no room for it for too long.
    pub idle_at: Option<Time>,
    /// Votes from which it turned away because nobody was there, or had room, to add to them.
    pub left: Vec<Frame>,
    /// It has waited for a worker that held none long enough.
    pub is_relaxed: bool,
    /// What decides with whom a vote is compared, as long as no vote says more.
    pub base: Kin,
    /// Which of a worker's classes decides with whom its vote is compared.
    pub kin: Kin,
    /// The class whose votes are compared.
    pub class: Option<Class>,
    /// How often it turned to the votes of another class.
    pub turns: u8,
    pub attempts: Vec<Attempt>,
    /// Positions of the attempts that voted, in the order of their votes.
    pub voted: Vec<usize>,
    pub log: Log,
    /// Whether its view changed in this step.
    pub is_changed: bool,
    /// Its draw in the audit lottery.
    pub lottery: u64,
    /// What is verified anew, if anything is.
    pub reverify: Option<Reverify>,
    /// Whether it counts against the part of the slots that verifying anew may hold; otherwise it may be parked.
    pub has_token: bool,
    /// Whether it waits for such a token.
    pub is_parked: bool,
    /// Arbiters that could execute it, when it was last looked at.
    pub arbiters: u32,
    /// Whether its module was called nondeterministic, when it was last looked at.
    pub is_nondeterministic: bool,
    /// Whether it wants one more attempt beside a slow one.
    pub wants_hedge: bool,
    /// Why one more voter was asked, as it was last explained.
    pub why: Option<Why>,
    /// What makes it equal to others.
    pub share: Option<Digest>,
}

impl Run {
    /// A run as it was submitted.
    pub(super) fn new(submission: Submission, module: u32, age: u64) -> Run {
        let labels = match &submission.policy.placement {
            Placement::Labels { labels } if !labels.is_empty() => Some(Arc::new(labels.clone())),
            Placement::Labels { .. } | Placement::Any => None,
        };
        let deadline_ms = submission.policy.deadline_ms;
        let base = Kin::of(submission.profile);
        let mut run = Run {
            id: submission.run,
            epoch: submission.epoch,
            workspace: if submission.reverify.is_some() { THE_POOLS } else { submission.workspace },
            module,
            memory_bytes: leased_bytes(submission.memory_bytes),
            policy: submission.policy,
            labels,
            age,
            deadline_at: deadline_ms.map(|ms| submission.submitted_at.plus_ms(ms)),
            is_recovered: submission.recovered,
            is_held: false,
            numbers_used: submission.reverify.as_ref().map_or(0, |reverify| reverify.attempts),
            phase: Phase::Open,
            ticket: None,
            agreed: None,
            waits_since: submission.submitted_at,
            fresh_until: None,
            idle_at: None,
            left: Vec::new(),
            is_relaxed: false,
            base,
            kin: base,
            class: None,
            turns: 0,
            attempts: submission.history.into_iter().map(Attempt::recovered).collect(),
            voted: Vec::new(),
            log: Log::of(submission.explained),
            is_changed: false,
            lottery: submission.lottery,
            reverify: submission.reverify,
            has_token: false,
            is_parked: false,
            arbiters: 0,
            is_nondeterministic: false,
            wants_hedge: false,
            why: None,
            share: submission.share,
        };
        run.unbind();
        run
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
        self.votes_in(self.frame())
    }

    /// The same in a frame.
    pub(super) fn votes_in(&self, frame: Option<Frame>) -> Vec<(WorkerId, Digest)> {
        let counted = self.voted.iter().filter_map(|position| {
            let ballot = self.compared_in(frame, *position)?;
            Some((self.attempts[*position].record.worker, ballot.result))
        });
        counted.collect()
    }

    /// What the votes say.
    pub(super) fn tally(&self) -> Tally {
        match self.rule() {
            None => tally(self.policy.verify, &self.votes()),
            Some(rule) => self.weighed(&rule).0,
        }
    }

    /// The rule by which its votes are weighed, unless they are only counted.
    pub(super) fn rule(&self) -> Option<Rule> {
        let reverify = self.reverify.as_ref().map(|reverify| reverify.result);
        let counted = reverify.is_some().then_some(REVERIFY_EPSILON_PPB);
        let epsilon_ppb = self.policy.verify.epsilon_ppb().or(counted)?;
        let (lottery, arbiters, is_nondeterministic) =
            (self.lottery, self.arbiters, self.is_nondeterministic);
        Some(Rule { epsilon_ppb, lottery, arbiters, reverify, is_nondeterministic })
    }

    /// Votes that count, with their weights, in the order in which they came.
    pub(super) fn opinions(&self) -> Vec<Opinion> {
        self.opinions_in(self.frame())
    }

    /// The same in a frame.
    pub(super) fn opinions_in(&self, frame: Option<Frame>) -> Vec<Opinion> {
        let counted = self.voted.iter().filter_map(|position| {
            let (attempt, ballot) = (&self.attempts[*position], self.compared_in(frame, *position)?);
            Some(Opinion { worker: attempt.record.worker, result: ballot.result, weight: attempt.weight })
        });
        counted.collect()
    }

    /// The votes, and those that are awaited as if they went to the leading result.
    fn expected(&self, mut votes: Vec<Opinion>) -> Vec<Opinion> {
        let result = leading(&votes).map_or(Digest::EMPTY, |(result, _)| result);
        let live = self.attempts.iter().filter(|attempt| attempt.is_live());
        votes.extend(live.map(|attempt| Opinion {
            worker: attempt.record.worker,
            result,
            weight: attempt.weight,
        }));
        votes
    }

    /// What the weighed votes say, and why more are wanted. As long as those that are awaited could decide it, nobody
    /// else is asked.
    pub(super) fn weighed(&self, rule: &Rule) -> (Tally, Option<Why>) {
        let votes = self.opinions();
        let (live, all) = (self.live(), votes.len() as u32);
        match self.weigh(rule, &votes) {
            Weighing::Decided { result } => {
                let lost = votes.iter().filter(|vote| vote.result != result);
                let dissenters: Vec<WorkerId> = lost.map(|vote| vote.worker).collect();
                (Tally::Decided { result, votes: all - dissenters.len() as u32, dissenters }, None)
            }
            Weighing::Nondeterministic => (Tally::Nondeterministic, None),
            Weighing::Disputed if live == 0 => (Tally::Disputed, None),
            Weighing::Disputed => (Tally::Open { more: live }, None),
            Weighing::Wanting { seat, why } if live == 0 => (wanted(seat, 1), Some(why)),
            Weighing::Wanting { .. } => {
                let is_arbiter = |attempt: &&Attempt| attempt.is_live() && attempt.weight.is_arbiter;
                let arbiters = self.attempts.iter().filter(is_arbiter).count() as u32;
                match self.weigh(rule, &self.expected(votes)) {
                    Weighing::Wanting { seat: Seat::Arbiter, .. } if arbiters >= self.arbiters => {
                        (Tally::Open { more: live }, None)
                    }
                    Weighing::Wanting { seat, why } => (wanted(seat, live + 1), Some(why)),
                    _ => (Tally::Open { more: live }, None),
                }
            }
        }
    }

    /// The odds in thousandths that the next voter should have at least, so that it decides; 0 if any would do.
    pub(super) fn missing_odds_milli(&self) -> u128 {
        let Some(rule) = self.rule() else { return 0 };
        let votes = self.expected(self.opinions());
        votes.first().map_or(0, |first| missing_odds_milli(&votes, first.result, rule.epsilon_ppb))
    }

    /// The votes as they are recorded with a final.
    pub(super) fn counted(&self) -> Vec<CountedVote> {
        if self.rule().is_none() {
            return Vec::new();
        }
        let counted = self.voted.iter().filter_map(|position| {
            let (attempt, ballot) = (&self.attempts[*position], self.compared(*position)?);
            let (number, worker) = (attempt.record.number, attempt.record.worker);
            Some(CountedVote { number, worker, result: ballot.result, weight: attempt.weight })
        });
        counted.collect()
    }

    /// What its faults cost so far.
    pub(super) fn spent(&self) -> Spent {
        Spent::by(&self.attempts)
    }

    /// Attempts to add when the votes ask for `more`. One at a time once it has crashed; and never so many at once that
    /// it could kill more than `crashes_max` runners if all of them crashed (I10).
    pub(super) fn missing(&self, more: u32, crashes_max: u32) -> u32 {
        let (live, crashes) = (self.live(), self.spent().crashes);
        if self.reverify.is_some() {
            // one at a time, so that the part of the slots that this may hold is kept to the attempt
            return if live == 0 { more.min(1) } else { 0 };
        }
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
        self.policy.verify != Verify::Once || self.reverify.is_some()
    }

    /// Workers that may get no further attempt.
    pub(super) fn seated(&self) -> Vec<WorkerId> {
        sorted(self.attempts.iter().filter(|attempt| self.is_seated(attempt)))
    }

    /// Workers that may not be asked for a seat: an arbiter may be asked for its own once more, to see whether it agrees
    /// with itself.
    fn barred(&self, seat: Seat) -> Vec<WorkerId> {
        match seat {
            Seat::Voter => self.seated(),
            Seat::Arbiter => sorted(self.attempts.iter().filter(|attempt| {
                attempt.is_live() || self.has_voted_elsewhere(self.frame(), attempt.record.worker)
            })),
        }
    }

    /// Workers that held an attempt and did not hand it back.
    pub(super) fn held(&self) -> Vec<WorkerId> {
        let mut held = sorted(self.attempts.iter().filter(|attempt| !attempt.is_returned));
        if let Some(reverify) = &self.reverify {
            // whoever voted for what is doubted is asked last
            held.extend(reverify.voters.iter().map(|voter| voter.worker));
            held.sort_unstable();
            held.dedup();
        }
        held
    }

    /// What it asks of a worker.
    pub(super) fn shape(&self, missing: u32, seat: Seat) -> Shape {
        let seated = self.barred(seat);
        let mut avoided = if self.is_relaxed { Vec::new() } else { self.held() };
        avoided.retain(|worker| !seated.contains(worker));
        Shape {
            labels: self.labels.clone(),
            memory_bytes: self.memory_bytes,
            voters: if self.compares() { self.policy.verify.peers().max(2) } else { 1 },
            epsilon_ppb: self.rule().map(|rule| rule.epsilon_ppb),
            seat,
            missing: u8::try_from(missing).unwrap_or(u8::MAX),
            kin: self.kin,
            class: self.class,
            seated,
            avoided,
        }
    }

    /// Whether at most one attempt of it may ever be tried per voter.
    pub(super) fn is_tried_once(&self) -> bool {
        // what is verified anew was executed already
        self.policy.retry == Retry::Never && self.reverify.is_none()
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
                let is_alone = votes == 1 && dissenters.is_empty();
                let kind = match self.policy.verify {
                    _ if self.reverify.is_some() => VerdictKind::Agreed,
                    Verify::Once => VerdictKind::Unchecked,
                    Verify::Standard | Verify::High if is_alone => VerdictKind::Vouched,
                    Verify::Quorum { .. } | Verify::Standard | Verify::High => VerdictKind::Agreed,
                };
                Verdict { kind, votes, dissenters }
            }
            Tally::Disputed => Verdict { kind: VerdictKind::Disputed, votes: all, dissenters: vec![] },
            Tally::Nondeterministic => {
                Verdict { kind: VerdictKind::Nondeterministic, votes: all, dissenters: vec![] }
            }
            Tally::Open { .. } | Tally::Arbiter => {
                Verdict { kind: VerdictKind::Pending, votes: all, dissenters: vec![] }
            }
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

/// The error that verifying anew allows for results of policies that only count, in parts per billion.
const REVERIFY_EPSILON_PPB: u64 = 1_000_000;

fn wanted(seat: Seat, more: u32) -> Tally {
    match seat {
        Seat::Voter => Tally::Open { more },
        Seat::Arbiter => Tally::Arbiter,
    }
}

fn sorted<'a>(attempts: impl Iterator<Item = &'a Attempt>) -> Vec<WorkerId> {
    let mut workers: Vec<WorkerId> = attempts.map(|attempt| attempt.record.worker).collect();
    workers.sort_unstable();
    workers.dedup();
    workers
}
