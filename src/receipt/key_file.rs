//! Secret keys in files that only their owner may read, made once.

use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use ed25519_dalek::SigningKey;

/// A new secret key of the system's randomness.
///
/// # Errors
///
/// If there is none.
pub fn make_key() -> io::Result<SigningKey> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(SigningKey::from_bytes(&bytes))
}

/// The key in a file of 32 bytes; if there is no such file, one with a key from `make`.
///
/// # Errors
///
/// If it cannot be read or written, or holds something else ([`io::ErrorKind::InvalidData`]).
pub fn load_or_make(path: &Path, make: impl FnOnce() -> io::Result<SigningKey>) -> io::Result<SigningKey> {
    match std::fs::read(path) {
        Ok(bytes) => {
            let bytes: Result<[u8; 32], _> = bytes.try_into();
            let bytes = bytes
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "expected a key of 32 bytes"))?;
            Ok(SigningKey::from_bytes(&bytes))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = make()?;
            write_private(path, &key.to_bytes())?;
            Ok(key)
        }
        Err(error) => Err(error),
    }
}

/// Writes a file with mode 0600, durably: beside and renamed, so that a crash leaves what was there or what comes.
///
/// # Errors
///
/// If it cannot be written.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    match path.parent() {
        Some(folder) => std::fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_only_its_owner_may_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.key");
        let key = load_or_make(&path, make_key).unwrap();
        assert_eq!(load_or_make(&path, || panic!("it is there")).unwrap(), key);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, b"short").unwrap();
        let error = load_or_make(&path, make_key).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
