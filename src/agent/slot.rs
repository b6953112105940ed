//! What the agent knows of one of its runners: whose it is, what it was handed, what it has loaded.
//!
//! Invariants: a runner is bound to the workspace of its first attempt for life. What it has loaded is decided here and
//! mirrored there: at most [`MODULES_MAX`] artifacts and [`LOADED_BYTES_MAX`] bytes (or one that is larger). Attempts
//! begin in the order of `inflight`, so what had begun when a runner died is known from one number.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::prepare::{ArtifactKey, Prepared};
use super::process::Process;
use super::spawner::Child;
use crate::id::{AttemptId, WorkspaceId};
use crate::runner::MODULES_MAX;
use crate::runner::frames::{DESCRIPTORS_MAX, Execute, FrameError, ToRunner, encode};
use crate::runner::page::Begun;

/// Machine code that one runner keeps mapped, in bytes.
const LOADED_BYTES_MAX: u64 = 256 << 20;

/// Names a runner within its agent.
pub(super) type RunnerKey = u64;

/// An attempt that a runner was handed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct InFlight {
    /// Its number there.
    pub(super) seq: u64,
    /// Which.
    pub(super) attempt: AttemptId,
    /// When, by the monotonic clock.
    pub(super) handed_ns: u64,
    /// Taken back or aborted: nobody wants its answer.
    pub(super) dropped: bool,
}

/// Why a runner was killed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Doom {
    /// This attempt reached its timeout.
    TimedOut(AttemptId),
    /// Somebody aborted what it executed.
    Aborted,
    /// It is not needed any more.
    Retired,
    /// The agent drained.
    Drained,
    /// It does not keep to the frames, or does not listen.
    Broken(String),
}

pub(super) struct Runner {
    pub(super) process: Process,
    /// Once the process exists.
    pub(super) child: Option<Arc<Child>>,
    /// When it was asked for, by the monotonic clock.
    pub(super) started_ns: u64,
    /// Confined and listening.
    pub(super) ready: bool,
    pub(super) workspace: Option<WorkspaceId>,
    pub(super) inflight: VecDeque<InFlight>,
    pub(super) doom: Option<Doom>,
    /// Since when its first attempt could have begun, by the monotonic clock.
    pub(super) front_ns: u64,
    /// When its first attempt was first seen begun, by the monotonic clock: it may not say so again.
    pub(super) front_begun_ns: Option<u64>,
    /// When it last became idle, by the monotonic clock.
    pub(super) idle_ns: u64,
    /// When to look at its first attempt again, by the monotonic clock.
    pub(super) check_ns: u64,
    next_seq: u64,
    modules: Modules,
    outbox: Outbox,
}

/// Frames that are sent together, in as many packets as their descriptors need.
struct Outbox<F = OwnedFd>(Vec<(Vec<u8>, Vec<F>)>);

impl<F> Outbox<F> {
    /// Queues a frame with its descriptors.
    fn push(&mut self, frame: &ToRunner, files: impl IntoIterator<Item = F>) {
        let files: Vec<F> = files.into_iter().collect();
        // One more than these if the body turns out to be long.
        let fits = |(_, there): &(Vec<u8>, Vec<F>)| there.len() + files.len() < DESCRIPTORS_MAX;
        if !self.0.last().is_some_and(fits) {
            self.0.push((Vec::new(), Vec::new()));
        }
        if let Some((body, there)) = self.0.last_mut() {
            encode(frame, body);
            there.extend(files);
        }
    }
}

impl<F> Default for Outbox<F> {
    fn default() -> Outbox<F> {
        Outbox(Vec::new())
    }
}

impl Runner {
    pub(super) fn new(process: Process, now_ns: u64) -> Runner {
        Runner {
            process,
            child: None,
            started_ns: now_ns,
            ready: false,
            workspace: None,
            inflight: VecDeque::new(),
            doom: None,
            front_ns: now_ns,
            front_begun_ns: None,
            idle_ns: now_ns,
            check_ns: u64::MAX,
            next_seq: 1,
            modules: Modules::default(),
            outbox: Outbox::default(),
        }
    }

