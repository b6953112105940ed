//! Verified results by run key: what answers a run without an attempt.
//!
//! An index in memory over finals that are kept anyway: an entry names the run that computed it, and goes when that run does.
//! It is filled by the owner when a verified final is committed, and after a start from the store, beside everything else.
//! Invariants: an entry is served within its workspace only (how fast an answer comes would tell others what was computed);
//! one class is never taken for another; a withdrawal holds for everything that had ended by then, whether it is in memory
//! or not. Bounded in entries, bytes and age; beyond the bounds goes what was used longest ago.

mod load;
mod rule;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

pub use load::{keep_withdrawal, load};
use rule::{Reached, may_answer};

use super::ring;
use super::service::RunDetail;
use crate::core::{Class, Time};
use crate::digest::Digest;
use crate::id::{RunId, WorkerId, WorkspaceId};
use crate::spec::Policy;
use crate::store::{CastVote, Withdrawable, Withdrawal};

/// Answered hits whose row is not written yet; those beyond wait for it.
const UNWRITTEN_MAX: usize = 4_096;
/// Withdrawals that are kept one by one; the next is one of everything.
const WITHDRAWALS_MAX: usize = 1_000;
/// Modules that are remembered as nondeterministic.
const BARRED_MAX: usize = 10_000;
/// What an entry takes beside what it shows, in bytes.
const ENTRY_BYTES: usize = 512;

/// How much is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CacheConfig {
    /// Results at most; 0 turns the cache off, and the sharing of attempts by equal runs in flight with it.
    pub entries_max: usize,
    /// Memory that they take together at most, in bytes, about.
    pub bytes_max: usize,
    /// Results older than this are not used, in milliseconds.
    pub age_ms: u64,
}

/// A verified result.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The run that computed it.
    pub detail: Arc<RunDetail>,
    /// Small output files of a run that is in memory only: they are nowhere else.
    pub outputs: BTreeMap<Digest, Bytes>,
    reached: Reached,
    class: Class,
    workers: Vec<WorkerId>,
}

impl Entry {
    /// Of a final with the votes that were counted; `None` if it is no verified result of its own.
    pub fn of(detail: Arc<RunDetail>, outputs: BTreeMap<Digest, Bytes>, votes: &[CastVote]) -> Option<Entry> {
        let run = &detail.run;
        let won = run.result.filter(|_| run.source.is_none() && run.manifest.is_some())?;
        let reached = Reached::of(run.policy.verify, run.verdict.kind, won, votes)?;
        let winners = votes.iter().filter(|vote| vote.result == won);
        let class = winners.clone().next()?.class;
        let workers = winners.map(|vote| vote.worker).collect();
        // what it leaves in the blob store is not kept for it: nothing of a run in memory refers to that
        let is_whole = run.policy.durable || {
            let shown = |digest| {
                let manifest = run.manifest.as_ref();
                manifest.is_some_and(|it| {
                    (it.stdout.digest == digest && detail.stdout.is_some())
                        || (it.stderr.digest == digest && detail.stderr.is_some())
                })
            };
            let mut all = run.manifest.iter().flat_map(|manifest| manifest.outputs());
            all.all(|output| shown(output.digest) || outputs.contains_key(&output.digest))
        };
        is_whole.then_some(Entry { outputs, reached, class, workers, detail })
    }

    fn withdrawable(&self) -> Withdrawable<'_> {
        let run = &self.detail.run;
        Withdrawable {
            workspace: run.workspace,
            run: run.id,
            workers: &self.workers,
            is_alone: self.reached.is_alone(),
            class: self.class,
            module: run.spec.module,
            finished_at: self.finished_at(),
        }
    }

    fn finished_at(&self) -> Time {
        self.detail.run.finished_at.unwrap_or(self.detail.run.created_at)
    }

    fn weight(&self) -> usize {
        let outputs = self.outputs.values().map(Bytes::len).sum::<usize>();
        ENTRY_BYTES + ring::weight(&self.detail) + outputs
    }

    /// What only one entry per run key may have.
    fn place(&self) -> (Class, bool, bool) {
        (self.class, self.reached.is_weighed(), self.detail.run.policy.durable)
    }
}

type Key = (WorkspaceId, Digest);

