//! What rested on a worker that was taken out is verified anew: finds it, has it verified, and keeps what came of it.
//!
//! The intention is a row of the store, written with the quarantine; everything here goes on from what is stored, so that a
//! restart costs what was being verified and nothing else. First the finals of all such workers are looked at, page by page;
//! then those that would not have been without them are verified, the weakest first, a bounded number at once. How much of
//! the pool that may take is the core's business, as is every verdict.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use super::clock::Clock;
use super::metrics::Metrics;
use super::owner::Command;
use crate::core::{
    AttemptState, Class, Dissent, Explained, PastVote, PastVoter, Reverify, Time, Weight, day_of,
    is_decisive, what_is_left_ppb,
};
use crate::digest::Digest;
use crate::id::{RunId, WorkerId};
use crate::result::FailReason;
use crate::spec::{Profile, RunSpec, Verify};
use crate::store::{
    CastVote, Concluded, DueSuspect, Looked, ModuleState, Repair, Reverdict, Reverification, Store,
    StoreError, StoredRun, SupportedFinal, Suspicion, WorkerRow,
};

/// Finals that are read at once.
const PAGE: u32 = 100;
/// Finals that are with the owner at once; the core lets fewer of them have workers.
const AT_ONCE: usize = 32;
/// How often a final is tried that nobody can tell.
const TRIES_MAX: u32 = 5;
/// After the first try in vain; each further pause is four times as long.
const PAUSE_MS: u64 = 60_000;
/// Without a word somebody may be due all the same: a pause that is over, a worker that joined.
const PERIOD: Duration = Duration::from_secs(15);
/// After the store could not do what it was asked.
const FAILED_PAUSE: Duration = Duration::from_secs(1);

/// A final that is to be verified anew, as the owner takes it.
#[derive(Debug)]
pub struct Anew {
    /// The run as it is.
    pub run: StoredRun,
    /// What the core has to know of it.
    pub reverify: Reverify,
}

/// What became of one.
#[derive(Debug)]
pub enum Ended {
    /// It was replaced, and that is stored.
    Corrected(RunId),
    /// The owner could not take it, or what came of it was not taken: it is tried again.
    Dropped(RunId),
    /// It was not replaced.
    Stays(Box<Stays>),
}

/// A final that stays as it is.
#[derive(Debug)]
pub struct Stays {
    /// Which.
    pub run: RunId,
    /// Of which revision.
    pub revision: u32,
    /// What was found; never [`Reverdict::Corrected`].
    pub verdict: Reverdict,
    /// Why nobody could tell, if so.
    pub reason: Option<FailReason>,
    /// The decisions on the way.
    pub explain: Arc<Vec<Explained>>,
    /// The votes that named what is known, if it was confirmed.
    pub confirmations: Vec<CastVote>,
    /// Attempts up to this number have been.
    pub numbers: u32,
}

/// How others reach the repairer.
#[derive(Clone, Debug)]
pub struct Handle {
    wake: Arc<Notify>,
    ended: mpsc::UnboundedSender<Ended>,
}

impl Handle {
    /// A way to reach one, and what it hears.
    pub fn new() -> (Handle, mpsc::UnboundedReceiver<Ended>) {
        let (ended, hears) = mpsc::unbounded_channel();
        (Handle { wake: Arc::default(), ended }, hears)
    }

    /// Somebody was quarantined, or a final was written that rests on somebody who is.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Waits until somebody wakes it.
    #[cfg(test)]
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// One that was handed to the owner has ended. At most [`AT_ONCE`] are on their way.
    pub fn tell(&self, ended: Ended) {
        // nobody listens any more when the process ends
        let _ = self.ended.send(ended);
    }
}

/// See the module.
pub struct Repairer {
    /// Rows.
    pub store: Arc<dyn Store>,
    /// The owner's queue.
    pub commands: mpsc::UnboundedSender<Command>,
    /// Time.
    pub clock: Clock,
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// How it is reached.
    pub handle: Handle,
}

