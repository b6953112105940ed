//! The agent: one worker with a number of slots, a pool of runners, and a session with its coordinator by channel.
//!
//! Invariants: an agent never executes guest code itself. An attempt is answered once (a vote or a fault), or not at all
//! if it was aborted; a fault of an attempt that had begun is reported after its runner is dead, never before. Only the
//! attempt that had begun is blamed for the death of a runner: what was handed ahead goes on elsewhere. Everything that an
//! agent holds is bounded: attempts, runners, open artifacts, bytes of outputs.
//!
//! It does not know runs beyond their specs, other workers, verdicts, or what a result means. Remote workers run the same
//! session with the network behind the channels.

pub mod corpus;
mod dispatch;
mod input;
mod invocation;
pub mod misbehave;
mod outputs;
mod pace;
mod prepare;
mod process;
pub mod remote;
mod session;
mod slot;
mod spawner;
mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub use input::{Input, InputSource};
pub use prepare::ArtifactSource;

use self::session::Session;
use crate::class::{ClassInputs, Classes};
use crate::protocol::agent::{FromAgent, ToAgent};

/// Messages that may wait in each direction before the other side has to.
const CHANNEL_MESSAGES: usize = 1024;

/// One worker.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// For logs and the names of its threads.
    pub name: String,
    /// The program whose `runner` role is started: Lockstep itself.
    pub exe: PathBuf,
    /// Attempts at once.
    pub slots: u32,
    /// Short attempts that it takes beyond those, for each slot: they wait here instead of in the coordinator. On the other
    /// end of a network more of them are worth it, because what is said of them then travels together.
    pub ahead: usize,
    /// The same for tiny ones, no fewer than that.
    pub ahead_tiny: usize,
    /// Memory for all of them, in bytes: told to the coordinator, which leases it.
    pub memory_bytes: u64,
    /// What placement may ask for.
    pub labels: BTreeMap<String, String>,
    /// Its equivalence classes.
    pub classes: Classes,
    /// What they are made of, for people.
    pub about: Vec<ClassInputs>,
    /// The build, for people.
    pub version: String,
    /// Outputs that are kept for collection, in bytes; beyond it no work is taken.
    pub outputs_bytes_max: u64,
    /// Idle runners that are kept for their workspaces.
    pub parked_max: usize,
    /// Runners that are kept ready for a workspace that has none, so that a dead one is replaced at once.
    pub spares: usize,
    /// How long a runner may take to begin an attempt that is its first, in milliseconds: it has to start, and to load
    /// the module.
    pub begin_ms: u64,
    /// Between two heartbeats, in milliseconds, give or take a fifth.
    pub heartbeat_ms: u64,
}

impl AgentConfig {
    /// A worker of this build with the defaults.
    pub fn new(name: String, exe: PathBuf, slots: u32, memory_bytes: u64, classes: Classes) -> AgentConfig {
        AgentConfig {
            name,
            exe,
            slots,
            ahead: session::AHEAD,
            ahead_tiny: session::AHEAD,
            memory_bytes,
            labels: BTreeMap::new(),
            classes,
            about: Vec::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            outputs_bytes_max: (memory_bytes / 2).min(4 << 30),
            parked_max: 4,
            spares: 1,
            begin_ms: 30_000,
            heartbeat_ms: 1_000,
        }
    }
}

impl AgentConfig {
    /// [`AgentConfig::begin_ms`] in nanoseconds.
    fn begin_ns(&self) -> u64 {
        self.begin_ms.saturating_mul(1_000_000)
    }
}

/// A running agent. It ends, with all of its runners, when `to` or `from` is dropped, or when it has drained.
#[derive(Debug)]
pub struct AgentHandle {
    /// To the agent.
    pub to: mpsc::Sender<ToAgent>,
    /// From the agent: `Hello` first.
    pub from: mpsc::Receiver<FromAgent>,
    /// Ends when the last runner is gone.
    pub ended: JoinHandle<()>,
}

/// Starts an agent on the current tokio runtime.
///
/// # Errors
///
/// If the machine has no thread or pipe left.
pub fn start(
    config: AgentConfig,
    inputs: Arc<dyn InputSource>,
    artifacts: Arc<dyn ArtifactSource>,
) -> std::io::Result<AgentHandle> {
    let (to, received) = mpsc::channel(CHANNEL_MESSAGES);
    let (said, from) = mpsc::channel(CHANNEL_MESSAGES);
    let session = Session::new(config, inputs, artifacts, received, said)?;
    Ok(AgentHandle { to, from, ended: tokio::spawn(session.run()) })
}
