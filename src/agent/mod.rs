//! A worker: executes what a coordinator assigns, in runners, and keeps what came out until it is released.
//!
//! An agent holds keys and the network and never guest code; its runners hold guest code and nothing else. It knows no
//! rule: it executes, reports, and forgets when told to. Embedded agents are spoken to by channel.

mod inputs;
mod outputs;
mod process;
mod slot;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use self::inputs::Inputs;
pub use self::inputs::{Input, InputSource};
use self::outputs::{Kept, Outputs};
pub use self::process::anonymous_file;
use self::process::Spawner;
use self::slot::{Slot, Wish};
use crate::compiler::Compiler;
use crate::core::Class;
use crate::id::AttemptId;
use crate::protocol::agent::{Assignment, Beat, FromAgent, ToAgent};
use crate::result::Fault;

/// Messages of a coordinator that wait for this agent; more than its credits and what may follow from each.
const QUEUE_MAX: usize = 1_024;

/// What an agent is told.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// The program whose `runner` role is started.
    pub exe: PathBuf,
    /// What people call it.
    pub name: String,
    /// Attempts at once.
    pub slots: u32,
    /// Memory for all of them, in bytes.
    pub memory_bytes: u64,
    /// What placement may ask for.
    pub labels: BTreeMap<String, String>,
    /// The equivalence class of this machine and build.
    pub class: Class,
    /// Between two heartbeats; each is up to a fifth earlier or later.
    pub heartbeat: Duration,
    /// Outputs that are kept for the coordinator at most, in bytes; beyond it attempts are refused.
    pub outputs_bytes_max: u64,
}

/// Both directions of a session.
pub struct AgentHandle {
    /// To the agent; dropping it ends the agent and kills its runners.
    pub to: mpsc::Sender<ToAgent>,
    /// From the agent.
    pub from: mpsc::Receiver<FromAgent>,
}

/// What a slot tells its agent.
enum SlotReport {
    /// An attempt ended; the slot is free.
    Ended { slot: usize, attempt: AttemptId, message: Option<FromAgent>, outputs: Option<Kept> },
    /// How an attempt fares, and what it showed since the last time: standard error?, offset, bytes.
    Fares { attempt: AttemptId, cpu_us: u64, begun_at_us: u64, live: Vec<(bool, u64, Bytes)> },
}

/// Starts an agent; its first word is `Hello`.
///
/// # Errors
///
/// If the thread that starts runners cannot be had.
pub fn start(config: AgentConfig, source: Arc<dyn InputSource>, compiler: Compiler) -> io::Result<AgentHandle> {
    let (to, orders) = mpsc::channel(QUEUE_MAX);
    let (said, from) = mpsc::channel(QUEUE_MAX);
    let config = Arc::new(config);
    let spawner = Spawner::start()?;
    let (reports, heard) = mpsc::channel(QUEUE_MAX);
    let mut slots = Vec::new();
    for number in 0..config.slots as usize {
        let (work, queue) = mpsc::channel(1);
        let (wish, wishes) = watch::channel(Wish::default());
        let slot = Slot {
            number,
            config: Arc::clone(&config),
            spawner: spawner.clone(),
            compiler: compiler.clone(),
            inputs: Inputs { source: Arc::clone(&source) },
            work: queue,
            wishes,
            reports: reports.clone(),
        };
        tokio::spawn(slot.run());
        slots.push(SlotLink { work, wish, attempt: None });
    }
    let agent = Agent {
        config,
        said,
        slots,
        outputs: Outputs::default(),
        beats: HashMap::new(),
        received: 0,
        draining: None,
    };
    tokio::spawn(agent.run(orders, heard));
    Ok(AgentHandle { to, from })
}

struct SlotLink {
    work: mpsc::Sender<Box<Assignment>>,
    wish: watch::Sender<Wish>,
    attempt: Option<AttemptId>,
}

struct Agent {
    config: Arc<AgentConfig>,
    said: mpsc::Sender<FromAgent>,
    slots: Vec<SlotLink>,
    outputs: Outputs,
    beats: HashMap<AttemptId, Beat>,
    /// Assignments received in this session.
    received: u64,
    /// Until when what runs may go on.
    draining: Option<tokio::time::Instant>,
}

/// The other side is gone.
struct Hangup;

impl Agent {
    async fn run(mut self, mut orders: mpsc::Receiver<ToAgent>, mut heard: mpsc::Receiver<SlotReport>) {
        if self.greet().await.is_err() {
            return;
        }
        let mut heartbeat = tokio::time::Instant::now() + self.config.heartbeat;
        loop {
            let draining = self.draining;
            let drained = async {
                match draining {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let went = tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.obey(order).await,
                    None => return,
                },
                Some(report) = heard.recv() => self.reported(report).await,
                () = tokio::time::sleep_until(heartbeat) => {
                    heartbeat = tokio::time::Instant::now() + self.jittered();
                    self.say(FromAgent::Heartbeat(self.beats.values().copied().collect())).await
                }
                () = drained => {
                    self.draining = None;
                    for slot in &self.slots {
                        slot.wish.send_modify(|wish| wish.drain = true);
                    }
                    Ok(())
                }
            };
            if went.is_err() {
                return;
            }
        }
    }

