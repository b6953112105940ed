//! Artifacts on disk, each with a seal.
//!
//! Invariants: a file is handed out only after this process has seen its seal match its bytes; loading it
//! is executing it. A file is never changed after it got its name: a new one replaces it by renaming. The cache is a
//! cache: whatever is damaged, foreign or missing is thrown away and compiled again, so nothing here needs to survive.
//!
//! The seal is an HMAC with a key that never leaves the directory, over what the artifact is for and what it is. It
//! proves "made on this machine by this service for this module", which a digest alone would not.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use tempfile::NamedTempFile;

use crate::digest::{Digest, Hasher};
use crate::sandbox::Variant;

const KEY_FILE: &str = "key";
const TEMPORARY: &str = "temporary-";
/// No compilation takes so long: a temporary file that is older belongs to nobody, though some process has the number of
/// the one that made it.
const STALE: Duration = Duration::from_secs(3_600);
/// Length of a seal, in bytes.
const SEAL_BYTES: usize = 32;
/// Length of what is kept under a name, with its seal, in bytes.
const KEPT_BYTES_MAX: u64 = 4_096;
/// How long it counts.
const KEPT_FOR: Duration = Duration::from_secs(24 * 3_600);
/// How often the use of an artifact is written down, at most.
const TOUCH_EVERY: Duration = Duration::from_secs(60);

/// What an artifact is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Key {
    /// Of the engine that it loads in.
    pub(super) compatibility: Digest,
    /// With which semantics, counting fuel or not.
    pub(super) variant: Variant,
    /// The module.
    pub(super) module: Digest,
}

impl Key {
    fn stem(&self) -> String {
        let variant = match self.variant {
            Variant::Plain => "plain",
            Variant::Fueled => "fueled",
            Variant::Portable => "portable",
            Variant::PortableFueled => "portable-fueled",
        };
        format!("{}-{variant}-{}", self.compatibility.short(), self.module.hex())
    }
}

/// Machine code in a file, authenticated.
#[derive(Debug)]
pub struct Artifact {
    /// The file, open for reading.
    pub file: File,
    /// SHA-256 of the file: what votes carry.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// Which file it was, and that it has not been touched since.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Identity {
    fn of(file: &File) -> io::Result<Identity> {
        let meta = file.metadata()?;
        Ok(Identity {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
        })
    }
}

struct Verified {
    identity: Identity,
    digest: Digest,
    touched: Instant,
}

/// The directory.
pub(super) struct Cache {
    dir: PathBuf,
    key: [u8; 32],
    bytes_max: u64,
    verified: Mutex<HashMap<Key, Verified>>,
}

impl Cache {
    /// Opens the directory, making it (for this user alone) and its key if they are not there.
    pub(super) fn open(dir: &Path, bytes_max: u64) -> io::Result<Cache> {
        fs::create_dir_all(dir)?;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
        sweep(dir)?;
        let key = load_or_make_key(dir)?;
        Ok(Cache { dir: dir.to_owned(), key, bytes_max, verified: Mutex::default() })
    }

    /// The artifact, if this process has authenticated exactly this file before: no byte of it is read again.
    pub(super) fn get_known(&self, key: &Key) -> Option<Artifact> {
        let file = File::open(self.path(key, "cwasm")).ok()?;
        let identity = Identity::of(&file).ok()?;
        let mut verified = self.verified();
        let entry = verified.get_mut(key).filter(|entry| entry.identity == identity)?;
        if entry.touched.elapsed() >= TOUCH_EVERY {
            entry.touched = Instant::now();
            self.touch(key);
        }
        Some(Artifact { file, digest: entry.digest, size: identity.size })
    }

