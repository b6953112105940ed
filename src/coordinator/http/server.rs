//! The connection loop: bounds on connections and on the time that a handshake and a request's head may take, and an
//! orderly end.
//!
//! It knows no route. Bodies have their own bound ([`super::extract::BODY_IDLE_MAX`]).

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::header;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::patient::{Patience, Patient, Unread};

use super::problem::ApiError;
use crate::protocol::api::ProblemCode;
use crate::tls;

/// Bounds of the loop.
#[derive(Clone, Copy, Debug)]
pub struct ServerConfig {
    /// Connections at once; more wait in the kernel's queue.
    pub connections_max: usize,
    /// How long a client may take for its TLS handshake.
    pub handshake_timeout: Duration,
    /// How long a client may take to send the head of a request, idle time of a kept connection included.
    pub head_timeout: Duration,
    /// How long answers under way may take after the stop signal; then their connections are cut.
    pub drain_timeout: Duration,
    /// How long a client may take nothing, and how long it may go on sending what nobody reads.
    pub patience: Patience,
}

impl Default for ServerConfig {
    fn default() -> ServerConfig {
        ServerConfig {
            connections_max: 4_096,
            handshake_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(30),
            patience: Patience::default(),
        }
    }
}

/// Accepting fails when descriptors run out; trying again at once would only burn the CPU.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves `router` on `listener`, in TLS if there is an acceptor, until `shutdown` resolves, then lets answers under way end.
///
/// The order of the end: no new connection, no new request on the kept ones, answers under way until `drain_timeout`, then the
/// rest is cut. Event streams end when the service ends them.
pub async fn serve(
    listener: TcpListener,
    tls: Option<tls::Acceptor>,
    router: Router,
    config: ServerConfig,
    shutdown: impl Future<Output = ()>,
) {
    let mut shutdown = pin!(shutdown);
    let permits = Arc::new(Semaphore::new(config.connections_max));
    let connections = TaskTracker::new();
    // the receivers watch for the sender's value: `true` is "finish what you answer", and dropping it is "stop"
    let (stopping, stop) = watch::channel(false);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = accept(&listener, &permits) => accepted,
        };
        match accepted {
            Ok((stream, permit)) => {
                connections.spawn(connection(
                    stream,
                    permit,
                    tls.clone(),
                    router.clone(),
                    config,
                    stop.clone(),
                ));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    stopping.send_replace(true);
    connections.close();
    if tokio::time::timeout(config.drain_timeout, connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "answers under way were cut at the drain timeout");
        drop(stopping);
        connections.wait().await;
    }
}

/// The next connection, once there is room for one. Cancel-safe: a permit or connection is never lost in between.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, permit))
}

async fn connection(
    stream: TcpStream,
    permit: OwnedSemaphorePermit,
    tls: Option<tls::Acceptor>,
    router: Router,
    config: ServerConfig,
    stop: watch::Receiver<bool>,
) {
    // answers are written whole; waiting for more to send would only delay them
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection does without TCP_NODELAY");
    }
    let Some(tls) = tls else {
        speak(stream, router, config, stop).await;
        drop(permit);
        return;
    };
    match tokio::time::timeout(config.handshake_timeout, handshake(stream, &tls)).await {
        Ok(Some(Spoken::Tls(stream))) => speak(stream, router, config, stop).await,
        Ok(Some(Spoken::Plain(stream))) => speak(stream, plaintext(), config, stop).await,
        Ok(None) => {}
        Err(_) => tracing::debug!("a connection took too long for its TLS handshake"),
    }
    // held until here: it is the bound on connections
    drop(permit);
}

/// What a client speaks on a port of TLS.
enum Spoken {
    Tls(Box<tls::TlsStream<TcpStream>>),
    Plain(TcpStream),
}

/// Does the handshake; `None` if it does not come about.
async fn handshake(stream: TcpStream, tls: &tls::Acceptor) -> Option<Spoken> {
    let mut first = [0];
    match stream.peek(&mut first).await {
        Ok(1..) if tls::Acceptor::is_tls(first[0]) => {}
        Ok(1..) => return Some(Spoken::Plain(stream)),
        // it came and went: a port scan, or a health check
        Ok(0) | Err(_) => return None,
    }
    match tls.accept(stream).await {
        Ok(stream) => Some(Spoken::Tls(Box::new(stream))),
        Err(error) => {
            tracing::debug!(%error, "a TLS handshake failed");
            None
        }
    }
}

/// All that is said to somebody who speaks plain HTTP on a port of TLS.
fn plaintext() -> Router {
    Router::new().fallback(async || {
        let detail = "this port speaks TLS: use https:// in the address; if a token was sent, delete it, because it \
                      went in the clear";
        ([(header::CONNECTION, "close")], ApiError::new(ProblemCode::TlsRequired, detail))
    })
}