    /// Whether it may be handed attempts.
    pub(super) fn is_usable(&self) -> bool {
        self.doom.is_none()
    }

    pub(super) fn has_loaded(&self, key: &ArtifactKey) -> bool {
        self.modules.loaded.contains_key(key)
    }

    /// Kills it; the reason that came first is the one that counts.
    pub(super) fn kill(&mut self, doom: Doom) {
        self.doom.get_or_insert(doom);
        if let Some(child) = &self.child {
            child.kill();
        }
    }

    /// The process exists now; it may have been doomed before.
    pub(super) fn started(&mut self, child: Arc<Child>) {
        if self.doom.is_some() {
            child.kill();
        }
        self.child = Some(child);
    }

    /// Puts an artifact in its memory, if it is not there, and gives its number.
    ///
    /// # Errors
    ///
    /// If a descriptor cannot be duplicated.
    pub(super) fn load(&mut self, prepared: &Prepared) -> std::io::Result<u16> {
        let (key, bytes) = (prepared.key, prepared.artifact.size);
        if let Some(slot) = self.modules.touch(&key) {
            return Ok(slot);
        }
        let file = prepared.artifact.file.as_fd().try_clone_to_owned()?;
        for slot in self.modules.make_room(bytes) {
            self.outbox.push(&ToRunner::Unload { slot }, []);
        }
        let slot = self.modules.insert(key, bytes);
        self.outbox.push(&ToRunner::Load { slot, variant: key.1 }, [file]);
        Ok(slot)
    }

    /// It said that it could not execute with this artifact: load it anew next time.
    pub(super) fn forget(&mut self, key: &ArtifactKey) {
        self.modules.loaded.remove(key);
    }

    /// Queues an attempt's frame with its descriptors, under the next number.
    pub(super) fn hand(
        &mut self,
        attempt: AttemptId,
        now_ns: u64,
        mut execute: Execute,
        files: Vec<OwnedFd>,
    ) {
        let seq = self.next_seq;
        self.next_seq += 1;
        execute.seq = seq;
        self.outbox.push(&ToRunner::Execute(Box::new(execute)), files);
        if self.inflight.is_empty() {
            self.front_ns = now_ns;
        }
        self.inflight.push_back(InFlight { seq, attempt, handed_ns: now_ns, dropped: false });
    }

    /// Takes off the first attempt, if `seq` is its number: it is answered.
    pub(super) fn answered(&mut self, seq: u64, now_ns: u64) -> Option<InFlight> {
        let front = self.inflight.pop_front_if(|front| front.seq == seq)?;
        self.front_ns = now_ns;
        self.front_begun_ns = None;
        if self.inflight.is_empty() {
            self.idle_ns = now_ns;
        }
        Some(front)
    }

    /// What it says that it has begun. The first word about its first attempt is the one that counts.
    pub(super) fn look(&mut self, now_ns: u64) -> Begun {
        let begun = self.process.page.begun();
        let front = self.inflight.front().filter(|front| begun.seq >= front.seq);
        if let (Some(front), None) = (front, self.front_begun_ns) {
            self.front_begun_ns = Some(begun.at_ns.clamp(front.handed_ns, now_ns));
        }
        begun
    }

    /// Whether it was seen to have begun this attempt, whatever it says now.
    pub(super) fn was_begun(&self, seq: u64) -> bool {
        self.front_begun_ns.is_some() && self.inflight.front().is_some_and(|front| front.seq == seq)
    }

    /// Whether it says that it has begun what it was never handed: then nothing else that it says there is worth anything.
    pub(super) fn lies(&self, begun: Begun) -> bool {
        begun.seq >= self.next_seq
    }

    /// Sends what was queued.
    ///
    /// # Errors
    ///
    /// If the runner is gone or does not listen.
    pub(super) fn flush(&mut self) -> Result<(), FrameError> {
        for (body, files) in std::mem::take(&mut self.outbox).0 {
            let borrowed: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
            self.process.send(&body, &borrowed)?;
        }
        Ok(())
    }

