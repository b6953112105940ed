//! What rested on a worker that was taken out is verified anew: finds it, has it verified, and keeps what came of it.
//!
//! The intention is a row of the store, written with the quarantine; everything here goes on from what is stored, so that a
//! restart costs what was being verified and nothing else. First the finals of all such workers are looked at, page by page;
//! then those that would not have been without them are verified, the weakest first, a bounded number at once. How much of
//! the pool that may take is the core's business, as is every verdict. Runs that had been answered with a result that is
//! replaced are corrected along, page by page too.

mod past;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::clock::Clock;
use super::metrics::Metrics;
use super::owner::Command;
use crate::core::{Dissent, Explained, Reverify};
use crate::id::RunId;
use crate::result::FailReason;
use crate::store::{
    CastVote, Concluded, DueSuspect, Looked, ModuleState, OutboxLimits, Repair, Reverdict, Reverification,
    SkippedCallbacks, Store, StoreError, StoredRun, Suspicion, UNDECIDED_AFTER,
};
use past::{Workers, in_evidence, reverify};

/// Finals that are read at once.
const PAGE: u32 = 100;
/// Earlier revisions whose voters are looked at.
const REVISIONS_MAX: usize = 100;
/// Runs that are corrected along with the one that computed their result, in one write; and writes before others have
/// their turn.
const FOLLOW_PAGE: u32 = 100;
const FOLLOW_PAGES: usize = 50;
/// Of them, in a [`PERIOD`], those that somebody is told of, while more than half of the deliveries that may wait in a workspace
/// do: within the day after which one is given up they do not fill the other half. The others fill nothing.
const FOLLOW_CROWDED: u32 = 4;
/// Finals that are with the owner at once; the core lets fewer of them have workers.
const AT_ONCE: usize = 32;
/// After the first try in vain; each further pause is four times as long.
const PAUSE_MS: u64 = 60_000;
/// Until it is seen whether a module is let in again.
const MODULE_PAUSE_MS: u64 = 60 * 60 * 1_000;
/// Where there is no sense in haste; also between tries of what counts as undecided.
const LONG_PAUSE_MS: u64 = 24 * 60 * 60 * 1_000;
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
    /// The owner could not take it, or what came of it was not taken: it is tried again, with attempts after this number.
    Dropped(RunId, u32),
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
    /// Deliveries of callbacks that may wait in one workspace: beyond so many it takes in no further ones from callers.
    pub callbacks_max: u64,
}

