//! What is written down about workers and modules: faults of attempts, what comparisons say of integrity, who is out.
//!
//! Written off the owner's task, many entries in one write and in the order in which they came: a worker's standing is their
//! fold. Losing the last of them with the process costs observations, never a rule. A quarantine goes the same way, behind
//! what it is for: one that is stored has its reason stored, so that the pool can tell later whether anything is left of it.
//! So does an operator's word, behind what the pool had said by then: the store ends as the memory does, with the later one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc};

use super::{Owner, Parts, Stored};
use crate::class::Portable;
use crate::coordinator::repair;
use crate::coordinator::service::{ModuleCache, PoolEvent};
use crate::core::{self, Class, Event, Time};
use crate::digest::Digest;
use crate::id::{AttemptId, RunId, WorkerId, WorkspaceId};
use crate::store::{Evidence, Nondeterminism, Quarantine, Store, StoreError, Withdrawal};

/// Between two tries to write what a full disk refused.
const FULL_PAUSE: Duration = Duration::from_secs(1);

/// Observations that wait for room on the disk, about; then those that no rule needs are dropped.
const SEEN_MAX: usize = 50_000;

/// What is written down.
enum Entry {
    Seen(Vec<Evidence>),
    Quarantine(WorkerId, Quarantine),
    Lifted(WorkerId, Time),
    /// What an operator says; without a quarantine the worker works again.
    Ordered(WorkerId, Option<Quarantine>, Time, Option<Stored>),
    Module(Digest, OfModule, Option<Stored>),
}

/// What is said of a module.
enum OfModule {
    Quarantined(String),
    Nondeterministic(Nondeterminism),
    Readmitted,
}

impl Entry {
    /// Answers who waits, once.
    fn answer(&mut self, answer: Result<bool, StoreError>) {
        if let Entry::Ordered(.., stored) | Entry::Module(.., stored) = self
            && let Some(stored) = stored.take()
        {
            let _ = stored.send(answer);
        }
    }
}

/// Entries on their way to the store.
#[derive(Default)]
pub(super) struct Notes {
    /// Noted since the last flush.
    noted: Vec<Evidence>,
    writer: Option<mpsc::UnboundedSender<Entry>>,
}

impl Notes {
    /// Hands over what was noted.
    pub(super) fn leave(&mut self, parts: &Parts) {
        if !self.noted.is_empty() {
            let noted = std::mem::take(&mut self.noted);
            self.send(Entry::Seen(noted), parts);
        }
    }

    /// Hands over an entry, behind what was noted before it.
    fn leave_one(&mut self, entry: Entry, parts: &Parts) {
        self.leave(parts);
        self.send(entry, parts);
    }

    fn send(&mut self, entry: Entry, parts: &Parts) {
        let writer = self.writer.get_or_insert_with(|| {
            let (writer, entries) = mpsc::unbounded_channel();
            let to = Readers {
                repair: parts.repair.clone(),
                modules: Arc::clone(&parts.modules),
                events: parts.events.clone(),
            };
            tokio::spawn(write(Arc::clone(&parts.store), to, entries));
            writer
        });
        // it ends with the store only
        let _ = writer.send(entry);
    }
}

/// Who goes by what is stored.
struct Readers {
    repair: repair::Handle,
    modules: Arc<ModuleCache>,
    events: broadcast::Sender<(Option<WorkspaceId>, PoolEvent)>,
}

impl Readers {
    fn hear(&self, entry: &Entry) {
        match entry {
            Entry::Quarantine(..) | Entry::Ordered(_, Some(_), ..) => self.repair.wake(),
            Entry::Module(module, ..) => {
                self.modules.forget(*module);
                let _ = self.events.send((None, PoolEvent::Module(*module)));
            }
            Entry::Seen(_) | Entry::Lifted(..) | Entry::Ordered(..) => {}
        }
    }
}

