//! The web UI, built into the binary: its files, and its page for every address that is a view of it.
//!
//! It serves constants to anyone; what the page shows it reads from the API, with the caller's token. `build.rs` puts the
//! files where this module embeds them from, compressed ones (`NAME.br`, `NAME.gz`) beside them; those have no address of
//! their own.

use std::fmt::Write as _;

use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use rust_embed::{EmbeddedFile, RustEmbed};

use super::content::names_tag;
use super::problem::ApiError;
use crate::protocol::api::ProblemCode;

#[derive(RustEmbed)]
#[folder = "$OUT_DIR/web-ui"]
struct Files;

/// Answers what no route answers: a file of the UI, its page for people, or a problem.
pub async fn fallback(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path().trim_start_matches('/');
    let is_api = path == "v1" || path.starts_with("v1/");
    let is_packed = Encoding::ALL.iter().any(|encoding| path.ends_with(encoding.suffix()));
    if !is_api && matches!(method, Method::GET | Method::HEAD) {
        if let Some(file) = Files::get(path).filter(|_| !is_packed) {
            return serve(path, &file, &headers);
        }
        // a view's address is known to the page only; a missing file must not look like one
        if accepts_html(&headers)
            && let Some(page) = Files::get("index.html")
        {
            return serve("index.html", &page, &headers);
        }
    }
    let detail = format!("there is nothing at `{}`: /openapi.json lists what there is", uri.path());
    ApiError::new(ProblemCode::NotFound, detail).into_response()
}

/// Answers a known path with an unknown method; the router adds `Allow`.
pub async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    let detail = format!("`{}` does not take {method}: the header Allow names what it takes", uri.path());
    ApiError::new(ProblemCode::MethodNotAllowed, detail)
}

fn accepts_html(headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
    accepted.split(',').any(|range| range.split(';').next().is_some_and(|it| it.trim() == "text/html"))
}

/// How a file travels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Encoding {
    Brotli,
    Gzip,
}

impl Encoding {
    /// The shorter one first.
    const ALL: [Encoding; 2] = [Encoding::Brotli, Encoding::Gzip];

    fn name(self) -> &'static str {
        match self {
            Encoding::Brotli => "br",
            Encoding::Gzip => "gzip",
        }
    }

    fn suffix(self) -> &'static str {
        match self {
            Encoding::Brotli => ".br",
            Encoding::Gzip => ".gz",
        }
    }

    /// Whether `Accept-Encoding` takes it: by its name or by `*`, and not with the weight 0 (RFC 9110, section 12.5.3).
    fn is_taken(self, headers: &HeaderMap) -> bool {
        let mut any = false;
        for value in headers.get_all(header::ACCEPT_ENCODING) {
            for coding in value.to_str().unwrap_or("").split(',') {
                let mut parts = coding.split(';').map(str::trim);
                let name = parts.next().unwrap_or("");
                let refused = parts.any(|part| {
                    let weight = part.strip_prefix("q=").or_else(|| part.strip_prefix("Q="));
                    weight.is_some_and(|weight| weight.parse::<f32>().is_ok_and(|weight| weight <= 0.0))
                });
                if name.eq_ignore_ascii_case(self.name()) {
                    return !refused;
                }
                any |= name == "*" && !refused;
            }
        }
        any
    }
}

fn serve(path: &str, file: &EmbeddedFile, headers: &HeaderMap) -> Response {
    let mut taken = Encoding::ALL.into_iter().filter(|encoding| encoding.is_taken(headers));
    let packed = taken.find_map(|it| Some((it, Files::get(&format!("{path}{}", it.suffix()))?)));
    let encoding = packed.as_ref().map(|(encoding, _)| *encoding);
    // Vite names files below assets/ by their content; the others keep their names and have to be asked for again
    let kept = if path.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    let tag = tag(file, encoding);
    let media_type = match file.metadata.mimetype() {
        text if text.starts_with("text/") && !text.contains("charset") => format!("{text}; charset=utf-8"),
        other => other.to_owned(),
    };
    let mut answer = HeaderMap::new();
    let texts = [
        (header::ETAG, Some(tag.as_str())),
        (header::CACHE_CONTROL, Some(kept)),
        (header::CONTENT_TYPE, Some(media_type.as_str())),
        (header::VARY, Some("accept-encoding")),
        (header::CONTENT_ENCODING, encoding.map(Encoding::name)),
    ];
    for (name, text) in texts {
        if let Some(Ok(value)) = text.map(HeaderValue::from_str) {
            answer.insert(name, value);
        }
    }
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    if known.is_some_and(|tags| names_tag(tags, &tag)) {
        answer.remove(header::CONTENT_ENCODING);
        return (StatusCode::NOT_MODIFIED, answer).into_response();
    }
    let bytes = packed.map_or_else(|| file.data.clone(), |(_, packed)| packed.data);
    (answer, bytes.into_owned()).into_response()
}