impl Repairer {
    /// Runs until it is aborted.
    pub async fn run(self, mut ended: mpsc::UnboundedReceiver<Ended>) {
        // with how often each was tried before
        let mut open: BTreeMap<RunId, u32> = BTreeMap::new();
        let mut follow_at = Instant::now();
        loop {
            if let Err(error) = self.round(&mut open, &mut follow_at).await {
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

    /// Has what was corrected reach those that have its result, looks at what was not looked at, then hands out what is due.
    async fn round(
        &self,
        open: &mut BTreeMap<RunId, u32>,
        follow_at: &mut Instant,
    ) -> Result<(), StoreError> {
        if Instant::now() >= *follow_at && self.follow_corrections().await? {
            *follow_at = Instant::now() + PERIOD;
        }
        let repairs = self.store.repairs().await?;
        if repairs.is_empty() {
            return Ok(());
        }
        for repair in repairs.iter().filter(|repair| repair.lifted_at.is_none()) {
            match self.look(repair, &repairs).await {
                Err(error @ (StoreError::Closed | StoreError::Fatal(_))) => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, worker = %repair.worker, "finals of a worker were not looked at");
                }
                Ok(()) => {}
            }
        }
        let waits = |repair: &Repair| repair.pending > 0 || repair.undecided > 0;
        let repairs = self.store.repairs().await?;
        if !repairs.iter().any(waits) || open.len() >= AT_ONCE {
            return Ok(());
        }
        // those that are open are due as well, as far as the store knows
        for due in self.store.due_suspects(self.clock.now(), AT_ONCE as u32 * 2).await? {
            if open.len() < AT_ONCE && !open.contains_key(&due.run) {
                match self.begin(open, due, &repairs).await {
                    Err(error @ StoreError::Decode { .. }) => {
                        // the others do not wait for it
                        tracing::warn!(%error, run = %due.run, "a final cannot be verified anew now");
                        let (due_at, numbers) = (self.clock.now().plus_ms(LONG_PAUSE_MS), due.numbers);
                        let again = Concluded::Again { due_at, numbers, found: None };
                        self.store.conclude_suspect(due.run, again).await?;
                    }
                    begun => begun?,
                }
            }
        }
        Ok(())
    }

    /// Corrects runs that have the result of one that was corrected. True if the rest waits, because too much does that others
    /// are to be told of: further ones may be told of too, and none is to keep callers out.
    async fn follow_corrections(&self) -> Result<bool, StoreError> {
        // made in this period while there was a crowd
        let mut deliveries = 0;
        for _ in 0..FOLLOW_PAGES {
            let is_crowded = self.is_crowded().await?;
            let most = if is_crowded { FOLLOW_CROWDED.saturating_sub(deliveries) } else { u32::MAX };
            if most == 0 {
                return Ok(true);
            }
            let followed = self.store.follow_corrections(self.clock.now(), FOLLOW_PAGE, most).await?;
            if is_crowded {
                let is_told = |run: &&StoredRun| run.policy.callback.is_some();
                deliveries += followed.corrected.iter().filter(is_told).count() as u32;
            }
            if !followed.corrected.is_empty() {
                let count = followed.corrected.len();
                tracing::warn!(count, "runs that had been answered with a wrong result are corrected along");
                let _ = self.commands.send(Command::Followed(followed.corrected));
            }
            if !followed.has_more {
                return Ok(false);
            }
        }
        if deliveries == 0 {
            self.handle.wake();
        }
        Ok(deliveries > 0)
    }

    /// Whether in all workspaces together more than half of the deliveries wait that may in one.
    async fn is_crowded(&self) -> Result<bool, StoreError> {
        // how many wait is all that is asked for
        let nothing = OutboxLimits { due: 0, per_receiver: 0, full: i64::MAX as u64 };
        let found = self.store.due_callbacks(self.clock.now(), SkippedCallbacks::default(), nothing).await?;
        Ok(found.pending.values().sum::<u64>() > self.callbacks_max / 2)
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
            let after = cursor;
            cursor = page.last().map_or(cursor, |last| last.seq);
            let is_complete = page.len() < PAGE as usize;
            let (count, found) = (page.len() as u64, suspects.len());
            let looked = Looked { since: repair.since, after, count, cursor, is_complete, suspects };
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
    async fn begin(
        &self,
        open: &mut BTreeMap<RunId, u32>,
        due: DueSuspect,
        repairs: &[Repair],
    ) -> Result<(), StoreError> {
        let DueSuspect { run: id, tries, numbers } = due;
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
            Some(_) => None,
        };
        if let Some(why) = why {
            return self.give_up(id, run.revision, Reverdict::NotVerifiable, why).await;
        }
        let wait_ms = match &module {
            // reports of crashes may be lies, and an operator may let it in again
            Some(module) if module.quarantined.is_some() => Some(MODULE_PAUSE_MS),
            // uploaded once more, and not compiled yet
            Some(module) if module.state != ModuleState::Ready => Some(PAUSE_MS),
            _ => None,
        };
        if let Some(wait_ms) = wait_ms {
            let due_at = self.clock.now().plus_ms(wait_ms);
            return self.store.conclude_suspect(id, Concluded::Later { due_at }).await;
        }
        if self.store.missing_blob(run.spec.inputs().collect()).await?.is_some() {
            return self.give_up(id, run.revision, Reverdict::NotVerifiable, "an input is gone").await;
        }
        let votes = if_decoded(self.store.votes(id, run.revision).await)?.flatten().unwrap_or_default();
        let rows = self.store.workers().await?;
        // who confirmed what turns out wrong named it too
        let confirmations = if_decoded(self.store.confirmations(id).await)?.unwrap_or_default();
        let [votes, confirmations] = [votes, confirmations].map(|votes| in_evidence(&run.spec, votes, &rows));
        let workers = Workers::new(rows, repairs, self.clock.now());
        let mut reverify = reverify(&run, result, (&votes, &confirmations), &workers, numbers);
        self.add_overruled(&mut reverify, &run, &workers).await?;
        tracing::info!(run = %id, revision = run.revision, tries, "a final is verified anew");
        open.insert(id, tries);
        let _ = self.commands.send(Command::VerifyAnew(Box::new(Anew { run, reverify })));
        Ok(())
    }

    /// Whoever named something else in an earlier revision may have been right, and lost when that was corrected.
    async fn add_overruled(
        &self,
        reverify: &mut Reverify,
        run: &StoredRun,
        workers: &Workers,
    ) -> Result<(), StoreError> {
        for revision in (1..run.revision).rev().take(REVISIONS_MAX) {
            let Some(before) = if_decoded(self.store.revision(run.id, revision).await)?.flatten() else {
                continue;
            };
            let votes = if_decoded(self.store.votes(run.id, revision).await)?.flatten().unwrap_or_default();
            for dissent in workers.named(&before, votes) {
                let is_known =
                    |other: &Dissent| (other.worker, other.result) == (dissent.worker, dissent.result);
                if dissent.result != reverify.result && !reverify.dissents.iter().any(is_known) {
                    reverify.dissents.push(dissent);
                }
            }
        }
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
            Ended::Dropped(run, numbers) => {
                let tries = open.get(&run).copied().unwrap_or(0);
                let due_at = self.clock.now().plus_ms(pause_ms(tries));
                let again = Concluded::Again { due_at, numbers, found: None };
                (run, self.store.conclude_suspect(run, again).await)
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
        let found = Reverification { at: self.clock.now(), verdict, explain };
        if verdict == Reverdict::Undecided {
            // who says that a module crashes may lie; whether it is gone is seen at the next turn
            let is_barred = matches!(reason, Some(FailReason::Poisoned | FailReason::ModuleRefused));
            let pause_ms = if is_barred { LONG_PAUSE_MS } else { pause_ms(tries) };
            let due_at = self.clock.now().plus_ms(pause_ms);
            tracing::info!(%run, tries, pause_ms, "nobody could tell whether a final is right; it is tried again");
            let counts = tries + 1 >= UNDECIDED_AFTER;
            let found = counts.then_some((revision, found));
            self.store.conclude_suspect(run, Concluded::Again { due_at, numbers, found }).await?;
            if tries + 1 == UNDECIDED_AFTER {
                self.metrics.reverified(verdict.name());
            }
            return Ok(());
        }
        tracing::info!(%run, revision, verdict = verdict.name(), "a final was verified anew");
        self.store.conclude_suspect(run, Concluded::Done { revision, found, confirmations }).await?;
        self.metrics.reverified(verdict.name());
        Ok(())
    }
}

/// After one more try in vain, when so many had been before: four times as long each time, then a day.
fn pause_ms(tries: u32) -> u64 {
    if tries + 1 < UNDECIDED_AFTER { PAUSE_MS << (2 * tries) } else { LONG_PAUSE_MS }
}

/// What was read, `None` if it does not decode: without the votes it is verified all the same.
fn if_decoded<T>(read: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match read {
        Err(error @ StoreError::Decode { .. }) => {
            tracing::warn!(%error, "a final is verified anew without its votes");
            Ok(None)
        }
        read => read.map(Some),
    }
}

#[cfg(test)]
mod tests;