    /// Takes back an attempt that has not begun. `false`: it has.
    pub(super) fn revoke(&mut self, seq: u64) -> bool {
        // What was not sent yet is taken back in the same way.
        let revoked = self.process.page.revoke(seq).seq < seq;
        if let Some(entry) = self.inflight.iter_mut().find(|entry| revoked && entry.seq == seq) {
            entry.dropped = true;
        }
        revoked
    }
}

/// Artifacts that a runner has loaded.
#[derive(Default)]
struct Modules {
    loaded: HashMap<ArtifactKey, LoadedModule>,
    uses: u64,
}

struct LoadedModule {
    slot: u16,
    bytes: u64,
    used: u64,
}

impl Modules {
    fn touch(&mut self, key: &ArtifactKey) -> Option<u16> {
        self.uses += 1;
        let module = self.loaded.get_mut(key)?;
        module.used = self.uses;
        Some(module.slot)
    }

    /// Forgets what was used longest ago until `bytes` more fit.
    fn make_room(&mut self, bytes: u64) -> Vec<u16> {
        let mut freed = Vec::new();
        loop {
            let total: u64 = self.loaded.values().map(|module| module.bytes).sum();
            let full = self.loaded.len() >= usize::from(MODULES_MAX) || total + bytes > LOADED_BYTES_MAX;
            let oldest = self.loaded.iter().min_by_key(|(_, module)| module.used).map(|(key, _)| *key);
            let Some(module) = oldest.filter(|_| full).and_then(|key| self.loaded.remove(&key)) else {
                return freed;
            };
            freed.push(module.slot);
        }
    }

    fn insert(&mut self, key: ArtifactKey, bytes: u64) -> u16 {
        let taken = |slot: &u16| self.loaded.values().any(|module| module.slot == *slot);
        let slot = (0..MODULES_MAX).find(|slot| !taken(slot)).expect("room was made before");
        self.uses += 1;
        self.loaded.insert(key, LoadedModule { slot, bytes, used: self.uses });
        slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::sandbox::Variant;
    use crate::spec::FILES_MAX;

    fn key(number: u32) -> ArtifactKey {
        (Digest::of(&number.to_be_bytes()), Variant::Plain)
    }

    #[test]
    fn attempts_with_many_inputs_travel_in_packets_of_their_own() {
        let mut outbox = Outbox::default();
        for _ in 0..3 {
            outbox.push(&ToRunner::Load { slot: 1, variant: Variant::Plain }, [()]);
            outbox.push(&ToRunner::Setup, vec![(); FILES_MAX + 1]);
        }
        let counts: Vec<usize> = outbox.0.iter().map(|(_, files)| files.len()).collect();
        assert_eq!((counts.len(), counts.iter().sum::<usize>()), (3, 3 * (FILES_MAX + 2)), "{counts:?}");
        assert!(counts.iter().all(|count| *count < DESCRIPTORS_MAX), "a long body is a file too");
        outbox.push(&ToRunner::Unload { slot: 1 }, []);
        assert_eq!(outbox.0.len(), 3);
    }

    #[test]
    fn what_was_used_longest_ago_makes_room() {
        let mut modules = Modules::default();
        for number in 0..u32::from(MODULES_MAX) {
            assert!(modules.make_room(1).is_empty());
            modules.insert(key(number), 1);
        }
        assert_eq!(modules.touch(&key(0)), Some(0));
        assert_eq!(modules.make_room(1), [1]);
        assert_eq!(modules.insert(key(99), 1), 1);
        assert_eq!((modules.touch(&key(1)), modules.touch(&key(99))), (None, Some(1)));
    }

    #[test]
    fn bytes_are_bounded_but_one_artifact_always_fits() {
        let mut modules = Modules::default();
        modules.insert(key(1), LOADED_BYTES_MAX / 2);
        modules.insert(key(2), LOADED_BYTES_MAX / 2);
        assert_eq!(modules.make_room(1), [0]);
        assert_eq!(modules.make_room(LOADED_BYTES_MAX * 2), [1]);
        assert!(modules.loaded.is_empty());
    }
}
