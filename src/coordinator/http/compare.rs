//! What each attempt gave out, and two attempts side by side.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use utoipa::IntoParams;

use super::content::Content;
use super::divergence;
use super::extract::{Named, Params, Reader, bad_path, parse_id};
use super::openapi::Binary;
use super::problem::ApiError;
use crate::coordinator::service::{AttemptResult, Caller, Service};
use crate::id::RunId;
use crate::protocol::api::{Comparison, ProblemCode, Side, Window};
use crate::result::{OutputRef, ResultManifest};
use crate::store::Source;

/// Bytes that are shown before the first difference.
const WINDOW_BEFORE: u64 = 256;
/// Bytes that are shown.
const WINDOW_BYTES: u64 = 1_024;
/// Differing streams that are named.
const DIFFERING_MAX: usize = 100;

/// Which output.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Stream {
    Stdout,
    Stderr,
    /// By its path in the guest.
    File(String),
}

impl Stream {
    fn parse(text: &str) -> Result<Stream, ApiError> {
        match text {
            "stdout" => Ok(Stream::Stdout),
            "stderr" => Ok(Stream::Stderr),
            _ => match text.strip_prefix("file:") {
                Some(path) if path.starts_with('/') => Ok(Stream::File(path.to_owned())),
                _ => {
                    let detail = format!(
                        "`{}` is neither `stdout` nor `stderr` nor `file:/out/PATH`",
                        text.chars().take(80).collect::<String>()
                    );
                    Err(ApiError::parameter("stream", detail))
                }
            },
        }
    }

    fn name(&self) -> String {
        match self {
            Stream::Stdout => "stdout".to_owned(),
            Stream::Stderr => "stderr".to_owned(),
            Stream::File(path) => format!("file:{path}"),
        }
    }

    fn of(&self, manifest: &ResultManifest) -> Option<OutputRef> {
        match self {
            Stream::Stdout => Some(manifest.stdout),
            Stream::Stderr => Some(manifest.stderr),
            // the path only selects among names of the manifest; nothing is opened by it
            Stream::File(path) => {
                let file = manifest.files.iter().find(|file| file.path.as_str() == path);
                file.map(|file| OutputRef { digest: file.digest, size: file.size })
            }
        }
    }
}

/// Of which attempt.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AttemptParams {
    /// A revision, from 1, with the attempts that it had; the present one by default.
    revision: Option<u32>,
}

/// Read the standard output of an attempt
///
/// Of one whose result won, or was kept because it lost; `gone` if it was not. One range may be asked for.
#[utoipa::path(
    get, path = "/v1/runs/{id}/attempts/{number}/stdout", tag = "runs",
    params(
        ("id" = RunId, Path), ("number" = u32, Path), AttemptParams,
        ("range" = Option<String>, Header, description = "`bytes=FIRST-LAST`"),
    ),
    responses(
        (status = 200, description = "the bytes", body = inline(Binary), content_type = "text/plain"),
        (status = 206, description = "the range", body = inline(Binary), content_type = "text/plain"),
        (status = 304, description = "not changed"),
    )
)]
pub async fn get_attempt_stdout(
    Reader(caller): Reader,
    State(service): State<Arc<Service>>,
    path: Result<Path<(String, String)>, PathRejection>,
    Params(AttemptParams { revision }): Params<AttemptParams>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let Path((id, number)) = path.map_err(bad_path)?;
    serve(&service, &caller, (&id, &number, revision), &Stream::Stdout, &method, &headers).await
}

/// Read the standard error of an attempt
///
/// Of one whose result won, or was kept because it lost; `gone` if it was not. One range may be asked for.
#[utoipa::path(
    get, path = "/v1/runs/{id}/attempts/{number}/stderr", tag = "runs",
    params(
        ("id" = RunId, Path), ("number" = u32, Path), AttemptParams,
        ("range" = Option<String>, Header, description = "`bytes=FIRST-LAST`"),
    ),
    responses(
        (status = 200, description = "the bytes", body = inline(Binary), content_type = "text/plain"),
        (status = 206, description = "the range", body = inline(Binary), content_type = "text/plain"),
        (status = 304, description = "not changed"),
    )
)]
pub async fn get_attempt_stderr(
    Reader(caller): Reader,
    State(service): State<Arc<Service>>,
    path: Result<Path<(String, String)>, PathRejection>,
    Params(AttemptParams { revision }): Params<AttemptParams>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let Path((id, number)) = path.map_err(bad_path)?;
    serve(&service, &caller, (&id, &number, revision), &Stream::Stderr, &method, &headers).await
}

