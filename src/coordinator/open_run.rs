//! What the shell knows of a run that is not final: its spec, who waits for it, and what its voters reported.
//!
//! The rules are the core's; here is only what the core needs no knowledge of.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{broadcast, oneshot};

use super::service::{RunDetail, RunEvent, ServiceError};
use crate::core::{AttemptRecord, AttemptState, Effect, Final, RunView, Time};
use crate::digest::Digest;
use crate::id::{AttemptId, Epoch, WorkerId};
use crate::result::{ResultManifest, RunState, Verdict};
use crate::store::{CastVote, NewRun, Source, StoredRun};

/// Answers a caller that waits.
pub type Waiter = oneshot::Sender<Result<Arc<RunDetail>, ServiceError>>;

/// Live output kept for those who start watching late, in messages.
const LIVE_KEPT_MAX: usize = 64;
/// Fewer waiters than this are not looked through.
const WAITERS_CHECKED_MIN: usize = 16;
/// Messages that a slow watcher may lag behind.
const WATCH_QUEUE_MAX: usize = 256;

/// A result as its voters described it.
#[derive(Clone, Debug)]
pub struct Reported {
    /// The manifest, checked against its digest.
    pub manifest: ResultManifest,
    /// Its canonical bytes.
    pub canonical: Bytes,
    /// Outputs that came with a vote, checked against their digests.
    pub inline: BTreeMap<Digest, Bytes>,
}

impl Reported {
    /// The manifest, whose digest is `result`, and the outputs that are at hand.
    pub fn blobs(&self, result: Digest) -> impl Iterator<Item = (Digest, Bytes)> + '_ {
        let inline = self.inline.iter().map(|(digest, bytes)| (*digest, bytes.clone()));
        std::iter::once((result, self.canonical.clone())).chain(inline)
    }

    /// Whether nothing has to be asked for.
    pub fn is_whole(&self) -> bool {
        self.manifest.outputs().all(|output| self.inline.contains_key(&output.digest))
    }

    /// Outputs that have to be asked for.
    pub fn missing(&self) -> Vec<Digest> {
        let mut digests: Vec<Digest> = self
            .manifest
            .outputs()
            .map(|output| output.digest)
            .filter(|digest| !self.inline.contains_key(digest))
            .collect();
        digests.sort_unstable();
        digests.dedup();
        digests
    }
}

/// A run that is not final.
#[derive(Debug)]
pub struct OpenRun {
    /// The run as it was (or will be) inserted.
    pub new: Arc<NewRun>,
    /// Small inputs, sent along with assignments.
    pub inline: Arc<BTreeMap<Digest, Bytes>>,
    /// Held while `inline` is in memory.
    pub room: Option<tokio::sync::OwnedSemaphorePermit>,
    /// Whether callers may see it: its insertion is committed, or it needs none.
    pub visible: bool,
    /// Writes that the store has not answered.
    pub writes_in_flight: u32,
    /// What must not be told before they are.
    pub held: Vec<Effect>,
    /// Wait for the acknowledgement.
    pub acks: Vec<Waiter>,
    /// Wait for the final.
    pub finals: Vec<Waiter>,
    /// The finished record while its write is in flight.
    pub finished: Option<Arc<RunDetail>>,
    /// What goes into the cache when it is written.
    pub offer: Option<super::cache::Entry>,
    /// What was voted for, by result digest.
    pub reported: HashMap<Digest, Reported>,
    /// Which result each voter's attempt stands for.
    pub voted: HashMap<AttemptId, Digest>,
    /// What each voter stated, with its signature: what a receipt is made of.
    pub votes: Vec<CastVote>,
    /// Attempts whose blobs were asked for, with the worker that has to deliver them.
    pub collecting: HashMap<AttemptId, WorkerId>,
    /// Whether an attempt was ever handed out.
    pub has_begun: bool,
    /// Faults that no further attempt was handed out for yet.
    pub reruns_owed: u32,
    /// Attempts whose result did not win and whose manifest is kept.
    pub dissents: Vec<(AttemptId, Digest)>,
    /// Of a final that is verified anew: when it had ended.
    pub anew: Option<Time>,
    /// Whether agents are to show output as it comes.
    pub live: bool,
    /// Those who watch.
    pub watchers: Option<broadcast::Sender<RunEvent>>,
    /// Live output of the newest attempt so far, for those who come late.
    pub live_kept: Vec<RunEvent>,
}

