//! Finding a coordinator: several addresses in turn, with growing pauses, until one lets the worker in.

use std::time::Duration;

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use reqwest::{StatusCode, Upgraded, Url};
use serde::Deserialize;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::RemoteError;
use super::blobs::words;
use crate::protocol::wire::{
    Facts, Greeting, Hello, MESSAGE_BYTES_MAX, READ_BUFFER_BYTES, RejectCode, VERSION, Welcome,
    decode_handshake, encode_handshake,
};

/// How long reaching a coordinator and its whole handshake may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The first pause, and the longest. Each is drawn from zero to its bound.
const PAUSE_MS: u64 = 100;
const PAUSE_MS_MAX: u64 = 10_000;
/// A session that lasted so long was a good one: the next pause is short again.
const GOOD_SESSION: Duration = Duration::from_secs(5);
/// An answer that is no upgrade is a few lines.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// A session after its handshake.
pub(super) struct Connection {
    pub(super) socket: WebSocketStream<Upgraded>,
    pub(super) welcome: Welcome,
    pub(super) base: Url,
}

/// Makes connections.
pub(super) struct Connector {
    http: reqwest::Client,
    coordinators: Vec<Url>,
    token: Option<String>,
    key: SigningKey,
    /// Which coordinator is next.
    next: usize,
    /// Tries in a row that failed.
    failures: u32,
    /// The token is shown only where the key alone was not enough: so it may end once the worker is enrolled.
    shows_token: bool,
}

/// Why one try failed.
enum Failed {
    Again(String),
    Finally(RemoteError),
}

fn again(error: impl std::fmt::Display) -> Failed {
    Failed::Again(error.to_string())
}

impl Connector {
    pub(super) fn new(
        http: reqwest::Client,
        coordinators: Vec<Url>,
        token: Option<String>,
        key: SigningKey,
    ) -> Connector {
        Connector { http, coordinators, token, key, next: 0, failures: 0, shows_token: false }
    }

    /// A session ended.
    pub(super) fn ended(&mut self, lasted: Duration) {
        self.failures = if lasted >= GOOD_SESSION { 1 } else { self.failures + 1 };
    }

    /// Tries until it is in, or is refused for good.
    pub(super) async fn connect(&mut self, facts: &Facts) -> Result<Connection, RemoteError> {
        loop {
            sleep(self.pause()).await;
            let Some(base) = self.coordinators.get(self.next).cloned() else {
                return Err(RemoteError::NoCoordinator);
            };
            let tried = timeout(CONNECT_TIMEOUT, self.try_once(&base, facts)).await;
            match tried.unwrap_or_else(|_| Err(Failed::Again("it does not answer".to_owned()))) {
                Ok(connection) => return Ok(connection),
                Err(Failed::Finally(RemoteError::Rejected { code, .. }))
                    if code == RejectCode::Token.name() && self.token.is_some() && !self.shows_token =>
                {
                    self.shows_token = true;
                    continue;
                }
                Err(Failed::Finally(error)) => return Err(error),
                Err(Failed::Again(why)) => {
                    self.failures += 1;
                    if self.failures.is_power_of_two() {
                        tracing::warn!(coordinator = %base, why, tries = self.failures, "no session with the coordinator");
                    }
                }
            }
            self.next = (self.next + 1) % self.coordinators.len();
        }
    }

    /// Full jitter: workers that were cut off together do not come back together.
    fn pause(&self) -> Duration {
        let rounds = self.failures.div_ceil(u32::try_from(self.coordinators.len()).unwrap_or(1).max(1));
        let most = match rounds {
            0 => return Duration::ZERO,
            rounds => (PAUSE_MS << (rounds - 1).min(10)).min(PAUSE_MS_MAX),
        };
        let mut bytes = [0; 8];
        // without randomness the whole pause
        let drawn = getrandom::fill(&mut bytes).map_or(most, |()| u64::from_be_bytes(bytes) % (most + 1));
        Duration::from_millis(drawn)
    }

