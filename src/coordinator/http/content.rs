//! Serving stored bytes: whole or in ranges, streamed, with the headers that make untrusted bytes harmless.
//!
//! Invariants: no more than a piece of the content is in memory; content is named by its digest, so its entity tag is
//! strong and it may be kept for ever; what guests wrote never runs in a browser (attachment or plain text, `nosniff`,
//! sandboxed).

use std::fmt::Write as _;
use std::ops::Range;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use super::problem::ApiError;
use crate::coordinator::service::{Caller, Service};
use crate::digest::Digest;

/// Bytes that are named by their digest, and how a browser is to take them.
pub struct Content<'a> {
    /// Their name.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
    /// A media type that runs nothing.
    pub media_type: &'static str,
    /// Name under which it is saved; without one it may be shown.
    pub file_name: Option<&'a str>,
    /// Whether the address always means these bytes; otherwise caches ask again with the entity tag.
    pub immutable: bool,
    /// The bytes themselves, if they are at hand and need not be read.
    pub at_hand: Option<Bytes>,
}

/// Guest code must not run in the origin of the web UI, whatever a browser makes of the bytes.
const SANDBOX: &str = "sandbox; default-src 'none'; frame-ancestors 'none'";

impl Content<'_> {
    /// Answers a GET or HEAD.
    pub async fn respond(
        &self,
        service: &Service,
        caller: &Caller,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Response, ApiError> {
        let tag = format!("\"{}\"", self.digest);
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        if text(header::IF_NONE_MATCH).is_some_and(|tags| names_tag(tags, &tag)) {
            return Ok((StatusCode::NOT_MODIFIED, self.headers(&tag)).into_response());
        }
        // a range of something else than the caller believes would be a mix of two contents
        let fresh = text(header::IF_RANGE).is_none_or(|there| there == tag);
        let asked = text(header::RANGE).filter(|_| fresh && method == Method::GET);
        let (status, range) = match asked.map_or(Asked::Whole, |range| parse_range(range, self.size)) {
            Asked::Whole => (StatusCode::OK, 0..self.size),
            Asked::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
            Asked::Outside => return Err(ApiError::range(self.size)),
        };
        let body = if method == Method::HEAD || range.is_empty() {
            Body::empty()
        } else if let Some(part) = self.at_hand.as_ref().and_then(|bytes| part(bytes, &range)) {
            Body::from(part)
        } else {
            Body::from_stream(service.read_blob(caller, self.digest, range.clone()).await?)
        };
        let mut response = (status, self.headers(&tag), body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
        if status == StatusCode::PARTIAL_CONTENT
            && let Ok(value) =
                HeaderValue::try_from(format!("bytes {}-{}/{}", range.start, range.end - 1, self.size))
        {
            headers.insert(header::CONTENT_RANGE, value);
        }
        Ok(response)
    }

    fn headers(&self, tag: &str) -> HeaderMap {
        let kept = if self.immutable { "private, max-age=31536000, immutable" } else { "private, no-cache" };
        let disposition = self.file_name.map_or_else(|| "inline".to_owned(), disposition);
        let mut headers = HeaderMap::new();
        let texts = [
            (header::ETAG, tag),
            (header::CONTENT_TYPE, self.media_type),
            (header::CONTENT_DISPOSITION, &disposition),
            (header::CACHE_CONTROL, kept),
            (header::CONTENT_SECURITY_POLICY, SANDBOX),
            (header::ACCEPT_RANGES, "bytes"),
        ];
        for (name, text) in texts {
            if let Ok(value) = HeaderValue::from_str(text) {
                headers.insert(name, value);
            }
        }
        headers
    }
}

/// A range of bytes that are at hand.
fn part(bytes: &Bytes, range: &Range<u64>) -> Option<Bytes> {
    let (start, end) = (usize::try_from(range.start).ok()?, usize::try_from(range.end).ok()?);
    (start <= end && end <= bytes.len()).then(|| bytes.slice(start..end))
}

/// `attachment` with a file name; letters outside of the unreserved ones travel percent-encoded (RFC 8187).
fn disposition(file_name: &str) -> String {
    let mut text = "attachment; filename*=UTF-8''".to_owned();
    for byte in file_name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._".contains(&byte) {
            text.push(char::from(byte));
        } else {
            // writing to a String does not fail
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// Whether an `If-None-Match` names `tag`; for GET the comparison is the weak one (RFC 9110, section 13.1.2).
pub fn names_tag(tags: &str, tag: &str) -> bool {
    tags.split(',').map(str::trim).any(|there| there == "*" || there.trim_start_matches("W/") == tag)
}

/// What a `Range` header asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Asked {
    Whole,
    /// At least one byte, all of it within the content.
    Part(Range<u64>),
    Outside,
}

/// Reads a `Range` (RFC 9110, section 14.2). A header that is malformed, of another unit or of several ranges is ignored, as
/// the standard allows.
fn parse_range(value: &str, size: u64) -> Asked {
    let Some((first, last)) = value.strip_prefix("bytes=").and_then(|range| range.trim().split_once('-'))
    else {
        return Asked::Whole;
    };
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // more digits than a u64 holds are still a number, and a large one
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let range = match (first, last) {
        ("", last) => match number(last) {
            Some(length) => size.saturating_sub(length)..size,
            None => return Asked::Whole,
        },
        (first, "") => match number(first) {
            Some(first) => first..size,
            None => return Asked::Whole,
        },
        (first, last) => match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(size),
            _ => return Asked::Whole,
        },
    };
    if range.is_empty() { Asked::Outside } else { Asked::Part(range) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_standard_says() {
        let cases = [
            ("bytes=0-0", Asked::Part(0..1)),
            ("bytes=2-4", Asked::Part(2..5)),
            ("bytes=2-", Asked::Part(2..10)),
            ("bytes=-3", Asked::Part(7..10)),
            ("bytes=-99", Asked::Part(0..10)),
            ("bytes=5-99999999999999999999999", Asked::Part(5..10)),
            ("bytes=10-", Asked::Outside),
            ("bytes=10-12", Asked::Outside),
            ("bytes=99999999999999999999999-", Asked::Outside),
            ("bytes=-0", Asked::Outside),
            ("bytes=4-2", Asked::Whole),
            ("bytes=0-1,3-4", Asked::Whole),
            ("bytes=a-b", Asked::Whole),
            ("bytes=+1-2", Asked::Whole),
            ("bytes=-", Asked::Whole),
            ("bytes=", Asked::Whole),
            ("lines=1-2", Asked::Whole),
        ];
        for (header, asked) in cases {
            assert_eq!(parse_range(header, 10), asked, "{header}");
        }
        assert_eq!(parse_range("bytes=0-", 0), Asked::Outside);
        assert_eq!(parse_range("bytes=-5", 0), Asked::Outside);
    }

    #[test]
    fn entity_tags_are_found_in_lists() {
        let tag = "\"sha256:ab\"";
        for tags in [tag, "*", "W/\"sha256:ab\"", "\"x\", \"sha256:ab\""] {
            assert!(names_tag(tags, tag), "{tags}");
        }
        for tags in ["", "\"x\"", "sha256:ab"] {
            assert!(!names_tag(tags, tag), "{tags}");
        }
    }

    #[test]
    fn a_file_name_cannot_break_out_of_its_header() {
        assert_eq!(disposition("plot.png"), "attachment; filename*=UTF-8''plot.png");
        assert_eq!(disposition("a\"; b\r\nä"), "attachment; filename*=UTF-8''a%22%3B%20b%0D%0A%C3%A4");
    }

    #[test]
    fn what_a_guest_wrote_is_sandboxed_and_named_by_its_digest() {
        let content = Content {
            digest: Digest::EMPTY,
            size: 0,
            media_type: "application/octet-stream",
            file_name: Some("x.html"),
            immutable: true,
            at_hand: None,
        };
        let headers = content.headers("\"tag\"");
        assert_eq!(headers[header::CONTENT_SECURITY_POLICY], SANDBOX);
        assert_eq!(headers[header::CONTENT_DISPOSITION], "attachment; filename*=UTF-8''x.html");
        assert_eq!(headers[header::ETAG], "\"tag\"");
        assert!(headers[header::CACHE_CONTROL].to_str().unwrap().contains("immutable"));
    }
}
