//! A slot: executes one attempt after the other in a runner of its own.
//!
//! The clock of an attempt starts when its runner marks it begun. At its timeout the runner is killed, its death is
//! awaited, and only then is the fault told: nothing of an attempt goes on after its end. A new runner starts at once.

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use super::inputs::{Inputs, Prepared};
use super::outputs::Kept;
use super::process::{Runner, Spawner};
use super::{AgentConfig, SlotReport};
use crate::compiler::Compiler;
use crate::digest::Digest;
use crate::id::{AttemptId, WorkspaceId};
use crate::protocol::agent::{Assignment, BlobBody, FromAgent, VoteReport};
use crate::result::Fault;
use crate::runner::frames::{Execute, FrameError, FromRunner, ToRunner, encode};
use crate::runner::{LIVE_BYTES_MAX, LIVE_HEADER};
use crate::sandbox::Variant;

/// Modules that a runner has loaded at once.
const LOADED_MAX: usize = 32;
/// Between two looks at a runner's mark and live output.
const LOOK: Duration = Duration::from_millis(100);
/// A runner that cannot be started is tried again after this.
const START_PAUSE: Duration = Duration::from_millis(200);

/// What a slot is asked about its present attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Wish {
    /// Kill this attempt.
    pub(super) abort: Option<AttemptId>,
    /// Kill whatever runs and call it drained.
    pub(super) drain: bool,
}

/// What a slot works with.
pub(super) struct Slot {
    pub(super) number: usize,
    pub(super) config: Arc<AgentConfig>,
    pub(super) spawner: Spawner,
    pub(super) compiler: Compiler,
    pub(super) inputs: Inputs,
    pub(super) work: mpsc::Receiver<Box<Assignment>>,
    pub(super) wishes: watch::Receiver<Wish>,
    pub(super) reports: mpsc::Sender<SlotReport>,
}

/// A runner with what is loaded in it.
struct Bound {
    runner: Runner,
    workspace: Option<WorkspaceId>,
    loaded: VecDeque<(Digest, Variant, u32, Digest)>,
    next_module: u32,
    next_sequence: u64,
}

/// How an attempt ended, as the coordinator will hear it.
enum End {
    Voted(Box<VoteReport>, Kept),
    Faulted { fault: Fault, begun_at_us: Option<u64>, cpu_us: u64 },
    /// Nobody wants to know.
    Aborted,
}

impl Slot {
    /// Runs until its agent drops the queue.
    pub(super) async fn run(mut self) {
        let mut bound = self.start_runner().await;
        loop {
            let assignment = tokio::select! {
                assignment = self.work.recv() => match assignment {
                    Some(assignment) => assignment,
                    None => return,
                },
                // an idle runner that ends is replaced before anybody needs it
                _ = idle_end(&mut bound) => {
                    bound = self.start_runner().await;
                    continue;
                }
            };
            let attempt = assignment.attempt;
            if bound.as_ref().is_some_and(|bound| bound.workspace.is_some_and(|workspace| workspace != assignment.workspace)) {
                // one workspace per runner: nothing that a guest left in the process is met by another's
                bound = self.start_runner().await;
            }
            let (end, kept) = self.execute(bound.take(), &assignment).await;
            let report = match end {
                End::Voted(report, outputs) => SlotReport::Ended {
                    slot: self.number,
                    attempt,
                    message: Some(FromAgent::Voted(report)),
                    outputs: Some(outputs),
                },
                End::Faulted { fault, begun_at_us, cpu_us } => SlotReport::Ended {
                    slot: self.number,
                    attempt,
                    message: Some(FromAgent::Faulted {
                        attempt,
                        epoch: assignment.epoch,
                        fault,
                        begun_at_us,
                        cpu_us,
                    }),
                    outputs: None,
                },
                End::Aborted => SlotReport::Ended { slot: self.number, attempt, message: None, outputs: None },
            };
            if self.reports.send(report).await.is_err() {
                return;
            }
            bound = match kept {
                Some(bound) => Some(bound),
                None => self.start_runner().await,
            };
        }
    }

    async fn start_runner(&self) -> Option<Bound> {
        match Runner::start(&self.spawner, &self.config.exe).await {
            Ok(runner) => {
                Some(Bound { runner, workspace: None, loaded: VecDeque::new(), next_module: 0, next_sequence: 1 })
            }
            Err(error) => {
                tracing::error!(worker = %self.config.name, %error, "a runner did not start");
                tokio::time::sleep(START_PAUSE).await;
                None
            }
        }
    }

