//! Where the files are, who may touch one just now, and which were seen to be whole.
//!
//! A blob is at `ab/cdef…`, the hex digits of its digest. What is not whole yet is written in `incoming/`. All writing
//! goes through `object_store`, which with `with_fsync` syncs a file before it gets its name, and syncs the directory
//! then; so a name is either absent or whole and durable.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use crate::digest::Digest;

/// Where uploads are written until they are whole.
pub(super) const INCOMING: &str = "incoming";
/// Locks for all digests together; two digests that share one only wait for each other.
const LOCKS: usize = 256;
/// Files remembered as whole; then all are forgotten, which costs hashing each once more.
const WHOLE_MAX: usize = 65_536;

/// What tells one state of a file from another without reading it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Stamp {
        Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

pub(super) struct Files {
    root: PathBuf,
    pub(super) objects: LocalFileSystem,
    locks: Vec<Arc<AsyncMutex<()>>>,
    whole: Mutex<HashMap<Digest, Stamp>>,
}

impl Files {
    /// Makes all directories at once, so that no upload has to, and clears `incoming/`.
    pub(super) fn open(root: &Path) -> io::Result<Files> {
        let incoming = root.join(INCOMING);
        std::fs::create_dir_all(&incoming)?;
        for leftover in std::fs::read_dir(&incoming)? {
            std::fs::remove_file(leftover?.path())?;
        }
        for directory in directories(root) {
            match std::fs::create_dir(&directory) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        File::open(root)?.sync_all()?;
        if let Some(parent) = root.parent() {
            File::open(parent)?.sync_all()?;
        }
        Ok(Files {
            root: root.to_owned(),
            objects: LocalFileSystem::new_with_prefix(root).map_err(io::Error::other)?.with_fsync(true),
            locks: (0..LOCKS).map(|_| Arc::default()).collect(),
            whole: Mutex::default(),
        })
    }

    /// The name of a blob among the objects.
    pub(super) fn name(digest: Digest) -> ObjectPath {
        let hex = digest.hex();
        ObjectPath::from(format!("{}/{}", &hex[..2], &hex[2..]))
    }

    /// The file of a blob.
    pub(super) fn path(&self, digest: Digest) -> PathBuf {
        let hex = digest.hex();
        self.root.join(&hex[..2]).join(&hex[2..])
    }

    /// The directories that hold blobs.
    pub(super) fn directories(&self) -> impl Iterator<Item = PathBuf> + use<> {
        directories(&self.root)
    }

    /// Holds off everybody else who would make or remove this blob's file.
    pub(super) async fn lock(&self, digest: Digest) -> OwnedMutexGuard<()> {
        let stripe = usize::from(digest.as_bytes()[0]) % LOCKS;
        Arc::clone(&self.locks[stripe]).lock_owned().await
    }

    /// Notes that a file in this state hashes to its name.
    pub(super) fn remember_whole(&self, digest: Digest, metadata: &Metadata) {
        let mut whole = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        if whole.len() >= WHOLE_MAX {
            whole.clear();
        }
        whole.insert(digest, Stamp::of(metadata));
    }

    /// Whether the file was seen to hash to its name and is unchanged since.
    pub(super) fn is_whole(&self, digest: Digest, metadata: &Metadata) -> bool {
        let whole = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        whole.get(&digest) == Some(&Stamp::of(metadata))
    }
}

fn directories(root: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let root = root.to_owned();
    (0_u32..256).map(move |number| root.join(format!("{number:02x}")))
}
