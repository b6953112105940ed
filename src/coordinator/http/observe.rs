//! What surrounds every request: its id, its span and figures, and the headers that every answer carries.
//!
//! It knows no route: figures are counted by the pattern that matched, never by the path.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use tracing::Instrument as _;

use super::problem::ApiError;
use crate::coordinator::service::Service;
use crate::protocol::api::ProblemCode;

/// Names a request; taken from the caller if it is short and plain.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REQUEST_ID_BYTES_MAX: usize = 128;

/// For pages and JSON alike: everything from here, nothing inline. `blob:` images are previews of output files, which the
/// page fetches with its token.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; img-src 'self' blob:; object-src 'none'; base-uri 'none'; \
                                       frame-ancestors 'none'; form-action 'none'";

tokio::task_local! {
    static REQUEST_ID: String;
}

/// The id of the request that this task answers, for problem details.
pub fn request_id() -> String {
    REQUEST_ID.try_with(String::clone).unwrap_or_default()
}

/// The outermost layer.
pub async fn observe(State(service): State<Arc<Service>>, request: Request, next: Next) -> Response {
    let id = chosen_id(request.headers());
    let method = known_method(request.method());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("other", MatchedPath::as_str);
    let span = tracing::info_span!("request", request.id = %id, http.method = method, http.route = route);
    let began_at = Instant::now();
    let answer = async {
        if has_two_lengths(request.headers()) {
            let detail = "send either Content-Length or Transfer-Encoding: with both, nobody knows where the body ends";
            return ApiError::new(ProblemCode::InvalidBody, detail).into_response();
        }
        match AssertUnwindSafe(next.run(request)).catch_unwind().await {
            Ok(response) => response,
            Err(panic) => panicked(panic),
        }
    };
    let mut response = REQUEST_ID.scope(id.clone(), answer).instrument(span.clone()).await;
    let (status, took) = (response.status().as_u16(), began_at.elapsed());
    service.metrics().request_answered(method, route, status, took);
    span.in_scope(|| tracing::debug!(http.status = status, took_us = took.as_micros(), "answered"));
    put_headers(response.headers_mut(), &id);
    response
}

/// A handler panicked: the caller hears of it as of any other failure of ours.
fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let words = panic.downcast_ref::<String>().map(String::as_str);
    let words = words.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no words");
    ApiError::internal(format!("a handler panicked: {words}")).into_response()
}

fn chosen_id(headers: &HeaderMap) -> String {
    let plain = |id: &&str| {
        (1..=REQUEST_ID_BYTES_MAX).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    let given = headers.get(X_REQUEST_ID).and_then(|value| value.to_str().ok()).filter(plain);
    given.map_or_else(|| uuid::Uuid::now_v7().to_string(), str::to_owned)
}

/// A proxy in front may believe the one length and we the other: how requests are smuggled past it (RFC 9112, section 6.1).
fn has_two_lengths(headers: &HeaderMap) -> bool {
    headers.contains_key(header::CONTENT_LENGTH) && headers.contains_key(header::TRANSFER_ENCODING)
}

/// A method as a label: callers can invent methods, and each would be a new series.
fn known_method(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        "PATCH" => "PATCH",
        _ => "other",
    }
}

fn put_headers(headers: &mut HeaderMap, id: &str) {
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(X_REQUEST_ID, id);
    }
    let fixed = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // a handler that serves what guests wrote sets a stricter policy, one that serves constant bytes lets them be kept
    headers
        .entry(header::CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static(CONTENT_SECURITY_POLICY));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_request_id_is_kept_and_any_other_is_replaced() {
        let chosen = |given: &str| {
            let headers = HeaderMap::from_iter([(X_REQUEST_ID, HeaderValue::from_str(given).unwrap())]);
            chosen_id(&headers)
        };
        assert_eq!(chosen("deploy-7.retry_1"), "deploy-7.retry_1");
        for wrong in ["", "two words", "a\"b", &"x".repeat(129)] {
            let id = chosen(wrong);
            assert!(uuid::Uuid::try_parse(&id).is_ok(), "{wrong} became {id}");
        }
        assert_ne!(chosen_id(&HeaderMap::new()), chosen_id(&HeaderMap::new()));
    }

    #[test]
    fn a_body_has_one_length() {
        let length = (header::CONTENT_LENGTH, HeaderValue::from_static("3"));
        let encoding = (header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        assert!(has_two_lengths(&HeaderMap::from_iter([length.clone(), encoding.clone()])));
        for one in [length, encoding] {
            assert!(!has_two_lengths(&HeaderMap::from_iter([one])));
        }
    }

    #[test]
    fn a_stricter_policy_of_a_handler_stays() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
        put_headers(&mut headers, "id");
        assert_eq!(headers[header::CONTENT_SECURITY_POLICY], "sandbox");
        assert_eq!(headers[header::CACHE_CONTROL], "no-store");
        assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(headers[X_REQUEST_ID], "id");
    }
}