/// Figures of the cache, as one workspace sees them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CacheStats {
    /// Results that are there.
    pub entries: u64,
    /// Memory that they take, in bytes, about.
    pub bytes: u64,
    /// Runs that were answered since the start.
    pub hits: u64,
    /// Runs that might have been and were not.
    pub misses: u64,
    /// Results that were withdrawn.
    pub withdrawn: u64,
}

#[derive(Default)]
struct Inner {
    entries: HashMap<Key, Vec<(u64, Entry)>>,
    /// By last use.
    order: BTreeMap<u64, (Key, RunId)>,
    by_run: HashMap<RunId, Key>,
    next: u64,
    bytes: usize,
    stats: HashMap<WorkspaceId, CacheStats>,
    withdrawals: Vec<Withdrawal>,
    barred: BTreeSet<Digest>,
    /// Runs that were corrected while results of before are still read: what was read of them is of before that.
    corrected: BTreeSet<RunId>,
    is_loaded: bool,
    /// Classes of the workers that are there.
    classes: HashSet<Class>,
}

/// See the module.
pub struct ResultCache {
    config: CacheConfig,
    inner: Mutex<Inner>,
    unwritten: AtomicUsize,
    is_suspended: AtomicBool,
}

impl ResultCache {
    /// An empty cache.
    pub fn new(config: CacheConfig) -> ResultCache {
        ResultCache {
            config,
            inner: Mutex::new(Inner::default()),
            unwritten: AtomicUsize::new(0),
            is_suspended: AtomicBool::new(false),
        }
    }

    /// Whether it takes and gives anything at all.
    pub fn is_on(&self) -> bool {
        self.config.entries_max > 0
    }

    /// Whether it has what this run computed.
    pub fn holds(&self, run: RunId) -> bool {
        self.lock().by_run.contains_key(&run)
    }

    /// Whether there is room for more without anything going.
    fn has_room(&self) -> bool {
        let inner = self.lock();
        inner.order.len() < self.config.entries_max && inner.bytes < self.config.bytes_max
    }

    /// Its bounds.
    pub fn config(&self) -> CacheConfig {
        self.config
    }

    /// A result that may answer a run under this policy, one of `class` (the coordinator's own) before others that workers are
    /// there for, then the newest. Counted.
    pub fn find(
        &self,
        key: (WorkspaceId, Digest),
        policy: &Policy,
        class: Class,
        now: Time,
    ) -> Option<Entry> {
        if self.is_suspended.load(Ordering::Relaxed) {
            return None;
        }
        let oldest = self.oldest(now);
        let mut inner = self.lock();
        let found = inner.entries.get(&key).and_then(|entries| {
            let fits = |(_, entry): &&(u64, Entry)| {
                entry.finished_at() >= oldest
                    && (entry.class == class || inner.classes.contains(&entry.class))
                    && may_answer(&entry.detail.run.policy, &entry.reached, policy)
            };
            let best = entries.iter().filter(fits);
            best.max_by_key(|(_, entry)| (entry.class == class, entry.finished_at())).cloned()
        });
        let stats = inner.stats.entry(key.0).or_default();
        match &found {
            Some(_) => stats.hits += 1,
            None => stats.misses += 1,
        }
        let (used, entry) = found?;
        inner.touch(key, used);
        Some(entry)
    }

    /// Workers of these classes are there: a run could be executed as one of them, and nothing else than what that would give
    /// answers it.
    pub fn set_classes(&self, classes: HashSet<Class>) {
        self.lock().classes = classes;
    }

