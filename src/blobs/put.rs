//! Putting blobs: hashed while they come, durable before their row.

use std::error::Error;
use std::fmt::Display;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use futures_util::{Stream, StreamExt};
use object_store::path::Path as ObjectPath;
use object_store::{MultipartUpload, ObjectStoreExt, PutPayload};
use uuid::Uuid;

use super::files::{Files, INCOMING};
use super::{BlobError, Blobs};
use crate::core::Time;
use crate::digest::{Digest, Hasher};
use crate::result::OutputRef;
use crate::store::{BlobRow, INLINE_BLOB_BYTES_MAX};

/// Bytes that are hashed and written at once; what an upload costs in memory is two of these.
const PART_BYTES: usize = 1 << 20;

impl Blobs {
    /// Puts bytes that are in memory already, pinned against collection until `pin_until`. Answers digest and size.
    pub async fn put_bytes(&self, bytes: Bytes, pin_until: Time) -> Result<(Digest, u64), BlobError> {
        let size_max = bytes.len() as u64;
        let body = stream::iter([Ok::<_, io::Error>(bytes)]);
        self.put_stream(body, None, size_max, pin_until).await
    }

    /// Puts bytes as they come. With `expected`, other bytes are refused; more than `size_max` always are. After an
    /// error nothing is left of them.
    pub async fn put_stream<E: Display>(
        &self,
        body: impl Stream<Item = Result<Bytes, E>> + Send,
        expected: Option<Digest>,
        size_max: u64,
        pin_until: Time,
    ) -> Result<(Digest, u64), BlobError> {
        let mut parts = Parts { body: Box::pin(body).fuse(), rest: Bytes::new(), size: 0, size_max };
        let first = parts.next(INLINE_BLOB_BYTES_MAX + 1).await?;
        if first.len() <= INLINE_BLOB_BYTES_MAX {
            let blob = self.put_small(first, expected, pin_until).await?;
            return Ok((blob.digest, blob.size));
        }
        let stored = match expected {
            Some(expected) => self.pin_stored(expected, pin_until).await?.is_some(),
            None => false,
        };
        let mut upload = if stored { None } else { Some(self.begin().await?) };
        let result = self.write_parts(first, &mut parts, upload.as_mut(), expected).await;
        match (result, upload) {
            (Ok(blob), None) => Ok((blob.digest, blob.size)),
            (Ok(blob), Some(upload)) => {
                // In a task of its own, which goes on when the caller goes away: the lock must outlast the row's commit.
                let blobs = self.clone();
                let publishing = tokio::spawn(async move { blobs.publish(upload, blob, pin_until).await });
                let published = publishing.await.map_err(|error| BlobError::Fatal(error.to_string()))?;
                published.map(|()| (blob.digest, blob.size))
            }
            (Err(error), upload) => {
                if let Some(mut upload) = upload {
                    // What cannot be removed now is when the process starts again.
                    drop(upload.writer.abort().await);
                }
                Err(error)
            }
        }
    }

    /// Puts `size` bytes of a file from `offset` on, which must hash to `expected`: what an agent's runner wrote
    /// into shared memory. The bytes are read once, so a later change of them does no harm.
    pub async fn put_file(
        &self,
        file: &File,
        offset: u64,
        size: u64,
        expected: Digest,
        pin_until: Time,
    ) -> Result<(Digest, u64), BlobError> {
        let file = file.try_clone().map_err(|error| BlobError::Exhausted(error.to_string()))?;
        let file = Arc::new(file);
        let end = offset.saturating_add(size);
        let body = stream::try_unfold(offset, move |at| {
            let file = Arc::clone(&file);
            async move {
                let length = usize::try_from(end - at).unwrap_or(usize::MAX).min(PART_BYTES);
                if length == 0 {
                    return Ok(None);
                }
                let read = tokio::task::spawn_blocking(move || {
                    let mut part = vec![0; length];
                    file.read_exact_at(&mut part, at).map(|()| part)
                });
                let part = read.await.map_err(io::Error::other)??;
                Ok::<_, io::Error>(Some((Bytes::from(part), at + length as u64)))
            }
        });
        self.put_stream(body, Some(expected), size, pin_until).await
    }

    async fn put_small(
        &self,
        bytes: Bytes,
        expected: Option<Digest>,
        pin_until: Time,
    ) -> Result<OutputRef, BlobError> {
        let blob = OutputRef::of(&bytes);
        check(blob.digest, expected)?;
        if blob.size > 0 {
            // A copy of its own: the bytes may be a slice that keeps a whole network buffer alive.
            let row = BlobRow { size: blob.size, inline: Some(Bytes::copy_from_slice(&bytes)) };
            self.store.put_blob(blob.digest, row, pin_until).await?;
        }
        Ok(blob)
    }

    /// Pins a blob that somebody says is there; false if it is not. Its bytes were hashed when they were put.
    pub async fn pin(&self, digest: Digest, pin_until: Time) -> Result<bool, BlobError> {
        Ok(digest == Digest::EMPTY || self.pin_stored(digest, pin_until).await?.is_some())
    }

    /// Pins a blob if it is there, its file included, and answers its size; otherwise it has to be put (again).
    pub async fn pin_stored(&self, digest: Digest, pin_until: Time) -> Result<Option<u64>, BlobError> {
        let Some(row) = self.store.pin_blob(digest, pin_until).await? else {
            return Ok(None);
        };
        let path = self.files.path(digest);
        let there = move || std::fs::metadata(path).is_ok_and(|file| file.len() == row.size);
        let is_whole = row.inline.is_some() || tokio::task::spawn_blocking(there).await.unwrap_or(false);
        Ok(is_whole.then_some(row.size))
    }

