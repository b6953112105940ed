//! Admission and machine code: starts `compiler` children and keeps what they make.
//!
//! Invariants: no byte of a module is parsed in this process. One artifact is compiled once however many ask for it at
//! the same time. A refusal follows from the module and the bounds alone; whatever else goes wrong is an
//! [`InfraError`], and trying again is right. Compiling never sits on an async thread.
//!
//! It does not know runs, workers or stores; who remembers a refusal beyond the life of this process is up to the caller.

mod cache;
pub mod child;
mod process;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};

pub use cache::Artifact;

use cache::{Cache, Key};
use child::{Job, Report};

use crate::digest::Digest;
use crate::sandbox::{Analysis, Refusal, SandboxError, Variant, compatibility};

/// What one compilation may use. All but `wall_ms` can refuse a module for good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CompileLimits {
    /// The largest module, in bytes.
    pub module_bytes_max: u64,
    /// CPU time of a child, in seconds.
    pub cpu_s: u64,
    /// Address space of a child, in bytes.
    pub address_space_bytes: u64,
    /// The largest artifact, in bytes.
    pub artifact_bytes_max: u64,
    /// Wall time of a child, in milliseconds. Generous: a busy machine must not look like a guilty module.
    pub wall_ms: u64,
}

impl Default for CompileLimits {
    fn default() -> CompileLimits {
        CompileLimits {
            module_bytes_max: 64 << 20,
            cpu_s: 120,
            address_space_bytes: 4 << 30,
            artifact_bytes_max: 512 << 20,
            wall_ms: 1_200_000,
        }
    }
}

/// How the service works.
#[derive(Clone, Debug)]
pub struct CompilerConfig {
    /// Where artifacts and the machine's key are. Private to the machine and never filled from elsewhere.
    pub cache_dir: PathBuf,
    /// Artifacts that are kept, in bytes.
    pub cache_bytes_max: u64,
    /// The program whose `compiler` role is started: Lockstep itself.
    pub exe: PathBuf,
    /// Bounds of each child.
    pub limits: CompileLimits,
    /// Children at once.
    pub concurrency: usize,
}

/// An admitted module.
#[derive(Debug)]
pub struct Admission {
    /// What it is.
    pub analysis: Analysis,
    /// Its plain machine code.
    pub artifact: Artifact,
}

/// Why there is no admission or artifact.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AdmitError {
    /// The module is to blame: remember it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The machine is to blame: try again.
    #[error(transparent)]
    Infra(#[from] InfraError),
}

/// What the machine did to a compilation.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InfraError {
    /// A file or process could not be had.
    #[error("{0}")]
    Io(String),
    /// The child was still at it when its wall time was over.
    #[error("the compiler did not end within {wall_ms} ms")]
    Overran {
        /// The bound.
        wall_ms: u64,
    },
    /// The child ended without a report and without reaching a bound: killed, or a defect in it.
    #[error("the compiler died ({status}): {words}")]
    Died {
        /// How it ended.
        status: String,
        /// What it said.
        words: String,
    },
    /// The child could not do its work.
    #[error("the compiler failed: {0}")]
    Failed(String),
}

impl From<io::Error> for InfraError {
    fn from(error: io::Error) -> InfraError {
        InfraError::Io(error.to_string())
    }
}

fn memory_bomb(bytes: u64) -> Refusal {
    Refusal::CompileBomb { bound: format!("{bytes} bytes of memory") }
}

/// What everybody who waits for one compilation hears.
type Landed = Result<Arc<Analysis>, AdmitError>;
/// A compilation under way; `None` until it ends.
type Flight = watch::Receiver<Option<Landed>>;

/// The service. Cheap to clone; needs a tokio runtime.
#[derive(Clone)]
pub struct Compiler {
    shared: Arc<Shared>,
}

struct Shared {
    config: CompilerConfig,
    cache: Cache,
    /// Of each variant's engine.
    compatibility: [Digest; Variant::ALL.len()],
    slots: Arc<Semaphore>,
    flights: Mutex<HashMap<Key, Flight>>,
    /// What was refused, so that it is not compiled again for everybody who asks.
    refused: Mutex<HashMap<Key, Refusal>>,
}

/// Refusals that are remembered; beyond it all are forgotten.
const REFUSED_MAX: usize = 4_096;

