//! A worker of a coordinator on another machine: the same agent, with the network behind its channels.
//!
//! Invariants: the worker's key never leaves its folder; a cut connection stops nothing that executes, and nothing that was to be
//! said is lost by it (votes are kept until released, faults until taken); everything that waits has a bound. It does not know
//! what becomes of its votes.

mod blobs;
mod cache;
mod connect;
mod holds;
mod identity;
mod link;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use tokio::sync::watch;

pub use identity::Folder;

use self::blobs::{CachedInputs, Remote};
use self::cache::Cache;
use self::connect::Connector;
use self::link::{Link, Parts};
use super::misbehave::Misbehaviour;
use super::{AgentConfig, ArtifactSource};
use crate::class::Classes;
use crate::id::WorkerId;

/// See [`AgentConfig::ahead`]: about as many short attempts as a slot executes while a message goes there and back in a
/// building.
pub const AHEAD: usize = 15;
/// See [`AgentConfig::ahead_tiny`]: two messages full, so that one executes while what is said of the other travels.
pub const AHEAD_TINY: usize = 63;

/// What a remote worker is told.
pub struct RemoteConfig {
    /// The agent.
    pub agent: AgentConfig,
    /// Coordinators, tried in turn; each with a path that ends in `/`.
    pub coordinators: Vec<Url>,
    /// Enrols the worker where its key is not known.
    pub token: Option<String>,
    /// Reaches coordinators: with the certificates that they need, without a bound on the whole of an answer.
    pub http: reqwest::Client,
    /// Its key and its cache.
    pub folder: Folder,
    /// Blobs that are kept on disk, in bytes.
    pub cache_bytes_max: u64,
    /// How long a drain waits for what executes.
    pub drain_within: Duration,
    /// For tests and demonstrations.
    pub misbehaviour: Option<Misbehaviour>,
}

/// A session began.
#[derive(Clone, Debug)]
pub struct Joined {
    /// Its number in the pool.
    pub worker: WorkerId,
    /// Its trust domain.
    pub domain: String,
    /// Its classes.
    pub classes: Classes,
    /// Where.
    pub coordinator: String,
    /// Why it gets no work, if it is quarantined.
    pub quarantined: Option<String>,
}

/// Why a worker ends.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// Its folder.
    #[error("the worker's folder `{}` cannot be used: {source}", path.display())]
    Folder {
        /// Which part of it.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// Another process has it.
    #[error("another worker uses the folder `{}`: give each its own with --data", .0.display())]
    InUse(PathBuf),
    /// Its key.
    #[error("`{}` is no key: move it away, and the worker enrols anew with a token", .0.display())]
    Key(PathBuf),
    /// It is not let in, and trying again cannot help.
    #[error("{coordinator} refuses this worker ({code}): {text}")]
    Rejected {
        /// Who.
        coordinator: String,
        /// Stable word.
        code: String,
        /// Why, and what to do.
        text: String,
    },
    /// There is nobody to join.
    #[error("no coordinator was named")]
    NoCoordinator,
    /// No thread or pipe is left.
    #[error("the agent cannot be started: {0}")]
    Agent(std::io::Error),
    /// A fault of ours.
    #[error("the agent ended by itself")]
    AgentEnded,
}

/// Works until `drain` completes and what executes then has ended, or until it is refused for good. `joined` hears of each
/// session.
///
/// # Errors
///
/// See [`RemoteError`].
pub async fn run(
    config: RemoteConfig,
    artifacts: Arc<dyn ArtifactSource>,
    drain: impl Future<Output = ()> + Send,
    joined: impl FnMut(&Joined) + Send + 'static,
) -> Result<(), RemoteError> {
    let RemoteConfig {
        agent,
        coordinators,
        token,
        http,
        folder,
        cache_bytes_max,
        drain_within,
        misbehaviour,
    } = config;
    let key = folder.key()?;
    let blobs_folder = folder.join("blobs");
    let cache = Cache::open(blobs_folder.clone(), cache_bytes_max)
        .map_err(|source| RemoteError::Folder { path: blobs_folder, source })?;
    let (access, accessible) = watch::channel(None);
    let blobs = Remote::new(http.clone(), accessible);
    let inputs = Arc::new(CachedInputs::new(blobs.clone(), cache));
    let connector = Connector::new(http, coordinators, token, key.clone());
    let link = Link::new(Parts {
        agent,
        inputs,
        artifacts,
        key,
        blobs,
        access,
        drain_within,
        misbehaviour,
        joined: Box::new(joined),
    });
    let mut drain = std::pin::pin!(drain);
    let ended = link.run(connector, drain.as_mut()).await;
    // locked until the last word
    drop(folder);
    ended
}
