//! What handlers take from a request: who calls, ids of the path, the query, a JSON body, a streamed body.
//!
//! Invariants: whatever cannot be taken is refused as a problem; a body is never read beyond its bound; a caller that stops
//! sending is let go. A handler gets a [`Caller`] only through an extractor that checked its scope, and the service asks
//! for one everywhere: so no route can forget to authenticate.

use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _, stream};
use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;

use super::problem::ApiError;
use crate::coordinator::pool_service::Admission;
use crate::coordinator::service::{Caller, Service};
use crate::coordinator::submission::escape;
use crate::protocol::api::{ProblemCode, Scope};

/// The largest JSON body: a few inline inputs fit, more belong into blobs.
pub const JSON_BYTES_MAX: usize = 8 << 20;
/// A caller that sends nothing of its body for so long is let go.
pub const BODY_IDLE_MAX: Duration = Duration::from_secs(30);
/// Longer than any token that this coordinator makes.
const TOKEN_BYTES_MAX: usize = 512;

/// The request's token, if it has one.
fn token(parts: &Parts) -> Result<Option<&str>, ApiError> {
    let Some(value) = parts.headers.get(header::AUTHORIZATION) else { return Ok(None) };
    match value.to_str().ok().and_then(bearer) {
        Some(token) => Ok(Some(token)),
        None => {
            let why = "the Authorization header must be `Bearer TOKEN`";
            Err(ApiError::new(ProblemCode::Unauthorized, why))
        }
    }
}

async fn authorize(parts: &Parts, service: &Service, wanted: Scope) -> Result<Caller, ApiError> {
    let refuse = |why: &str| ApiError::new(ProblemCode::Unauthorized, why.to_owned());
    let Some(token) = token(parts)? else {
        return Err(refuse("this needs a token: send `Authorization: Bearer TOKEN`"));
    };
    let Some(caller) = service.authenticate(token).await? else {
        return Err(refuse("the token is unknown, expired or deleted: use another one"));
    };
    let allowed = caller.scopes.iter().filter_map(|name| Scope::of_name(name));
    if allowed.into_iter().any(|scope| scope.includes(wanted)) {
        return Ok(caller);
    }
    let detail = format!(
        "this needs the scope `{}`, and the token has {}: use a token that has it",
        wanted.name(),
        if caller.scopes.is_empty() {
            "none".to_owned()
        } else {
            format!("`{}`", caller.scopes.join("`, `"))
        },
    );
    Err(ApiError::new(ProblemCode::Forbidden, detail))
}

/// The token of `Bearer TOKEN`; the scheme's case does not matter (RFC 9110, section 11.1).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    let fits = scheme.eq_ignore_ascii_case("bearer") && (1..=TOKEN_BYTES_MAX).contains(&token.len());
    fits.then_some(token)
}

/// The same, or a worker with the token of its session.
async fn authorize_or_worker(parts: &Parts, service: &Service, wanted: Scope) -> Result<Caller, ApiError> {
    if let Some(worker) = token(parts)?.and_then(|token| service.authenticate_worker(token)) {
        return Ok(worker);
    }
    authorize(parts, service, wanted).await
}

/// What the token of a worker's upgrade request lets in; nothing if it sent none. One that is sent must be good.
pub struct Enrolling(pub Option<Admission>);

impl FromRequestParts<Arc<Service>> for Enrolling {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, service: &Arc<Service>) -> Result<Enrolling, ApiError> {
        if token(parts)?.is_none() {
            return Ok(Enrolling(None));
        }
        let caller = authorize(parts, service, Scope::Worker).await?;
        Ok(Enrolling(Some(caller.admission())))
    }
}