impl Repairer {
    /// Runs until it is aborted.
    pub async fn run(self, mut ended: mpsc::UnboundedReceiver<Ended>) {
        // with how often each was tried before
        let mut open: BTreeMap<RunId, u32> = BTreeMap::new();
        loop {
            if let Err(error) = self.round(&mut open).await {
                if matches!(error, StoreError::Closed) {
                    return;
                }
                tracing::warn!(%error, "repair waits for the store");
                tokio::time::sleep(FAILED_PAUSE).await;
            }
            // cancel safe: `recv` loses nothing, a permit of `notified` stays for the next one
            let heard = tokio::select! {
                heard = ended.recv() => heard,
                () = self.handle.wake.notified() => None,
                () = tokio::time::sleep(PERIOD) => None,
            };
            let mut heard: Vec<Ended> = heard.into_iter().collect();
            while let Ok(more) = ended.try_recv() {
                heard.push(more);
            }
            for one in heard {
                self.settle(&mut open, one).await;
            }
        }
    }

    /// Looks at what was not looked at, then hands out what is due.
    async fn round(&self, open: &mut BTreeMap<RunId, u32>) -> Result<(), StoreError> {
        let repairs = self.store.repairs().await?;
        if repairs.is_empty() {
            return Ok(());
        }
        for repair in repairs.iter().filter(|repair| repair.lifted_at.is_none()) {
            self.look(repair, &repairs).await?;
        }
        let waits = self.store.repairs().await?.iter().any(|repair| repair.pending > 0);
        if !waits || open.len() >= AT_ONCE {
            return Ok(());
        }
        // those that are open are due as well, as far as the store knows
        for due in self.store.due_suspects(self.clock.now(), AT_ONCE as u32 * 2).await? {
            if open.len() < AT_ONCE && !open.contains_key(&due.run) {
                self.begin(open, due).await?;
            }
        }
        Ok(())
    }

    /// Looks at the finals of a worker, from where that ended on.
    async fn look(&self, repair: &Repair, repairs: &[Repair]) -> Result<(), StoreError> {
        let mut cursor = repair.cursor;
        let mut told = repair.is_complete;
        loop {
            let page = self.store.supported_finals(repair.worker, cursor, PAGE).await?;
            if page.is_empty() && told {
                return Ok(());
            }
            let workers = Workers::new(self.store.workers().await?, repairs, self.clock.now());
            let suspects: Vec<Suspicion> =
                page.iter().filter_map(|found| workers.suspects(repair.worker, found)).collect();
            cursor = page.last().map_or(cursor, |last| last.seq);
            let is_complete = page.len() < PAGE as usize;
            let (count, found) = (page.len() as u64, suspects.len());
            let looked = Looked { count, cursor, is_complete, suspects };
            if !self.store.put_suspects(repair.worker, looked).await? {
                return Ok(());
            }
            self.metrics.reverifications_queued.inc_by(found as u64);
            if found > 0 {
                tracing::warn!(worker = %repair.worker, looked_at = count, found, "finals that rest on it are verified anew");
            }
            told = is_complete;
            if is_complete {
                return Ok(());
            }
        }
    }

