//! Tokens and blobs: who may come in, and the bytes they bring and take.

use std::ops::Range;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};

use super::{Caller, Service, ServiceError};
use crate::coordinator::owner::Command;
use crate::core::Time;
use crate::digest::Digest;
use crate::id::WorkspaceId;
use crate::store::{Store, StoreError, TokenRow};

/// A token that was just made: the only time that its text is known.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// Its row.
    pub row: TokenRow,
    /// The bearer token.
    pub text: String,
}

/// Makes a token's text: 32 bytes of the system's randomness, with a prefix that secret scanners can find.
pub fn new_token_text() -> Result<String, ServiceError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| ServiceError::Internal(format!("no randomness for a token: {error}")))?;
    Ok(format!("lsk_{}", URL_SAFE_NO_PAD.encode(bytes)))
}

/// What a token shall be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TokenSpec {
    /// What people call it.
    pub name: String,
    /// What it allows: `admin`, `submit`, `read`, `worker`.
    pub scopes: Vec<String>,
    /// When it ends.
    pub expires_at: Option<Time>,
    /// The trust domain of workers that enrol with it.
    pub domain: Option<String>,
    /// Whether those are the operator's own machines.
    pub owned: bool,
    /// Whether they are trusted executors.
    pub arbiter: bool,
}

/// Stores a token with this text.
pub async fn store_token(
    store: &dyn Store,
    text: &str,
    spec: TokenSpec,
    now: Time,
) -> Result<TokenRow, StoreError> {
    let row = TokenRow {
        id: 0,
        hash: Digest::of(text.as_bytes()),
        name: spec.name,
        workspace: WorkspaceId::default(),
        scopes: spec.scopes,
        created_at: now,
        expires_at: spec.expires_at,
        domain: spec.domain,
        owned: spec.owned,
        arbiter: spec.arbiter,
        last_used_at: None,
    };
    store.put_token(row).await
}

impl Service {
    /// The caller that a bearer token stands for. Tokens are looked up by their hash, so the time that it takes tells
    /// nothing about the tokens that there are.
    pub async fn authenticate(&self, token: &str) -> Result<Option<Caller>, ServiceError> {
        let hash = Digest::of(token.as_bytes());
        let row = match self.parts.tokens.known(hash) {
            Some(row) => Some(row),
            None => {
                let generation = self.parts.tokens.generation();
                let row = self.parts.store.token(hash).await?.map(Arc::new);
                if let Some(row) = &row {
                    self.parts.tokens.remember(Arc::clone(row), generation);
                }
                row
            }
        };
        let now = self.now();
        let valid = row.filter(|row| row.expires_at.is_none_or(|end| end > now));
        Ok(valid.map(|row| {
            self.parts.tokens.used(row.id, now);
            Caller {
                token: row.id,
                workspace: row.workspace,
                scopes: row.scopes.clone(),
                domain: row.domain.clone(),
                owned: row.owned,
                arbiter: row.arbiter,
                worker: None,
            }
        }))
    }

    /// The caller that a worker's token of its session stands for. It may read and put blobs, and has no scope.
    pub fn authenticate_worker(&self, token: &str) -> Option<Caller> {
        let worker = Some(self.parts.pool.bearer(token)?);
        let workspace = WorkspaceId::default();
        Some(Caller {
            token: 0,
            workspace,
            scopes: Vec::new(),
            domain: None,
            owned: false,
            arbiter: false,
            worker,
        })
    }

    /// All tokens, without their texts.
    pub async fn tokens(&self, _caller: &Caller) -> Result<Vec<TokenRow>, ServiceError> {
        // the latest uses are not written yet
        let used = self.parts.tokens.uses();
        let mut tokens = self.parts.store.tokens().await?;
        for token in &mut tokens {
            token.last_used_at = token.last_used_at.max(used.get(&token.id).copied());
        }
        Ok(tokens)
    }

    /// Makes a token.
    pub async fn create_token(&self, _caller: &Caller, spec: TokenSpec) -> Result<NewToken, ServiceError> {
        let text = new_token_text()?;
        let row = store_token(self.parts.store.as_ref(), &text, spec, self.now()).await?;
        Ok(NewToken { row, text })
    }

    /// Revokes a token, at once.
    pub async fn delete_token(&self, _caller: &Caller, id: u32) -> Result<(), ServiceError> {
        let known = self.parts.store.delete_token(id).await?;
        self.parts.tokens.forget_all();
        known.then_some(()).ok_or_else(|| ServiceError::NotFound { what: "token", id: id.to_string() })
    }

    /// Stores a blob as it streams in. True if it was there before. A worker may put only what it was asked for: an output of
    /// what it voted for, within the limits of its run.
    pub async fn put_blob<E: std::fmt::Display>(
        &self,
        caller: &Caller,
        body: impl Stream<Item = Result<Bytes, E>> + Send + Unpin,
        expected: Option<Digest>,
    ) -> Result<(Digest, u64, bool), ServiceError> {
        let mut max = self.parts.facts.blob_bytes_max;
        if let Some(worker) = caller.worker {
            let digest = expected.ok_or(ServiceError::NotAsked)?;
            let asked = self.ask(|reply| Command::Asked(worker, digest, reply)).await?;
            max = max.min(asked.ok_or(ServiceError::NotAsked)?);
        }
        let pin = self.pin();
        if let Some(digest) = expected
            && let Some(size) = self.parts.blobs.pin_stored(digest, pin).await?
        {
            // what is announced is there: the body need not be read
            return Ok((digest, size, true));
        }
        let (digest, size) = self.parts.blobs.put_stream(body, expected, max, pin).await?;
        Ok((digest, size, false))
    }

    /// A blob's size.
    pub async fn blob_size(&self, _caller: &Caller, digest: Digest) -> Result<u64, ServiceError> {
        self.size_of(digest).await
    }

    pub(super) async fn size_of(&self, digest: Digest) -> Result<u64, ServiceError> {
        if digest == Digest::EMPTY {
            return Ok(0);
        }
        let row = self.parts.store.blob(digest).await?;
        row.map(|row| row.size).ok_or_else(|| no_blob(digest))
    }

    /// Bytes of a blob, checked as they are read.
    pub async fn read_blob(
        &self,
        _caller: &Caller,
        digest: Digest,
        range: Range<u64>,
    ) -> Result<impl Stream<Item = Result<Bytes, ServiceError>> + Send + 'static, ServiceError> {
        let stream = self.parts.blobs.read_range(digest, range).await?;
        Ok(stream.map(|piece| piece.map_err(ServiceError::from)))
    }

    /// All of a blob, if it is at most `max` bytes long.
    pub async fn blob_bytes(&self, digest: Digest, max: u64) -> Result<Bytes, ServiceError> {
        let size = self.size_of(digest).await?;
        if size > max {
            return Err(ServiceError::TooLarge { max });
        }
        if size == 0 {
            return Ok(Bytes::new());
        }
        let mut stream = std::pin::pin!(self.parts.blobs.read_range(digest, 0..size).await?);
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        while let Some(piece) = stream.next().await {
            bytes.extend_from_slice(&piece?);
        }
        Ok(bytes.into())
    }
}

fn no_blob(digest: Digest) -> ServiceError {
    ServiceError::NotFound { what: "blob", id: digest.to_string() }
}
