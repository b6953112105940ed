//! Bytes over plain HTTP: inputs and modules come, outputs go, each named by its digest.
//!
//! Invariants: nothing is used whose bytes were not hashed here; each transfer is tried a bounded number of times, and one that
//! stands still is given up; one digest is fetched once at a time, whoever waits for it.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::{BoxFuture, Shared};
use futures_util::{FutureExt as _, StreamExt as _, stream};
use reqwest::{Method, StatusCode, Url};
use tokio::sync::{Semaphore, watch};

use super::cache::Cache;
use crate::agent::{Input, InputSource};
use crate::digest::{Digest, Hasher};
use crate::id::AttemptId;
use crate::protocol::agent::{BlobBody, FromAgent};
use crate::tls::Refusal;

/// How often a transfer is tried.
const TRIES_MAX: u32 = 5;
/// Between two tries, doubled each time.
const PAUSE: Duration = Duration::from_millis(200);
/// A transfer that does not move for so long is given up.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a transfer waits for a coordinator.
const ACCESS_TIMEOUT: Duration = Duration::from_secs(20);
/// Transfers at once, in each direction.
const TRANSFERS_MAX: usize = 8;
/// Bytes read from a file at once.
const PIECE_BYTES: usize = 256 * 1024;
/// Blobs up to this size travel in the session.
const INLINE_BYTES_MAX: usize = 64 * 1024;

/// Where blobs are, and with what right.
#[derive(Clone, Debug)]
pub(super) struct Access {
    pub(super) base: Url,
    pub(super) token: String,
}

/// The coordinator's blob store, from afar.
#[derive(Clone)]
pub(super) struct Remote {
    http: reqwest::Client,
    access: watch::Receiver<Option<Access>>,
    down: Arc<Semaphore>,
    up: Arc<Semaphore>,
}

/// Why one try failed.
enum Failed {
    /// Another may do better.
    Again(String),
    /// No other will.
    Finally(String),
}

impl Remote {
    pub(super) fn new(http: reqwest::Client, access: watch::Receiver<Option<Access>>) -> Remote {
        let transfers = || Arc::new(Semaphore::new(TRANSFERS_MAX));
        Remote { http, access, down: transfers(), up: transfers() }
    }

    async fn request(&self, method: Method, digest: Digest) -> Result<reqwest::RequestBuilder, Failed> {
        let mut access = self.access.clone();
        let there = tokio::time::timeout(ACCESS_TIMEOUT, access.wait_for(Option::is_some)).await;
        let there = there.ok().and_then(Result::ok).and_then(|access| access.clone());
        let Some(Access { base, token }) = there else {
            return Err(Failed::Finally("there is no coordinator".to_owned()));
        };
        let url = base.join(&format!("v1/blobs/{digest}"));
        let url = url.map_err(|error| Failed::Finally(error.to_string()))?;
        Ok(self.http.request(method, url).bearer_auth(token))
    }

    /// Fetches a blob into the cache; `false` if there is none.
    async fn fetch(&self, cache: &Cache, digest: Digest) -> Result<bool, String> {
        let _permit = self.down.acquire().await.map_err(|_| "the worker ends".to_owned())?;
        retried(|| async {
            let (file, path) = cache.begin().map_err(|error| Failed::Finally(error.to_string()))?;
            let fetched = self.fetch_into(cache, digest, file, &path).await;
            if !matches!(fetched, Ok(true)) {
                drop(std::fs::remove_file(&path));
            }
            fetched
        })
        .await
    }