    /// Hands one to the owner, if it can be verified at all.
    async fn begin(&self, open: &mut BTreeMap<RunId, u32>, due: DueSuspect) -> Result<(), StoreError> {
        let DueSuspect { run: id, tries, numbers } = due;
        if tries >= 2 * TRIES_MAX {
            return self.give_up(id, 0, Reverdict::Undecided, "it was tried too often").await;
        }
        let Some(run) = self.store.run(id).await? else {
            return self.give_up(id, 0, Reverdict::NotVerifiable, "the run is not kept any more").await;
        };
        let Some(result) = run.result else {
            return self.give_up(id, run.revision, Reverdict::NotVerifiable, "it has no result").await;
        };
        let module = self.store.module(run.spec.module).await?;
        let why = match &module {
            None => Some("its module was deleted"),
            Some(module) if module.state == ModuleState::Refused => Some("its module was refused"),
            Some(module) if module.quarantined.is_some() => Some("its module is quarantined"),
            Some(_) => None,
        };
        if let Some(why) = why {
            return self.give_up(id, run.revision, Reverdict::NotVerifiable, why).await;
        }
        if module.is_some_and(|module| module.state != ModuleState::Ready) {
            // uploaded once more, and not compiled yet
            let due_at = self.clock.now().plus_ms(PAUSE_MS);
            return self.store.conclude_suspect(id, Concluded::Again { due_at, numbers }).await;
        }
        if self.store.missing_blob(run.spec.inputs().collect()).await?.is_some() {
            return self.give_up(id, run.revision, Reverdict::NotVerifiable, "an input is gone").await;
        }
        let votes = self.store.votes(id, run.revision).await.unwrap_or_default().unwrap_or_default();
        let workers = self.store.workers().await?;
        let out = workers.iter().filter(|row| row.quarantined.is_some()).map(|row| row.id).collect();
        // who confirmed what turns out wrong named it too
        let confirmations = self.store.confirmations(id).await?;
        let [votes, confirmations] =
            [votes, confirmations].map(|votes| in_evidence(&run.spec, votes, &workers));
        let reverify = reverify(&run, result, (&votes, &confirmations), &out, numbers);
        tracing::info!(run = %id, revision = run.revision, tries, "a final is verified anew");
        open.insert(id, tries);
        let _ = self.commands.send(Command::VerifyAnew(Box::new(Anew { run, reverify })));
        Ok(())
    }

    /// Keeps that nothing can be said of a final.
    async fn give_up(
        &self,
        run: RunId,
        revision: u32,
        verdict: Reverdict,
        why: &str,
    ) -> Result<(), StoreError> {
        let at = self.clock.now();
        tracing::warn!(%run, verdict = verdict.name(), why, "a final cannot be verified anew");
        let text =
            format!("a worker on which it rested is not trusted any more; it cannot be verified anew: {why}");
        let explain = Arc::new(vec![Explained::kept(at, text)]);
        let found = Reverification { at, verdict, explain };
        let concluded = Concluded::Done { revision, found, confirmations: Vec::new() };
        self.store.conclude_suspect(run, concluded).await?;
        self.metrics.reverified(verdict.name());
        Ok(())
    }

    /// Keeps what became of one. What the store does not take is found out again, by the next try.
    async fn settle(&self, open: &mut BTreeMap<RunId, u32>, ended: Ended) {
        let (run, kept) = match ended {
            // the correction's own write has counted it
            Ended::Corrected(run) => (run, Ok(())),
            Ended::Dropped(run) => {
                let numbers = 0;
                let due_at = self.clock.now().plus_ms(PAUSE_MS);
                (run, self.store.conclude_suspect(run, Concluded::Again { due_at, numbers }).await)
            }
            Ended::Stays(stays) => {
                let run = stays.run;
                let tries = open.get(&run).copied().unwrap_or(0);
                (run, self.stays(*stays, tries).await)
            }
        };
        open.remove(&run);
        if let Err(error) = kept {
            tracing::warn!(%error, %run, "what verifying it anew said was not stored; it will be tried again");
        }
    }

