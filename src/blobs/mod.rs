//! Bytes by digest: small ones in their row, larger ones as objects below `DIR/blobs` (later a bucket).
//!
//! Invariants: a row that says "not inline" is committed only after its object is whole, synced and named by its digest
//! (I12); an object is deleted only when no row names it, decided under the same lock under which it is written; bytes are
//! hashed on the way in, and again before the first read by this process. Memory is bounded by a few chunks per call.
//! It does not know what the bytes mean, nor who refers to them: references are the store's.

mod files;
#[cfg(test)]
mod tests;

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _, stream};

use self::files::Files;
use crate::core::Time;
use crate::digest::{Digest, Hasher};
use crate::store::{BlobRow, Failure, INLINE_BLOB_BYTES_MAX, Store, StoreError};

/// Bytes that are read, hashed or written in one piece.
const CHUNK: usize = 256 << 10;
/// Locks that writers and the collector share, by the first byte of the digest.
const STRIPES: usize = 64;
/// An object without a row that is older than this was left by a crash.
const ORPHAN_AGE: std::time::Duration = std::time::Duration::from_secs(60 * 60);

/// Why a blob could not be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// What came does not hash to what was announced; nothing was stored.
    #[error("expected {expected}, got {actual}")]
    Mismatch {
        /// Announced.
        expected: Digest,
        /// Came.
        actual: Digest,
    },
    /// More came than is accepted; nothing was stored.
    #[error("more than {max} bytes")]
    TooLarge {
        /// The bound.
        max: u64,
    },
    /// The body broke off; nothing was stored.
    #[error("the body broke off: {0}")]
    Body(String),
    /// There is no room; nothing was stored.
    #[error("the disk is full")]
    Full,
    /// There is no such blob.
    #[error("there is no blob {0}")]
    Missing(Digest),
    /// What is stored does not hash to its name any more.
    #[error("the stored blob {0} is damaged")]
    Damaged(Digest),
    /// Its row.
    #[error("its row: {0}")]
    Store(#[from] StoreError),
    /// Its object.
    #[error("its file: {0}")]
    Io(String),
}

impl From<io::Error> for BlobError {
    fn from(error: io::Error) -> BlobError {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => BlobError::Full,
            _ => BlobError::Io(error.to_string()),
        }
    }
}

/// A blob that is there, ready to be read.
#[derive(Debug)]
pub enum BlobSource {
    /// Small.
    Inline(Bytes),
    /// An open file of this size, checked against its digest.
    File(std::fs::File, u64),
}

/// What a collection freed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Freed {
    /// Blobs that went.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// See the module.
pub struct Blobs {
    store: Arc<dyn Store>,
    files: Files,
    stripes: [tokio::sync::Mutex<()>; STRIPES],
}

impl Blobs {
    /// Opens or makes the folder. A failed sync is reported to `failure`: nothing stored can be trusted then.
    ///
    /// # Errors
    ///
    /// If the folder cannot be used.
    pub fn open(dir: &Path, store: Arc<dyn Store>, failure: Failure) -> Result<Blobs, BlobError> {
        let stripes = std::array::from_fn(|_| tokio::sync::Mutex::new(()));
        Ok(Blobs { store, files: Files::open(dir, failure)?, stripes })
    }

    fn stripe(&self, digest: Digest) -> &tokio::sync::Mutex<()> {
        &self.stripes[usize::from(digest.as_bytes()[0]) % STRIPES]
    }

    /// Stores bytes that are in memory; pinned until `pin`.
    ///
    /// # Errors
    ///
    /// See [`BlobError`].
    pub async fn put_bytes(&self, bytes: Bytes, pin: Time) -> Result<(Digest, u64), BlobError> {
        let body = stream::iter([Ok::<_, io::Error>(bytes)]);
        self.put_stream(body, None, u64::MAX, pin).await
    }