    async fn fetch_into(
        &self,
        cache: &Cache,
        digest: Digest,
        file: File,
        path: &Path,
    ) -> Result<bool, Failed> {
        let request = self.request(Method::GET, digest).await?;
        let response = moving(request.send()).await?.map_err(|error| Failed::Again(words(&error)))?;
        match response.status() {
            StatusCode::NOT_FOUND => return Ok(false),
            status if !status.is_success() => {
                return Err(Failed::Again(format!("the coordinator answered {status}")));
            }
            _ => {}
        }
        let mut pieces = response.bytes_stream();
        let mut hasher = Hasher::new();
        let file = Arc::new(file);
        while let Some(piece) = moving(pieces.next()).await? {
            let piece = piece.map_err(|error| Failed::Again(words(&error)))?;
            let at = hasher.size();
            if at + piece.len() as u64 > cache.bytes_max() {
                let why = format!("it is larger than the worker's cache of {} bytes", cache.bytes_max());
                return Err(Failed::Finally(why));
            }
            let file = Arc::clone(&file);
            // beside the async threads: both take a while for large pieces
            let work = move || {
                hasher.update(&piece);
                file.write_all_at(&piece, at).map(|()| hasher)
            };
            let done = tokio::task::spawn_blocking(work).await.map_err(io::Error::other).flatten();
            hasher = done.map_err(|error| Failed::Finally(format!("it cannot be kept: {error}")))?;
        }
        let size = hasher.size();
        if hasher.finish() != digest {
            return Err(Failed::Again("what came does not hash to its name".to_owned()));
        }
        cache.finish(path, digest, size).map_err(|error| Failed::Finally(error.to_string()))?;
        Ok(true)
    }

    /// Puts a blob.
    async fn put(&self, digest: Digest, body: &BlobBody) -> Result<(), String> {
        let _permit = self.up.acquire().await.map_err(|_| "the worker ends".to_owned())?;
        retried(|| async {
            let request = self.request(Method::PUT, digest).await?.body(body_of(body));
            // the body is read by the request: only its whole has a bound, which grows with its size
            let within = IDLE_TIMEOUT + Duration::from_micros(size_of(body));
            let sent = tokio::time::timeout(within, request.send()).await;
            let sent = sent.map_err(|_| Failed::Again("it stood still".to_owned()))?;
            match sent.map_err(|error| Failed::Again(words(&error)))?.status() {
                status if status.is_success() => Ok(()),
                status if status.is_client_error() && status != StatusCode::UNAUTHORIZED => {
                    Err(Failed::Finally(format!("the coordinator answered {status}")))
                }
                status => Err(Failed::Again(format!("the coordinator answered {status}"))),
            }
        })
        .await
    }

    /// Delivers what was asked for; what cannot be put is left out.
    pub(super) async fn deliver(self, attempt: AttemptId, blobs: Vec<(Digest, BlobBody)>) -> FromAgent {
        let delivering = blobs.into_iter().map(|(digest, body)| {
            let remote = self.clone();
            async move {
                if travels_inline(&body) {
                    return Some((digest, body));
                }
                match remote.put(digest, &body).await {
                    Ok(()) => Some((digest, BlobBody::Stored { size: size_of(&body) })),
                    Err(why) => {
                        tracing::warn!(%attempt, %digest, why, "an output was not delivered");
                        None
                    }
                }
            }
        });
        let blobs = stream::iter(delivering).buffered(TRANSFERS_MAX).filter_map(std::future::ready).collect();
        FromAgent::Blobs { attempt, blobs: blobs.await }
    }
}

/// Whether a blob is small enough for the session.
fn travels_inline(body: &BlobBody) -> bool {
    matches!(body, BlobBody::Inline(bytes) if bytes.len() <= INLINE_BYTES_MAX)
}

/// Whether all of them are, and few.
pub(super) fn travel_inline(blobs: &[(Digest, BlobBody)]) -> bool {
    let inline = blobs.iter().all(|(_, body)| travels_inline(body));
    inline && blobs.iter().map(|(_, body)| size_of(body)).sum::<u64>() <= 16 * INLINE_BYTES_MAX as u64
}

fn size_of(body: &BlobBody) -> u64 {
    match body {
        BlobBody::Inline(bytes) => bytes.len() as u64,
        BlobBody::File { size, .. } | BlobBody::Stored { size } => *size,
    }
}