macro_rules! callers {
    ($($(#[doc = $doc:literal])+ $name:ident: $authorize:ident, $scope:expr;)+) => {$(
        $(#[doc = $doc])+
        pub struct $name(pub Caller);

        impl FromRequestParts<Arc<Service>> for $name {
            type Rejection = ApiError;

            async fn from_request_parts(parts: &mut Parts, service: &Arc<Service>) -> Result<$name, ApiError> {
                $authorize(parts, service, $scope).await.map($name)
            }
        }
    )+};
}

callers! {
    /// A caller that may read.
    Reader: authorize, Scope::Read;
    /// A caller that may upload and submit.
    Submitter: authorize, Scope::Submit;
    /// A caller that may do everything.
    Admin: authorize, Scope::Admin;
    /// A caller that may read, or a worker that needs inputs.
    BlobReader: authorize_or_worker, Scope::Read;
    /// A caller that may upload, or a worker that delivers outputs.
    BlobWriter: authorize_or_worker, Scope::Submit;
}

/// The path's only parameter as an id.
pub struct Named<T>(pub T);

impl<T, S> FromRequestParts<S> for Named<T>
where
    T: FromStr<Err: Display> + Send,
    S: Send + Sync,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Named<T>, ApiError> {
        let Path(text) = Path::<String>::from_request_parts(parts, state).await.map_err(bad_path)?;
        parse_id(&text).map(Named)
    }
}

/// An id of the path.
pub fn parse_id<T: FromStr<Err: Display>>(text: &str) -> Result<T, ApiError> {
    text.parse().map_err(|error: T::Err| ApiError::new(ProblemCode::InvalidParameter, error.to_string()))
}

/// The path does not decode.
pub fn bad_path(error: PathRejection) -> ApiError {
    ApiError::new(ProblemCode::InvalidParameter, error.body_text())
}

/// The query string, unknown parameters refused by the type's `deny_unknown_fields`.
pub struct Params<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Params<T>, ApiError> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(params)) => Ok(Params(params)),
            Err(error) => Err(bad_query(&error)),
        }
    }
}

/// The query does not decode; the error's text begins with the parameter's name, where it has one.
pub fn bad_query(error: &QueryRejection) -> ApiError {
    let text = error.body_text();
    let text = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
    match text.split_once(": ") {
        Some((name, why)) if !name.contains(' ') => ApiError::parameter(name, why),
        _ => ApiError::new(ProblemCode::InvalidParameter, text),
    }
}

/// A JSON body.
pub struct JsonBody<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<JsonBody<T>, ApiError> {
        if !is_json(request.headers()) {
            let detail = "the body must be JSON, sent with `Content-Type: application/json`";
            return Err(ApiError::new(ProblemCode::UnsupportedMediaType, detail));
        }
        let body = read_bounded(request.headers().clone(), request.into_body()).await?;
        decode(&body).map(JsonBody)
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    essence(headers).eq_ignore_ascii_case("application/json")
}

/// The media type of a body, without its parameters.
fn essence(headers: &HeaderMap) -> &str {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    media_type.split(';').next().unwrap_or("").trim()
}

/// A body that is taken as it is, whatever it is said to be; only a form around it would be stored with it.
pub struct RawBody(pub Body);

impl<S: Send + Sync> FromRequest<S> for RawBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<RawBody, ApiError> {
        if essence(request.headers()).eq_ignore_ascii_case("multipart/form-data") {
            let detail = "send the bytes themselves as the body, without a form around them: for instance with \
                          `curl --data-binary @FILE`";
            return Err(ApiError::new(ProblemCode::UnsupportedMediaType, detail));
        }
        Ok(RawBody(request.into_body()))
    }
}

async fn read_bounded(headers: HeaderMap, body: Body) -> Result<Bytes, ApiError> {
    let too_large = || {
        let detail = format!(
            "a JSON body may have {JSON_BYTES_MAX} bytes: upload large inputs with POST /v1/blobs, and refer to them \
             by digest"
        );
        ApiError::new(ProblemCode::TooLarge, detail)
    };
    if content_length(&headers).is_some_and(|length| length > JSON_BYTES_MAX as u64) {
        return Err(too_large());
    }
    let mut pieces = pieces(body);
    let mut whole = BytesMut::new();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| {
            let detail = format!("the body ended or broke before it was whole ({error}): send it again");
            ApiError::new(ProblemCode::InvalidBody, detail)
        })?;
        if whole.len() + piece.len() > JSON_BYTES_MAX {
            return Err(too_large());
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}

/// What `Content-Length` says.
pub fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A body piece by piece, each within [`BODY_IDLE_MAX`] of the one before. Bounded by whoever reads it.
pub fn pieces(body: Body) -> impl Stream<Item = Result<Bytes, axum::Error>> + Send + Unpin + 'static {
    pieces_within(BODY_IDLE_MAX, body)
}

