//! The API as a client sees it: one method per way of asking; every failure a [`CliError`].
//!
//! It knows paths and problem details, but no command.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt as _};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::connection::{Connection, Trust};
use super::error::{CliError, ProblemText};
use crate::digest::{Digest, Hasher};
use crate::protocol::api::Page;
use crate::tls::{self, Refusal};

/// A server that is there accepts a connection at once; anything longer is a wrong address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the server may take to answer beyond what it was asked to wait.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// A problem is a few lines; more is not one.
const PROBLEM_BYTES_MAX: usize = 1 << 20;

/// Talks to one server.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    connection: Connection,
}

/// Bytes on their way up.
pub type Upload = reqwest::Body;

impl Client {
    /// Prepares to talk; nothing is sent.
    pub fn new(connection: Connection) -> Result<Client, CliError> {
        let tls = match &connection.trust {
            Trust::Plaintext => tls::client_config_without_roots(),
            Trust::Authorities(ca) => tls::client_config(ca.as_deref()),
            Trust::Own(certificate) => tls::client_config_for_own_server(certificate),
        }?;
        // The proxy variables are not read: the server is on this machine or named by its own address.
        let builder = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).no_proxy();
        let http = builder.tls_backend_preconfigured(tls).build();
        let http = http.map_err(|error| broken("preparing the connection", &error))?;
        let base = Url::parse(&connection.server)
            .map_err(|error| CliError::Usage(format!("`{}` is no address: {error}", connection.server)))?;
        Ok(Client { http, base, connection })
    }

    /// A request for the path made of `segments`, each escaped.
    pub fn request(&self, method: Method, segments: &[&str]) -> RequestBuilder {
        let mut url = self.base.clone();
        url.path_segments_mut().expect("an http URL has a path").clear().push("v1").extend(segments);
        let request = self.http.request(method, url);
        match &self.connection.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Sends it; an answer that is no success is an error.
    pub async fn send(&self, request: RequestBuilder) -> Result<Response, CliError> {
        let response = request.send().await.map_err(|error| self.unsent(&error))?;
        if response.status().is_success() { Ok(response) } else { Err(self.problem(response).await) }
    }

    /// Why a request got no answer.
    fn unsent(&self, error: &reqwest::Error) -> CliError {
        let (server, local) = (self.connection.server.clone(), self.connection.local);
        match Refusal::of(error) {
            Some(refusal) => CliError::Handshake { server, refusal },
            None if error.is_connect() => CliError::Unreachable { server, local },
            None => broken("the request", error),
        }
    }

    async fn problem(&self, response: Response) -> CliError {
        let status = response.status().as_u16();
        let not_lockstep = || CliError::NotLockstep { server: self.connection.server.clone(), status };
        let pieces = response.bytes_stream().map_err(|_| not_lockstep());
        let body = pieces.try_fold(Vec::new(), async |mut body, piece| {
            body.extend_from_slice(&piece);
            if body.len() > PROBLEM_BYTES_MAX { Err(not_lockstep()) } else { Ok(body) }
        });
        match body.await.map(|body| serde_json::from_slice::<ProblemText>(&body)) {
            Ok(Ok(problem)) => CliError::Problem(Box::new(problem)),
            Ok(Err(_)) => not_lockstep(),
            Err(error) => error,
        }
    }

    /// Sends a request whose answer is JSON.
    pub async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, CliError> {
        let response = self.send(request.timeout(ANSWER_TIMEOUT)).await?;
        response.json().await.map_err(|error| broken("reading the answer", &error))
    }

    /// Reads something.
    pub async fn get<T: DeserializeOwned>(&self, segments: &[&str]) -> Result<T, CliError> {
        self.json(self.request(Method::GET, segments)).await
    }

    /// The same, or `None` where there is no such thing.
    pub async fn find<T: DeserializeOwned>(&self, segments: &[&str]) -> Result<Option<T>, CliError> {
        match self.get(segments).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.code() == Some("not_found") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Does something, with nothing to say about it.
    pub async fn post<T: DeserializeOwned>(&self, segments: &[&str]) -> Result<T, CliError> {
        self.json(self.request(Method::POST, segments)).await
    }

    /// Sets something.
    pub async fn put_json<B: Serialize, T: DeserializeOwned>(
        &self,
        segments: &[&str],
        body: &B,
    ) -> Result<T, CliError> {
        self.json(self.request(Method::PUT, segments).json(body)).await
    }

    /// Does something with a JSON body; the answer may take `wait` longer than usual.
    pub async fn post_json<B: Serialize, T: DeserializeOwned>(
        &self,
        segments: &[&str],
        body: &B,
        headers: &[(HeaderName, String)],
        wait: Duration,
    ) -> Result<T, CliError> {
        let mut request = self.request(Method::POST, segments).json(body).timeout(wait + ANSWER_TIMEOUT);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let response = self.send(request).await?;
        response.json().await.map_err(|error| broken("reading the answer", &error))
    }

    /// Deletes something.
    pub async fn delete(&self, segments: &[&str]) -> Result<(), CliError> {
        self.send(self.request(Method::DELETE, segments).timeout(ANSWER_TIMEOUT)).await.map(drop)
    }

    /// Whether there is something.
    pub async fn exists(&self, segments: &[&str]) -> Result<bool, CliError> {
        let request = self.request(Method::HEAD, segments).timeout(ANSWER_TIMEOUT);
        let response = request.send().await.map_err(|error| self.unsent(&error))?;
        match response.status() {
            status if status.is_success() => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            // A HEAD has no body that could tell more; the upload that follows gets the real answer.
            _ => Ok(false),
        }
    }

    /// Sends bytes up, without a bound on the time that it takes.
    pub async fn upload<T: DeserializeOwned>(
        &self,
        method: Method,
        segments: &[&str],
        query: &[(&str, String)],
        body: Upload,
        size: Option<u64>,
    ) -> Result<T, CliError> {
        let mut request = self.request(method, segments).query(query);
        request = request.header(CONTENT_TYPE, "application/octet-stream").body(body);
        if let Some(size) = size {
            request = request.header(CONTENT_LENGTH, size);
        }
        let response = self.send(request).await?;
        response.json().await.map_err(|error| broken("reading the answer", &error))
    }

    /// The pieces of what is there, as they come.
    pub async fn download(
        &self,
        segments: &[&str],
    ) -> Result<impl Stream<Item = Result<Bytes, CliError>> + Unpin + use<>, CliError> {
        self.stream(self.request(Method::GET, segments)).await
    }

    /// The body of an answer, piece by piece.
    pub async fn stream(
        &self,
        request: RequestBuilder,
    ) -> Result<impl Stream<Item = Result<Bytes, CliError>> + Unpin + use<>, CliError> {
        let response = self.send(request).await?;
        Ok(Box::pin(response.bytes_stream().map_err(|error| broken("the download", &error))))
    }

    /// Hands the pieces of what is there to `take`, and checks the whole against `expected` at the end.
    pub async fn fetch(
        &self,
        segments: &[&str],
        what: &'static str,
        expected: Digest,
        mut take: impl FnMut(&[u8]) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        let mut pieces = self.download(segments).await?;
        let mut hasher = Hasher::new();
        while let Some(piece) = pieces.try_next().await? {
            hasher.update(&piece);
            take(&piece)?;
        }
        match hasher.finish() {
            actual if actual == expected => Ok(()),
            actual => Err(CliError::Damaged { what, expected, actual }),
        }
    }

    /// The first `limit` items of a list, over as many pages as that takes.
    pub async fn list<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        query: &[(&str, String)],
        limit: usize,
    ) -> Result<Vec<T>, CliError> {
        const PAGE: usize = 100;
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let wanted = (limit - items.len()).min(PAGE);
            let mut request = self.request(Method::GET, segments).query(query).query(&[("limit", wanted)]);
            if let Some(cursor) = &cursor {
                request = request.query(&[("cursor", cursor)]);
            }
            let page: Page<T> = self.json(request).await?;
            let empty = page.items.is_empty();
            items.extend(page.items.into_iter().take(wanted));
            match page.next {
                Some(next) if items.len() < limit && !empty => cursor = Some(next),
                _ => return Ok(items),
            }
        }
    }
}

/// The innermost reason of a transport error: the outer ones only repeat the address.
fn broken(doing: &'static str, error: &reqwest::Error) -> CliError {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    let why = if error.is_timeout() { "no answer in time".to_owned() } else { inner.to_string() };
    CliError::Broken { doing, why }
}