impl Compiler {
    /// Opens the cache.
    ///
    /// # Errors
    ///
    /// If the directory cannot be used, or the engine cannot be built on this machine.
    pub fn new(config: CompilerConfig) -> Result<Compiler, InfraError> {
        let mut known = [Digest::EMPTY; Variant::ALL.len()];
        for variant in Variant::ALL {
            let engine = |error: SandboxError| InfraError::Failed(error.to_string());
            known[variant as usize] = compatibility(variant).map_err(engine)?;
        }
        let cache = Cache::open(&config.cache_dir, config.cache_bytes_max)?;
        let slots = Arc::new(Semaphore::new(config.concurrency.max(1)));
        let (flights, refused) = Default::default();
        let shared = Shared { config, cache, compatibility: known, slots, flights, refused };
        Ok(Compiler { shared: Arc::new(shared) })
    }

    /// Analyses and validates the module without compiling it: what an upload waits for.
    ///
    /// # Errors
    ///
    /// [`AdmitError::Refused`] for good, [`AdmitError::Infra`] for now.
    pub async fn analyse(&self, module: Digest, file: File) -> Result<Analysis, AdmitError> {
        let permit = self.permit().await?;
        let shared = Arc::clone(&self.shared);
        let work = move || {
            let _permit = permit;
            shared.child(module, None, file, None)
        };
        blocking(work).await?
    }

    /// Analyses the module and compiles its plain variant, if the cache does not have it.
    ///
    /// # Errors
    ///
    /// [`AdmitError::Refused`] for good, [`AdmitError::Infra`] for now.
    pub async fn admit(&self, module: Digest, file: File) -> Result<Admission, AdmitError> {
        let key = self.key(module, Variant::Plain);
        if let Some(artifact) = self.cached(key).await? {
            let analysis = self.analyse(module, file).await?;
            return Ok(Admission { analysis, artifact });
        }
        let analysis = self.fly(key, move || Ok(file)).await?;
        Ok(Admission { analysis: Arc::unwrap_or_clone(analysis), artifact: self.landed(key).await? })
    }

    /// The machine code of an admitted module. `open` opens the module's bytes; it is called only if the cache does
    /// not have the artifact, on a thread that may block.
    ///
    /// # Errors
    ///
    /// As [`Compiler::admit`]: on a machine with tighter bounds than the coordinator's, an admitted module may still
    /// be refused.
    pub async fn artifact(
        &self,
        module: Digest,
        variant: Variant,
        open: impl FnOnce() -> io::Result<File> + Send + 'static,
    ) -> Result<Artifact, AdmitError> {
        let key = self.key(module, variant);
        if let Some(artifact) = self.cached(key).await? {
            return Ok(artifact);
        }
        self.fly(key, open).await?;
        Ok(self.landed(key).await?)
    }

    /// Whether this process has had the machine code in its hands lately; no more than a look at it.
    pub fn has(&self, module: Digest, variant: Variant) -> bool {
        self.shared.cache.get_known(&self.key(module, variant)).is_some()
    }

    /// What was kept under a name for `of` on this machine, within the last day. Reads a small file.
    pub fn recall(&self, name: &str, of: Digest) -> Option<Vec<u8>> {
        self.shared.cache.recall(name, of)
    }

    /// Keeps a few words under a name, so that only this machine can have written them.
    ///
    /// # Errors
    ///
    /// If the directory cannot be written to.
    pub fn keep(&self, name: &str, of: Digest, words: &[u8]) -> Result<(), InfraError> {
        Ok(self.shared.cache.keep(name, of, words)?)
    }

    async fn cached(&self, key: Key) -> Result<Option<Artifact>, InfraError> {
        if let Some(artifact) = self.shared.cache.get_known(&key) {
            return Ok(Some(artifact));
        }
        let shared = Arc::clone(&self.shared);
        Ok(blocking(move || shared.cache.get(&key)).await??)
    }

    async fn landed(&self, key: Key) -> Result<Artifact, InfraError> {
        let artifact = self.cached(key).await?;
        artifact.ok_or_else(|| InfraError::Io("the artifact vanished from the cache".to_owned()))
    }

