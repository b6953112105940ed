//! TLS for both sides: certificates and keys from PEM files, one crypto provider (`ring`), TLS 1.2 and 1.3.
//!
//! Invariants: nothing falls back to plaintext and nothing skips verification; who trusts whom is decided here and nowhere
//! else ([`client_config`], [`client_config_for_own_server`]); every failure can be said in words that tell what to do
//! ([`Refusal`]). It knows no HTTP, no command and no setting.

mod client;
mod issue;
mod refusal;
mod server;

#[cfg(test)]
mod tests;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

pub use client::{client_config, client_config_for_own_server, client_config_without_roots};
pub use issue::{Authority, Issued};
pub use refusal::Refusal;
pub use server::{Acceptor, ServerTls, WATCH_PERIOD};
pub use tokio_rustls::server::TlsStream;

/// What is spoken inside: the server has no other protocol.
const ALPN: &[u8] = b"http/1.1";
/// A chain of certificates is a few KiB; a bundle of a whole system's roots some hundred.
const PEM_BYTES_MAX: u64 = 4 << 20;

/// Why certificates or keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is not to be had.
    #[error("cannot read the {what} `{}`", path.display())]
    Unreadable {
        /// Certificate, key or CA.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: std::io::Error,
    },
    /// A file is no PEM.
    #[error("the {what} `{}` is damaged: {why}", path.display())]
    Damaged {
        /// Certificate, key or CA.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// The decoder's words.
        why: String,
    },
    /// A file has nothing of what it should have.
    #[error("`{}` holds no {what}: it must be PEM (-----BEGIN …-----)", path.display())]
    Empty {
        /// Certificate, key or CA.
        what: &'static str,
        /// Which file.
        path: PathBuf,
    },
    /// Certificate and key are no pair, or the provider cannot use them.
    #[error("the certificate `{}` and the key `{}` cannot be used together", cert.display(), key.display())]
    Pair {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why not.
        #[source]
        source: rustls::Error,
    },
    /// No certificate can be made.
    #[error("cannot make a certificate: {why}")]
    Issue {
        /// Why not.
        why: String,
    },
    /// The provider cannot do what is asked of it.
    #[error("TLS cannot be set up")]
    Setup(#[from] rustls::Error),
}

/// The one crypto provider.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    let unreadable = |source| TlsError::Unreadable { what, path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(PEM_BYTES_MAX).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

fn damaged(what: &'static str, path: &Path, error: pem::Error) -> TlsError {
    TlsError::Damaged { what, path: path.to_owned(), why: error.to_string() }
}

/// Every certificate of a file, in order; at least one.
fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(what, path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let all = all.map_err(|error| damaged(what, path, error))?;
    if all.is_empty() { Err(TlsError::Empty { what, path: path.to_owned() }) } else { Ok(all) }
}

/// The first private key of a file.
fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    const WHAT: &str = "private key";
    let bytes = read(WHAT, path)?;
    match PrivateKeyDer::from_pem_slice(&bytes) {
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) => Err(TlsError::Empty { what: WHAT, path: path.to_owned() }),
        Err(error) => Err(damaged(WHAT, path, error)),
    }
}