    /// Always apart and under a name of its own: below its digest's name another upload of the same blob, or the sweep,
    /// would meet a file that is not whole.
    async fn begin(&self) -> Result<Upload, BlobError> {
        let name = ObjectPath::from(format!("{INCOMING}/{}", Uuid::now_v7().as_simple()));
        let writer = self.files.objects.put_multipart(&name).await;
        let writer = writer.map_err(|error| self.judge(&error))?;
        Ok(Upload { name, writer })
    }

    /// Hashes all parts, and writes them if there is an upload.
    async fn write_parts<S, E>(
        &self,
        first: Bytes,
        parts: &mut Parts<S>,
        mut upload: Option<&mut Upload>,
        expected: Option<Digest>,
    ) -> Result<OutputRef, BlobError>
    where
        S: Stream<Item = Result<Bytes, E>>,
        E: Display,
    {
        let mut hasher = Hasher::new();
        let mut part = first;
        while !part.is_empty() {
            let bytes = part.clone();
            // Beside the writing and off the async threads: a part takes about a millisecond.
            let hashing = tokio::task::spawn_blocking(move || {
                hasher.update(&bytes);
                hasher
            });
            if let Some(upload) = &mut upload {
                let written = upload.writer.put_part(PutPayload::from_bytes(part)).await;
                written.map_err(|error| self.judge(&error))?;
            }
            hasher = hashing.await.map_err(|error| BlobError::Fatal(error.to_string()))?;
            part = parts.next(PART_BYTES).await?;
        }
        let size = hasher.size();
        let digest = hasher.finish();
        check(digest, expected)?;
        Ok(OutputRef { digest, size })
    }

    /// Gives the written file its name and then its row, while nobody can collect either.
    async fn publish(&self, mut upload: Upload, blob: OutputRef, pin_until: Time) -> Result<(), BlobError> {
        let _lock = self.files.lock(blob.digest).await;
        if self.pin_stored(blob.digest, pin_until).await?.is_some() {
            drop(upload.writer.abort().await);
            return Ok(());
        }
        let name = Files::name(blob.digest);
        upload.writer.complete().await.map_err(|error| self.judge(&error))?;
        self.files.objects.rename(&upload.name, &name).await.map_err(|error| self.judge(&error))?;
        let row = BlobRow { size: blob.size, inline: None };
        if let Err(error) = self.store.put_blob(blob.digest, row, pin_until).await {
            // Without its row it is nobody's.
            drop(self.files.objects.delete(&name).await);
            return Err(error.into());
        }
        if let Ok(metadata) = tokio::fs::metadata(self.files.path(blob.digest)).await {
            self.files.remember_whole(blob.digest, &metadata);
        }
        Ok(())
    }

    /// What a failed write means: no space, nothing left to open a file with, or the end of trust.
    fn judge(&self, error: &object_store::Error) -> BlobError {
        let mut cause: Option<&(dyn Error + 'static)> = Some(error);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<io::Error>()
                && let Some(harmless) = harmless(error)
            {
                return harmless;
            }
            cause = error.source();
        }
        let why = format!("cannot write a blob: {error}");
        self.failure.report(&why);
        BlobError::Fatal(why)
    }
}

/// What an I/O error means that says nothing about the bytes on the disk.
pub(super) fn harmless(error: &io::Error) -> Option<BlobError> {
    use io::ErrorKind::{FileTooLarge, OutOfMemory, QuotaExceeded, StorageFull};
    use rustix::io::Errno;

    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    match error.kind() {
        StorageFull | QuotaExceeded | FileTooLarge => Some(BlobError::Full),
        OutOfMemory => Some(BlobError::Exhausted(error.to_string())),
        _ if matches!(errno, Some(Errno::MFILE | Errno::NFILE)) => {
            Some(BlobError::Exhausted(error.to_string()))
        }
        _ => None,
    }
}

fn check(found: Digest, expected: Option<Digest>) -> Result<(), BlobError> {
    match expected {
        Some(expected) if expected != found => Err(BlobError::Mismatch { expected, actual: found }),
        _ => Ok(()),
    }
}

/// A file that is being written.
struct Upload {
    name: ObjectPath,
    writer: Box<dyn MultipartUpload>,
}

/// A body cut into parts of a chosen size.
struct Parts<S> {
    /// Fused: a part that was full ends before the body does, and the next one asks again.
    body: stream::Fuse<std::pin::Pin<Box<S>>>,
    /// Of the last piece, what did not fit its part.
    rest: Bytes,
    size: u64,
    size_max: u64,
}

impl<S, E> Parts<S>
where
    S: Stream<Item = Result<Bytes, E>>,
    E: Display,
{
    /// The next `size` bytes; fewer only at the end, none after it.
    async fn next(&mut self, size: usize) -> Result<Bytes, BlobError> {
        let mut part = BytesMut::new();
        loop {
            let wanted = size - part.len();
            if part.is_empty() && self.rest.len() >= wanted {
                return Ok(self.rest.split_to(wanted));
            }
            part.extend_from_slice(&self.rest.split_to(wanted.min(self.rest.len())));
            if part.len() == size {
                return Ok(part.freeze());
            }
            let Some(piece) = self.body.next().await else {
                return Ok(part.freeze());
            };
            self.rest = piece.map_err(|error| BlobError::Body(error.to_string()))?;
            self.size += self.rest.len() as u64;
            if self.size > self.size_max {
                return Err(BlobError::TooLarge { max: self.size_max });
            }
        }
    }
}
