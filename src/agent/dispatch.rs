//! Which runner gets which attempt, what runners answer, and what follows when one dies.

use std::os::fd::OwnedFd;

use bytes::Bytes;
use futures_util::StreamExt as _;

use super::invocation;
use super::outputs::Kept;
use super::pace::SHORT_NS;
use super::prepare::ArtifactKey;
use super::process::{End, Event, Process};
use super::session::{AHEAD, Session};
use super::slot::{Doom, InFlight, Runner, RunnerKey};
use crate::digest::Digest;
use crate::id::{AttemptId, WorkspaceId};
use crate::protocol::agent::{FromAgent, VoteReport};
use crate::result::Fault;
use crate::runner::clock::monotonic_ns;
use crate::runner::frames::{Done, FromRunner};

/// Of a runner's own words for a refusal, which are kept with the run.
const WORDS_CHARS_MAX: usize = 500;
/// Runners that may die under an attempt before they have begun it; then the worker refuses it.
const SETBACKS_MAX: u32 = 3;

impl Session {
    /// Hands out what waits, as far as there are slots.
    pub(super) fn dispatch(&mut self) {
        if self.queue.is_empty() {
            return;
        }
        let waiting = std::mem::take(&mut self.queue);
        for attempt in waiting {
            let Some(held) = self.held.get(&attempt) else { continue };
            let Some(key) = held.prepared.as_ref().map(|prepared| prepared.key) else { continue };
            match self.place(held.assignment.workspace, &key) {
                Ok(Some(runner)) => self.hand(runner, attempt),
                Ok(None) => self.queue.push_back(attempt),
                Err(detail) => self.fault(attempt, Fault::Refused { detail }, None, 0),
            }
        }
        for runner in self.runners.values_mut() {
            if let Err(error) = runner.flush() {
                runner.kill(Doom::Broken(error.to_string()));
            }
        }
    }

    /// The runner for an attempt; `None` if it has to wait.
    fn place(&mut self, workspace: WorkspaceId, key: &ArtifactKey) -> Result<Option<RunnerKey>, String> {
        let busy = self.runners.values().filter(|runner| !runner.inflight.is_empty()).count();
        if busy >= self.config.slots as usize {
            return Ok(self.place_ahead(workspace, key));
        }
        let idle = self.runners.iter().filter(|(_, runner)| runner.is_usable() && runner.inflight.is_empty());
        let best = idle
            .filter(|(_, runner)| runner.workspace.is_none_or(|bound| bound == workspace))
            .max_by_key(|(_, runner)| (runner.has_loaded(key), runner.workspace.is_some(), runner.ready));
        match best {
            Some((runner, _)) => Ok(Some(*runner)),
            None => self.start_runner().map(Some).map_err(|error| format!("no runner: {error}")),
        }
    }

    /// A busy runner that will soon be free, if that is known of everything it holds.
    fn place_ahead(&self, workspace: WorkspaceId, key: &ArtifactKey) -> Option<RunnerKey> {
        let is_short = |attempt: &AttemptId| {
            let held = self.held.get(attempt);
            held.is_none_or(|held| self.paces.is_short(&held.assignment.spec.module))
        };
        let now_ns = monotonic_ns();
        let soon_free = self.runners.iter().filter(|(_, runner)| {
            runner.is_usable()
                // What was short so far may be long this time.
                && now_ns.saturating_sub(runner.front_ns) < SHORT_NS
                && runner.workspace == Some(workspace)
                && runner.inflight.len() <= AHEAD
                && runner.inflight.iter().all(|entry| is_short(&entry.attempt))
        });
        let least = soon_free.min_by_key(|(_, runner)| runner.inflight.len())?;
        self.paces.is_short(&key.0).then_some(*least.0)
    }

    fn hand(&mut self, key: RunnerKey, attempt: AttemptId) {
        let now_ns = monotonic_ns();
        let Some(runner) = self.runners.get_mut(&key) else { return };
        let Some(held) = self.held.get_mut(&attempt) else { return };
        let Some(prepared) = held.prepared.clone() else { return };
        let made = runner
            .load(&prepared)
            .map_err(|error| format!("its module cannot be handed over: {error}"))
            .and_then(|slot| invocation::execute(&held.assignment, &prepared.inputs, slot, held.watched));
        match made {
            Ok((execute, files)) => {
                runner.workspace = Some(held.assignment.workspace);
                runner.hand(attempt, now_ns, execute, files);
                held.runner = Some(key);
                self.arm(key, now_ns);
            }
            Err(detail) => self.fault(attempt, Fault::Refused { detail }, None, 0),
        }
    }

