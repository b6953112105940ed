//! Blobs on this machine's disk: bounded, the one that was used longest ago goes first.
//!
//! Invariant: a file is complete before it has its name and is never altered; what goes is unlinked, so that whoever has it open
//! keeps it. A file of an earlier life is hashed before it is used.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::digest::{Digest, Hasher};

/// What half a download begins with; removed at the next start.
const PART: &str = "part-";
const PIECE_BYTES: usize = 256 * 1024;

struct Entry {
    size: u64,
    used: u64,
    /// Whether this process has hashed it.
    is_checked: bool,
}

#[derive(Default)]
struct Index {
    entries: HashMap<Digest, Entry>,
    bytes: u64,
    uses: u64,
    parts: u64,
}

/// See the module.
pub(super) struct Cache {
    folder: PathBuf,
    bytes_max: u64,
    index: Mutex<Index>,
}

impl Cache {
    /// Takes over what an earlier life left.
    ///
    /// # Errors
    ///
    /// If the folder cannot be made or read.
    pub(super) fn open(folder: PathBuf, bytes_max: u64) -> io::Result<Cache> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            match format!("sha256:{name}").parse::<Digest>() {
                Ok(digest) => {
                    let meta = entry.metadata()?;
                    found.push((meta.modified()?, digest, meta.len()));
                }
                Err(_) if name.starts_with(PART) => drop(std::fs::remove_file(entry.path())),
                Err(_) => {}
            }
        }
        found.sort_unstable();
        let mut index = Index::default();
        for (_, digest, size) in found {
            index.uses += 1;
            index.bytes += size;
            index.entries.insert(digest, Entry { size, used: index.uses, is_checked: false });
        }
        let cache = Cache { folder, bytes_max, index: Mutex::new(index) };
        cache.shrink(&mut cache.lock(), 0);
        Ok(cache)
    }

    pub(super) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Opens a blob that is there. Blocks when it has to be hashed first.
    pub(super) fn get(&self, digest: Digest) -> Option<(File, u64)> {
        let (size, is_checked) = {
            let mut index = self.lock();
            index.uses += 1;
            let used = index.uses;
            let entry = index.entries.get_mut(&digest)?;
            entry.used = used;
            (entry.size, entry.is_checked)
        };
        let file = File::open(self.path(digest)).ok();
        let good = file.filter(|file| is_checked || hashes_to(file, size, digest));
        match good {
            Some(file) => {
                if let Some(entry) = self.lock().entries.get_mut(&digest) {
                    entry.is_checked = true;
                }
                Some((file, size))
            }
            None => {
                tracing::warn!(%digest, "a cached blob is damaged and goes");
                self.forget(&mut self.lock(), digest);
                None
            }
        }
    }

    /// A file to write a blob to.
    pub(super) fn begin(&self) -> io::Result<(File, PathBuf)> {
        let number = {
            let mut index = self.lock();
            index.parts += 1;
            index.parts
        };
        let path = self.folder.join(format!("{PART}{number}"));
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
        Ok((file, path))
    }

    /// Takes a complete file, whose bytes were hashed.
    pub(super) fn finish(&self, path: &Path, digest: Digest, size: u64) -> io::Result<()> {
        let mut index = self.lock();
        self.shrink(&mut index, size);
        std::fs::rename(path, self.path(digest))?;
        index.uses += 1;
        let entry = Entry { size, used: index.uses, is_checked: true };
        let old = index.entries.insert(digest, entry);
        index.bytes = index.bytes + size - old.map_or(0, |old| old.size);
        Ok(())
    }

    /// Makes room.
    fn shrink(&self, index: &mut Index, wanted: u64) {
        while index.bytes.saturating_add(wanted) > self.bytes_max {
            let oldest = index.entries.iter().min_by_key(|(_, entry)| entry.used).map(|(digest, _)| *digest);
            let Some(oldest) = oldest else { return };
            self.forget(index, oldest);
        }
    }

    fn forget(&self, index: &mut Index, digest: Digest) {
        if let Some(entry) = index.entries.remove(&digest) {
            index.bytes -= entry.size;
            // one that stays behind is found at the next start
            drop(std::fs::remove_file(self.path(digest)));
        }
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.folder.join(digest.hex())
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        // whole entries only: a panic leaves nothing half-done
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn hashes_to(file: &File, size: u64, digest: Digest) -> bool {
    let mut hasher = Hasher::new();
    let mut piece = vec![0; PIECE_BYTES];
    while hasher.size() < size {
        match file.read_at(&mut piece, hasher.size()) {
            Ok(count @ 1..) => hasher.update(&piece[..count]),
            _ => return false,
        }
    }
    hasher.size() == size && hasher.finish() == digest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(cache: &Cache, bytes: &[u8]) -> Digest {
        let (file, path) = cache.begin().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        let digest = Digest::of(bytes);
        cache.finish(&path, digest, bytes.len() as u64).unwrap();
        digest
    }

    #[test]
    fn the_one_used_longest_ago_goes_first_and_stays_open() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path().join("blobs"), 10).unwrap();
        let (a, b) = (put(&cache, b"aaaa"), put(&cache, b"bbbb"));
        let (file, size) = cache.get(a).unwrap();
        let (held, _) = cache.get(b).unwrap();
        let _ = cache.get(a).unwrap();
        let c = put(&cache, b"cccc");
        assert!(cache.get(b).is_none() && cache.get(a).is_some() && cache.get(c).is_some());
        assert!(hashes_to(&file, size, a) && hashes_to(&held, 4, b), "what is open stays whole");
    }

    #[test]
    fn an_earlier_life_is_taken_over_but_not_trusted() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("blobs");
        let cache = Cache::open(folder.clone(), 100).unwrap();
        let (good, bad) = (put(&cache, b"good"), put(&cache, b"bad!"));
        let _half = cache.begin().unwrap();
        drop(cache);
        std::fs::write(folder.join(bad.hex()), b"evil").unwrap();
        let cache = Cache::open(folder.clone(), 100).unwrap();
        assert!(cache.get(good).is_some() && cache.get(bad).is_none());
        assert!(!folder.join(bad.hex()).exists());
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
        assert!(Cache::open(folder, 3).unwrap().get(good).is_none(), "a smaller bound holds at once");
    }
}