impl OpenRun {
    /// A run that was just submitted or recovered.
    pub fn new(new: Arc<NewRun>, live: bool, visible: bool) -> OpenRun {
        let inline = Arc::new(new.blobs.iter().cloned().collect());
        OpenRun {
            new,
            inline,
            room: None,
            visible,
            writes_in_flight: 0,
            held: Vec::new(),
            acks: Vec::new(),
            finals: Vec::new(),
            finished: None,
            offer: None,
            reported: HashMap::new(),
            voted: HashMap::new(),
            votes: Vec::new(),
            collecting: HashMap::new(),
            has_begun: false,
            reruns_owed: 0,
            dissents: Vec::new(),
            anew: None,
            live,
            watchers: None,
            live_kept: Vec::new(),
        }
    }

    /// Whether it is written to the store.
    pub fn is_durable(&self) -> bool {
        self.new.policy.durable
    }

    /// The run as callers see it before it is final.
    pub fn detail(&self, view: RunView) -> RunDetail {
        let mut run = base(&self.new);
        run.state = view.state;
        run.verdict = view.verdict;
        run.attempts = view.attempts;
        run.explain = view.explain;
        RunDetail { run, stdout: None, stderr: None }
    }

    /// The run as callers see it once `last` is committed.
    pub fn final_detail(&self, last: &Final) -> RunDetail {
        let mut run = base(&self.new);
        run.state = last.state;
        run.reason = last.reason;
        run.revision = last.revision;
        run.outcome = last.outcome.clone();
        run.verdict = last.verdict.clone();
        run.result = last.result;
        run.attempts = last.attempts.clone();
        run.explain = Arc::clone(&last.explain);
        run.dissents = self.dissents.clone();
        run.source = last.shared_with.map(Source::Shared);
        run.finished_at = self.anew.or(Some(last.finished_at));
        run.corrected_at = self.anew.map(|_| last.finished_at);
        let reported = last.result.and_then(|result| self.reported.get(&result));
        let text = |output: Digest| {
            let empty = (output == Digest::EMPTY).then(Bytes::new);
            empty.or_else(|| reported.and_then(|reported| reported.inline.get(&output).cloned()))
        };
        run.manifest = reported.map(|reported| reported.manifest.clone());
        let stdout = run.manifest.as_ref().and_then(|manifest| text(manifest.stdout.digest));
        let stderr = run.manifest.as_ref().and_then(|manifest| text(manifest.stderr.digest));
        RunDetail { run, stdout, stderr }
    }

    /// Takes what a voter stated; one that says it again replaces it.
    pub fn cast(&mut self, vote: CastVote) {
        self.votes.retain(|other| other.number != vote.number);
        self.votes.push(vote);
    }

    /// The votes that counted for `last`, by attempt: those that won, and those that were compared with them and lost.
    pub fn counted(&self, last: &Final) -> Vec<CastVote> {
        let counted = last
            .attempts
            .iter()
            .filter(|record| matches!(record.state, AttemptState::Voted { won: Some(_), .. }));
        let weight =
            |number: u32| last.votes.iter().find(|vote| vote.number == number).map(|vote| vote.weight);
        let cast = |record: &AttemptRecord| {
            let vote = self.votes.iter().find(|vote| vote.number == record.number)?;
            Some(CastVote { weight: weight(vote.number), ..vote.clone() })
        };
        counted.filter_map(cast).collect()
    }

    /// The blobs that this voter's attempt was (or would be) asked for.
    pub fn wanted_from(&self, attempt: AttemptId) -> Vec<Digest> {
        let reported = self.voted.get(&attempt).and_then(|result| self.reported.get(result));
        reported.map(Reported::missing).unwrap_or_default()
    }

    /// The outputs of the result that are at hand, without those that are shown with the run itself.
    pub fn small_outputs(&self, last: &Final) -> BTreeMap<Digest, Bytes> {
        let Some(reported) = last.result.and_then(|result| self.reported.get(&result)) else {
            return BTreeMap::new();
        };
        let shown = [reported.manifest.stdout.digest, reported.manifest.stderr.digest];
        let others = reported.inline.iter().filter(|(digest, _)| !shown.contains(digest));
        others.map(|(digest, bytes)| (*digest, bytes.clone())).collect()
    }

    /// Takes small outputs that were collected from this voter's attempt: they go with the final.
    pub fn keep_collected(&mut self, attempt: AttemptId, small: Vec<(Digest, Bytes)>) {
        let result = self.voted.get(&attempt);
        if let Some(reported) = result.and_then(|result| self.reported.get_mut(result)) {
            reported.inline.extend(small);
        }
    }

