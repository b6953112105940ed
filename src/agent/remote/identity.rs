//! A worker's key: made at its first start, kept in its folder, and never anywhere else.

use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use rustix::fs::{FlockOperation, flock};

use super::RemoteError;

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
        match std::fs::read(&path) {
            Ok(bytes) => {
                let bytes: [u8; 32] = bytes.try_into().map_err(|_| RemoteError::Key(path.clone()))?;
                return Ok(SigningKey::from_bytes(&bytes));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|error| failed(io::Error::other(error.to_string())))?;
        // beside and renamed, so that a crash leaves a whole key or none
        let beside = self.join("worker.key.new");
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&beside);
        let mut file = file.map_err(&failed)?;
        file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(&failed)?;
        std::fs::rename(&beside, &path).map_err(&failed)?;
        Ok(SigningKey::from_bytes(&bytes))
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