/// Read a file that an attempt left
///
/// `path` is the file's path in the guest without its first slash, for instance `out/plot.png`. Of an attempt whose result
/// won, or was kept because it lost; `gone` if it was not. One range may be asked for.
#[utoipa::path(
    get, path = "/v1/runs/{id}/attempts/{number}/files/{*path}", tag = "runs",
    params(
        ("id" = RunId, Path), ("number" = u32, Path), ("path" = String, Path), AttemptParams,
        ("range" = Option<String>, Header, description = "`bytes=FIRST-LAST`"),
    ),
    responses(
        (status = 200, description = "the bytes", body = inline(Binary), content_type = "application/octet-stream"),
        (status = 206, description = "the range", body = inline(Binary), content_type = "application/octet-stream"),
        (status = 304, description = "not changed"),
    )
)]
pub async fn get_attempt_file(
    Reader(caller): Reader,
    State(service): State<Arc<Service>>,
    path: Result<Path<(String, String, String)>, PathRejection>,
    Params(AttemptParams { revision }): Params<AttemptParams>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let Path((id, number, path)) = path.map_err(bad_path)?;
    let stream = Stream::File(format!("/{path}"));
    serve(&service, &caller, (&id, &number, revision), &stream, &method, &headers).await
}

async fn serve(
    service: &Service,
    caller: &Caller,
    (id, number, revision): (&str, &str, Option<u32>),
    stream: &Stream,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let id: RunId = parse_id(id)?;
    let number: u32 = parse_id(number)?;
    let detail = service.run_at(caller, id, revision).await?;
    let result = service.attempt_result(&detail, number).await?;
    let output = stream.of(&result.manifest);
    let output = output.ok_or_else(|| ApiError::not_found("output", &stream.name()))?;
    let size = service.output_size(id, number, output.digest).await?;
    let (media_type, file_name) = match stream {
        Stream::Stdout => ("text/plain; charset=utf-8", "stdout.txt"),
        Stream::Stderr => ("text/plain; charset=utf-8", "stderr.txt"),
        Stream::File(path) => ("application/octet-stream", path.rsplit('/').next().unwrap_or("file")),
    };
    let content = Content {
        digest: output.digest,
        size,
        media_type,
        file_name: Some(file_name),
        immutable: false,
        at_hand: None,
    };
    content.respond(service, caller, method, headers).await
}

/// What is compared.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DiffParams {
    /// Number of an attempt; without both numbers the winner is compared with the first attempt that differs from it.
    left: Option<u32>,
    /// Number of another attempt.
    right: Option<u32>,
    /// `stdout`, `stderr` or `file:/out/PATH`; by default the first one in which the two differ.
    stream: Option<String>,
    /// A revision, from 1, with the attempts that it had; the present one by default.
    revision: Option<u32>,
}

/// Says it, and where something may differ.
fn nothing_differs(run: RunId, revision: u32, source: Option<Source>) -> String {
    let where_else = match (source, revision) {
        (Some(source), _) => {
            format!("; it has none: ask for those of the run `{}`, which computed its result", source.run())
        }
        (None, ..=1) => String::new(),
        (None, _) => {
            let before = revision - 1;
            format!(
                "; the revision before may have attempts that differ: ask with `revision={before}` (`lockstep runs diff \
                 --revision {before}`)"
            )
        }
    };
    format!("no two attempts of the run `{run}` differ{where_else}")
}

/// Compare two attempts
///
/// Byte by byte, on the server: whether the outputs are equal, where the first difference is, and a few bytes around it.
/// With it: which rule decided, what an arbiter found, and whether those who lost were blamed. Of results that lost a vote
/// one is kept for each digest; `gone` if one of the two was not.
#[utoipa::path(
    get, path = "/v1/runs/{id}/diff", tag = "runs", params(("id" = RunId, Path), DiffParams),
    responses((status = 200, description = "the comparison", body = Comparison))
)]
pub async fn diff(
    Reader(caller): Reader,
    State(service): State<Arc<Service>>,
    Named(id): Named<RunId>,
    Params(params): Params<DiffParams>,
) -> Result<Json<Comparison>, ApiError> {
    let wanted = params.stream.as_deref().map(Stream::parse).transpose()?;
    let detail = service.run_at(&caller, id, params.revision).await?;
    let (left, right) = match (params.left, params.right) {
        (Some(left), Some(right)) => (left, right),
        (None, None) => Service::differing_attempts(&detail).ok_or_else(|| {
            let run = &detail.run;
            let detail = nothing_differs(run.id, run.revision, run.source);
            ApiError::new(ProblemCode::NotFound, detail)
        })?,
        (left, _) => {
            let name = if left.is_none() { "left" } else { "right" };
            return Err(ApiError::parameter(name, "name both attempts, or none"));
        }
    };
    let left = service.attempt_result(&detail, left).await?;
    let right = service.attempt_result(&detail, right).await?;
    let mut differing = differing(&left.manifest, &right.manifest);
    let stream = wanted.unwrap_or_else(|| {
        differing.iter().find_map(|name| Stream::parse(name).ok()).unwrap_or(Stream::Stdout)
    });
    let differing_more = differing.len() > DIFFERING_MAX;
    differing.truncate(DIFFERING_MAX);
    let outputs = (stream.of(&left.manifest), stream.of(&right.manifest));
    let (one, other) = (sized(&service, id, &left, outputs.0), sized(&service, id, &right, outputs.1));
    let (one, other) = (one.await?, other.await?);
    let (equal, at) = match (one, other) {
        (None, None) => return Err(ApiError::not_found("output", &stream.name())),
        (Some(one), Some(other)) => {
            let at = service.first_difference(&caller, one, other).await?;
            (at.is_none(), at)
        }
        // a file that is there on one side only differs from its first byte on
        _ => (false, Some(0)),
    };
    let arbiters = service.arbiters_of(&detail.run).await?;
    let arbiter = divergence::arbitration(&detail.run, &arbiters);
    Ok(Json(Comparison {
        run: id,
        stream: stream.name(),
        equal,
        first_difference: at,
        left: side(&service, &caller, left, one, at).await?,
        right: side(&service, &caller, right, other, at).await?,
        differing,
        differing_more,
        rule: divergence::rule(&detail.run, arbiter.as_ref()),
        arbiter,
        outvoted: divergence::outvoted(&detail.run),
    }))
}