/// Names the bytes as they travel: the digest of the file, and how it is packed.
fn tag(file: &EmbeddedFile, encoding: Option<Encoding>) -> String {
    let mut tag = String::from("\"");
    for byte in &file.metadata.sha256_hash()[..16] {
        // writing to a String does not fail
        let _ = write!(tag, "{byte:02x}");
    }
    if let Some(encoding) = encoding {
        tag.push('-');
        tag.push_str(encoding.name());
    }
    tag + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn get(path: &str, accept: &'static str) -> Response {
        let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accept))]);
        fallback(Method::GET, path.parse().unwrap(), headers).await
    }

    async fn packed(path: &str, encodings: &'static str) -> Response {
        let headers = HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(encodings))]);
        fallback(Method::GET, path.parse().unwrap(), headers).await
    }

    async fn bytes(answer: Response) -> Vec<u8> {
        axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap().to_vec()
    }

    #[tokio::test]
    async fn people_get_the_page_and_programs_a_problem() {
        let page = get("/runs/0192", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8").await;
        assert_eq!(
            (page.status(), &page.headers()[header::CONTENT_TYPE]),
            (StatusCode::OK, &HeaderValue::from_static("text/html; charset=utf-8"))
        );
        for (path, accept) in [
            ("/runs/0192", "*/*"),
            ("/assets/gone.js", "*/*"),
            ("/index.html.br", "*/*"),
            ("/index.html.gz", "*/*"),
            ("/v1/nothing", "text/html"),
            ("/v1", "text/html"),
        ] {
            let answer = get(path, accept).await;
            assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
            assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/problem+json");
        }
    }

    #[tokio::test]
    async fn a_file_that_has_not_changed_is_not_sent_again() {
        let first = get("/index.html", "*/*").await;
        let tag = first.headers()[header::ETAG].clone();
        let headers = HeaderMap::from_iter([(header::IF_NONE_MATCH, tag)]);
        let again = fallback(Method::GET, "/index.html".parse().unwrap(), headers).await;
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    }

    #[tokio::test]
    async fn a_file_travels_packed_as_the_browser_takes_it() {
        let plain = bytes(get("/index.html", "*/*").await).await;
        let mut tags = std::collections::BTreeSet::new();
        for (accepted, encoding) in [
            ("", None),
            ("identity", None),
            ("gzip", Some("gzip")),
            ("GZIP", Some("gzip")),
            ("gzip, deflate, br, zstd", Some("br")),
            ("br;q=0, gzip;q=0.5", Some("gzip")),
            ("br;q=0.0, *", Some("gzip")),
            ("*", Some("br")),
            ("*;q=0", None),
            ("bread", None),
        ] {
            let answer = packed("/index.html", accepted).await;
            let headers = answer.headers();
            let there = headers.get(header::CONTENT_ENCODING).map(|value| value.to_str().unwrap().to_owned());
            assert_eq!(there.as_deref(), encoding, "{accepted}");
            assert_eq!(headers[header::VARY], "accept-encoding");
            assert_eq!(headers[header::CONTENT_TYPE], "text/html; charset=utf-8");
            let tag = headers[header::ETAG].to_str().unwrap().to_owned();
            let body = bytes(answer).await;
            assert_eq!(body == plain, encoding.is_none(), "{accepted}");
            assert!(encoding.is_none() || body.len() < plain.len(), "{accepted}");
            tags.insert((encoding, tag));
        }
        assert_eq!(tags.len(), 3, "one entity tag for each form: {tags:?}");
    }

    #[tokio::test]
    async fn nothing_but_reading_reaches_the_files() {
        let answer = fallback(Method::POST, "/index.html".parse().unwrap(), HeaderMap::new()).await;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    }
}
