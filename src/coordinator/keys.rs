//! The keys that this coordinator signs with: its own, for receipts, and those of its embedded workers, for their votes.
//!
//! Invariants: secrets are in files below `DIR/keys` that only their owner may read, and nowhere else; exactly one key of the
//! coordinator's own signs, and every one that ever did stays published, with the time in which it did; the time in a
//! receipt lies within that of its key. It does not know what a receipt says.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};

use super::CoordinatorError;
use super::clock::Clock;
use super::start::private_folder;
use crate::core::Time;
use crate::receipt::{
    Hex, PublicKey, VoteProof, VoteStatement, load_or_make, make_key, seal, sign_one, write_private,
};
use crate::store::{Store, StoreError};

/// Folder below the data folder.
const FOLDER: &str = "keys";
/// File of the coordinator's own keys.
const OWN_FILE: &str = "coordinator.json";
/// The only form of that file so far.
const VERSION: u32 = 1;
/// Keys that the coordinator may have had: a rotation a week for twenty years.
const KEYS_MAX: usize = 1_024;
/// Embedded workers whose keys are looked for: of earlier starts, which may have had more of them.
const WORKERS_MAX: u32 = 1_024;

/// A public key of the coordinator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PublishedKey {
    /// The key, which is its own id.
    pub key: PublicKey,
    /// From when on it signed.
    pub valid_from: Time,
    /// Until when; `None`: it still does.
    pub valid_until: Option<Time>,
}

/// Why a key was not rotated.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// The coordinator has had as many as are published.
    #[error("this coordinator has had {KEYS_MAX} keys, and no more are published")]
    TooMany,
    /// The file.
    #[error("the new key cannot be stored: {0}")]
    File(#[from] io::Error),
}

/// The file: times are microseconds since the Unix epoch, the newest key is the last.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    v: u32,
    secret: Hex<32>,
    keys: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    key: PublicKey,
    valid_from: u64,
    valid_until: Option<u64>,
}

struct Own {
    secret: SigningKey,
    /// The newest is the last, and the only one that is valid.
    keys: Vec<PublishedKey>,
}

/// See the module.
pub struct Keyring {
    path: PathBuf,
    own: Mutex<Own>,
    /// By public key.
    workers: HashMap<[u8; 32], SigningKey>,
}