    /// The artifact, authenticated now if need be. One that is damaged or foreign is removed.
    pub(super) fn get(&self, key: &Key) -> io::Result<Option<Artifact>> {
        if let Some(artifact) = self.get_known(key) {
            return Ok(Some(artifact));
        }
        let mut file = match File::open(self.path(key, "cwasm")) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let (digest, size) = hash(&mut file)?;
        let seal = fs::read(self.path(key, "seal")).unwrap_or_default();
        if self.mac(key, digest, size).verify_slice(&seal).is_err() {
            tracing::warn!(module = %key.module, "an artifact in the cache is damaged or foreign: removed");
            self.remove(&key.stem());
            return Ok(None);
        }
        self.remember(key, &file, digest)?;
        self.touch(key);
        Ok(Some(Artifact { file, digest, size }))
    }

    /// An empty file in the directory, for the child to fill.
    pub(super) fn temporary(&self) -> io::Result<NamedTempFile> {
        tempfile::Builder::new().prefix(&own_temporary()).tempfile_in(&self.dir)
    }

    /// Seals what the child wrote and gives it its name; makes room for it among the others.
    pub(super) fn put(&self, key: &Key, mut temporary: NamedTempFile) -> io::Result<Artifact> {
        let (digest, size) = hash(temporary.as_file_mut())?;
        temporary.as_file().sync_all()?;
        let mut seal = self.temporary()?;
        seal.write_all(&self.mac(key, digest, size).finalize().into_bytes())?;
        seal.as_file().sync_all()?;
        let path = self.path(key, "cwasm");
        temporary.persist(&path).map_err(|error| error.error)?;
        // Until the seal has its name too, the artifact counts as foreign.
        seal.persist(self.path(key, "seal")).map_err(|error| error.error)?;
        let file = File::open(&path)?;
        self.remember(key, &file, digest)?;
        self.make_room(&key.stem())?;
        Ok(Artifact { file, digest, size })
    }

    /// What was kept under a name, if this machine kept it for just that, within the last day.
    pub(super) fn recall(&self, name: &str, of: Digest) -> Option<Vec<u8>> {
        let mut file = File::open(self.dir.join(name)).ok()?;
        let age = file.metadata().and_then(|meta| meta.modified()).ok()?.elapsed().ok()?;
        let mut bytes = Vec::new();
        (&mut file).take(KEPT_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        let (seal, words) = bytes.split_at_checked(SEAL_BYTES)?;
        let is_sealed = self.kept_mac(of, words).verify_slice(seal).is_ok();
        (is_sealed && age < KEPT_FOR).then(|| words.to_vec())
    }

    /// Keeps a few words under a name.
    pub(super) fn keep(&self, name: &str, of: Digest, words: &[u8]) -> io::Result<()> {
        let mut file = self.temporary()?;
        file.write_all(&self.kept_mac(of, words).finalize().into_bytes())?;
        file.write_all(words)?;
        file.as_file().sync_all()?;
        file.persist(self.dir.join(name)).map(drop).map_err(|error| error.error)
    }

    fn kept_mac(&self, of: Digest, words: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        mac.update(b"lockstep words 1\0");
        mac.update(of.as_bytes());
        mac.update(words);
        mac
    }

    /// Removes the least recently used artifacts until all fit, but never the one that was just made.
    fn make_room(&self, newest: &str) -> io::Result<()> {
        let mut all: Vec<(SystemTime, u64, String)> = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(stem) = name.to_str().and_then(|name| name.strip_suffix(".cwasm")) else { continue };
            // Another process may be removing the same.
            let Ok(size) = entry.metadata().map(|meta| meta.len()) else { continue };
            let seal = fs::metadata(self.dir.join(format!("{stem}.seal")));
            let used = seal.and_then(|meta| meta.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
            all.push((used, size, stem.to_owned()));
        }
        let mut total: u64 = all.iter().map(|(_, size, _)| size).sum();
        all.sort();
        for (_, size, stem) in all {
            if total <= self.bytes_max {
                break;
            }
            if stem != newest {
                self.remove(&stem);
                total -= size;
            }
        }
        Ok(())
    }

    fn remember(&self, key: &Key, file: &File, digest: Digest) -> io::Result<()> {
        let identity = Identity::of(file)?;
        let mut verified = self.verified();
        // What was removed meanwhile need not be remembered: the map is as bounded as the directory.
        verified.retain(|known, _| known == key || self.path(known, "cwasm").exists());
        verified.insert(*key, Verified { identity, digest, touched: Instant::now() });
        Ok(())
    }

    /// Writes the use down where it does not change the artifact's identity.
    fn touch(&self, key: &Key) {
        let touched =
            File::open(self.path(key, "seal")).and_then(|seal| seal.set_modified(SystemTime::now()));
        if let Err(error) = touched {
            tracing::debug!(%error, "the use of an artifact could not be written down");
        }
    }

    fn remove(&self, stem: &str) {
        for suffix in ["seal", "cwasm"] {
            // Gone already is as good.
            let _ = fs::remove_file(self.dir.join(format!("{stem}.{suffix}")));
        }
    }

    fn path(&self, key: &Key, suffix: &str) -> PathBuf {
        self.dir.join(format!("{}.{suffix}", key.stem()))
    }

    fn verified(&self) -> MutexGuard<'_, HashMap<Key, Verified>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every part has a fixed length, so no two inputs have the same bytes.
    fn mac(&self, key: &Key, digest: Digest, size: u64) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        mac.update(b"lockstep artifact 1\0");
        mac.update(key.compatibility.as_bytes());
        mac.update(&[key.variant as u8]);
        mac.update(key.module.as_bytes());
        mac.update(digest.as_bytes());
        mac.update(&size.to_be_bytes());
        mac
    }
}

