//! Freeing what nothing refers to, and sweeping up what a crash left behind.
//!
//! First the row goes, then the file; a put of the same blob may come in between, so the file goes only if there
//! still is no row, while puts of the blob are held off. A crash in between leaves a file without a row, which the
//! sweep finds.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::{BlobError, Blobs};
use crate::core::Time;
use crate::digest::Digest;

/// What a collection freed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Freed {
    /// Blobs that went; fewer than the limit means that no more are left.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Blobs {
    /// Frees up to `limit` blobs that nothing refers to and whose pins ended before `now`.
    pub async fn collect_garbage(&self, now: Time, limit: u32) -> Result<Freed, BlobError> {
        let garbage = self.store.take_garbage(now, limit).await?;
        for digest in garbage.files {
            self.remove_without_row(digest, self.files.path(digest)).await?;
        }
        Ok(Freed { blobs: u64::from(garbage.taken), bytes: garbage.bytes })
    }

    /// Removes files that have no row and are older than `age`: what a crash left between a rename and its row, or
    /// between a row's end and its file's. Answers how many. `age` keeps it off files whose rows are under way.
    pub async fn sweep(&self, age: Duration) -> Result<u32, BlobError> {
        let mut removed = 0;
        for directory in self.files.directories() {
            let old = tokio::task::spawn_blocking(move || old_files(directory, age)).await;
            for path in old.unwrap_or_default() {
                if let Some(digest) = digest_of(&path) {
                    removed += u32::from(self.remove_without_row(digest, path).await?);
                }
            }
        }
        Ok(removed)
    }

    /// Removes a blob's file if it has no row. In a task of its own, which goes on when the caller goes away: the lock
    /// must outlast the removal.
    async fn remove_without_row(&self, digest: Digest, path: PathBuf) -> Result<bool, BlobError> {
        let blobs = self.clone();
        let removal = tokio::spawn(async move {
            let lock = blobs.files.lock(digest).await;
            if blobs.store.blob(digest).await?.is_some_and(|row| row.inline.is_none()) {
                return Ok(false);
            }
            let removed = tokio::task::spawn_blocking(move || {
                let removed = std::fs::remove_file(path).is_ok();
                drop(lock);
                removed
            });
            // What could not be removed is tried again by the next sweep.
            Ok(removed.await.unwrap_or(false))
        });
        removal.await.unwrap_or(Ok(false))
    }
}

/// Files in a directory that nobody has written to for `age`; unreadable ones are left to the next sweep.
fn old_files(directory: PathBuf, age: Duration) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let now = SystemTime::now();
    let is_old = |entry: &std::fs::DirEntry| {
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        modified.is_ok_and(|modified| now.duration_since(modified).is_ok_and(|since| since >= age))
    };
    entries.flatten().filter(is_old).map(|entry| entry.path()).collect()
}

/// The digest that a path `…/ab/cdef…` stands for.
fn digest_of(path: &std::path::Path) -> Option<Digest> {
    let rest = path.file_name().and_then(OsStr::to_str)?;
    let first = path.parent()?.file_name().and_then(OsStr::to_str)?;
    format!("sha256:{first}{rest}").parse().ok()
}
