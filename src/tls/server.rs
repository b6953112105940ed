//! The server's side: a certificate that can be changed while connections last, and the handshake.

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{ALPN, TlsError, certificates, private_key, provider};

/// How often the files are looked at.
pub const WATCH_PERIOD: Duration = Duration::from_secs(2);
/// The first byte of every TLS connection: a handshake record.
const HANDSHAKE_RECORD: u8 = 0x16;

/// A certificate with its key, from files that may change.
#[derive(Debug)]
pub struct ServerTls {
    cert: PathBuf,
    key: PathBuf,
    current: Arc<Current>,
    config: Arc<ServerConfig>,
    /// The files as they were just before they were first read: a later change is one even if nobody watched yet.
    loaded: [Fingerprint; 2],
}

/// What new connections are shown.
#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl Current {
    fn get(&self) -> Arc<CertifiedKey> {
        // a panic cannot have left half an `Arc`
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.get())
    }
}

/// What tells that a file is another one, or has other contents: device, inode, size, and time of the change.
type Fingerprint = Option<(u64, u64, u64, i64, i64)>;

impl ServerTls {
    /// Reads a chain of certificates (the server's own first) and its private key, both PEM.
    pub fn load(cert: &Path, key: &Path) -> Result<ServerTls, TlsError> {
        let loaded = [fingerprint(cert), fingerprint(key)];
        let current = Arc::new(Current(RwLock::new(read_pair(cert, key)?)));
        let config = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let mut config = config.with_no_client_auth().with_cert_resolver(Arc::clone(&current) as Arc<_>);
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.ticketer = rustls::crypto::ring::Ticketer::new()?;
        let (cert, key) = (cert.to_owned(), key.to_owned());
        Ok(ServerTls { cert, key, current, config: Arc::new(config), loaded })
    }

    /// What makes a TLS connection of an accepted one.
    pub fn acceptor(&self) -> Acceptor {
        Acceptor(TlsAcceptor::from(Arc::clone(&self.config)))
    }

    /// The certificate that new connections are shown.
    pub fn certificate(&self) -> CertificateDer<'static> {
        // a pair is only made of at least one certificate
        self.current.get().cert[0].clone()
    }

    /// Reads the files again; new connections get what they hold now. After an error everything is as it was.
    pub fn reload(&self) -> Result<(), TlsError> {
        let pair = read_pair(&self.cert, &self.key)?;
        *self.current.0.write().unwrap_or_else(PoisonError::into_inner) = pair;
        Ok(())
    }

    fn fingerprints(&self) -> [Fingerprint; 2] {
        [fingerprint(&self.cert), fingerprint(&self.key)]
    }

    /// Reloads when the files have changed, and whenever `asked` says so; calls `reloaded` after each success. Runs until
    /// `asked` is closed.
    ///
    /// A certificate and its key are two files: between the two writes they are no pair. That reload fails, the old pair
    /// stays, and the second write causes the next one.
    pub async fn watch(&self, mut asked: mpsc::Receiver<()>, reloaded: impl Fn(&ServerTls)) {
        let mut seen = self.loaded;
        let mut timer = tokio::time::interval(WATCH_PERIOD);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            // cancel safe: neither loses anything
            let is_asked = tokio::select! {
                _ = timer.tick() => false,
                word = asked.recv() => match word {
                    Some(()) => true,
                    None => return,
                },
            };
            // before it is read: a change during the reading is seen the next time
            let now = self.fingerprints();
            if now == seen && !is_asked {
                continue;
            }
            seen = now;
            match self.reload() {
                Ok(()) => {
                    tracing::info!("TLS: new connections get the certificate in `{}`", self.cert.display());
                    reloaded(self);
                }
                Err(error) => {
                    let why =
                        std::error::Error::source(&error).map(|why| format!(": {why}")).unwrap_or_default();
                    tracing::warn!("TLS: the certificate before stays in use, because {error}{why}");
                }
            }
        }
    }
}

fn fingerprint(path: &Path) -> Fingerprint {
    let found = std::fs::metadata(path).ok()?;
    Some((found.dev(), found.ino(), found.size(), found.mtime(), found.mtime_nsec()))
}

fn read_pair(cert: &Path, key: &Path) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = certificates("certificate", cert)?;
    let private = private_key(key)?;
    warn_if_loose(key);
    let pair = CertifiedKey::from_der(chain, private, &provider());
    pair.map(Arc::new).map_err(|source| TlsError::Pair { cert: cert.to_owned(), key: key.to_owned(), source })
}

/// A key that others can read is worth a word, and no refusal: containers mount secrets in many ways.
fn warn_if_loose(key: &Path) {
    if let Ok(found) = std::fs::metadata(key)
        && found.mode() & 0o077 != 0
    {
        let mode = found.mode() & 0o777;
        tracing::warn!(
            "the private key `{}` has mode {mode:o}: others can use it; chmod 600 it",
            key.display()
        );
    }
}

/// Makes TLS connections of accepted ones. Cheap to clone.
#[derive(Clone)]
pub struct Acceptor(TlsAcceptor);

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Acceptor")
    }
}

impl Acceptor {
    /// Whether a connection that begins with this byte can be one of TLS.
    pub fn is_tls(first: u8) -> bool {
        first == HANDSHAKE_RECORD
    }

    /// Does the handshake. The caller bounds its time.
    pub async fn accept<S>(&self, stream: S) -> std::io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.0.accept(stream).await
    }
}