/// Hashes a file from its beginning.
fn hash(file: &mut File) -> io::Result<(Digest, u64)> {
    io::Seek::rewind(file)?;
    let mut hasher = Hasher::new();
    let mut piece = vec![0; 256 << 10];
    loop {
        match file.read(&mut piece)? {
            0 => break,
            count => hasher.update(&piece[..count]),
        }
    }
    let size = hasher.size();
    Ok((hasher.finish(), size))
}

/// Removes what a killed process left half done.
fn sweep(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(TEMPORARY)) else { continue };
        let maker = rest.split('-').next().unwrap_or_default();
        let is_orphan = !Path::new("/proc").join(maker).exists();
        let age = entry.metadata().and_then(|meta| meta.modified()).ok().and_then(|time| time.elapsed().ok());
        if is_orphan || age.is_some_and(|age| age > STALE) {
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

/// How the names of this process's temporary files begin: its number says whether somebody still needs them.
fn own_temporary() -> String {
    format!("{TEMPORARY}{}-", std::process::id())
}

/// The machine's key. Several processes may come here at once: the first name given wins.
fn load_or_make_key(dir: &Path) -> io::Result<[u8; 32]> {
    let path = dir.join(KEY_FILE);
    if let Some(key) = read_key(&path)? {
        return Ok(key);
    }
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(io::Error::other)?;
    let mut file = tempfile::Builder::new()
        .prefix(&own_temporary())
        .permissions(fs::Permissions::from_mode(0o600))
        .tempfile_in(dir)?;
    file.write_all(&key)?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(&path) {
        Ok(_) => Ok(key),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            read_key(&path)?.ok_or_else(|| io::Error::other("the key of the artifact cache vanished"))
        }
        Err(error) => Err(error.error),
    }
}

/// A key that is not 32 bytes long is damaged: a new one makes every artifact foreign, which is right.
fn read_key(path: &Path) -> io::Result<Option<[u8; 32]>> {
    let mut file = match fs::OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    (&mut file).take(33).read_to_end(&mut bytes)?;
    match bytes.try_into() {
        Ok(key) => Ok(Some(key)),
        Err(_) => {
            fs::remove_file(path)?;
            Ok(None)
        }
    }
}
