//! The session: hears the coordinator, the runners and the clock, and answers.
//!
//! Invariant: nothing here waits for anything but the next thing that happens; what takes long is a task or a process.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{BoxStream, SelectAll};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::task::{JoinError, JoinSet};

use super::AgentConfig;
use super::input::InputSource;
use super::outputs::Outputs;
use super::pace::{Paces, SHORT_NS};
use super::prepare::{ArtifactSource, Prepared, Preparer};
use super::process::Event;
use super::slot::{Doom, Runner, RunnerKey};
use super::spawner::Spawner;
use crate::id::AttemptId;
use crate::protocol::agent::{Assignment, FromAgent, ToAgent};
use crate::result::Fault;
use crate::runner::clock::monotonic_ns;
use crate::runner::page::AHEAD_MAX;

/// Attempts that a runner is handed beyond the one that it executes, when attempts are short.
pub(super) const AHEAD: usize = 3;
const _: () = assert!(AHEAD < AHEAD_MAX, "the shared page has a word for each");
/// Messages handled before their consequences are carried out together.
const BATCH: usize = 64;
/// Answers that may wait for a coordinator that does not listen; then nothing more is heard from it.
const UNSAID_MAX: usize = 4_096;
/// How long the end of runners is waited for when the session ends.
const FAREWELL: Duration = Duration::from_secs(5);

/// What comes next.
enum Heard {
    /// The coordinator went.
    Gone,
    Message(ToAgent),
    Runner(RunnerKey, Event),
    Prepared(Result<(AttemptId, Result<Prepared, String>), JoinError>),
    Time,
}

/// A drain that was asked for.
#[derive(Clone, Copy)]
pub(super) struct Drain {
    /// When what still runs is killed, by the monotonic clock.
    pub(super) deadline_ns: u64,
    /// That has happened.
    pub(super) over: bool,
}

/// An attempt that was assigned and not answered.
pub(super) struct Held {
    pub(super) assignment: Box<Assignment>,
    pub(super) prepared: Option<Prepared>,
    /// The runner that was handed it.
    pub(super) runner: Option<RunnerKey>,
    /// Runners that died under it before they had begun it.
    pub(super) setbacks: u32,
    /// Somebody watches its output.
    pub(super) watched: bool,
    /// How far each stream was told.
    pub(super) told: [u64; 2],
}

pub(super) struct Session {
    pub(super) config: AgentConfig,
    pub(super) preparer: Preparer,
    pub(super) held: HashMap<AttemptId, Held>,
    /// Prepared, waiting for a runner.
    pub(super) queue: VecDeque<AttemptId>,
    pub(super) runners: BTreeMap<RunnerKey, Runner>,
    pub(super) events: SelectAll<BoxStream<'static, (RunnerKey, Event)>>,
    pub(super) runners_started: RunnerKey,
    /// Runners in a row that ended before they were ready.
    pub(super) failed_starts: u32,
    /// No spare before then, by the monotonic clock.
    pub(super) spare_after_ns: u64,
    pub(super) spawner: Spawner,
    pub(super) outputs: Outputs,
    pub(super) paces: Paces,
    /// When to say something next, and when to look at watched output, by the monotonic clock.
    pub(super) beat_ns: u64,
    pub(super) tail_ns: u64,
    pub(super) drain: Option<Drain>,
    preparing: JoinSet<(AttemptId, Result<Prepared, String>)>,
    to: mpsc::Receiver<ToAgent>,
    from: mpsc::Sender<FromAgent>,
    unsaid: VecDeque<FromAgent>,
    /// Assignments received.
    received: u64,
    /// What the coordinator believes that it may assign, as far as this side can know.
    granted: u32,
}

impl Session {
    pub(super) fn new(
        config: AgentConfig,
        inputs: Arc<dyn InputSource>,
        artifacts: Arc<dyn ArtifactSource>,
        to: mpsc::Receiver<ToAgent>,
        from: mpsc::Sender<FromAgent>,
    ) -> std::io::Result<Session> {
        let (spawner, words) = Spawner::start(config.exe.clone(), &config.name)?;
        super::watch::log_words(config.name.clone(), words)?;
        Ok(Session {
            preparer: Preparer::new(inputs, artifacts),
            held: HashMap::new(),
            queue: VecDeque::new(),
            runners: BTreeMap::new(),
            events: SelectAll::new(),
            runners_started: 0,
            failed_starts: 0,
            spare_after_ns: 0,
            spawner,
            outputs: Outputs::default(),
            paces: Paces::default(),
            beat_ns: 0,
            tail_ns: u64::MAX,
            drain: None,
            preparing: JoinSet::new(),
            to,
            from,
            unsaid: VecDeque::new(),
            received: 0,
            granted: 0,
            config,
        })
    }