    /// Joins the compilation of `key`, or starts it. It goes on even if nobody waits for it any more.
    async fn fly(
        &self,
        key: Key,
        open: impl FnOnce() -> io::Result<File> + Send + 'static,
    ) -> Result<Arc<Analysis>, AdmitError> {
        if let Some(refusal) = self.shared.refused().get(&key) {
            return Err(refusal.clone().into());
        }
        let mut flight = {
            let mut flights = self.shared.flights.lock().unwrap_or_else(PoisonError::into_inner);
            // One whose task is gone (it panicked) is no flight.
            let under_way = flights.get(&key).filter(|flight| flight.has_changed().is_ok());
            match under_way {
                Some(flight) => flight.clone(),
                None => {
                    let (sender, flight) = watch::channel(None);
                    flights.insert(key, flight.clone());
                    let compiler = self.clone();
                    tokio::spawn(async move {
                        let landed = compiler.compile(key, open).await;
                        if let Err(AdmitError::Refused(refusal)) = &landed {
                            compiler.shared.remember(key, refusal.clone());
                        }
                        let flights = &compiler.shared.flights;
                        flights.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
                        // Nobody may be waiting any more.
                        let _ = sender.send(Some(landed));
                    });
                    flight
                }
            }
        };
        let gone = |_| InfraError::Failed("the compilation was abandoned".to_owned());
        let landed = flight.wait_for(Option::is_some).await.map_err(gone)?.clone();
        landed.ok_or_else(|| InfraError::Failed("the compilation was abandoned".to_owned()))?
    }

    async fn compile(
        &self,
        key: Key,
        open: impl FnOnce() -> io::Result<File> + Send + 'static,
    ) -> Result<Arc<Analysis>, AdmitError> {
        let permit = self.permit().await?;
        let shared = Arc::clone(&self.shared);
        let work = move || {
            let _permit = permit;
            let module = open().map_err(InfraError::from)?;
            let artifact = shared.cache.temporary().map_err(InfraError::from)?;
            let child_end = artifact.as_file().try_clone().map_err(InfraError::from)?;
            let analysis = shared.child(key.module, Some(key.variant), module, Some(child_end))?;
            shared.cache.put(&key, artifact).map_err(InfraError::from)?;
            Ok(Arc::new(analysis))
        };
        blocking(work).await?
    }

    async fn permit(&self) -> Result<tokio::sync::OwnedSemaphorePermit, InfraError> {
        let slots = Arc::clone(&self.shared.slots);
        slots.acquire_owned().await.map_err(|_| InfraError::Failed("the service is closed".to_owned()))
    }

    fn key(&self, module: Digest, variant: Variant) -> Key {
        Key { compatibility: self.shared.compatibility[variant as usize], variant, module }
    }
}

impl Shared {
    fn refused(&self) -> MutexGuard<'_, HashMap<Key, Refusal>> {
        // Nothing that is done while it is held can panic half-way.
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, key: Key, refusal: Refusal) {
        let mut refused = self.refused();
        if refused.len() >= REFUSED_MAX {
            refused.clear();
        }
        refused.insert(key, refusal);
    }

    /// Runs one child to its end.
    fn child(
        &self,
        module: Digest,
        variant: Option<Variant>,
        file: File,
        artifact: Option<File>,
    ) -> Result<Analysis, AdmitError> {
        let limits = &self.config.limits;
        // Not worth a process.
        let size = file.metadata().map_err(InfraError::from)?.len();
        if size > limits.module_bytes_max {
            return Err(Refusal::TooLarge { size, max: limits.module_bytes_max }.into());
        }
        let job = Job {
            module,
            variant,
            module_bytes_max: limits.module_bytes_max,
            cpu_s: limits.cpu_s,
            address_space_bytes: limits.address_space_bytes,
            artifact_bytes_max: limits.artifact_bytes_max,
            parent: rustix::process::getpid().as_raw_nonzero().get(),
        };
        let wall = Duration::from_millis(limits.wall_ms);
        match process::run(&self.config.exe, &job, file, artifact, wall)? {
            Report::Done(analysis) => Ok(*analysis),
            Report::Refused(refusal) => Err(refusal.into()),
            Report::Failed(why) => Err(InfraError::Failed(why).into()),
        }
    }
}

/// Runs `work` on a thread that may block; it ends by itself even if nobody waits for it.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, InfraError> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.map_err(|error| InfraError::Failed(format!("a blocking task ended early: {error}")))
}