    /// Executes one attempt and returns how it ended, with the runner if it can go on.
    async fn execute(&mut self, bound: Option<Bound>, assignment: &Assignment) -> (End, Option<Bound>) {
        let refused = |detail: String| End::Faulted { fault: Fault::Refused { detail }, begun_at_us: None, cpu_us: 0 };
        let Some(mut bound) = bound else { return (refused("no runner could be started".to_owned()), None) };
        bound.workspace = Some(assignment.workspace);
        let spec = &assignment.spec;
        let variant = Variant::of(&spec.limits);
        let (module, artifact) = match self.load(&mut bound, spec.module, variant).await {
            Ok(loaded) => loaded,
            Err(LoadError::Gone) => return (self.died(bound, assignment, 0).await, None),
            Err(LoadError::Refused(detail)) => return (refused(detail), Some(bound)),
        };
        let prepared = match self.inputs.prepare(assignment).await {
            Ok(prepared) => prepared,
            Err(detail) => return (refused(detail), Some(bound)),
        };
        let Prepared { stdin, mounts, descriptors } = prepared;
        let sequence = bound.next_sequence;
        bound.next_sequence += 1;
        let clock_ns = u64::try_from(spec.clock.as_nanosecond()).unwrap_or(0);
        let execute = Execute {
            sequence,
            module,
            entry: spec.entry.clone(),
            args: spec.args.clone(),
            env: spec.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            stdin,
            mounts,
            clock_ns,
            seed: spec.seed,
            limits: spec.limits,
        };
        let frame = match encode(&ToRunner::Execute(Box::new(execute))) {
            Ok(frame) => frame,
            Err(error) => return (refused(error.to_string()), Some(bound)),
        };
        let beside: Vec<BorrowedFd<'_>> = descriptors.iter().map(File::as_fd).collect();
        match bound.runner.send(&frame, &beside).await {
            Ok(()) => self.watch(bound, assignment, sequence, artifact).await,
            Err(FrameError::Gone) => (self.died(bound, assignment, sequence).await, None),
            Err(error) => (refused(error.to_string()), Some(bound)),
        }
    }

    /// Waits for the end of the attempt that runs.
    async fn watch(
        &mut self,
        mut bound: Bound,
        assignment: &Assignment,
        sequence: u64,
        artifact: Digest,
    ) -> (End, Option<Bound>) {
        let timeout = Duration::from_millis(assignment.timeout_ms);
        let sent = Instant::now();
        let mut begun: Option<Instant> = None;
        let mut shown = [0; 2];
        let cpu_before = bound.runner.cpu_us();
        loop {
            let deadline = begun.map_or(sent + LOOK.min(timeout), |begun| begun + timeout);
            let look = Instant::now() + LOOK;
            tokio::select! {
                frame = bound.runner.receive() => match frame {
                    Ok((FromRunner::Done { manifest, inline, stored, cpu_us, .. }, descriptors)) => {
                        let begun_at_us = bound.runner.begun_at(sequence).unwrap_or_default();
                        let end = self.vote(assignment, manifest, (inline, stored, descriptors), artifact, cpu_us, begun_at_us);
                        return (end, Some(bound));
                    }
                    Ok((FromRunner::Refused { why, .. }, _)) => {
                        let fault = Fault::Refused { detail: why };
                        return (End::Faulted { fault, begun_at_us: None, cpu_us: 0 }, Some(bound));
                    }
                    Ok((FromRunner::Ready, _)) => {}
                    Err(_) => return (self.died(bound, assignment, sequence).await, None),
                },
                changed = self.wishes.changed() => {
                    let wish = *self.wishes.borrow_and_update();
                    if changed.is_err() || wish.abort == Some(assignment.attempt) {
                        let _ = bound.runner.end().await;
                        return (End::Aborted, None);
                    }
                    if wish.drain {
                        let begun_at_us = bound.runner.begun_at(sequence);
                        let _ = bound.runner.end().await;
                        return (End::Faulted { fault: Fault::Drained, begun_at_us, cpu_us: 0 }, None);
                    }
                }
                () = tokio::time::sleep_until(deadline.min(look).into()) => {}
            }
            if begun.is_none() && bound.runner.begun_at(sequence).is_some() {
                begun = Some(sent);
            }
            self.show(&bound, assignment.attempt, &mut shown, cpu_before, sequence).await;
            if begun.is_some_and(|begun| begun.elapsed() >= timeout) {
                let begun_at_us = bound.runner.begun_at(sequence);
                let cpu_us = bound.runner.cpu_us().saturating_sub(cpu_before);
                // killed and gone before anybody hears of it
                let _ = bound.runner.end().await;
                return (End::Faulted { fault: Fault::TimedOut, begun_at_us, cpu_us }, None);
            }
        }
    }