fn pieces_within(
    idle_max: Duration,
    body: Body,
) -> impl Stream<Item = Result<Bytes, axum::Error>> + Send + Unpin + 'static {
    let pieces = stream::unfold(Some(body.into_data_stream()), move |pieces| async move {
        let mut pieces = pieces?;
        match tokio::time::timeout(idle_max, pieces.next()).await {
            Ok(piece) => piece.map(|piece| (piece, Some(pieces))),
            Err(_) => {
                let words = format!("nothing was sent for {} s", idle_max.as_secs());
                let why = std::io::Error::new(std::io::ErrorKind::TimedOut, words);
                Some((Err(axum::Error::new(why)), None))
            }
        }
    });
    Box::pin(pieces)
}

/// Decodes JSON; an error names the field. Following where a field is costs as much as decoding it, so only what does not
/// decode is followed.
fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    match serde_json::from_slice(body) {
        Ok(value) => Ok(value),
        Err(_) => decode_followed(body),
    }
}

fn decode_followed<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let pointer = pointer(&error);
        let inner = error.into_inner();
        // what a type takes for bad syntax, such as null for a name, may be good JSON
        // which is UTF-8: what is ignored is not looked at so closely
        let is_json = || {
            std::str::from_utf8(body).is_ok() && serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok()
        };
        if inner.is_data() || is_json() {
            ApiError::new(ProblemCode::InvalidField, inner.to_string()).at(pointer)
        } else {
            ApiError::new(ProblemCode::InvalidBody, format!("the body is no JSON: {inner}"))
        }
    })?;
    json.end()
        .map_err(|error| ApiError::new(ProblemCode::InvalidBody, format!("the body is no JSON: {error}")))?;
    Ok(value)
}

/// Where an error is, as a JSON pointer. An unknown field is named itself: it is what has to go.
fn pointer(error: &serde_path_to_error::Error<serde_json::Error>) -> String {
    let mut pointer = String::new();
    for segment in error.path() {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } | Segment::Enum { variant: key } => {
                pointer.push('/');
                pointer.push_str(&escape(key));
            }
            Segment::Unknown => {}
        }
    }
    pointer
}