async fn write(store: Arc<dyn Store>, to: Readers, mut entries: mpsc::UnboundedReceiver<Entry>) {
    // older than what is still in the queue
    let mut waiting = VecDeque::new();
    loop {
        let Some(mut entry) = (match waiting.pop_front() {
            Some(entry) => Some(entry),
            None => entries.recv().await,
        }) else {
            return;
        };
        if let Entry::Seen(noted) = &mut entry {
            loop {
                match waiting.pop_front().or_else(|| entries.try_recv().ok()) {
                    Some(Entry::Seen(more)) => noted.extend(more),
                    Some(other) => {
                        waiting.push_front(other);
                        break;
                    }
                    None => break,
                }
            }
        }
        // a full disk must not let somebody in again at the next start
        let answer = loop {
            let answer = write_one(store.as_ref(), &entry).await;
            if let Err(error) = &answer {
                tracing::warn!(%error, "what is said of workers and modules was not stored");
            }
            if !matches!(answer, Err(StoreError::Full)) {
                break answer;
            }
            entry.answer(answer);
            for behind in &mut waiting {
                behind.answer(Err(StoreError::Full));
            }
            wait_for_room(&mut entries, &mut waiting).await;
        };
        to.hear(&entry);
        entry.answer(answer);
    }
}

/// Lets some time pass. Who waits for what comes meanwhile hears at once that it holds unstored.
async fn wait_for_room(entries: &mut mpsc::UnboundedReceiver<Entry>, waiting: &mut VecDeque<Entry>) {
    let pause = tokio::time::sleep(FULL_PAUSE);
    tokio::pin!(pause);
    loop {
        tokio::select! {
            biased;
            () = &mut pause => return,
            entry = entries.recv() => match entry {
                Some(mut entry) => {
                    entry.answer(Err(StoreError::Full));
                    queue(waiting, entry);
                }
                None => {
                    pause.await;
                    return;
                }
            },
        }
    }
}

/// Puts an entry behind those that wait. Runs that are not written go on on a full disk, and what is seen of them is bounded
/// here: of too much only what speaks against somebody or takes that back stays. The loss costs a worker trust, no more.
fn queue(waiting: &mut VecDeque<Entry>, entry: Entry) {
    let (Entry::Seen(more), Some(Entry::Seen(noted))) = (&entry, waiting.back_mut()) else {
        return waiting.push_back(entry);
    };
    noted.extend_from_slice(more);
    if noted.len() > SEEN_MAX {
        let before = noted.len();
        noted.retain(|seen| !matches!(seen.integrity(), None | Some(core::Evidence::Confirmed { .. })));
        tracing::warn!(
            dropped = before - noted.len(),
            "observations of workers, which the full disk does not take"
        );
    }
}

/// `false`: there is nothing of that name.
async fn write_one(store: &dyn Store, entry: &Entry) -> Result<bool, StoreError> {
    match entry {
        Entry::Seen(noted) => store.append_evidence(noted.clone()).await.map(|()| true),
        Entry::Quarantine(worker, quarantine) => {
            store.quarantine_worker(*worker, Some(quarantine.clone()), quarantine.at).await
        }
        Entry::Lifted(worker, at) => store.lift_quarantine(*worker, *at).await,
        Entry::Ordered(worker, quarantine, at, _) => {
            store.quarantine_worker(*worker, quarantine.clone(), *at).await
        }
        Entry::Module(module, said, _) => match said {
            OfModule::Quarantined(why) => store.quarantine_module(*module, why.clone()).await,
            OfModule::Nondeterministic(found) => store.blame_module(*module, *found).await,
            OfModule::Readmitted => store.readmit_module(*module).await,
        },
    }
}

impl Owner {
    /// Takes a note of a fault, or of a vote that lost.
    pub(super) fn note(&mut self, worker: WorkerId, kind: &str, attempt: AttemptId, result: Option<Digest>) {
        // not from its link: what a lost worker did not finish is told when that is gone
        let Some(class) = self.parts.pool.worker(worker).map(|view| view.class) else { return };
        let (at, kind) = (self.now(), kind.to_owned());
        let attempt = Some(attempt);
        let class = class.0;
        let seen = Evidence { worker, class, portable: None, kind, count: 1, attempt, result, at };
        self.notes.noted.push(seen);
    }

    /// Stores the quarantine of a worker whose votes gave it away; the pool keeps it out already.
    pub(super) fn quarantine_worker(&mut self, worker: WorkerId, why: String) {
        if self.parts.quarantined.has(worker) && self.parts.pool.worker(worker).is_none() {
            // it is out already, and has not joined since: what was said then stands
            return;
        }
        tracing::warn!(%worker, %why, "worker quarantined");
        self.parts.quarantined.set(worker, true);
        self.withdraw(Withdrawal::of_worker(worker, self.now()));
        let _ = self.parts.events.send((None, PoolEvent::Worker(worker)));
        let quarantine = Quarantine { why, at: self.now(), for_votes: true };
        self.notes.leave_one(Entry::Quarantine(worker, quarantine), &self.parts);
    }