fn body_of(body: &BlobBody) -> reqwest::Body {
    let (file, mut at, end) = match body {
        BlobBody::Inline(bytes) => return bytes.clone().into(),
        BlobBody::Stored { .. } => return Bytes::new().into(),
        BlobBody::File { file, offset, size } => (Arc::clone(file), *offset, offset.saturating_add(*size)),
    };
    let pieces = stream::poll_fn(move |_| {
        let length = usize::try_from(end - at).unwrap_or(usize::MAX).min(PIECE_BYTES);
        if length == 0 {
            return std::task::Poll::Ready(None);
        }
        // an anonymous file: it is in memory, so that reading it does not block
        let mut piece = vec![0; length];
        let read = file.read_exact_at(&mut piece, at).map(|()| Bytes::from(piece));
        at += length as u64;
        std::task::Poll::Ready(Some(read))
    });
    reqwest::Body::wrap_stream(pieces)
}

/// Something that must move on.
async fn moving<T>(work: impl Future<Output = T>) -> Result<T, Failed> {
    tokio::time::timeout(IDLE_TIMEOUT, work).await.map_err(|_| Failed::Again("it stood still".to_owned()))
}

async fn retried<T, F: Future<Output = Result<T, Failed>>>(mut work: impl FnMut() -> F) -> Result<T, String> {
    let mut tries = 0;
    loop {
        tries += 1;
        match work().await {
            Ok(done) => return Ok(done),
            Err(Failed::Again(why)) if tries < TRIES_MAX => {
                tracing::debug!(why, tries, "a transfer is tried again");
                tokio::time::sleep(PAUSE * 2_u32.pow(tries - 1)).await;
            }
            Err(Failed::Again(why) | Failed::Finally(why)) => return Err(why),
        }
    }
}

/// The innermost reason.
pub(super) fn words(error: &reqwest::Error) -> String {
    if let Some(refusal) = Refusal::of(error) {
        let advice = refusal.advice().map(|advice| format!(": {advice}")).unwrap_or_default();
        return format!("{refusal}{advice}");
    }
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

type Fetching = Shared<BoxFuture<'static, Result<bool, String>>>;

/// Inputs of a remote worker: its cache, filled from the coordinator.
pub(super) struct CachedInputs {
    remote: Remote,
    cache: Arc<Cache>,
    fetching: Arc<Mutex<HashMap<Digest, Fetching>>>,
}

impl CachedInputs {
    pub(super) fn new(remote: Remote, cache: Cache) -> CachedInputs {
        CachedInputs { remote, cache: Arc::new(cache), fetching: Arc::default() }
    }

    async fn cached(&self, digest: Digest) -> Result<Option<Input>, String> {
        let cache = Arc::clone(&self.cache);
        let found = tokio::task::spawn_blocking(move || cache.get(digest)).await;
        let found = found.map_err(|_| "looking into the cache ended early".to_owned())?;
        Ok(found.map(|(file, size)| Input::File(file, size)))
    }

    /// Joins whoever fetches it already, or begins.
    fn fetch(&self, digest: Digest) -> Fetching {
        let mut fetching = self.fetching.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(already) = fetching.get(&digest) {
            return already.clone();
        }
        let (remote, cache, others) =
            (self.remote.clone(), Arc::clone(&self.cache), Arc::clone(&self.fetching));
        // a task of its own: it goes on when the first who asked goes away
        let task = tokio::spawn(async move {
            let fetched = remote.fetch(&cache, digest).await;
            others.lock().unwrap_or_else(PoisonError::into_inner).remove(&digest);
            fetched
        });
        let shared = async move { task.await.unwrap_or_else(|_| Err("fetching it ended early".to_owned())) };
        let shared = shared.boxed().shared();
        fetching.insert(digest, shared.clone());
        shared
    }
}

#[async_trait]
impl InputSource for CachedInputs {
    async fn open(&self, digest: Digest) -> Result<Option<Input>, String> {
        if let Some(input) = self.cached(digest).await? {
            return Ok(Some(input));
        }
        let fetched = self.fetch(digest).await;
        match fetched.map_err(|why| format!("the input {digest} cannot be fetched: {why}"))? {
            true => self.cached(digest).await,
            false => Ok(None),
        }
    }
}