    /// Until the coordinator goes, or the agent has drained.
    pub(super) async fn run(mut self) {
        let hello = FromAgent::Hello {
            classes: self.config.classes,
            about: self.config.about.clone(),
            slots: self.config.slots,
            memory_bytes: self.config.memory_bytes,
            labels: self.config.labels.clone(),
            holds: Vec::new(),
            version: self.config.version.clone(),
        };
        self.say(hello);
        let mut drained = false;
        while !drained && self.step().await {
            drained = self.has_drained();
        }
        self.farewell().await;
        if drained {
            self.unsaid.push_back(FromAgent::Drained);
            while let Some(message) = self.unsaid.pop_front() {
                if self.from.send(message).await.is_err() {
                    return;
                }
            }
        }
    }

    /// Hears the next thing and carries out what follows. `false`: the coordinator is gone.
    async fn step(&mut self) -> bool {
        self.settle();
        let wake = Duration::from_nanos(self.wake_ns().saturating_sub(monotonic_ns()));
        let listening = self.unsaid.len() < UNSAID_MAX;
        let heard = tokio::select! {
            biased;
            () = self.from.closed() => Heard::Gone,
            Some((key, event)) = self.events.next(), if !self.events.is_empty() => Heard::Runner(key, event),
            message = self.to.recv(), if listening => message.map_or(Heard::Gone, Heard::Message),
            Some(ended) = self.preparing.join_next(), if !self.preparing.is_empty() => Heard::Prepared(ended),
            Ok(permit) = self.from.reserve(), if !self.unsaid.is_empty() => {
                if let Some(message) = self.unsaid.pop_front() {
                    permit.send(message);
                }
                return true;
            }
            () = tokio::time::sleep(wake) => Heard::Time,
        };
        match heard {
            Heard::Gone => return false,
            Heard::Runner(key, event) => self.on_event(key, event),
            Heard::Message(message) => {
                self.on_message(message);
                for _ in 1..BATCH {
                    let Ok(message) = self.to.try_recv() else { break };
                    self.on_message(message);
                }
            }
            Heard::Prepared(Ok((attempt, prepared))) => self.on_prepared(attempt, prepared),
            // Only the end of the runtime cancels one, and panics are caught within.
            Heard::Prepared(Err(error)) => tracing::debug!(%error, "preparing an attempt was cancelled"),
            Heard::Time => self.on_time(),
        }
        true
    }

    /// Carries out what follows from what was heard.
    fn settle(&mut self) {
        self.dispatch();
        self.hand_back();
        self.keep_spares();
        let credits = self.credits();
        if credits != self.granted {
            self.granted = credits;
            self.say(FromAgent::Credits { credits, received: self.received });
        }
    }

    /// Attempts that it would take beyond those that it holds.
    fn credits(&self) -> u32 {
        let slots = self.config.slots as usize;
        let capacity = if self.drain.is_some() || self.outputs.bytes() >= self.config.outputs_bytes_max {
            0
        } else if self.paces.all.is_short() && !self.has_long(monotonic_ns()) {
            let ahead = if self.paces.all.is_tiny() { self.config.ahead_tiny } else { self.config.ahead };
            slots * (1 + ahead)
        } else {
            slots
        };
        u32::try_from(capacity.saturating_sub(self.held.len())).unwrap_or(u32::MAX)
    }

    /// Whether it has granted more than its slots can begin at once.
    pub(super) fn grants_ahead(&self) -> bool {
        self.granted as usize + self.held.len() > self.config.slots as usize
    }

    /// Whether some attempt has been executing for longer than a short one.
    fn has_long(&self, now_ns: u64) -> bool {
        self.longest_ns(now_ns) >= SHORT_NS
    }

    /// How long the attempt that has been executing for the longest time has done so.
    pub(super) fn longest_ns(&self, now_ns: u64) -> u64 {
        let busy = self.runners.values().filter(|runner| !runner.inflight.is_empty());
        busy.map(|runner| now_ns.saturating_sub(runner.front_ns)).max().unwrap_or(0)
    }

    fn on_message(&mut self, message: ToAgent) {
        match message {
            ToAgent::Assign(assignment) => self.on_assign(assignment),
            ToAgent::Abort(attempt) => self.abort(attempt),
            ToAgent::Collect { attempt, digests } => {
                let blobs = self.outputs.blobs(attempt, &digests);
                self.say(FromAgent::Blobs { attempt, blobs });
            }
            ToAgent::Release(attempt) => self.outputs.release(attempt),
            ToAgent::Watch(attempt) => {
                if let Some(held) = self.held.get_mut(&attempt) {
                    held.watched = true;
                    self.tail_ns = self.tail_ns.min(monotonic_ns());
                }
            }
            ToAgent::Drain { within_ms } => {
                let deadline_ns = monotonic_ns().saturating_add(within_ms.saturating_mul(1_000_000));
                // A second word may only bring it nearer.
                let before = self.drain.filter(|drain| drain.over || drain.deadline_ns <= deadline_ns);
                self.drain = before.or(Some(Drain { deadline_ns, over: false }));
            }
        }
    }