async fn speak<S>(stream: S, router: Router, config: ServerConfig, mut stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(config.head_timeout);
    let unread = Unread::default();
    let stream = Patient::new(stream, config.patience, unread.clone());
    let service =
        router.map_request(move |request: Request<Incoming>| request.map(|body| unread.watch(body)));
    let served =
        http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)).with_upgrades();
    let mut served = pin!(served);
    let ended = tokio::select! {
        ended = &mut served => ended,
        () = async { drop(stop.wait_for(|stop| *stop).await) } => {
            served.as_mut().graceful_shutdown();
            tokio::select! {
                ended = &mut served => ended,
                // only the end of the sender is left to wait for
                () = async { while stop.changed().await.is_ok() {} } => Ok(()),
            }
        }
    };
    if let Err(error) = ended {
        // clients go away whenever they like
        tracing::debug!(%error, "a connection ended early");
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::oneshot;

    use super::*;

    /// An acceptor with a certificate of its own authority.
    fn tls() -> tls::Acceptor {
        let dir = tempfile::tempdir().unwrap();
        let (authority, _) = tls::Authority::make().unwrap();
        let issued = authority.issue(&["localhost".to_owned()], 1).unwrap();
        let [cert, key] = ["cert", "key"].map(|name| dir.path().join(name));
        std::fs::write(&cert, issued.certificate).unwrap();
        std::fs::write(&key, issued.key).unwrap();
        tls::ServerTls::load(&cert, &key).unwrap().acceptor()
    }

    /// A server that answers `/` and the stop signal that ends it.
    async fn started(
        config: ServerConfig,
    ) -> (std::net::SocketAddr, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
        let router = Router::new().route("/", axum::routing::get(|| async { "here" }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async { drop(stopped.await) };
        (address, stop, tokio::spawn(serve(listener, None, router, config, shutdown)))
    }

    async fn read_all(stream: &mut TcpStream) -> String {
        let mut text = String::new();
        let read = stream.read_to_string(&mut text);
        tokio::time::timeout(Duration::from_secs(10), read).await.expect("within its bound").unwrap();
        text
    }

    #[tokio::test]
    async fn it_answers_and_ends_when_told_although_a_connection_is_kept() {
        let (address, stop, server) = started(ServerConfig::default()).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = [0; 4096];
        let length = stream.read(&mut answer).await.unwrap();
        assert!(std::str::from_utf8(&answer[..length]).unwrap().starts_with("HTTP/1.1 200"));
        stop.send(()).unwrap();
        tokio::time::timeout(Duration::from_secs(10), server).await.expect("it ends").unwrap();
        assert_eq!(read_all(&mut stream).await, "");
    }

    #[tokio::test]
    async fn a_client_that_dawdles_over_its_request_is_cut() {
        let config = ServerConfig { head_timeout: Duration::from_millis(100), ..ServerConfig::default() };
        let (address, _stop, _server) = started(config).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nho").await.unwrap();
        let answer = read_all(&mut stream).await;
        assert!(!answer.contains("200"), "{answer}");
    }

    #[tokio::test]
    async fn a_request_with_two_lengths_is_refused() {
        let (address, _stop, _server) = started(ServerConfig::default()).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        let smuggled = b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabc";
        stream.write_all(smuggled).await.unwrap();
        assert!(read_all(&mut stream).await.starts_with("HTTP/1.1 400"));
    }

    #[tokio::test]
    async fn no_more_connections_than_the_bound_are_served_at_once() {
        let config = ServerConfig { connections_max: 1, ..ServerConfig::default() };
        let (address, _stop, _server) = started(config).await;
        let mut first = TcpStream::connect(address).await.unwrap();
        first.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut piece = [0; 4096];
        assert!(first.read(&mut piece).await.unwrap() > 0);
        let mut second = TcpStream::connect(address).await.unwrap();
        second.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let early = tokio::time::timeout(Duration::from_millis(200), second.read(&mut piece)).await;
        assert!(early.is_err(), "the second one waits");
        drop(first);
        assert!(read_all(&mut second).await.starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn who_dawdles_over_the_handshake_is_cut_and_who_speaks_plainly_is_told() {
        let config =
            ServerConfig { handshake_timeout: Duration::from_millis(200), ..ServerConfig::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", axum::routing::get(|| async { "here" }));
        let server = tokio::spawn(serve(listener, Some(tls()), router, config, std::future::pending()));
        for begun in [&b""[..], &[0x16, 3, 1]] {
            let mut silent = TcpStream::connect(address).await.unwrap();
            silent.write_all(begun).await.unwrap();
            assert_eq!(read_all(&mut silent).await, "");
        }
        let mut plain = TcpStream::connect(address).await.unwrap();
        plain.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let answer = read_all(&mut plain).await;
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("tls_required"), "{answer}");
        server.abort();
    }
}