    fn start_runner(&mut self) -> std::io::Result<RunnerKey> {
        let (process, events) = Process::start(&self.spawner)?;
        self.runners_started += 1;
        let key = self.runners_started;
        self.runners.insert(key, Runner::new(process, monotonic_ns()));
        self.events.push(events.map(move |event| (key, event)).boxed());
        self.retire();
        Ok(key)
    }

    /// Keeps some runners ready that belong to nobody yet.
    pub(super) fn keep_spares(&mut self) {
        let now_ns = monotonic_ns();
        while self.lacks_spares() && now_ns >= self.spare_after_ns {
            if let Err(error) = self.start_runner() {
                tracing::warn!(agent = self.config.name, %error, "a runner could not be started");
                self.spare_after_ns = now_ns + 1_000_000_000;
            }
        }
    }

    pub(super) fn lacks_spares(&self) -> bool {
        let spare = |runner: &&Runner| runner.is_usable() && runner.workspace.is_none();
        self.drain.is_none() && self.runners.values().filter(spare).count() < self.config.spares
    }

    /// Ends idle runners that too many workspaces have left behind.
    fn retire(&mut self) {
        let parked =
            |runner: &Runner| runner.is_usable() && runner.workspace.is_some() && runner.inflight.is_empty();
        while self.runners.values().filter(|runner| parked(runner)).count() > self.config.parked_max {
            let idle = self.runners.values_mut().filter(|runner| parked(runner));
            let Some(longest) = idle.min_by_key(|runner| runner.idle_ns) else { return };
            longest.kill(Doom::Retired);
        }
    }

    pub(super) fn on_event(&mut self, key: RunnerKey, event: Event) {
        match event {
            Event::Started(child) => {
                if let Some(runner) = self.runners.get_mut(&key) {
                    runner.started(child);
                }
            }
            Event::Said(frame, file) => self.on_frame(key, frame, file),
            Event::Ended(end) => self.on_end(key, end),
        }
    }

    fn on_frame(&mut self, key: RunnerKey, frame: FromRunner, file: Option<OwnedFd>) {
        let now_ns = monotonic_ns();
        let Some(runner) = self.runners.get_mut(&key) else { return };
        let seq = match &frame {
            FromRunner::Ready if runner.ready => {
                return runner.kill(Doom::Broken("it was ready twice".to_owned()));
            }
            FromRunner::Ready => {
                runner.ready = true;
                self.failed_starts = 0;
                let took_us = (now_ns - runner.started_ns) / 1_000;
                tracing::debug!(agent = self.config.name, runner = key, took_us, "a runner is ready");
                return;
            }
            FromRunner::Done(done) => done.seq,
            FromRunner::Refused { seq, .. } | FromRunner::Skipped { seq } => *seq,
        };
        let Some(entry) = runner.answered(seq, now_ns) else {
            return runner.kill(Doom::Broken("it answered what it was not asked".to_owned()));
        };
        self.arm(key, now_ns);
        if entry.dropped {
            return;
        }
        match frame {
            FromRunner::Done(done) => self.on_done(key, entry, *done, file),
            FromRunner::Refused { why, .. } => {
                let module = self.held.get(&entry.attempt).and_then(|held| held.prepared.as_ref());
                if let (Some(prepared), Some(runner)) = (module, self.runners.get_mut(&key)) {
                    runner.forget(&prepared.key);
                }
                let detail = why.chars().take(WORDS_CHARS_MAX).collect();
                self.fault(entry.attempt, Fault::Refused { detail }, None, 0);
            }
            FromRunner::Skipped { .. } | FromRunner::Ready => {
                if let Some(runner) = self.runners.get_mut(&key) {
                    runner.kill(Doom::Broken("it skipped what was not taken back".to_owned()));
                }
                self.set_back(entry.attempt, true, "a frame that was not asked for");
            }
        }
    }