    async fn stays(&self, stays: Stays, tries: u32) -> Result<(), StoreError> {
        let Stays { run, revision, verdict, reason, explain, confirmations, numbers } = stays;
        if verdict == Reverdict::Undecided {
            let is_gone = matches!(reason, Some(FailReason::Poisoned | FailReason::ModuleRefused));
            if is_gone {
                return self.give_up(run, revision, Reverdict::NotVerifiable, "its module may not run").await;
            }
            if tries + 1 < TRIES_MAX {
                let pause_ms = PAUSE_MS << (2 * tries.min(8));
                let due_at = self.clock.now().plus_ms(pause_ms);
                tracing::info!(%run, tries, pause_ms, "nobody could tell whether a final is right; it is tried again");
                return self.store.conclude_suspect(run, Concluded::Again { due_at, numbers }).await;
            }
        }
        tracing::info!(%run, revision, verdict = verdict.name(), "a final was verified anew");
        let found = Reverification { at: self.clock.now(), verdict, explain };
        self.store.conclude_suspect(run, Concluded::Done { revision, found, confirmations }).await?;
        self.metrics.reverified(verdict.name());
        Ok(())
    }
}

/// The class to which the evidence of a vote belongs: the one that its worker has for `det-1`. A vote on a run of the other
/// profile names another class; then it is the one that the worker had last.
fn evidence_class(profile: Profile, vote: &CastVote, row: Option<&WorkerRow>) -> Class {
    match profile {
        Profile::Det1 => vote.class,
        Profile::Det1Portable => {
            let session = row.and_then(|row| row.session.as_ref());
            Class(session.map_or(Digest::EMPTY, |session| session.facts.class))
        }
    }
}

/// Votes with the classes to which their evidence belongs.
fn in_evidence(spec: &RunSpec, votes: Vec<CastVote>, workers: &[WorkerRow]) -> Vec<CastVote> {
    let row = |worker| workers.iter().find(|row| row.id == worker);
    let named = |vote: CastVote| {
        let class = evidence_class(spec.profile, &vote, row(vote.worker));
        CastVote { class, ..vote }
    };
    votes.into_iter().map(named).collect()
}

/// What the core has to know of a final that is verified anew.
fn reverify(
    run: &StoredRun,
    result: Digest,
    (votes, confirmations): (&[CastVote], &[CastVote]),
    out: &BTreeSet<WorkerId>,
    numbers: u32,
) -> Reverify {
    let named = |number: u32| votes.iter().find(|vote| vote.number == number);
    let is_arbiter = |vote: &CastVote| vote.weight.is_some_and(|weight| weight.is_arbiter);
    let confirmed = confirmations.iter().filter(|vote| !is_arbiter(vote));
    let mut voters: BTreeMap<WorkerId, Option<Class>> =
        confirmed.map(|vote| (vote.worker, Some(vote.class))).collect();
    let mut dissents = Vec::new();
    for attempt in &run.attempts {
        let (number, worker) = (attempt.number, attempt.worker);
        match attempt.state {
            AttemptState::Voted { won: Some(true), .. } if !named(number).is_some_and(is_arbiter) => {
                voters.insert(worker, named(number).map(|vote| vote.class));
            }
            AttemptState::Voted { won: Some(false), result, .. } => {
                // of votes that were not kept nobody knows as what they were executed
                let class = named(number).map(|vote| vote.class);
                dissents.extend(class.map(|class| Dissent { number, worker, class, result }));
            }
            _ => {}
        }
    }
    let attempts = run.attempts.iter().map(|attempt| attempt.number).max().unwrap_or(0).max(numbers);
    let voter = |(worker, class)| PastVoter { worker, class, is_out: out.contains(&worker) };
    let voters = voters.into_iter().map(voter).collect();
    Reverify { result, revision: run.revision, voters, attempts, dissents }
}

/// Who counts for what, as of now.
struct Workers {
    rows: BTreeMap<WorkerId, WorkerRow>,
    /// Those that are quarantined.
    out: BTreeSet<WorkerId>,
    /// Up to when the votes count for nothing of workers that an operator let in again as newcomers.
    out_until: BTreeMap<WorkerId, Time>,
    now: Time,
}