    /// A fifth earlier or later, so that agents that started together do not stay together.
    fn jittered(&self) -> Duration {
        let mut byte = [128];
        // without randomness heartbeats only stay in step
        let _ = getrandom::fill(&mut byte);
        self.config.heartbeat.mul_f64(0.8 + 0.4 * f64::from(byte[0]) / 255.0)
    }

    async fn say(&self, message: FromAgent) -> Result<(), Hangup> {
        self.said.send(message).await.map_err(|_| Hangup)
    }

    async fn greet(&self) -> Result<(), Hangup> {
        self.say(FromAgent::Hello {
            class: self.config.class,
            slots: self.config.slots,
            memory_bytes: self.config.memory_bytes,
            labels: self.config.labels.clone(),
            holds: Vec::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        })
        .await?;
        self.grant().await
    }

    /// Free slots; none while it drains.
    async fn grant(&self) -> Result<(), Hangup> {
        let free = self.slots.iter().filter(|slot| slot.attempt.is_none()).count();
        let credits = if self.draining.is_some() { 0 } else { u32::try_from(free).unwrap_or(u32::MAX) };
        self.say(FromAgent::Credits { credits, received: self.received }).await
    }

    async fn obey(&mut self, order: ToAgent) -> Result<(), Hangup> {
        match order {
            ToAgent::Assign(assignment) => self.assign(assignment).await?,
            ToAgent::Abort(attempt) => {
                if let Some(slot) = self.slots.iter().find(|slot| slot.attempt == Some(attempt)) {
                    slot.wish.send_modify(|wish| wish.abort = Some(attempt));
                }
                self.outputs.release(attempt);
            }
            ToAgent::Collect { attempt, digests } => {
                let blobs = self.outputs.bodies(attempt, &digests);
                self.say(FromAgent::Blobs { attempt, blobs }).await?;
            }
            ToAgent::Release(attempt) => self.outputs.release(attempt),
            // output is always looked at while an attempt runs long
            ToAgent::Watch(_) => {}
            ToAgent::Drain { within_ms } => {
                self.draining = Some(tokio::time::Instant::now() + Duration::from_millis(within_ms));
                self.grant().await?;
                self.drained_if_idle().await?;
            }
        }
        Ok(())
    }

    async fn assign(&mut self, assignment: Box<Assignment>) -> Result<(), Hangup> {
        self.received += 1;
        let (attempt, epoch) = (assignment.attempt, assignment.epoch);
        let is_full = self.outputs.bytes() >= self.config.outputs_bytes_max;
        let free = self.slots.iter_mut().find(|slot| slot.attempt.is_none() && !is_full);
        let taken = match free {
            Some(slot) if slot.work.try_send(assignment).is_ok() => {
                slot.attempt = Some(attempt);
                true
            }
            _ => false,
        };
        if taken {
            return Ok(());
        }
        let detail = match is_full {
            true => format!("it keeps {} bytes of outputs that were not released", self.outputs.bytes()),
            false => "it has no free slot".to_owned(),
        };
        let fault = Fault::Refused { detail };
        self.say(FromAgent::Faulted { attempt, epoch, fault, begun_at_us: None, cpu_us: 0 }).await?;
        self.grant().await
    }

    async fn reported(&mut self, report: SlotReport) -> Result<(), Hangup> {
        match report {
            SlotReport::Ended { slot, attempt, message, outputs } => {
                if let Some(slot) = self.slots.get_mut(slot) {
                    slot.attempt = None;
                }
                self.beats.remove(&attempt);
                if let Some(outputs) = outputs {
                    self.outputs.keep(attempt, outputs);
                }
                if let Some(message) = message {
                    self.say(message).await?;
                }
                self.grant().await?;
                self.drained_if_idle().await
            }
            SlotReport::Fares { attempt, cpu_us, begun_at_us, live } => {
                let known = self.beats.insert(attempt, Beat { attempt, cpu_us, begun_at_us: Some(begun_at_us) });
                if known.is_none() {
                    self.say(FromAgent::Heartbeat(vec![Beat { attempt, cpu_us, begun_at_us: Some(begun_at_us) }]))
                        .await?;
                }
                for (is_stderr, offset, bytes) in live {
                    self.say(FromAgent::Live { attempt, is_stderr, offset, bytes }).await?;
                }
                Ok(())
            }
        }
    }

    async fn drained_if_idle(&mut self) -> Result<(), Hangup> {
        let is_idle = self.slots.iter().all(|slot| slot.attempt.is_none());
        if self.draining.is_some() && is_idle {
            self.say(FromAgent::Drained).await?;
        }
        Ok(())
    }
}