/// Digest and stored size of an output.
type Sized = Option<(crate::digest::Digest, u64)>;

async fn sized(
    service: &Service,
    run: RunId,
    of: &AttemptResult,
    output: Option<OutputRef>,
) -> Result<Sized, ApiError> {
    let Some(output) = output else { return Ok(None) };
    let size = service.output_size(run, of.attempt.number, output.digest).await?;
    Ok(Some((output.digest, size)))
}

async fn side(
    service: &Service,
    caller: &Caller,
    of: AttemptResult,
    output: Sized,
    at: Option<u64>,
) -> Result<Side, ApiError> {
    let mut window = None;
    if let (Some((digest, size)), Some(at)) = (output, at) {
        let offset = at.saturating_sub(WINDOW_BEFORE).min(size);
        let end = offset.saturating_add(WINDOW_BYTES).min(size);
        let bytes = service.window(caller, digest, offset..end).await?;
        window = Some(Window { offset, base64: BASE64.encode(bytes) });
    }
    Ok(Side {
        attempt: of.attempt.number,
        worker: of.attempt.worker,
        result: of.result,
        outcome: of.manifest.outcome,
        digest: output.map(|(digest, _)| digest),
        size: output.map_or(0, |(_, size)| size),
        window,
    })
}

/// Everything in which two results differ, streams by the names that `stream` takes.
fn differing(left: &ResultManifest, right: &ResultManifest) -> Vec<String> {
    let mut names = Vec::new();
    let mut note = |differs: bool, name: String| {
        if differs {
            names.push(name);
        }
    };
    note(left.outcome != right.outcome, "outcome".to_owned());
    note(left.fuel_used != right.fuel_used, "fuel".to_owned());
    for stream in [Stream::Stdout, Stream::Stderr] {
        note(stream.of(left) != stream.of(right), stream.name());
    }
    // both lists are short or long together, and a guest's files are sorted by path: but a liar's need not be
    let files = |manifest: &ResultManifest| {
        let pairs = manifest.files.iter().map(|file| (file.path.as_str().to_owned(), file.digest));
        pairs.collect::<std::collections::BTreeMap<_, _>>()
    };
    let (one, other) = (files(left), files(right));
    let paths: std::collections::BTreeSet<_> = one.keys().chain(other.keys()).collect();
    for path in paths {
        note(one.get(path) != other.get(path), Stream::File(path.clone()).name());
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::{Outcome, OutputFile};

    #[test]
    fn a_stream_is_named_in_one_of_three_ways() {
        for name in ["stdout", "stderr", "file:/out/a b/ü"] {
            assert_eq!(Stream::parse(name).unwrap().name(), name);
        }
        for wrong in ["", "stdin", "file:", "file:out/x", "/out/x"] {
            assert!(Stream::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn everything_that_differs_is_named() {
        let file = |path: &str, bytes: &[u8]| OutputFile {
            path: path.parse().unwrap(),
            digest: OutputRef::of(bytes).digest,
            size: bytes.len() as u64,
        };
        let manifest = |code, stdout: &[u8], files| ResultManifest {
            outcome: Outcome::Exited { code },
            stdout: OutputRef::of(stdout),
            stderr: OutputRef::of(b""),
            files,
            fuel_used: None,
        };
        let left = manifest(0, b"a", vec![file("/out/a", b"1"), file("/out/b", b"1")]);
        assert!(differing(&left, &left).is_empty());
        let right = manifest(1, b"b", vec![file("/out/c", b"1"), file("/out/b", b"1"), file("/out/a", b"2")]);
        assert_eq!(differing(&left, &right), ["outcome", "stdout", "file:/out/a", "file:/out/c"]);
    }

    #[test]
    fn where_nothing_differs_it_is_said_where_something_may() {
        let told = |revision, source| nothing_differs(RunId(1), revision, source);
        assert!(told(1, None).ends_with("differ"), "{}", told(1, None));
        assert!(told(3, None).contains("ask with `revision=2`"), "{}", told(3, None));
        for source in [Source::Cached(RunId(7)), Source::Shared(RunId(7))] {
            let told = told(2, Some(source));
            assert!(
                told.contains(&format!("of the run `{}`", RunId(7))) && !told.contains("revision"),
                "{told}"
            );
        }
    }
}