impl Keyring {
    /// Reads the keys below the data folder, and makes what is missing: the coordinator's own, and those of so many embedded
    /// workers.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, written or understood. Keys are never replaced silently: receipts rest on them.
    pub async fn open(
        data: &Path,
        store: &dyn Store,
        workers: u32,
        now: Time,
    ) -> Result<(Keyring, Vec<SigningKey>), CoordinatorError> {
        let folder = data.join(FOLDER);
        private_folder(&folder)?;
        let path = folder.join(OWN_FILE);
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| CoordinatorError::Data { path, source }
        };
        let own = Own::load_or_make(&path, now).map_err(failed(&path))?;
        let mut embedded = Vec::new();
        for number in 1..=WORKERS_MAX.max(workers) {
            let path = folder.join(format!("worker-{number}.key"));
            let older = if path.exists() { None } else { older_key(store, number).await? };
            if number > workers && older.is_none() && !path.exists() {
                break;
            }
            let make = || older.map_or_else(make_key, Ok);
            embedded.push(load_or_make(&path, make).map_err(failed(&path))?);
        }
        let workers_keys = embedded.iter().map(|key| (key.verifying_key().to_bytes(), key.clone()));
        let keyring = Keyring { path, own: Mutex::new(own), workers: workers_keys.collect() };
        embedded.truncate(workers as usize);
        Ok((keyring, embedded))
    }

    /// Signs a payload that is made for the time of its signature.
    pub fn certify(&self, clock: Clock, payload: impl FnOnce(Time) -> Vec<u8>) -> Vec<u8> {
        // within the lock, so that a rotation comes before or after
        let own = self.own();
        seal(&own.secret, &payload(clock.now()))
    }

    /// An embedded worker's signature over its vote; `None` if its key is not here.
    pub fn sign_vote(&self, key: &[u8; 32], statement: &VoteStatement) -> Option<VoteProof> {
        self.workers.get(key).map(|secret| sign_one(secret, statement))
    }

    /// Every key that the coordinator ever signed with, the newest first.
    pub fn published(&self) -> Vec<PublishedKey> {
        self.own().keys.iter().rev().copied().collect()
    }

    /// A new key signs from now on. The secret of the old one is forgotten, its public part stays published.
    ///
    /// # Errors
    ///
    /// See [`RotateError`]; nothing has changed then.
    pub fn rotate(&self, clock: Clock) -> Result<(), RotateError> {
        let secret = make_key()?;
        let mut own = self.own();
        if own.keys.len() >= KEYS_MAX {
            return Err(RotateError::TooMany);
        }
        let now = clock.now();
        let mut keys = own.keys.clone();
        if let Some(last) = keys.last_mut() {
            last.valid_until = Some(now);
        }
        keys.push(PublishedKey { key: PublicKey::of(&secret), valid_from: now, valid_until: None });
        let next = Own { secret, keys };
        next.write(&self.path)?;
        *own = next;
        Ok(())
    }

    fn own(&self) -> MutexGuard<'_, Own> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Own {
    fn load_or_make(path: &Path, now: Time) -> io::Result<Own> {
        match std::fs::read(path) {
            Ok(bytes) => Own::read(&bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let secret = make_key()?;
                let key = PublicKey::of(&secret);
                let own =
                    Own { secret, keys: vec![PublishedKey { key, valid_from: now, valid_until: None }] };
                own.write(path)?;
                Ok(own)
            }
            Err(error) => Err(error),
        }
    }

    fn read(bytes: &[u8]) -> io::Result<Own> {
        let refuse = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
        let file: KeyFile = serde_json::from_slice(bytes)?;
        if file.v != VERSION {
            return Err(refuse("the keys are of a version that this build does not know"));
        }
        let secret = SigningKey::from_bytes(&file.secret.0);
        let keys = file.keys.iter().map(|entry| PublishedKey {
            key: entry.key,
            valid_from: Time(entry.valid_from),
            valid_until: entry.valid_until.map(Time),
        });
        let keys: Vec<_> = keys.collect();
        match keys.last() {
            Some(last) if last.key == PublicKey::of(&secret) && last.valid_until.is_none() => {
                Ok(Own { secret, keys })
            }
            _ => Err(refuse("the secret key is not that of the last public one")),
        }
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        let entry = |key: &PublishedKey| Entry {
            key: key.key,
            valid_from: key.valid_from.0,
            valid_until: key.valid_until.map(|at| at.0),
        };
        let keys = self.keys.iter().map(entry).collect();
        let file = KeyFile { v: VERSION, secret: Hex(self.secret.to_bytes()), keys };
        let mut text = serde_json::to_vec_pretty(&file)?;
        text.push(b'\n');
        write_private(path, &text)
    }
}