    /// Tells how the attempt fares, and passes on what it shows.
    async fn show(&self, bound: &Bound, attempt: AttemptId, shown: &mut [u64; 2], cpu_before: u64, sequence: u64) {
        let Some(begun_at_us) = bound.runner.begun_at(sequence) else { return };
        let cpu_us = bound.runner.cpu_us().saturating_sub(cpu_before);
        let mut live = Vec::new();
        for (index, shown) in shown.iter_mut().enumerate() {
            let mut length = [0; 8];
            if bound.runner.live.read_exact_at(&mut length, index as u64 * 8).is_err() {
                continue;
            }
            let length = u64::from_le_bytes(length).min(LIVE_BYTES_MAX);
            if length > *shown {
                let mut bytes = vec![0; usize::try_from(length - *shown).unwrap_or(0)];
                let base = LIVE_HEADER + index as u64 * LIVE_BYTES_MAX;
                if bound.runner.live.read_exact_at(&mut bytes, base + *shown).is_ok() {
                    live.push((index == 1, *shown, Bytes::from(bytes)));
                    *shown = length;
                }
            }
        }
        let report = SlotReport::Fares { attempt, cpu_us, begun_at_us, live };
        let _ = self.reports.send(report).await;
    }

    fn vote(
        &self,
        assignment: &Assignment,
        manifest: Bytes,
        outputs: (Vec<(Digest, Bytes)>, Vec<(Digest, u64, u64)>, Vec<OwnedFd>),
        artifact: Digest,
        cpu_us: u64,
        begun_at_us: u64,
    ) -> End {
        let (inline, stored, descriptors) = outputs;
        let memory = descriptors.into_iter().next().map(|descriptor| Arc::new(File::from(descriptor)));
        let mut kept = Kept::default();
        for (digest, bytes) in &inline {
            kept.insert(*digest, BlobBody::Inline(bytes.clone()), bytes.len() as u64);
        }
        for (digest, offset, size) in stored {
            let Some(file) = &memory else { break };
            kept.insert(digest, BlobBody::File { file: Arc::clone(file), offset, size }, size);
        }
        let report = VoteReport {
            attempt: assignment.attempt,
            epoch: assignment.epoch,
            nonce: assignment.nonce,
            run_key: assignment.run_key,
            class: self.config.class,
            artifact,
            result: Digest::of(&manifest),
            manifest,
            inline,
            cpu_us,
            begun_at_us,
            signature: None,
        };
        End::Voted(Box::new(report), kept)
    }

    /// The runner is gone: what had begun has crashed.
    async fn died(&self, bound: Bound, assignment: &Assignment, sequence: u64) -> End {
        let begun_at_us = bound.runner.begun_at(sequence);
        let cpu_us = 0;
        let (signal, detail) = bound.runner.post_mortem().await;
        tracing::info!(worker = %self.config.name, attempt = %assignment.attempt, ?signal, %detail, "a runner died");
        End::Faulted { fault: Fault::Crashed { signal, detail }, begun_at_us, cpu_us }
    }

    /// Sees to it that the runner has the module loaded: its number there, and the digest of its machine code.
    async fn load(&self, bound: &mut Bound, module: Digest, variant: Variant) -> Result<(u32, Digest), LoadError> {
        let position = bound.loaded.iter().position(|(other, kind, _, _)| (*other, *kind) == (module, variant));
        if let Some(entry) = position.and_then(|position| bound.loaded.remove(position)) {
            bound.loaded.push_front(entry);
            return Ok((entry.2, entry.3));
        }
        let file = self.inputs.module(module).await.map_err(LoadError::Refused)?;
        let artifact = self
            .compiler
            .artifact(module, variant, move || Ok(file))
            .await
            .map_err(|error| LoadError::Refused(format!("no machine code: {error}")))?;
        let number = bound.next_module;
        bound.next_module += 1;
        let send = |frame: ToRunner| encode(&frame).map_err(|error| LoadError::Refused(error.to_string()));
        let load = send(ToRunner::Load { module: number, fueled: variant == Variant::Fueled })?;
        bound.runner.send(&load, &[artifact.file.as_fd()]).await.map_err(|_| LoadError::Gone)?;
        bound.loaded.push_front((module, variant, number, artifact.digest));
        if bound.loaded.len() > LOADED_MAX
            && let Some((_, _, oldest, _)) = bound.loaded.pop_back()
        {
            let unload = send(ToRunner::Unload { module: oldest })?;
            bound.runner.send(&unload, &[]).await.map_err(|_| LoadError::Gone)?;
        }
        Ok((number, artifact.digest))
    }
}

enum LoadError {
    Gone,
    Refused(String),
}

/// Completes when an idle runner ends.
async fn idle_end(bound: &mut Option<Bound>) {
    match bound {
        // an idle runner says nothing, so whatever comes is its end
        Some(bound) => drop(bound.runner.receive().await),
        None => {}
    }
}
