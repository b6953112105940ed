//! One attempt: inputs mapped, guest executed, outputs hashed once and packed.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;

use bytes::Bytes;
use rustix::fs::{SealFlags, fcntl_add_seals};

use super::clock;
use super::frames::{Done, Execute, Output, Source, anonymous_file};
use super::mapping::{map_input, size_of};
use crate::digest::Digest;
use crate::protocol::agent::INLINE_BYTES_MAX;
use crate::result::{OutputFile, OutputRef, ResultManifest};
use crate::sandbox::{Execution, Invocation, Mount};

/// Makes an invocation of a frame and its descriptors.
///
/// # Errors
///
/// If an input cannot be mapped.
pub(super) fn invocation(execute: Execute, files: &[OwnedFd]) -> io::Result<Invocation> {
    let mut inputs = Inputs { files, mapped: vec![None; files.len()] };
    let stdin = inputs.bytes(execute.stdin)?;
    let mut mounts = Vec::with_capacity(execute.mounts.len());
    for mount in execute.mounts {
        let bytes = inputs.bytes(mount.source)?;
        mounts.push((mount.path, if mount.is_tree { Mount::Tree(bytes) } else { Mount::File(bytes) }));
    }
    Ok(Invocation {
        entry: execute.entry,
        args: execute.args,
        env: execute.env,
        stdin,
        mounts,
        clock_ns: execute.clock_ns,
        seed: execute.seed,
        limits: execute.limits,
    })
}

/// The files of a frame, each mapped at most once.
struct Inputs<'a> {
    files: &'a [OwnedFd],
    mapped: Vec<Option<Bytes>>,
}

impl Inputs<'_> {
    fn bytes(&mut self, source: Source) -> io::Result<Bytes> {
        let (file, offset, size) = match source {
            Source::Inline(bytes) => return Ok(bytes),
            Source::Mapped { file, offset, size } => (usize::from(file), offset, size),
        };
        let wrong = || io::Error::new(io::ErrorKind::InvalidInput, "an input lies outside of its file");
        let whole = match self.mapped.get(file).ok_or_else(wrong)? {
            Some(whole) => whole.clone(),
            None => {
                let opened = File::from(self.files[file].try_clone()?);
                let whole = map_input(&opened, size_of(&opened)?)?;
                self.mapped[file] = Some(whole.clone());
                whole
            }
        };
        let range = usize::try_from(offset).ok().zip(offset.checked_add(size));
        let (start, end) = range.ok_or_else(wrong)?;
        let end = usize::try_from(end).ok().filter(|end| *end <= whole.len()).ok_or_else(wrong)?;
        Ok(whole.slice(start..end))
    }
}

/// When an attempt had begun.
#[derive(Clone, Copy)]
pub(super) struct Beginning {
    pub(super) seq: u64,
    pub(super) at_ns: u64,
    pub(super) cpu_us: u64,
}

/// Hashes and packs what a guest left. The file holds the outputs if they are too large to be inline.
///
/// # Errors
///
/// If the machine has no memory for the file.
pub(super) fn pack(execution: Execution, beginning: Beginning) -> io::Result<(Done, Option<File>)> {
    let Execution { outcome, stdout, stderr, files, fuel_used } = execution;
    let mut outputs = Vec::with_capacity(2 + files.len());
    let mut named = |bytes: Bytes| {
        let output = OutputRef::of(&bytes);
        outputs.push((output.digest, bytes));
        output
    };
    let manifest = ResultManifest {
        outcome,
        stdout: named(stdout),
        stderr: named(stderr),
        files: files
            .into_iter()
            .map(|(path, bytes)| {
                let OutputRef { digest, size } = named(bytes);
                OutputFile { path, digest, size }
            })
            .collect(),
        fuel_used,
    };
    let mut seen = BTreeSet::new();
    outputs.retain(|(digest, bytes)| !bytes.is_empty() && seen.insert(*digest));
    let total: usize = outputs.iter().map(|(_, bytes)| bytes.len()).sum();
    let (outputs, file) = if total <= INLINE_BYTES_MAX {
        let inline = outputs.into_iter().map(|(digest, bytes)| (digest, Output::Inline(bytes)));
        (inline.collect(), None)
    } else {
        let (outputs, file) = store(outputs)?;
        (outputs, Some(file))
    };
    let done = Done {
        seq: beginning.seq,
        manifest: manifest.canonical().into(),
        outputs,
        begun_ns: beginning.at_ns,
        ended_ns: clock::monotonic_ns(),
        cpu_us: clock::cpu_us().saturating_sub(beginning.cpu_us),
    };
    Ok((done, file))
}

/// Writes outputs one behind the other into an anonymous file that nobody can change any more.
fn store(outputs: Vec<(Digest, Bytes)>) -> io::Result<(Vec<(Digest, Output)>, File)> {
    let file = anonymous_file("outputs")?;
    let mut offset = 0;
    let mut stored = Vec::with_capacity(outputs.len());
    for (digest, bytes) in outputs {
        file.write_all_at(&bytes, offset)?;
        let size = bytes.len() as u64;
        stored.push((digest, Output::Stored { offset, size }));
        offset += size;
    }
    fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok((stored, file))
}
