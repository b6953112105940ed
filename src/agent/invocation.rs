//! Makes a runner's frame of an assignment.
//!
//! Small inputs travel in the frame; others as the descriptors of their blob files, and inline ones that do not
//! fit together in one sealed anonymous file.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use rustix::fs::{SealFlags, fcntl_add_seals};

use super::input::{Inputs, Verified};
use crate::digest::Digest;
use crate::protocol::agent::Assignment;
use crate::runner::frames::{Execute, MountFrame, Source, anonymous_file};
use crate::spec::FileInput;

/// Inputs that travel in the frame, in bytes together.
const INLINE_INPUT_BYTES_MAX: usize = 32 * 1024;

/// The frame of an attempt, as number `seq` with the artifact `slot`, and its descriptors.
///
/// # Errors
///
/// Words for the fault: an input is missing, or the machine has no memory or descriptors.
pub(super) fn execute(
    assignment: &Assignment,
    inputs: &Inputs,
    slot: u16,
    watched: bool,
) -> Result<(Execute, Vec<OwnedFd>), String> {
    let spec = &assignment.spec;
    let mut packer = Packer { inputs, files: Vec::new(), inline_bytes: 0, arena: None };
    let mut source = |digest| packer.source(digest).map_err(|error| format!("an input: {error}"));
    let stdin = source(spec.stdin)?;
    let mut mounts = Vec::with_capacity(spec.files.len());
    for (path, input) in &spec.files {
        let is_tree = matches!(input, FileInput::Tree(_));
        mounts.push(MountFrame { path: path.clone(), is_tree, source: source(input.digest())? });
    }
    let files = packer.finish().map_err(|error| format!("the inputs: {error}"))?;
    let clock_ns = u64::try_from(spec.clock.as_nanosecond()).map_err(|_| "its clock is before 1970")?;
    let execute = Execute {
        seq: 0,
        slot,
        files: u16::try_from(files.len()).map_err(|_| "too many inputs")?,
        entry: spec.entry.clone(),
        args: spec.args.clone(),
        env: spec.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        stdin,
        mounts,
        clock_ns,
        seed: spec.seed,
        limits: spec.limits,
        watched,
    };
    Ok((execute, files))
}

struct Packer<'a> {
    inputs: &'a Inputs,
    files: Vec<OwnedFd>,
    inline_bytes: usize,
    /// Which of the files it is, the file, and its length.
    arena: Option<(u16, Arc<File>, u64)>,
}

impl Packer<'_> {
    fn source(&mut self, digest: Digest) -> io::Result<Source> {
        if digest == Digest::EMPTY {
            return Ok(Source::Inline(Bytes::new()));
        }
        match self.inputs.get(&digest) {
            None => Err(io::Error::other("it was not fetched")),
            Some(Verified::File(file, size)) => {
                let file = self.add(file.as_fd().try_clone_to_owned()?)?;
                Ok(Source::Mapped { file, offset: 0, size: *size })
            }
            Some(Verified::Inline(bytes)) if self.inline_bytes + bytes.len() <= INLINE_INPUT_BYTES_MAX => {
                self.inline_bytes += bytes.len();
                Ok(Source::Inline(bytes.clone()))
            }
            Some(Verified::Inline(bytes)) => self.in_arena(bytes),
        }
    }

    fn add(&mut self, file: OwnedFd) -> io::Result<u16> {
        let index = u16::try_from(self.files.len()).map_err(io::Error::other)?;
        self.files.push(file);
        Ok(index)
    }

    fn in_arena(&mut self, bytes: &Bytes) -> io::Result<Source> {
        if self.arena.is_none() {
            let file = Arc::new(anonymous_file("inputs")?);
            let index = self.add(file.as_fd().try_clone_to_owned()?)?;
            self.arena = Some((index, file, 0));
        }
        let Some((index, file, length)) = &mut self.arena else {
            return Err(io::Error::other("no room for inputs"));
        };
        let (offset, size) = (*length, bytes.len() as u64);
        file.write_all_at(bytes, offset)?;
        *length += size;
        Ok(Source::Mapped { file: *index, offset, size })
    }

    fn finish(self) -> io::Result<Vec<OwnedFd>> {
        if let Some((_, file, _)) = self.arena {
            let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
            fcntl_add_seals(&file, seals)?;
        }
        Ok(self.files)
    }
}