    /// Stores what streams in, hashed on the way; pinned until `pin`. What is there already is not written again.
    ///
    /// # Errors
    ///
    /// See [`BlobError`]. Nothing is left behind.
    pub async fn put_stream<E: std::fmt::Display>(
        &self,
        mut body: impl Stream<Item = Result<Bytes, E>> + Send + Unpin,
        expected: Option<Digest>,
        size_max: u64,
        pin: Time,
    ) -> Result<(Digest, u64), BlobError> {
        let mut hasher = Hasher::new();
        let mut head = BytesMut::new();
        let mut staged = None;
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|error| BlobError::Body(error.to_string()))?;
            hasher.update(&piece);
            if hasher.size() > size_max {
                return Err(BlobError::TooLarge { max: size_max });
            }
            match &mut staged {
                None if head.len() + piece.len() <= INLINE_BLOB_BYTES_MAX => head.extend_from_slice(&piece),
                None => {
                    let mut file = self.files.stage().await?;
                    file.write(head.split().freeze()).await?;
                    file.write(piece).await?;
                    staged = Some(file);
                }
                Some(file) => file.write(piece).await?,
            }
        }
        let (size, digest) = (hasher.size(), hasher.finish());
        if let Some(expected) = expected.filter(|expected| *expected != digest) {
            return Err(BlobError::Mismatch { expected, actual: digest });
        }
        if size == 0 {
            // the empty blob is always there, without a row
            return Ok((digest, 0));
        }
        let Some(staged) = staged else {
            let row = BlobRow { size, inline: Some(head.freeze()) };
            self.store.put_blob(digest, row, pin).await?;
            return Ok((digest, size));
        };
        let _writing = self.stripe(digest).lock().await;
        if self.store.pin_blob(digest, pin).await?.is_none() {
            staged.publish(digest).await?;
            self.store.put_blob(digest, BlobRow { size, inline: None }, pin).await?;
        }
        Ok((digest, size))
    }

    /// Stores `size` bytes of an open file from `offset`, which must hash to `expected`; pinned until `pin`.
    ///
    /// # Errors
    ///
    /// See [`BlobError`].
    pub async fn put_file(
        &self,
        file: &Arc<std::fs::File>,
        offset: u64,
        size: u64,
        expected: Digest,
        pin: Time,
    ) -> Result<(), BlobError> {
        if self.store.pin_blob(expected, pin).await?.is_some() {
            return Ok(());
        }
        let pieces = read_pieces(Arc::clone(file), offset..offset.saturating_add(size));
        self.put_stream(Box::pin(pieces), Some(expected), size, pin).await.map(drop)
    }

    /// A blob, checked against its digest; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`BlobError::Damaged`] if what is stored is not what its name says.
    pub async fn open_blob(&self, digest: Digest) -> Result<Option<BlobSource>, BlobError> {
        if digest == Digest::EMPTY {
            return Ok(Some(BlobSource::Inline(Bytes::new())));
        }
        let Some(row) = self.store.blob(digest).await? else { return Ok(None) };
        if let Some(bytes) = row.inline {
            if Digest::of(&bytes) != digest {
                return Err(BlobError::Damaged(digest));
            }
            return Ok(Some(BlobSource::Inline(bytes)));
        }
        let file = self.files.open_checked(digest, row.size).await?;
        Ok(Some(BlobSource::File(file, row.size)))
    }

    /// Some bytes of a blob, in pieces; the range is cut to the blob's size.
    ///
    /// # Errors
    ///
    /// [`BlobError::Missing`], [`BlobError::Damaged`]; in the stream, I/O errors.
    pub async fn read_range(
        &self,
        digest: Digest,
        range: Range<u64>,
    ) -> Result<stream::BoxStream<'static, Result<Bytes, BlobError>>, BlobError> {
        match self.open_blob(digest).await?.ok_or(BlobError::Missing(digest))? {
            BlobSource::Inline(bytes) => {
                let end = usize::try_from(range.end).unwrap_or(usize::MAX).min(bytes.len());
                let start = usize::try_from(range.start).unwrap_or(usize::MAX).min(end);
                Ok(stream::iter([Ok(bytes.slice(start..end))]).boxed())
            }
            BlobSource::File(file, size) => {
                let range = range.start.min(size)..range.end.min(size);
                Ok(read_pieces(Arc::new(file), range).map(|piece| piece.map_err(BlobError::from)).boxed())
            }
        }
    }

    /// Frees up to `limit` blobs that nothing refers to. Never takes one that is being put: an object goes only
    /// under the lock of its writers, and only if no row names it then.
    ///
    /// # Errors
    ///
    /// See [`BlobError`]; what was not freed is swept later.
    pub async fn collect_garbage(&self, now: Time, limit: u32) -> Result<Freed, BlobError> {
        let garbage = self.store.take_garbage(now, limit).await?;
        for digest in garbage.files {
            self.delete_unless_named(digest).await?;
        }
        Ok(Freed { blobs: u64::from(garbage.taken), bytes: garbage.bytes })
    }

    /// Deletes objects that a crash left without a row, and staged ones; returns how many.
    ///
    /// # Errors
    ///
    /// See [`BlobError`].
    pub async fn sweep(&self) -> Result<u64, BlobError> {
        let mut swept = 0;
        let mut orphans = self.files.older_than(ORPHAN_AGE);
        while let Some(digest) = orphans.next().await {
            let digest = digest?;
            if self.store.blob(digest).await?.is_none() && self.delete_unless_named(digest).await? {
                swept += 1;
            }
        }
        Ok(swept)
    }

    async fn delete_unless_named(&self, digest: Digest) -> Result<bool, BlobError> {
        let _deleting = self.stripe(digest).lock().await;
        if self.store.blob(digest).await?.is_some() {
            return Ok(false);
        }
        self.files.delete(digest).await?;
        Ok(true)
    }
}

/// Bytes of a file in pieces, read on threads that may block.
fn read_pieces(
    file: Arc<std::fs::File>,
    range: Range<u64>,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    stream::try_unfold(range, move |left| {
        let file = Arc::clone(&file);
        async move {
            if left.is_empty() {
                return Ok(None);
            }
            let length = usize::try_from(left.end - left.start).unwrap_or(CHUNK).min(CHUNK);
            let start = left.start;
            let piece = tokio::task::spawn_blocking(move || files::read_exact_at(&file, start, length))
                .await
                .map_err(io::Error::other)??;
            Ok(Some((piece, start + length as u64..left.end)))
        }
    })
}