    fn on_done(&mut self, key: RunnerKey, entry: InFlight, done: Done, file: Option<OwnedFd>) {
        let now_ns = monotonic_ns();
        self.tell_live(key, entry);
        let Some(held) = self.held.get(&entry.attempt) else { return };
        let Some(prepared) = held.prepared.as_ref() else { return };
        // A runner's word, within what is possible.
        let begun_ns = done.begun_ns.clamp(entry.handed_ns, now_ns);
        let took_ns = done.ended_ns.min(now_ns).saturating_sub(begun_ns);
        // It has one thread.
        let cpu_us = done.cpu_us.min((now_ns - begun_ns) / 1_000);
        let manifest: Bytes = done.manifest;
        let result = Digest::of(&manifest);
        let kept = match Kept::new(result, manifest.clone(), done.outputs, file) {
            Ok(kept) => kept,
            Err(why) => {
                if let Some(runner) = self.runners.get_mut(&key) {
                    runner.kill(Doom::Broken(why.to_owned()));
                }
                let fault = Fault::Crashed { signal: None, detail: why.to_owned() };
                return self.fault(entry.attempt, fault, Some(wall_us(begun_ns, now_ns)), cpu_us);
            }
        };
        let assignment = &held.assignment;
        let report = VoteReport {
            attempt: entry.attempt,
            epoch: assignment.epoch,
            nonce: assignment.nonce,
            run_key: assignment.run_key,
            class: self.config.classes.of(assignment.spec.profile),
            artifact: prepared.artifact.digest,
            result,
            manifest,
            inline: kept.inline(),
            cpu_us,
            begun_at_us: wall_us(begun_ns, now_ns),
            // An embedded agent signs only when a receipt is asked for; the link of a remote one signs whole batches.
            proof: None,
        };
        self.paces.add(assignment.spec.module, took_ns);
        self.outputs.keep(entry.attempt, kept);
        self.held.remove(&entry.attempt);
        self.say(FromAgent::Voted(Box::new(report)));
    }

    /// A runner is gone. Only what it had begun is blamed.
    fn on_end(&mut self, key: RunnerKey, end: End) {
        let Some(runner) = self.runners.remove(&key) else { return };
        let now_ns = monotonic_ns();
        if !runner.ready && runner.doom.is_none() {
            self.failed_starts += 1;
            let pause_ms = 100_u64 << self.failed_starts.min(6);
            self.spare_after_ns = now_ns + pause_ms * 1_000_000;
            tracing::warn!(agent = self.config.name, detail = end.detail, "a runner did not start");
        } else {
            tracing::debug!(agent = self.config.name, runner = key, detail = end.detail, "a runner ended");
        }
        let begun = runner.process.page.begun();
        let front = runner.inflight.front().map(|front| front.seq);
        // Answers were heard before the end, so whoever claims to have begun what comes later lies about the first.
        let front_begun = runner.front_begun_ns.is_some();
        let overtaken = |seq| Some(seq) == front && (begun.seq > seq || front_begun);
        for entry in runner.inflight.iter().rev().filter(|entry| !entry.dropped) {
            let attempt = entry.attempt;
            let timed_out = matches!(&runner.doom, Some(Doom::TimedOut(late)) if *late == attempt);
            let had_begun = entry.seq == begun.seq || overtaken(entry.seq) || timed_out;
            let fault = match &runner.doom {
                Some(Doom::Drained) => Fault::Drained,
                Some(Doom::TimedOut(_)) if timed_out => Fault::TimedOut,
                Some(Doom::Broken(detail)) if had_begun => {
                    Fault::Crashed { signal: None, detail: detail.clone() }
                }
                None if had_begun => Fault::Crashed { signal: end.signal, detail: end.detail.clone() },
                doom => {
                    // Its own runner would not even begin it; what waited behind another says nothing.
                    let counts = Some(entry.seq) == front && matches!(doom, None | Some(Doom::Broken(_)));
                    self.set_back(attempt, counts, &end.detail);
                    continue;
                }
            };
            let begun_ns = runner.front_begun_ns.filter(|_| Some(entry.seq) == front).unwrap_or(begun.at_ns);
            let begun_at = had_begun.then(|| wall_us(begun_ns.clamp(entry.handed_ns, now_ns), now_ns));
            let cpu_us = if had_begun { end.cpu_us.saturating_sub(begun.cpu_us) } else { 0 };
            self.fault(attempt, fault, begun_at, cpu_us);
        }
    }

    /// Its runner died, or was needed for something else, before it had begun: it is handed to another, first of all.
    fn set_back(&mut self, attempt: AttemptId, counts: bool, how: &str) {
        let Some(held) = self.held.get_mut(&attempt) else { return };
        held.runner = None;
        held.setbacks += u32::from(counts);
        if self.drain.is_some_and(|drain| drain.over) {
            return self.fault(attempt, Fault::Drained, None, 0);
        }
        if held.setbacks > SETBACKS_MAX {
            let detail = format!("runners ended before they had begun it, the last one by {how}");
            return self.fault(attempt, Fault::Refused { detail }, None, 0);
        }
        self.queue.push_front(attempt);
    }
}

/// An instant of the monotonic clock as microseconds since the Unix epoch, by this machine's clock now.
pub(super) fn wall_us(at_ns: u64, now_ns: u64) -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let ago_us = now_ns.saturating_sub(at_ns) / 1_000;
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX).saturating_sub(ago_us)
}