    async fn try_once(&mut self, base: &Url, facts: &Facts) -> Result<Connection, Failed> {
        let mut socket = self.upgrade(base).await?;
        let nonce = match decode_handshake(&heard(&mut socket).await?).map_err(again)? {
            Greeting::Challenge { versions, nonce, build } => {
                if !versions.contains(&VERSION) {
                    let text = format!(
                        "the coordinator (build {build:?}) speaks {versions:?}, this worker {VERSION}: use the same build \
                         on both sides"
                    );
                    return Err(rejected(base, RejectCode::Version.name().to_owned(), text));
                }
                nonce
            }
            Greeting::Rejected { code, text } => return Err(rejected(base, code, text)),
            Greeting::Welcome(_) => return Err(again("it welcomes nobody in particular")),
        };
        let hello = Hello::sign(facts, &nonce, &self.key).and_then(|hello| encode_handshake(&hello));
        socket.send(Message::Binary(hello.map_err(again)?)).await.map_err(again)?;
        match decode_handshake(&heard(&mut socket).await?).map_err(again)? {
            Greeting::Welcome(welcome) => {
                self.shows_token = false;
                Ok(Connection { socket, welcome, base: base.clone() })
            }
            Greeting::Rejected { code, text } => Err(rejected(base, code, text)),
            Greeting::Challenge { .. } => Err(again("it challenges twice")),
        }
    }

    /// The WebSocket handshake, over a connection that the HTTP client makes: with its certificates and its bounds.
    async fn upgrade(&self, base: &Url) -> Result<WebSocketStream<Upgraded>, Failed> {
        let url = base.join("v1/pool/session").map_err(again)?;
        let key = generate_key();
        let mut request = self.http.get(url);
        for (name, value) in [
            (CONNECTION, "Upgrade"),
            (UPGRADE, "websocket"),
            (SEC_WEBSOCKET_VERSION, "13"),
            (SEC_WEBSOCKET_KEY, &key),
        ] {
            request = request.header(name, value);
        }
        if let Some(token) = self.token.as_ref().filter(|_| self.shows_token) {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.map_err(|error| again(words(&error)))?;
        let status = response.status();
        if status != StatusCode::SWITCHING_PROTOCOLS {
            let text = problem(response).await;
            return Err(match status {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                    rejected(base, RejectCode::Token.name().to_owned(), text)
                }
                _ => Failed::Again(format!("it answered {status}: {text}")),
            });
        }
        let accepted = response.headers().get(SEC_WEBSOCKET_ACCEPT).map(|value| value.as_bytes().to_vec());
        if accepted.as_deref() != Some(derive_accept_key(key.as_bytes()).as_bytes()) {
            return Err(again("something between answered the upgrade"));
        }
        let upgraded = response.upgrade().await.map_err(|error| again(words(&error)))?;
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX))
            .max_write_buffer_size(4 * MESSAGE_BYTES_MAX);
        Ok(WebSocketStream::from_raw_socket(upgraded, Role::Client, Some(config)).await)
    }
}

fn rejected(coordinator: &Url, code: String, text: String) -> Failed {
    if !RejectCode::is_permanent(&code) {
        return Failed::Again(format!("{text} ({code})"));
    }
    Failed::Finally(RemoteError::Rejected { coordinator: coordinator.to_string(), code, text })
}

/// The next binary message.
async fn heard(socket: &mut WebSocketStream<Upgraded>) -> Result<Bytes, Failed> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Binary(bytes))) => return Ok(bytes),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(_)) | None => return Err(again("the connection was closed in its handshake")),
            Some(Err(error)) => return Err(again(error)),
        }
    }
}

/// What a problem says, or the beginning of what is none.
async fn problem(mut response: reqwest::Response) -> String {
    #[derive(Deserialize)]
    struct Problem {
        detail: String,
    }
    let mut body = Vec::new();
    while let Ok(Some(piece)) = response.chunk().await {
        body.extend_from_slice(&piece);
        if body.len() > ANSWER_BYTES_MAX {
            break;
        }
    }
    match serde_json::from_slice::<Problem>(&body) {
        Ok(problem) => problem.detail,
        Err(_) => String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned(),
    }
}
