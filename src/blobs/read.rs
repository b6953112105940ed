//! Reading blobs: nobody is given bytes as a blob that do not hash to its name.

use std::fs::{File, Metadata};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt, TryStreamExt};

use super::put::harmless;
use super::{BlobError, Blobs};
use crate::digest::{Digest, Hasher};

/// Bytes that are read at once.
const CHUNK_BYTES: u64 = 256 << 10;

/// A blob, checked, ready to be read or passed on.
#[derive(Debug)]
pub enum BlobSource {
    /// All of it.
    Inline(Bytes),
    /// A file and its size in bytes; agents hand the descriptor to their runner.
    File(File, u64),
}

impl Blobs {
    /// Opens a blob, `None` if it is not stored. A file is hashed first, unless this process wrote it or hashed it
    /// before and it has not changed since.
    pub async fn open_blob(&self, digest: Digest) -> Result<Option<BlobSource>, BlobError> {
        let Some((source, whole)) = self.open_unchecked(digest).await? else {
            return Ok(None);
        };
        match source {
            BlobSource::File(file, size) if !whole => {
                let file = Arc::new(file);
                self.check(digest, &file, size).await?;
                let file = Arc::try_unwrap(file).or_else(|file| file.try_clone());
                let file = file.map_err(|error| BlobError::Exhausted(error.to_string()))?;
                Ok(Some(BlobSource::File(file, size)))
            }
            source => Ok(Some(source)),
        }
    }

    /// Hashes a stored blob again, whatever is remembered of it; answers its size, `None` if it is not stored.
    pub async fn verify(&self, digest: Digest) -> Result<Option<u64>, BlobError> {
        match self.open_unchecked(digest).await? {
            None => Ok(None),
            Some((BlobSource::Inline(bytes), _)) => Ok(Some(bytes.len() as u64)),
            Some((BlobSource::File(file, size), _)) => {
                self.check(digest, &Arc::new(file), size).await?;
                Ok(Some(size))
            }
        }
    }

    /// Streams some bytes of a blob; `range` is cut to its size. The whole is hashed on its way and ends in an error if
    /// it does not hash to its name; for a part the whole is checked before, as by [`Blobs::open_blob`].
    pub async fn read_range(
        &self,
        digest: Digest,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes, BlobError>>, BlobError> {
        let (source, whole) = self.open_unchecked(digest).await?.ok_or(BlobError::Missing(digest))?;
        match source {
            BlobSource::Inline(bytes) => {
                let at = |index: u64| usize::try_from(index).unwrap_or(bytes.len()).min(bytes.len());
                let (start, end) = (at(range.start), at(range.end));
                Ok(stream::iter([Ok(bytes.slice(start.min(end)..end))]).boxed())
            }
            BlobSource::File(file, size) if range.start == 0 && range.end >= size => {
                Ok(self.hashed(digest, Arc::new(file), size).boxed())
            }
            BlobSource::File(file, size) => {
                let file = Arc::new(file);
                if !whole {
                    self.check(digest, &file, size).await?;
                }
                Ok(chunks(digest, file, range.start..range.end.min(size)).boxed())
            }
        }
    }

    /// Hashes a file.
    async fn check(&self, digest: Digest, file: &Arc<File>, size: u64) -> Result<(), BlobError> {
        self.hashed(digest, Arc::clone(file), size).try_for_each(|_| async { Ok(()) }).await
    }

    /// Opens a blob; inline bytes are checked, of a file only the size, and whether it is known to be whole.
    async fn open_unchecked(&self, digest: Digest) -> Result<Option<(BlobSource, bool)>, BlobError> {
        if digest == Digest::EMPTY {
            return Ok(Some((BlobSource::Inline(Bytes::new()), true)));
        }
        let Some(row) = self.store.blob(digest).await? else {
            return Ok(None);
        };
        if let Some(bytes) = row.inline {
            if Digest::of(&bytes) != digest {
                return Err(damaged(digest, "it does not hash to its name"));
            }
            return Ok(Some((BlobSource::Inline(bytes), true)));
        }
        let path = self.files.path(digest);
        let open = move || File::open(path).and_then(|file| file.metadata().map(|metadata| (file, metadata)));
        let opened = tokio::task::spawn_blocking(open).await.map_err(|error| damaged(digest, error))?;
        let (file, metadata) =
            opened.map_err(|error| harmless(&error).unwrap_or_else(|| damaged(digest, error)))?;
        if metadata.len() != row.size {
            return Err(damaged(digest, format!("{} bytes of {} are there", metadata.len(), row.size)));
        }
        let whole = self.files.is_whole(digest, &metadata);
        Ok(Some((BlobSource::File(file, row.size), whole)))
    }

    /// The chunks of a whole file; after the last one an error if they do not hash to its name.
    fn hashed(
        &self,
        digest: Digest,
        file: Arc<File>,
        size: u64,
    ) -> impl Stream<Item = Result<Bytes, BlobError>> + Send + use<> {
        let files = Arc::clone(&self.files);
        let state = (Hasher::new(), None::<Metadata>);
        stream::try_unfold(state, move |(mut hasher, before)| {
            let (file, files) = (Arc::clone(&file), Arc::clone(&files));
            async move {
                let step = move || {
                    let at = hasher.size();
                    // The state of the file before its first byte was read: a change in between shows.
                    let before = match before {
                        Some(before) => before,
                        None => file.metadata()?,
                    };
                    if at < size {
                        let chunk = read_chunk(&file, at, size)?;
                        hasher.update(&chunk);
                        return Ok(Some((chunk, (hasher, Some(before)))));
                    }
                    if hasher.finish() != digest {
                        return Err(io::Error::other("it does not hash to its name"));
                    }
                    files.remember_whole(digest, &before);
                    Ok(None)
                };
                let step = tokio::task::spawn_blocking(step).await.map_err(|error| damaged(digest, error))?;
                step.map_err(|error| damaged(digest, error))
            }
        })
    }
}

fn chunks(
    digest: Digest,
    file: Arc<File>,
    range: Range<u64>,
) -> impl Stream<Item = Result<Bytes, BlobError>> + Send {
    stream::try_unfold(range.start, move |at| {
        let file = Arc::clone(&file);
        let end = range.end;
        async move {
            if at >= end {
                return Ok(None);
            }
            let read = tokio::task::spawn_blocking(move || read_chunk(&file, at, end)).await;
            let chunk =
                read.map_err(|error| damaged(digest, error))?.map_err(|error| damaged(digest, error))?;
            let next = at + chunk.len() as u64;
            Ok(Some((chunk, next)))
        }
    })
}

fn read_chunk(file: &File, at: u64, end: u64) -> io::Result<Bytes> {
    let length = usize::try_from((end - at).min(CHUNK_BYTES)).map_err(io::Error::other)?;
    let mut chunk = vec![0; length];
    file.read_exact_at(&mut chunk, at)?;
    Ok(chunk.into())
}

fn damaged(digest: Digest, why: impl ToString) -> BlobError {
    BlobError::Damaged { digest, why: why.to_string() }
}