    /// Takes a result, unless it is withdrawn already, too old, or older than what is there.
    pub fn insert(&self, entry: Entry, now: Time) {
        let oldest = self.oldest(now);
        let run = &entry.detail.run;
        let key = (run.workspace, run.run_key);
        let mut inner = self.lock();
        let is_withdrawn = inner.withdrawals.iter().any(|it| it.covers(&entry.withdrawable()));
        if !self.is_on()
            || is_withdrawn
            || entry.finished_at() < oldest
            || inner.barred.contains(&run.spec.module)
            || inner.corrected.contains(&run.id)
        {
            return;
        }
        let others = inner.entries.get(&key).map(Vec::as_slice).unwrap_or_default();
        // what does for fewer never takes the place of what does for more
        let is_less = |other: &Entry| {
            other.place() == entry.place() && entry.reached.does_for_fewer_than(&other.reached)
        };
        if others.iter().any(|(_, other)| is_less(other) && other.finished_at() >= oldest) {
            return;
        }
        // of one class a run key has one result: where two were verified, the newer one is left
        let replaced = |other: &Entry| {
            other.place() == entry.place()
                || (other.class == entry.class && other.detail.run.result != run.result)
        };
        let there: Vec<RunId> = others
            .iter()
            .filter(|(_, other)| replaced(other))
            .map(|(_, other)| other.detail.run.id)
            .collect();
        if others.iter().any(|(_, other)| replaced(other) && other.finished_at() > entry.finished_at()) {
            return;
        }
        there.into_iter().for_each(|run| inner.remove(run));
        inner.put(key, entry);
        inner.evict(&self.config);
    }

    /// Shows an entry with outputs that were read since.
    pub fn refine(&self, run: RunId, detail: Arc<RunDetail>) {
        let mut inner = self.lock();
        let Some(key) = inner.by_run.get(&run).copied() else { return };
        let Some(entries) = inner.entries.get_mut(&key) else { return };
        let Some((_, entry)) = entries.iter_mut().find(|(_, entry)| entry.detail.run.id == run) else {
            return;
        };
        let before = entry.weight();
        entry.detail = detail;
        let after = entry.weight();
        inner.bytes = inner.bytes - before + after;
        if let Some(stats) = inner.stats.get_mut(&key.0) {
            stats.bytes = stats.bytes - before as u64 + after as u64;
        }
        inner.evict(&self.config);
    }

    /// These runs are not kept any longer.
    pub fn forget(&self, runs: &[RunId]) {
        let mut inner = self.lock();
        runs.iter().for_each(|run| inner.remove(*run));
    }

    /// Withdraws what a rule covers: what is here, and what would be put here later although it ended before. Gives how many
    /// results went, and the rule that is to be kept: where there are too many, one of everything.
    pub fn withdraw(&self, withdrawal: Withdrawal) -> (usize, Withdrawal) {
        // what these covered is too old to be used
        let oldest = self.oldest(withdrawal.until);
        let mut inner = self.lock();
        inner.withdrawals.retain(|earlier| earlier.until >= oldest && !withdrawal.contains(earlier));
        let kept = match inner.withdrawals.len() >= WITHDRAWALS_MAX {
            true => Withdrawal::everything(withdrawal.until),
            false => withdrawal,
        };
        inner.withdrawals.retain(|earlier| !kept.contains(earlier));
        inner.withdrawals.push(kept);
        (inner.withdraw(|entry| kept.covers(&entry.withdrawable())), kept)
    }

    /// A run is corrected: what it had computed is not used any more. Its row says so too, as soon as the correction is
    /// written. Gives how many results went.
    pub fn correct(&self, run: RunId) -> usize {
        let mut inner = self.lock();
        if !inner.is_loaded {
            inner.corrected.insert(run);
        }
        let Some(key) = inner.by_run.get(&run).copied() else { return 0 };
        inner.remove(run);
        inner.stats.entry(key.0).or_default().withdrawn += 1;
        1
    }

    /// Nothing of before is read any more.
    fn end_loading(&self) {
        let mut inner = self.lock();
        inner.is_loaded = true;
        inner.corrected.clear();
    }

    /// Withdrawals of earlier lives. Gives one that is to be kept in the place of those that have become too old to matter.
    pub fn recall(&self, withdrawals: Vec<Withdrawal>, now: Time) -> Option<Withdrawal> {
        let oldest = self.oldest(now);
        let (old, kept): (Vec<_>, Vec<_>) = withdrawals.into_iter().partition(|it| it.until < oldest);
        self.lock().withdrawals = kept;
        let newest = old.iter().map(|it| it.until).max()?;
        (old.len() > 1).then(|| Withdrawal::everything(newest))
    }

    /// What ended before is not used.
    fn oldest(&self, now: Time) -> Time {
        Time(now.0.saturating_sub(self.config.age_ms.saturating_mul(1_000)))
    }

