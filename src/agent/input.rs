//! Where the bytes of inputs come from, and that they are what their digests say.
//!
//! Invariant: nothing reaches a runner whose bytes were not hashed by this process. A blob file is hashed once and then
//! known by device, inode, size and time of change; blob files are written once and never altered.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use crate::digest::{Digest, Hasher};
use crate::spec::RunSpec;

/// An input as a source has it.
#[derive(Debug)]
pub enum Input {
    /// Small.
    Inline(Bytes),
    /// The first so many bytes of a file whose contents never change.
    File(File, u64),
}

/// Gives out blobs: the coordinator's blob store to embedded agents, a cache to remote ones.
#[async_trait]
pub trait InputSource: Send + Sync {
    /// Opens a blob; `None` if there is no such blob.
    ///
    /// # Errors
    ///
    /// Words for the fault, if it could not be found out.
    async fn open(&self, digest: Digest) -> Result<Option<Input>, String>;
}

/// An input that hashes to its name.
#[derive(Clone, Debug)]
pub(super) enum Verified {
    Inline(Bytes),
    File(Arc<File>, u64),
}

/// The inputs of one attempt but its module.
pub(super) type Inputs = BTreeMap<Digest, Verified>;

/// A version of a file.
#[derive(PartialEq, Eq, Hash)]
struct Identity {
    digest: Digest,
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

/// Files that are remembered; beyond it everything is forgotten at once, which costs hashing them again.
const KNOWN_MAX: usize = 16 * 1024;
const PIECE_BYTES: usize = 256 * 1024;

/// Remembers which files were hashed.
#[derive(Default)]
pub(super) struct Verifier {
    known: Mutex<HashSet<Identity>>,
}

impl Verifier {
    /// Opens a blob and hashes it if it is not known.
    ///
    /// # Errors
    ///
    /// Words for the fault: it is absent, unreadable, or hashes to something else.
    pub(super) async fn open(
        self: &Arc<Verifier>,
        source: &dyn InputSource,
        digest: Digest,
    ) -> Result<Verified, String> {
        match source.open(digest).await? {
            None => Err(format!("the input {digest} is not there")),
            Some(Input::Inline(bytes)) => inline(digest, bytes),
            Some(Input::File(file, size)) => {
                let verifier = Arc::clone(self);
                let work = move || verifier.file(digest, file, size);
                let verified = tokio::task::spawn_blocking(work).await;
                verified.map_err(|_| "hashing an input ended early".to_owned())?
            }
        }
    }

    fn file(&self, digest: Digest, file: File, size: u64) -> Result<Verified, String> {
        let unreadable = |error: io::Error| format!("the input {digest} cannot be read: {error}");
        let meta = file.metadata().map_err(unreadable)?;
        let identity = Identity {
            digest,
            device: meta.dev(),
            inode: meta.ino(),
            size,
            changed: (meta.ctime(), meta.ctime_nsec()),
        };
        if !self.lock().contains(&identity) {
            if hash(&file, size).map_err(unreadable)? != digest {
                return Err(format!("the input {digest} does not hash to its name"));
            }
            let mut known = self.lock();
            if known.len() >= KNOWN_MAX {
                known.clear();
            }
            known.insert(identity);
        }
        Ok(Verified::File(Arc::new(file), size))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<Identity>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hashes an input that came inline.
///
/// # Errors
///
/// Words for the fault.
pub(super) fn inline(digest: Digest, bytes: Bytes) -> Result<Verified, String> {
    if Digest::of(&bytes) == digest {
        Ok(Verified::Inline(bytes))
    } else {
        Err(format!("the input {digest} does not hash to its name"))
    }
}

fn hash(file: &File, size: u64) -> io::Result<Digest> {
    let mut hasher = Hasher::new();
    let mut piece = vec![0; PIECE_BYTES];
    while hasher.size() < size {
        let left = usize::try_from(size - hasher.size()).unwrap_or(PIECE_BYTES);
        let count = file.read_at(&mut piece[..left.min(PIECE_BYTES)], hasher.size())?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        hasher.update(&piece[..count]);
    }
    Ok(hasher.finish())
}

/// The blobs that an attempt reads, without its module: each once.
pub(super) fn needed(spec: &RunSpec) -> impl Iterator<Item = Digest> + '_ {
    spec.inputs().skip(1).filter(|digest| *digest != Digest::EMPTY)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn a_file_is_hashed_once_and_a_changed_one_again() {
        let verifier = Verifier::default();
        let (mut good, digest) = (file(b"hello"), Digest::of(b"hello"));
        verifier.file(digest, good.try_clone().unwrap(), 5).unwrap();
        verifier.file(digest, good.try_clone().unwrap(), 5).unwrap();
        assert_eq!(verifier.lock().len(), 1);
        assert!(verifier.file(Digest::of(b"hell"), good.try_clone().unwrap(), 5).is_err());
        assert!(verifier.file(Digest::of(b"hello!"), good.try_clone().unwrap(), 6).is_err(), "it is shorter");
        good.write_all(b"!").unwrap();
        verifier.file(Digest::of(b"hello!"), good, 6).unwrap();
        assert_eq!(verifier.lock().len(), 2);
    }

    #[test]
    fn inline_bytes_are_hashed_too() {
        assert!(inline(Digest::of(b"a"), Bytes::from_static(b"a")).is_ok());
        assert!(inline(Digest::of(b"a"), Bytes::from_static(b"b")).is_err());
    }
}
