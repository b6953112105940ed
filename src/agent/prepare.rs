//! Makes an assignment ready: its machine code and its inputs, verified and open.
//!
//! Invariant: what an attempt needs and is not in memory is fetched on tasks of their own, never in the session.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use async_trait::async_trait;

use super::input::{self, Input, InputSource, Inputs, Verified, Verifier};
use crate::compiler::{Artifact, Compiler};
use crate::digest::Digest;
use crate::protocol::agent::Assignment;
use crate::runner::frames::anonymous_file;
use crate::sandbox::Variant;

/// Makes machine code, or has it.
#[async_trait]
pub trait ArtifactSource: Send + Sync {
    /// The machine code of an admitted module, whose bytes are to be had from `inputs`.
    ///
    /// # Errors
    ///
    /// Words for the fault.
    async fn artifact(
        &self,
        module: Digest,
        variant: Variant,
        inputs: Arc<dyn InputSource>,
    ) -> Result<Artifact, String>;
}

#[async_trait]
impl ArtifactSource for Compiler {
    async fn artifact(
        &self,
        module: Digest,
        variant: Variant,
        inputs: Arc<dyn InputSource>,
    ) -> Result<Artifact, String> {
        let runtime = tokio::runtime::Handle::current();
        // Called on a thread that may block, and only if the cache has no artifact.
        let open = move || match runtime.block_on(inputs.open(module)).map_err(io::Error::other)? {
            None => Err(io::Error::new(io::ErrorKind::NotFound, "the module is not there")),
            Some(Input::File(file, _)) => Ok(file),
            Some(Input::Inline(bytes)) => {
                let file = anonymous_file("module")?;
                file.write_all_at(&bytes, 0)?;
                Ok::<File, io::Error>(file)
            }
        };
        Compiler::artifact(self, module, variant, open).await.map_err(|error| error.to_string())
    }
}

/// Which machine code.
pub(super) type ArtifactKey = (Digest, Variant);

/// Everything that an attempt needs.
#[derive(Clone)]
pub(super) struct Prepared {
    pub(super) key: ArtifactKey,
    pub(super) artifact: Arc<Artifact>,
    pub(super) inputs: Arc<Inputs>,
}

/// Artifacts that are kept open; beyond it the one that was used longest ago is closed.
const ARTIFACTS_MAX: usize = 64;

/// Prepares assignments.
pub(super) struct Preparer {
    inputs: Arc<dyn InputSource>,
    artifacts: Arc<dyn ArtifactSource>,
    verifier: Arc<Verifier>,
    open: HashMap<ArtifactKey, (Arc<Artifact>, u64)>,
    uses: u64,
}

impl Preparer {
    pub(super) fn new(inputs: Arc<dyn InputSource>, artifacts: Arc<dyn ArtifactSource>) -> Preparer {
        Preparer { inputs, artifacts, verifier: Arc::default(), open: HashMap::new(), uses: 0 }
    }

    /// Prepares an assignment of which everything is in memory; `None` if something must be fetched.
    ///
    /// # Errors
    ///
    /// Words for the fault, if an inline input is damaged.
    pub(super) fn at_once(&mut self, assignment: &Assignment) -> Result<Option<Prepared>, String> {
        let key = artifact_key(assignment);
        let Some((artifact, used)) = self.open.get_mut(&key) else { return Ok(None) };
        self.uses += 1;
        *used = self.uses;
        let mut inputs = Inputs::new();
        for digest in input::needed(&assignment.spec) {
            let Some(bytes) = assignment.inline.get(&digest) else { return Ok(None) };
            inputs.insert(digest, input::inline(digest, bytes.clone())?);
        }
        Ok(Some(Prepared { key, artifact: Arc::clone(artifact), inputs: Arc::new(inputs) }))
    }

    /// The work of preparing an assignment otherwise; its result is to be given to [`Preparer::keep`].
    pub(super) fn fetch(
        &self,
        assignment: &Assignment,
    ) -> impl Future<Output = Result<Prepared, String>> + Send + use<> {
        let key = artifact_key(assignment);
        let (spec, given) = (Arc::clone(&assignment.spec), Arc::clone(&assignment.inline));
        let (source, artifacts) = (Arc::clone(&self.inputs), Arc::clone(&self.artifacts));
        let verifier = Arc::clone(&self.verifier);
        let open = self.open.get(&key).map(|(artifact, _)| Arc::clone(artifact));
        async move {
            let artifact = match open {
                Some(artifact) => artifact,
                None => Arc::new(artifacts.artifact(key.0, key.1, Arc::clone(&source)).await?),
            };
            let mut inputs = Inputs::new();
            for digest in input::needed(&spec) {
                if inputs.contains_key(&digest) {
                    continue;
                }
                let verified: Verified = match given.get(&digest) {
                    Some(bytes) => input::inline(digest, bytes.clone())?,
                    None => verifier.open(&*source, digest).await?,
                };
                inputs.insert(digest, verified);
            }
            Ok(Prepared { key, artifact, inputs: Arc::new(inputs) })
        }
    }

    /// Keeps the artifact open for the next assignment of its module.
    pub(super) fn keep(&mut self, prepared: &Prepared) {
        self.uses += 1;
        self.open.insert(prepared.key, (Arc::clone(&prepared.artifact), self.uses));
        if self.open.len() > ARTIFACTS_MAX {
            let oldest = self.open.iter().min_by_key(|(_, (_, used))| *used).map(|(key, _)| *key);
            if let Some(oldest) = oldest {
                self.open.remove(&oldest);
            }
        }
    }
}

fn artifact_key(assignment: &Assignment) -> ArtifactKey {
    let spec = &assignment.spec;
    (spec.module, Variant::of(spec.profile, &spec.limits))
}