    /// Starts watching: what is known of the newest attempt's output, and what comes.
    pub fn watch(&mut self) -> (Vec<RunEvent>, broadcast::Receiver<RunEvent>) {
        let sender = self.watchers.get_or_insert_with(|| broadcast::Sender::new(WATCH_QUEUE_MAX));
        (self.live_kept.clone(), sender.subscribe())
    }

    /// Whether anybody watches. When the last one has gone, no output is shown any more.
    pub fn is_watched(&mut self) -> bool {
        if self.watchers.as_ref().is_some_and(|watchers| watchers.receiver_count() == 0) {
            self.watchers = None;
            self.live = false;
            self.live_kept.clear();
        }
        self.watchers.is_some()
    }

    /// Tells those who watch.
    pub fn tell(&mut self, event: RunEvent) {
        if self.is_watched()
            && let Some(watchers) = &self.watchers
        {
            let _ = watchers.send(event);
        }
    }

    /// Takes a piece of live output.
    pub fn wrote(&mut self, attempt: u32, is_stderr: bool, offset: u64, bytes: Bytes) {
        let newer =
            |event: &RunEvent| matches!(event, RunEvent::Live { attempt: other, .. } if *other != attempt);
        if self.live_kept.first().is_some_and(newer) {
            self.live_kept.clear();
        }
        let event = RunEvent::Live { attempt, is_stderr, offset, bytes };
        if self.live_kept.len() < LIVE_KEPT_MAX {
            self.live_kept.push(event.clone());
        }
        self.tell(event);
    }
}

/// One more waits. Those that gave up meanwhile are dropped every now and then, so that a run that somebody asks for
/// again and again does not gather them until it ends.
pub fn join_waiters(waiters: &mut Vec<Waiter>, waiter: Waiter) {
    if waiters.len() >= WAITERS_CHECKED_MIN && waiters.len().is_power_of_two() {
        waiters.retain(|waiter| !waiter.is_closed());
    }
    waiters.push(waiter);
}

/// The fields of a run that its submission decides.
fn base(new: &NewRun) -> StoredRun {
    StoredRun {
        id: new.id,
        workspace: new.workspace,
        epoch: new.epoch,
        state: RunState::Queued,
        reason: None,
        spec: Arc::clone(&new.spec),
        run_key: new.run_key,
        policy: new.policy.clone(),
        revision: 0,
        outcome: None,
        verdict: Verdict::default(),
        result: None,
        manifest: None,
        attempts: Vec::new(),
        explain: Arc::default(),
        dissents: Vec::new(),
        rerun_of: new.rerun_of,
        created_at: new.created_at,
        finished_at: None,
        source: None,
        corrected_at: None,
        verification: None,
    }
}

/// A stored open run as a submission that was accepted in an earlier life.
pub fn recovered(stored: &StoredRun, epoch: Epoch) -> NewRun {
    NewRun {
        id: stored.id,
        workspace: stored.workspace,
        epoch,
        spec: Arc::clone(&stored.spec),
        run_key: stored.run_key,
        policy: stored.policy.clone(),
        created_at: stored.created_at,
        idempotency: None,
        rerun_of: stored.rerun_of,
        blobs: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::testing::new_run;

    #[test]
    fn waiters_that_gave_up_do_not_gather() {
        let mut waiters = Vec::new();
        let (patient, mut answer) = oneshot::channel();
        join_waiters(&mut waiters, patient);
        for _ in 0..10_000 {
            join_waiters(&mut waiters, oneshot::channel().0);
            assert!(waiters.len() <= WAITERS_CHECKED_MIN);
        }
        for waiter in waiters {
            let _ = waiter.send(Err(ServiceError::TakenOver));
        }
        assert!(answer.try_recv().is_ok());
    }

    #[test]
    fn output_is_shown_while_somebody_watches() {
        let mut open = OpenRun::new(Arc::new(new_run()), true, true);
        open.wrote(1, false, 0, Bytes::from_static(b"before"));
        assert!(open.live && open.live_kept.len() == 1);
        let (kept, watching) = open.watch();
        assert_eq!(kept.len(), 1);
        assert!(open.is_watched());
        drop(watching);
        assert!(!open.is_watched());
        assert!(!open.live && open.live_kept.is_empty());
    }
}