    /// Results of this module are not taken any more: its trusted executions differ.
    pub fn bar(&self, module: Digest) {
        let mut inner = self.lock();
        if inner.barred.len() < BARRED_MAX {
            inner.barred.insert(module);
        }
    }

    /// They are again.
    pub fn unbar(&self, module: Digest) {
        self.lock().barred.remove(&module);
    }

    /// Figures for one workspace.
    pub fn stats(&self, workspace: WorkspaceId) -> CacheStats {
        self.lock().stats.get(&workspace).copied().unwrap_or_default()
    }

    /// Figures of all workspaces together.
    pub fn totals(&self) -> CacheStats {
        self.lock().stats.values().fold(CacheStats::default(), |sum, it| CacheStats {
            entries: sum.entries + it.entries,
            bytes: sum.bytes + it.bytes,
            hits: sum.hits + it.hits,
            misses: sum.misses + it.misses,
            withdrawn: sum.withdrawn + it.withdrawn,
        })
    }

    /// One more hit is answered before its row is written; false if too many are: then it has to wait for that.
    pub fn begin_unwritten(&self) -> bool {
        let begun = self.unwritten.fetch_add(1, Ordering::Relaxed) < UNWRITTEN_MAX;
        if !begun {
            self.end_unwritten();
        }
        begun
    }

    /// Its row is written, or never will be.
    pub fn end_unwritten(&self) {
        self.unwritten.fetch_sub(1, Ordering::Relaxed);
    }

    /// While rows cannot be written nothing is answered: a submission hears why.
    pub fn suspend(&self, is_suspended: bool) {
        self.is_suspended.store(is_suspended, Ordering::Relaxed);
    }

    /// Nothing that is done while it is held can panic half-way.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn put(&mut self, key: Key, entry: Entry) {
        let (run, weight) = (entry.detail.run.id, entry.weight());
        self.bytes += weight;
        let stats = self.stats.entry(key.0).or_default();
        stats.entries += 1;
        stats.bytes += weight as u64;
        self.next += 1;
        self.order.insert(self.next, (key, run));
        self.by_run.insert(run, key);
        self.entries.entry(key).or_default().push((self.next, entry));
    }

    /// Lets go what is not to be used any more; gives how much that was.
    fn withdraw(&mut self, is_covered: impl Fn(&Entry) -> bool) -> usize {
        let all = self.entries.values().flatten();
        let covered: Vec<(RunId, WorkspaceId)> = all
            .filter(|(_, entry)| is_covered(entry))
            .map(|(_, entry)| (entry.detail.run.id, entry.detail.run.workspace))
            .collect();
        for (run, workspace) in &covered {
            self.remove(*run);
            self.stats.entry(*workspace).or_default().withdrawn += 1;
        }
        covered.len()
    }

    fn remove(&mut self, run: RunId) {
        let Some(key) = self.by_run.remove(&run) else { return };
        let Some(entries) = self.entries.get_mut(&key) else { return };
        let Some(position) = entries.iter().position(|(_, entry)| entry.detail.run.id == run) else { return };
        let (used, entry) = entries.swap_remove(position);
        if entries.is_empty() {
            self.entries.remove(&key);
        }
        self.order.remove(&used);
        let weight = entry.weight();
        self.bytes -= weight;
        if let Some(stats) = self.stats.get_mut(&key.0) {
            stats.entries -= 1;
            stats.bytes -= weight as u64;
        }
    }

    /// Lets go what was used longest ago, until the rest is within the bounds.
    fn evict(&mut self, config: &CacheConfig) {
        while self.order.len() > config.entries_max || self.bytes > config.bytes_max {
            let Some((_, (_, oldest))) = self.order.first_key_value() else { break };
            let oldest = *oldest;
            self.remove(oldest);
        }
    }

    /// It was used just now.
    fn touch(&mut self, key: Key, used: u64) {
        let Some(place) = self.order.remove(&used) else { return };
        self.next += 1;
        let next = self.next;
        self.order.insert(next, place);
        if let Some((at, _)) =
            self.entries.get_mut(&key).and_then(|entries| entries.iter_mut().find(|(at, _)| *at == used))
        {
            *at = next;
        }
    }
}

#[cfg(test)]
mod tests;