    /// Stores what an operator said of a worker, which holds already.
    pub(super) fn note_order(&mut self, worker: WorkerId, why: Option<String>, stored: Stored) {
        let at = self.now();
        let quarantine = why.map(|why| Quarantine { why, at, for_votes: false });
        self.notes.leave_one(Entry::Ordered(worker, quarantine, at, Some(stored)), &self.parts);
    }

    /// An operator takes a module out of service, or puts it back.
    pub(super) fn order_module(&mut self, module: Digest, why: Option<String>, stored: Stored) {
        let said = match why {
            Some(why) => {
                self.step(Event::ModuleQuarantined { module, why: why.clone() });
                OfModule::Quarantined(why)
            }
            None => {
                self.parts.cache.unbar(module);
                self.step(Event::ModuleReadmitted { module });
                OfModule::Readmitted
            }
        };
        self.notes.leave_one(Entry::Module(module, said, Some(stored)), &self.parts);
    }

    /// Stores that a module is nondeterministic; the pool blames nobody for it any more.
    pub(super) fn blame_module(&mut self, module: Digest, run: RunId) {
        tracing::warn!(module = %module.short(), %run, "module gives different results where it is trusted");
        self.withdraw_module(module);
        let said = OfModule::Nondeterministic(Nondeterminism { run, at: self.now() });
        self.notes.leave_one(Entry::Module(module, said, None), &self.parts);
    }

    /// Stores that a module crashed too often; the pool keeps it out already.
    pub(super) fn quarantine_module(&mut self, module: Digest, why: String) {
        tracing::warn!(module = %module.short(), %why, "module quarantined");
        self.notes.leave_one(Entry::Module(module, OfModule::Quarantined(why), None), &self.parts);
    }

    /// Stores that a quarantine has ended, because its worker had been right.
    pub(super) fn note_lifted(&mut self, worker: WorkerId) {
        self.notes.leave_one(Entry::Lifted(worker, self.now()), &self.parts);
    }

    /// Takes a note of what a comparison says of a worker's integrity. A readmission is recorded by whoever readmits.
    pub(super) fn testified(
        &mut self,
        (worker, class, portable): (WorkerId, Class, Option<Portable>),
        attempt: Option<AttemptId>,
        at: Time,
        evidence: core::Evidence,
    ) {
        if evidence == core::Evidence::LoneDissent {
            // what rests on its word alone
            self.withdraw(Withdrawal::of_its_word(worker, self.now()));
        }
        if let Some((kind, count)) = Evidence::name_of(evidence)
            && let Some(attempt) = attempt
        {
            let kind = kind.to_owned();
            let attempt = Some(attempt);
            let class = class.0;
            let entry = Evidence { worker, class, portable, kind, count, attempt, result: None, at };
            self.notes.noted.push(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::kind;

    #[test]
    fn what_waits_for_room_is_bounded_and_what_condemns_is_kept() {
        let seen = |kind: &str| Evidence {
            worker: WorkerId(1),
            class: Digest::EMPTY,
            portable: None,
            kind: kind.to_owned(),
            count: 1,
            attempt: None,
            result: None,
            at: Time(1),
        };
        let kinds = ["crashed", kind::CONFIRMED, kind::LONE_DISSENT, kind::CONFIRMED_BY_ARBITER];
        let mut waiting = VecDeque::from([Entry::Lifted(WorkerId(1), Time(1))]);
        let some: Vec<_> = kinds.map(seen).to_vec();
        (0..2).for_each(|_| queue(&mut waiting, Entry::Seen(some.clone())));
        assert!(
            matches!(&waiting.make_contiguous()[1..], [Entry::Seen(all)] if all.len() == 8),
            "in their order"
        );
        queue(&mut waiting, Entry::Seen(vec![seen("crashed"); SEEN_MAX]));
        let Some(Entry::Seen(left)) = waiting.back() else { panic!("it waits") };
        assert!(left.len() == 2 && left.iter().all(|seen| seen.kind == kind::LONE_DISSENT), "{left:?}");
    }
}
