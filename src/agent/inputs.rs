//! Where an attempt's inputs come from, and how they go to its runner: small ones in the frame, others by descriptor.

use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;

use super::process::anonymous_file;
use crate::digest::Digest;
use crate::protocol::agent::Assignment;
use crate::runner::frames::{DESCRIPTORS_MAX, INLINE_INPUT_BYTES_MAX, MountFrame, Source};
use crate::spec::FileInput;

/// A blob as its source has it, already checked against its digest.
#[derive(Debug)]
pub enum Input {
    /// Small.
    Inline(Bytes),
    /// An open file of this size.
    File(File, u64),
}

/// Where blobs come from: the coordinator's own store, or a cache of it on another machine.
#[async_trait::async_trait]
pub trait InputSource: Send + Sync + 'static {
    /// Opens a blob; `None` if there is none. The text of an error is for people.
    async fn open(&self, digest: Digest) -> Result<Option<Input>, String>;
}

/// What goes to a runner.
pub(super) struct Prepared {
    pub(super) stdin: Source,
    pub(super) mounts: Vec<MountFrame>,
    pub(super) descriptors: Vec<File>,
}

#[derive(Clone)]
pub(super) struct Inputs {
    pub(super) source: Arc<dyn InputSource>,
}

impl Inputs {
    /// The module's bytes, for the compiler.
    pub(super) async fn module(&self, digest: Digest) -> Result<File, String> {
        match self.open(digest).await? {
            Input::File(file, _) => Ok(file),
            Input::Inline(bytes) => anonymous_file("module", &bytes).map_err(|error| error.to_string()),
        }
    }

    async fn open(&self, digest: Digest) -> Result<Input, String> {
        let input = self.source.open(digest).await?;
        input.ok_or_else(|| format!("the blob {digest} is not to be had"))
    }

    /// Every input of an attempt.
    pub(super) async fn prepare(&self, assignment: &Assignment) -> Result<Prepared, String> {
        let mut room = INLINE_INPUT_BYTES_MAX;
        let mut descriptors = Vec::new();
        let stdin = self.source_of(assignment, assignment.spec.stdin, &mut room, &mut descriptors).await?;
        let mut mounts = Vec::with_capacity(assignment.spec.files.len());
        for (path, input) in &assignment.spec.files {
            let source = self.source_of(assignment, input.digest(), &mut room, &mut descriptors).await?;
            let is_tree = matches!(input, FileInput::Tree(_));
            mounts.push(MountFrame { path: path.as_str().to_owned(), is_tree, source });
        }
        if descriptors.len() > DESCRIPTORS_MAX {
            return Err(format!(
                "{} large input files, at most {DESCRIPTORS_MAX}: pack them into a tree",
                descriptors.len()
            ));
        }
        Ok(Prepared { stdin, mounts, descriptors })
    }

    async fn source_of(
        &self,
        assignment: &Assignment,
        digest: Digest,
        room: &mut usize,
        descriptors: &mut Vec<File>,
    ) -> Result<Source, String> {
        if digest == Digest::EMPTY {
            return Ok(Source::Inline(Bytes::new()));
        }
        let input = match assignment.inline.get(&digest) {
            Some(bytes) => Input::Inline(bytes.clone()),
            None => self.open(digest).await?,
        };
        Ok(match input {
            Input::Inline(bytes) if bytes.len() <= *room => {
                *room -= bytes.len();
                Source::Inline(bytes)
            }
            Input::Inline(bytes) => {
                descriptors.push(anonymous_file("input", &bytes).map_err(|error| error.to_string())?);
                Source::Descriptor { size: bytes.len() as u64 }
            }
            Input::File(file, size) => {
                descriptors.push(file);
                Source::Descriptor { size }
            }
        })
    }
}
