//! Objects by digest over `object_store`, whose local files are staged, synced and renamed, their folder synced too.
//!
//! What an object is, who refers to it and when it may go is decided above.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _};
use std::path::Path as FilePath;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, WriteMultipart};

use super::{BlobError, CHUNK};
use crate::digest::{Digest, Hasher};
use crate::store::Failure;

/// Objects whose check this process remembers.
const CHECKED_MAX: usize = 16_384;
/// Pieces of an upload that may be on their way to the disk at once.
const WRITES_AT_ONCE: usize = 2;
/// Where uploads are until their digest is known.
const STAGING: &str = "staging";

/// Which file it was, and that nobody wrote to it since.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

/// See the module.
pub(super) struct Files {
    objects: Arc<LocalFileSystem>,
    failure: Failure,
    checked: Mutex<HashMap<Digest, Identity>>,
}

/// An upload whose digest is not known yet; dropped, it leaves nothing.
pub(super) struct Staged {
    objects: Arc<LocalFileSystem>,
    failure: Failure,
    path: Path,
    upload: Option<WriteMultipart>,
}

impl Files {
    pub(super) fn open(dir: &FilePath, failure: Failure) -> Result<Files, BlobError> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        // what an earlier life was uploading will never be finished
        match std::fs::remove_dir_all(dir.join(STAGING)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let objects = LocalFileSystem::new_with_prefix(dir)
            .map_err(|error| BlobError::Io(error.to_string()))?
            .with_fsync(true);
        Ok(Files { objects: Arc::new(objects), failure, checked: Mutex::default() })
    }

    /// Begins an upload.
    pub(super) async fn stage(&self) -> Result<Staged, BlobError> {
        let path = Path::from(format!("{STAGING}/{}", uuid::Uuid::now_v7()));
        let upload = self.objects.put_multipart(&path).await.map_err(|error| sort(&self.failure, error))?;
        Ok(Staged {
            objects: Arc::clone(&self.objects),
            failure: self.failure.clone(),
            path,
            upload: Some(WriteMultipart::new_with_chunk_size(upload, CHUNK)),
        })
    }

    /// Opens an object and, the first time that this process does, hashes all of it.
    pub(super) async fn open_checked(&self, digest: Digest, size: u64) -> Result<File, BlobError> {
        let path = self
            .objects
            .path_to_filesystem(&location(digest))
            .map_err(|error| BlobError::Io(error.to_string()))?;
        let known = self.checked.lock().unwrap_or_else(PoisonError::into_inner).get(&digest).copied();
        let work = move || -> Result<(File, Identity), BlobError> {
            let file = File::open(path)?;
            let identity = identity(&file)?;
            if identity.size != size {
                return Err(BlobError::Damaged(digest));
            }
            if known != Some(identity) && hash(&file, size)? != digest {
                return Err(BlobError::Damaged(digest));
            }
            Ok((file, identity))
        };
        let (file, identity) =
            tokio::task::spawn_blocking(work).await.map_err(|panic| BlobError::Io(panic.to_string()))??;
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if checked.len() >= CHECKED_MAX {
            checked.clear();
        }
        checked.insert(digest, identity);
        Ok(file)
    }

    /// Deletes an object; one that is not there is fine.
    pub(super) async fn delete(&self, digest: Digest) -> Result<(), BlobError> {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner).remove(&digest);
        match self.objects.delete(&location(digest)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(sort(&self.failure, error)),
        }
    }

    /// The digests of objects that were last written before `age` ago.
    pub(super) fn older_than(
        &self,
        age: Duration,
    ) -> impl Stream<Item = Result<Digest, BlobError>> + Send + Unpin {
        let failure = self.failure.clone();
        let age_s = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
        let now_s = jiff::Timestamp::now().as_second();
        let objects = self.objects.list(None).map_err(move |error| sort(&failure, error));
        let named = objects.try_filter_map(move |object| {
            let is_old = now_s.saturating_sub(object.last_modified.timestamp()) > age_s;
            let hex: String = object.location.parts().map(|part| part.as_ref().to_owned()).collect();
            let digest = format!("sha256:{hex}").parse().ok();
            std::future::ready(Ok(digest.filter(|_| is_old)))
        });
        named.boxed()
    }
}

impl Staged {
    /// Appends a piece; waits while too many are on their way.
    pub(super) async fn write(&mut self, piece: Bytes) -> Result<(), BlobError> {
        let Some(upload) = &mut self.upload else { return Ok(()) };
        upload.wait_for_capacity(WRITES_AT_ONCE).await.map_err(|error| sort(&self.failure, error))?;
        upload.put(piece);
        Ok(())
    }

    /// Makes it durable under its digest.
    pub(super) async fn publish(mut self, digest: Digest) -> Result<(), BlobError> {
        let Some(upload) = self.upload.take() else { return Ok(()) };
        let finished = upload.finish().await.map_err(|error| sort(&self.failure, error));
        let published = match finished {
            Ok(_) => {
                let renamed = self.objects.rename(&self.path, &location(digest)).await;
                renamed.map_err(|error| sort(&self.failure, error))
            }
            Err(error) => Err(error),
        };
        if published.is_err() {
            // best effort: what stays is swept at the next start
            let _ = self.objects.delete(&self.path).await;
        }
        published
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Some(upload) = self.upload.take() {
            // the store removes its own staging file when the upload is given up
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(async move {
                    let _ = upload.abort().await;
                });
            }
        }
    }
}

fn location(digest: Digest) -> Path {
    let hex = digest.hex();
    Path::from(format!("{}/{}", &hex[..2], &hex[2..]))
}

/// A full disk is the caller's news; any other failed write is nobody's to retry: what was synced is not known.
fn sort(failure: &Failure, error: object_store::Error) -> BlobError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            return match io.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => BlobError::Full,
                _ => {
                    if io.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) {
                        failure.report(&format!("a blob could not be synced: {error}"));
                    }
                    BlobError::Io(error.to_string())
                }
            };
        }
        cause = inner.source();
    }
    BlobError::Io(error.to_string())
}

fn identity(file: &File) -> io::Result<Identity> {
    let metadata = file.metadata()?;
    Ok(Identity {
        device: metadata.dev(),
        inode: metadata.ino(),
        size: metadata.len(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
    })
}

fn hash(file: &File, size: u64) -> io::Result<Digest> {
    let mut hasher = Hasher::new();
    while hasher.size() < size {
        let length = usize::try_from(size - hasher.size()).unwrap_or(CHUNK).min(CHUNK);
        hasher.update(&read_exact_at(file, hasher.size(), length)?);
    }
    Ok(hasher.finish())
}

/// `length` bytes from `offset`.
pub(super) fn read_exact_at(file: &File, offset: u64, length: usize) -> io::Result<Bytes> {
    let mut piece = vec![0; length];
    file.read_exact_at(&mut piece, offset)?;
    Ok(piece.into())
}
