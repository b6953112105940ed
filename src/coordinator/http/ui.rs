//! The web UI, built into the binary: its files, and its page for every address that is a view of it.
//!
//! It serves constants to anyone; what the page shows it reads from the API, with the caller's token. `build.rs` puts the
//! files where this module embeds them from.

use std::fmt::Write as _;

use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use rust_embed::{EmbeddedFile, RustEmbed};

use super::problem::ApiError;
use crate::protocol::api::ProblemCode;

#[derive(RustEmbed)]
#[folder = "$OUT_DIR/web-ui"]
struct Files;

/// Answers what no route answers: a file of the UI, its page for people, or a problem.
pub async fn fallback(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path().trim_start_matches('/');
    let is_api = path == "v1" || path.starts_with("v1/");
    if !is_api && matches!(method, Method::GET | Method::HEAD) {
        if let Some(file) = Files::get(path) {
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

fn serve(path: &str, file: &EmbeddedFile, headers: &HeaderMap) -> Response {
    let tag = file.metadata.sha256_hash()[..16].iter().fold(String::from("\""), |mut tag, byte| {
        // writing to a String does not fail
        let _ = write!(tag, "{byte:02x}");
        tag
    }) + "\"";
    // Vite names files below assets/ by their content; the others keep their names and have to be asked for again
    let kept = if path.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    let mut answer = HeaderMap::new();
    for (name, text) in [
        (header::ETAG, tag.as_str()),
        (header::CACHE_CONTROL, kept),
        (header::CONTENT_TYPE, file.metadata.mimetype()),
    ] {
        if let Ok(value) = HeaderValue::from_str(text) {
            answer.insert(name, value);
        }
    }
    if headers.get(header::IF_NONE_MATCH).is_some_and(|there| there == tag.as_str()) {
        return (StatusCode::NOT_MODIFIED, answer).into_response();
    }
    (answer, file.data.clone().into_owned()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn get(path: &str, accept: &'static str) -> Response {
        let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accept))]);
        fallback(Method::GET, path.parse().unwrap(), headers).await
    }

    #[tokio::test]
    async fn people_get_the_page_and_programs_a_problem() {
        let page = get("/runs/0192", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8").await;
        assert_eq!(
            (page.status(), &page.headers()[header::CONTENT_TYPE]),
            (StatusCode::OK, &HeaderValue::from_static("text/html"))
        );
        for (path, accept) in [
            ("/runs/0192", "*/*"),
            ("/assets/gone.js", "*/*"),
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
    async fn nothing_but_reading_reaches_the_files() {
        let answer = fallback(Method::POST, "/index.html".parse().unwrap(), HeaderMap::new()).await;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    }
}