/// The key that an older build kept in the store for an embedded worker: it stays that worker's.
async fn older_key(store: &dyn Store, number: u32) -> Result<Option<SigningKey>, StoreError> {
    let bytes = store.meta(&format!("worker_key_{number}")).await?;
    let bytes: Option<[u8; 32]> = bytes.and_then(|bytes| bytes.try_into().ok());
    Ok(bytes.map(|bytes| SigningKey::from_bytes(&bytes)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::store::Failure;
    use crate::store::sqlite::{Options, SqliteStore};

    fn publics(keys: &[SigningKey]) -> Vec<[u8; 32]> {
        keys.iter().map(|key| key.verifying_key().to_bytes()).collect()
    }

    #[tokio::test]
    async fn keys_are_made_once_and_only_their_owner_may_read_them() {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(dir.path(), Options::default(), Failure::new()).unwrap();
        let older = SigningKey::from_bytes(&[9; 32]);
        store.init_meta("worker_key_2", vec![9; 32]).await.unwrap();
        let (first, workers) = Keyring::open(dir.path(), &store, 3, Time(5)).await.unwrap();
        assert_eq!(workers.len(), 3);
        assert_eq!(workers[1], older, "it keeps the key that it had");
        for entry in std::fs::read_dir(dir.path().join(FOLDER)).unwrap() {
            let mode = entry.unwrap().metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert_eq!(std::fs::metadata(dir.path().join(FOLDER)).unwrap().permissions().mode() & 0o777, 0o700);
        // fewer workers now: those of before can still sign what they voted for
        let (again, fewer) = Keyring::open(dir.path(), &store, 1, Time(9)).await.unwrap();
        assert_eq!(publics(&fewer), publics(&workers[..1]));
        assert_eq!(again.published(), first.published());
        let statement = VoteStatement {
            attempt: crate::id::AttemptId { run: crate::id::RunId(1), number: 1 },
            nonce: [0; 16],
            run_key: crate::digest::Digest::EMPTY,
            class: crate::core::Class(crate::digest::Digest::EMPTY),
            artifact: crate::digest::Digest::EMPTY,
            result: crate::digest::Digest::EMPTY,
        };
        let key = workers[2].verifying_key().to_bytes();
        assert!(again.sign_vote(&key, &statement).unwrap().verify(&key, &statement));
        assert!(again.sign_vote(&[1; 32], &statement).is_none());
        store.close().await;
    }

    #[tokio::test]
    async fn a_rotation_keeps_what_was_published_and_survives() {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(dir.path(), Options::default(), Failure::new()).unwrap();
        let (keyring, _) = Keyring::open(dir.path(), &store, 0, Time(5)).await.unwrap();
        let clock = Clock::start(Time(0));
        let before = keyring.published()[0];
        keyring.rotate(clock).unwrap();
        let published = keyring.published();
        assert_eq!(published.len(), 2);
        assert_eq!(PublishedKey { valid_until: None, ..published[1] }, before);
        assert_eq!(published[1].valid_until, Some(published[0].valid_from));
        assert_eq!(published[0].valid_until, None);
        let (again, _) = Keyring::open(dir.path(), &store, 0, Time(6)).await.unwrap();
        assert_eq!(again.published(), published);
        // the old secret is nowhere any more
        let text = std::fs::read_to_string(dir.path().join(FOLDER).join(OWN_FILE)).unwrap();
        assert_eq!(text.matches("secret").count(), 1);
        let mut signed_at = None;
        let sealed = again.certify(clock, |at| {
            signed_at = Some(at);
            b"payload".to_vec()
        });
        assert!(String::from_utf8(sealed).unwrap().contains(&published[0].key.to_string()));
        assert!(signed_at.unwrap() >= published[0].valid_from);
        store.close().await;
    }

    #[tokio::test]
    async fn a_damaged_file_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(dir.path(), Options::default(), Failure::new()).unwrap();
        drop(Keyring::open(dir.path(), &store, 0, Time(5)).await.unwrap());
        let path = dir.path().join(FOLDER).join(OWN_FILE);
        let text = std::fs::read_to_string(&path).unwrap();
        let other = PublicKey::of(&SigningKey::from_bytes(&[3; 32])).to_string();
        let known = &text[text.find("ed25519:").unwrap()..][..other.len()];
        let wrong = [String::new(), text.replace("\"v\": 1", "\"v\": 2"), text.replace(known, &other)];
        for wrong in wrong {
            std::fs::write(&path, &wrong).unwrap();
            let refused = Keyring::open(dir.path(), &store, 0, Time(5)).await;
            assert!(matches!(refused, Err(CoordinatorError::Data { .. })));
            assert_eq!(std::fs::read_to_string(&path).unwrap(), wrong);
        }
        store.close().await;
    }
}