impl Workers {
    fn new(rows: Vec<WorkerRow>, repairs: &[Repair], now: Time) -> Workers {
        let out = rows.iter().filter(|row| row.quarantined.is_some()).map(|row| row.id).collect();
        let until = repairs.iter().filter(|repair| repair.lifted_at.is_none());
        Workers {
            out,
            out_until: until.map(|repair| (repair.worker, repair.since)).collect(),
            rows: rows.into_iter().map(|row| (row.id, row)).collect(),
            now,
        }
    }

    /// Whether a vote that this worker gave at that time counts for nothing.
    fn is_out(&self, worker: WorkerId, at: Time) -> bool {
        self.out.contains(&worker) || self.out_until.get(&worker).is_some_and(|until| at <= *until)
    }

    /// What a vote weighs: as much as then, unless its worker is trusted less now.
    fn past(
        &self,
        profile: Profile,
        (worker, result): (WorkerId, Digest),
        vote: Option<&CastVote>,
    ) -> PastVote {
        let row = self.rows.get(&worker);
        let known = vote.and_then(|vote| vote.weight);
        let mut weight = known.unwrap_or(Weight { domain: worker.0, ..Weight::UNKNOWN });
        if let Some(row) = row.filter(|_| !weight.is_arbiter) {
            let class = vote.map_or(Digest::EMPTY, |vote| evidence_class(profile, vote, Some(row)).0);
            let standing = row.standing(class).aged(day_of(self.now));
            let error_ppb = standing.error_ppb(row.prior());
            match known {
                Some(_) => weight.error_ppb = weight.error_ppb.max(error_ppb),
                None => (weight.error_ppb, weight.k_milli) = (error_ppb, standing.k_milli),
            }
        }
        PastVote { worker, result, weight }
    }

    /// The final as one that is to be verified anew, if it would not have been without those that are out.
    fn suspects(&self, of: WorkerId, found: &SupportedFinal) -> Option<Suspicion> {
        let run = &found.run;
        let (won, finished_at) = (run.result?, run.finished_at?);
        let named = |number: u32| found.votes.iter().find(|vote| vote.number == number);
        // of a worker that voted and confirmed, the latter
        let mut votes: BTreeMap<WorkerId, (PastVote, Time)> = BTreeMap::new();
        for attempt in &run.attempts {
            if let AttemptState::Voted { result, won: Some(_), .. } = attempt.state {
                let vote = self.past(run.spec.profile, (attempt.worker, result), named(attempt.number));
                votes.insert(attempt.worker, (vote, attempt.ended_at.unwrap_or(finished_at)));
            }
        }
        let confirmed_at = run.verification.as_ref().map_or(finished_at, |found| found.at);
        for vote in &found.confirmations {
            votes.insert(
                vote.worker,
                (self.past(run.spec.profile, (vote.worker, vote.result), Some(vote)), confirmed_at),
            );
        }
        let out: BTreeSet<WorkerId> = votes
            .iter()
            .filter(|(worker, (_, at))| self.is_out(**worker, *at))
            .map(|(worker, _)| *worker)
            .collect();
        // once it was confirmed, it rests on those that confirmed it as long as they count
        let confirmed = !found.confirmations.is_empty();
        if !out.contains(&of)
            || (confirmed && found.confirmations.iter().all(|vote| !out.contains(&vote.worker)))
        {
            return None;
        }
        // what was verified anew was decided by credibility, whatever had been asked for
        let verify = match run.policy.verify.epsilon_ppb() {
            None if confirmed || run.revision > 1 => Verify::Standard,
            _ => run.policy.verify,
        };
        let votes: Vec<PastVote> = votes.into_values().map(|(vote, _)| vote).collect();
        let is_out = |worker| out.contains(&worker);
        let is_suspect = is_decisive(verify, won, &votes, is_out);
        let error_ppb = what_is_left_ppb(won, &votes, is_out);
        is_suspect.then_some(Suspicion { run: run.id, error_ppb, finished_at })
    }
}

#[cfg(test)]
mod tests;
