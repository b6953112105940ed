//! A worker's key: made at its first start, kept in its folder, and never anywhere else.

use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use rustix::fs::{FlockOperation, flock};

use super::RemoteError;
use crate::receipt::{load_or_make, make_key};

const KEY_FILE: &str = "worker.key";

/// A folder that belongs to this process while this value lives.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Locked; the lock ends with the process, however that ends.
    _lock: std::fs::File,
}

fn failed(path: &Path) -> impl Fn(io::Error) -> RemoteError {
    let path = path.to_owned();
    move |source| RemoteError::Folder { path: path.clone(), source }
}

impl Folder {
    /// Makes or opens a folder and locks it: two workers with one key would push each other out of the pool.
    ///
    /// # Errors
    ///
    /// If it cannot be made, or another worker uses it.
    pub fn open(path: &Path) -> Result<Folder, RemoteError> {
        let failed = failed(path);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(&failed)?;
        let options =
            std::fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).to_owned();
        let lock = options.open(path.join("lock")).map_err(&failed)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Folder { path: path.to_owned(), _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(RemoteError::InUse(path.to_owned())),
            Err(error) => Err(failed(error.into())),
        }
    }

    /// Where something of the worker is kept.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The worker's key.
    ///
    /// # Errors
    ///
    /// If it cannot be read or written, or is none.
    pub fn key(&self) -> Result<SigningKey, RemoteError> {
        let path = self.join(KEY_FILE);
        let failed = failed(&path);
        load_or_make(&path, make_key).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => RemoteError::Key(path.clone()),
            _ => failed(error),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_key_is_made_once_and_only_its_owner_may_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("worker");
        let folder = Folder::open(&path).unwrap();
        let key = folder.key().unwrap();
        assert_eq!(folder.key().unwrap(), key);
        let mode = std::fs::metadata(path.join(KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(matches!(Folder::open(&path), Err(RemoteError::InUse(_))));
        drop(folder);
        std::fs::write(path.join(KEY_FILE), b"short").unwrap();
        assert!(matches!(Folder::open(&path).unwrap().key(), Err(RemoteError::Key(_))));
    }
}
