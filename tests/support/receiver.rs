//! Somebody who is told of runs: a small HTTP server that remembers what came and answers as the test says.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;

/// What came.
#[derive(Clone, Debug)]
pub struct Received {
    /// To which path.
    pub path: String,
    /// With which headers.
    pub headers: HeaderMap,
    /// Byte for byte, as it was signed.
    pub body: Bytes,
}

impl Received {
    /// A header's text; nothing if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    /// The body.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// Whether a signature was made with this secret (`whsec_…`): what `docs/callbacks.md` tells receivers to do.
    pub fn is_signed_with(&self, secret: &str) -> bool {
        let key = BASE64.decode(secret.strip_prefix("whsec_").expect("its prefix")).expect("base64");
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&key).expect("a key of any length");
        mac.update(format!("{}.{}.", self.header("webhook-id"), self.header("webhook-timestamp")).as_bytes());
        mac.update(&self.body);
        let expected = format!("v1,{}", BASE64.encode(mac.finalize().into_bytes()));
        self.header("webhook-signature").split(' ').any(|signature| signature == expected)
    }
}

#[derive(Default)]
struct Inner {
    received: Vec<Received>,
    answers: VecDeque<(u16, Vec<(&'static str, String)>)>,
    otherwise: u16,
}

/// The server; ends with the test.
#[derive(Clone)]
pub struct Receiver {
    /// Where it listens.
    pub address: SocketAddr,
    inner: Arc<Mutex<Inner>>,
}

impl Receiver {
    /// On a port of its own.
    pub async fn start() -> Receiver {
        Receiver::on(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// On this address.
    pub async fn on(address: SocketAddr) -> Receiver {
        let listener = tokio::net::TcpListener::bind(address).await.expect("the port is free");
        let address = listener.local_addr().expect("it listens");
        let inner = Arc::new(Mutex::new(Inner { otherwise: 200, ..Inner::default() }));
        let router = Router::new().fallback(receive).with_state(Arc::clone(&inner));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Receiver { address, inner }
    }

    /// A URL of it.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The next request that has no answer yet gets this one; the others 200, see [`Receiver::otherwise`].
    pub fn answers(&self, status: u16, headers: &[(&'static str, &str)]) {
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        self.inner.lock().expect("no panic").answers.push_back((status, headers));
    }

    /// What requests get for which nothing else was said.
    pub fn otherwise(&self, status: u16) {
        self.inner.lock().expect("no panic").otherwise = status;
    }

    /// Everything that came.
    pub fn received(&self) -> Vec<Received> {
        self.inner.lock().expect("no panic").received.clone()
    }

    /// The first so many that came, when they have.
    pub async fn first(&self, count: usize) -> Vec<Received> {
        super::eventually(&format!("{count} callbacks came"), async || {
            let received = self.received();
            (received.len() >= count).then_some(received)
        })
        .await
    }
}

async fn receive(State(inner): State<Arc<Mutex<Inner>>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.expect("a bounded body");
    let mut inner = inner.lock().expect("no panic");
    let path = parts.uri.path().to_owned();
    inner.received.push(Received { path, headers: parts.headers, body });
    let (status, headers) = inner.answers.pop_front().unwrap_or((inner.otherwise, Vec::new()));
    let status = StatusCode::from_u16(status).expect("a status");
    let mut response = (status, "what a receiver says is nobody's business").into_response();
    for (name, value) in headers {
        response.headers_mut().insert(name, value.parse().expect("a value"));
    }
    response
}