    fn on_assign(&mut self, assignment: Box<Assignment>) {
        self.received += 1;
        self.granted = self.granted.saturating_sub(1);
        let attempt = assignment.attempt;
        if self.held.contains_key(&attempt) {
            tracing::warn!(%attempt, "an attempt was assigned twice");
            return;
        }
        let watched = assignment.live;
        let prepared = match self.preparer.at_once(&assignment).transpose() {
            Some(prepared) => Ok(prepared),
            None => Err(self.preparer.fetch(&assignment)),
        };
        let held = Held { assignment, prepared: None, runner: None, setbacks: 0, watched, told: [0; 2] };
        self.held.insert(attempt, held);
        if let Some(refusal) = self.refusal() {
            return self.fault(attempt, refusal, None, 0);
        }
        if watched {
            self.tail_ns = self.tail_ns.min(monotonic_ns());
        }
        match prepared {
            Ok(prepared) => self.on_prepared(attempt, prepared),
            Err(fetch) => {
                let fetch = AssertUnwindSafe(fetch).catch_unwind();
                let panicked = |_| Err("preparing it failed: a panic in the worker".to_owned());
                self.preparing.spawn(async move { (attempt, fetch.await.unwrap_or_else(panicked)) });
            }
        }
    }

    /// Why the agent takes no work at all.
    fn refusal(&self) -> Option<Fault> {
        if self.drain.is_some() {
            return Some(Fault::Drained);
        }
        let slots = self.config.slots as usize;
        let detail = if self.outputs.bytes() >= self.config.outputs_bytes_max {
            "its outputs wait for collection"
        } else if self.held.len() > 2 * slots * (1 + self.config.ahead_tiny) {
            "it holds more attempts than it asked for"
        } else {
            return None;
        };
        Some(Fault::Refused { detail: detail.to_owned() })
    }

    fn on_prepared(&mut self, attempt: AttemptId, prepared: Result<Prepared, String>) {
        if let Ok(prepared) = &prepared {
            self.preparer.keep(prepared);
        }
        // It may have been aborted meanwhile.
        let Some(held) = self.held.get_mut(&attempt) else { return };
        match prepared {
            Ok(prepared) => {
                held.prepared = Some(prepared);
                self.queue.push_back(attempt);
            }
            Err(detail) => self.fault(attempt, Fault::Refused { detail }, None, 0),
        }
    }

    /// Answers an attempt with a fault.
    pub(super) fn fault(&mut self, attempt: AttemptId, fault: Fault, begun_at_us: Option<u64>, cpu_us: u64) {
        let Some(held) = self.held.remove(&attempt) else { return };
        let epoch = held.assignment.epoch;
        tracing::debug!(%attempt, %fault, "an attempt met a fault");
        self.say(FromAgent::Faulted { attempt, epoch, fault, begun_at_us, cpu_us });
    }

    /// Nobody needs it: no answer, no outputs.
    fn abort(&mut self, attempt: AttemptId) {
        self.outputs.release(attempt);
        let Some(held) = self.held.remove(&attempt) else { return };
        self.queue.retain(|queued| *queued != attempt);
        let Some(runner) = held.runner.and_then(|key| self.runners.get_mut(&key)) else { return };
        let Some(entry) = runner.inflight.iter_mut().find(|entry| entry.attempt == attempt) else { return };
        entry.dropped = true;
        let seq = entry.seq;
        // If something behind it has begun, its answer is on its way and is not listened to.
        let begun = runner.process.page.revoke(seq);
        if begun.seq == seq || runner.lies(begun) || runner.was_begun(seq) {
            runner.kill(Doom::Aborted);
        }
        // Otherwise it has to skip it.
        runner.check_ns = runner.check_ns.min(monotonic_ns());
    }

    fn has_drained(&self) -> bool {
        self.drain.is_some_and(|drain| self.held.is_empty() && (self.outputs.is_empty() || drain.over))
    }

    /// Says something, or keeps it until the coordinator listens.
    pub(super) fn say(&mut self, message: FromAgent) {
        if !self.unsaid.is_empty() {
            return self.unsaid.push_back(message);
        }
        if let Err(TrySendError::Full(message)) = self.from.try_send(message) {
            self.unsaid.push_back(message);
        }
    }

    /// Says something that may be lost.
    pub(super) fn mention(&mut self, message: FromAgent) {
        if self.unsaid.is_empty() {
            // Full or closed: it may be lost.
            drop(self.from.try_send(message));
        }
    }

    /// Kills every runner and sees them end.
    async fn farewell(&mut self) {
        self.preparing.abort_all();
        for runner in self.runners.values_mut() {
            runner.kill(Doom::Retired);
        }
        let ending = async {
            while let Some((key, event)) = self.events.next().await {
                match event {
                    Event::Started(child) => child.kill(),
                    Event::Said(..) => {}
                    Event::Ended(_) => drop(self.runners.remove(&key)),
                }
            }
        };
        if tokio::time::timeout(FAREWELL, ending).await.is_err() {
            tracing::warn!(agent = self.config.name, "runners did not end in time");
        }
    }
}