/// The Idempotency-Key of a request, if it has one.
///
/// # Errors
///
/// It is no text.
pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    match headers.get("idempotency-key").map(HeaderValue::to_str) {
        None => Ok(None),
        Some(Ok(key)) => Ok(Some(key)),
        Some(Err(_)) => {
            let why = "an Idempotency-Key has visible ASCII characters only";
            Err(ApiError::parameter("Idempotency-Key", why))
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse as _;
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::protocol::api::{Problem, RunRequest, TokenRequest};

    fn refusal(body: impl AsRef<[u8]>) -> Problem {
        problem(decode::<RunRequest>(body.as_ref()).map(drop).unwrap_err())
    }

    fn problem(error: ApiError) -> Problem {
        let body = error.into_response().into_body().collect();
        let body = futures_util::FutureExt::now_or_never(body).unwrap().unwrap().to_bytes();
        serde_json::from_slice(&body).unwrap()
    }

    #[test]
    fn what_is_no_json_is_told_apart_from_a_wrong_field() {
        for (body, code) in [
            ("", ProblemCode::InvalidBody),
            ("{", ProblemCode::InvalidBody),
            ("{\"module\": ", ProblemCode::InvalidBody),
            ("{} {}", ProblemCode::InvalidBody),
            ("\u{feff}{}", ProblemCode::InvalidBody),
            ("[1]", ProblemCode::InvalidField),
            ("null", ProblemCode::InvalidField),
        ] {
            assert_eq!(refusal(body).code, code, "{body}");
        }
        assert_eq!(refusal(b"{\"args\": [\"\xff\"]}").code, ProblemCode::InvalidBody, "it is not UTF-8");
    }

    #[test]
    fn the_pointer_names_the_field() {
        let cases = [
            (r#"{"modul": "x"}"#, "/modul", "unknown field `modul`"),
            (r#"{"module": "x"}"#, "/module", "`x` is no digest"),
            (r#"{"args": ["a", 1]}"#, "/args/1", "invalid type"),
            (r#"{"env": {"a/b": 1}}"#, "/env/a~1b", "invalid type"),
            (r#"{"seed": -1}"#, "/seed", "-1"),
            (r#"{"seed": 1.5}"#, "/seed", "1.5"),
            (r#"{"limits": {"memory": 1}}"#, "/limits/memory", "unknown field"),
            (r#"{"stdin": {"text": "a", "digest": "sha256:00"}}"#, "/stdin/digest", "no digest"),
            (r#"{"stdin": {"text": "a", "base64": ""}}"#, "/stdin", "exactly one of"),
            (r#"{"stdin": {}}"#, "/stdin", "exactly one of"),
            (r#"{"files": {"/a": {"zip": "x"}}}"#, "/files/~1a/zip", "unknown field"),
            (r#"{"verify": {"policy": "most"}}"#, "/verify/policy", "unknown variant `most`"),
            (r#"{"clock": "noon"}"#, "/clock", "neither `now` nor"),
            (r#"{"retry": "often"}"#, "/retry", "unknown variant"),
            (r#"{"verify": {"policy": null}}"#, "/verify/policy", "expected"),
        ];
        for (body, pointer, words) in cases {
            let problem = refusal(body);
            assert_eq!(
                (problem.code, problem.pointer.as_deref()),
                (ProblemCode::InvalidField, Some(pointer)),
                "{body}"
            );
            assert!(problem.detail.contains(words), "{} should say {words}", problem.detail);
        }
        let missing = problem(decode::<TokenRequest>(br#"{"scopes": []}"#).map(drop).unwrap_err());
        assert!(missing.detail.contains("missing field `name`"), "{}", missing.detail);
    }

    #[test]
    fn a_wrong_parameter_is_named() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Limit {
            #[expect(dead_code, reason = "only its decoding is looked at")]
            limit: Option<u32>,
        }
        for (query, name) in [("limit=x", "limit"), ("limit=-1", "limit"), ("limits=1", "limits")] {
            let uri = format!("/v1/runs?{query}").parse().unwrap();
            let problem = problem(bad_query(&Query::<Limit>::try_from_uri(&uri).unwrap_err()));
            assert_eq!(problem.code, ProblemCode::InvalidParameter);
            assert_eq!(problem.pointer.as_deref(), Some(name), "{}", problem.detail);
        }
    }

    #[test]
    fn only_bearer_tokens_are_taken() {
        assert_eq!(bearer("Bearer abc"), Some("abc"));
        assert_eq!(bearer("bearer  abc "), Some("abc"));
        for wrong in ["abc", "Basic abc", "Bearer", "Bearer ", ""] {
            assert_eq!(bearer(wrong), None, "{wrong}");
        }
        assert_eq!(bearer(&format!("Bearer {}", "x".repeat(513))), None);
    }

    #[tokio::test]
    async fn a_caller_that_stops_sending_is_let_go() {
        let sent = stream::iter([Ok::<_, axum::Error>(Bytes::from_static(b"{"))]);
        let body = Body::from_stream(sent.chain(stream::pending()));
        let pieces: Vec<_> = pieces_within(Duration::from_millis(20), body).collect().await;
        assert_eq!(pieces.len(), 2);
        assert_eq!(pieces[0].as_ref().unwrap(), "{");
        assert!(pieces[1].as_ref().unwrap_err().to_string().contains("nothing was sent"));
    }

    #[tokio::test]
    async fn a_body_is_bounded_whether_it_says_its_length_or_not() {
        let piece = Bytes::from(vec![b' '; 1 << 20]);
        let endless = Body::from_stream(stream::repeat_with(move || Ok::<_, axum::Error>(piece.clone())));
        assert_eq!(read_bounded(HeaderMap::new(), endless).await.unwrap_err().code(), ProblemCode::TooLarge);
        let length = HeaderMap::from_iter([(header::CONTENT_LENGTH, "8388609".parse().unwrap())]);
        assert_eq!(read_bounded(length, Body::empty()).await.unwrap_err().code(), ProblemCode::TooLarge);
        let fits = read_bounded(HeaderMap::new(), Body::from(vec![b' '; JSON_BYTES_MAX])).await.unwrap();
        assert_eq!(fits.len(), JSON_BYTES_MAX);
    }
}
