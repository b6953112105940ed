//! `/v1/runs`: submit, list, read, cancel, repeat, and read what a run gave out.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use tokio::time::Instant;
use utoipa::IntoParams;

use super::content::Content;
use super::extract::{JsonBody, Named, Params, Reader, Submitter, bad_path, idempotency_key, parse_id};
use super::lists;
use super::modules::words_fit;
use super::openapi::Binary;
use super::problem::ApiError;
use super::repairs::RevisionParams;
use super::views;
use crate::coordinator::service::{RunDetail, RunFilter, Service, SubmitAnswer};
use crate::coordinator::submission::{WAIT_MS_MAX, prepare};
use crate::digest::Digest;
use crate::id::{RunId, WorkerId};
use crate::protocol::api::{Page, ProblemCode, Run, RunPage, RunRequest, Timestamp};
use crate::result::{OutputRef, ResultManifest, RunState, VerdictKind};

/// Submit a run
///
/// With `wait_ms` the answer waits for the run's end; without, or if it has not ended by then, it shows the run as it
/// is. A failed run is an answer too: look at `state`. With an Idempotency-Key the same request makes one run, however
/// often it is sent; another request with that key is refused with `idempotency_mismatch`.
///
/// With `cache: use`, the default, a verified result of an equal run answers at once: `cached` is true, and `cached_from` names
/// the run that computed it. Such an answer is given before the new run is written, which follows within moments; a
/// coordinator that dies in between does not know its id any more, and answers the same submission with the same
/// result. With an Idempotency-Key, or with `durable: true` said in so many words, the answer waits until it is written. If
/// that run is corrected later, so is this one.
#[utoipa::path(
    post, path = "/v1/runs", tag = "runs", request_body = RunRequest,
    params(("idempotency-key" = Option<String>, Header, description = "1 to 255 visible ASCII characters")),
    responses(
        (status = 201, description = "accepted", body = Run),
        (status = 200, description = "accepted before, under the same Idempotency-Key", body = Run),
    )
)]
pub async fn post_run(
    Submitter(caller): Submitter,
    State(service): State<Arc<Service>>,
    headers: HeaderMap,
    JsonBody(request): JsonBody<RunRequest>,
) -> Result<Response, ApiError> {
    let checked = prepare(&request, idempotency_key(&headers)?, jiff::Timestamp::now())?;
    let answer = service.submit(&caller, checked.prepared, checked.wait).await?;
    Ok(submitted(&answer))
}

/// What most answers take: one allocation instead of one for every doubling.
const ANSWER_BYTES: usize = 4 << 10;

fn submitted(answer: &SubmitAnswer) -> Response {
    let (status, detail) = match answer {
        SubmitAnswer::Accepted(detail) => (StatusCode::CREATED, detail),
        SubmitAnswer::Existing(detail) => (StatusCode::OK, detail),
    };
    let headers = [
        (header::CONTENT_TYPE, "application/json".to_owned()),
        (header::LOCATION, format!("/v1/runs/{}", detail.run.id)),
    ];
    let mut json = Vec::with_capacity(ANSWER_BYTES);
    match serde_json::to_writer(&mut json, &views::run(detail)) {
        Ok(()) => (status, headers, json).into_response(),
        Err(error) => ApiError::internal(error.to_string()).into_response(),
    }
}

/// How long a cancel waits for the end to be written.
pub const CANCEL_WAIT: Duration = Duration::from_secs(10);

/// Which runs a list shows.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RunListParams {
    /// One state or several, separated by commas: `queued`, `running`, `succeeded`, `failed`, `canceled`.
    state: Option<String>,
    /// Digest of a module.
    #[param(value_type = Option<String>)]
    module: Option<Digest>,
    /// A worker that held an attempt, for instance `w2`.
    #[param(value_type = Option<String>)]
    worker: Option<WorkerId>,
    /// A verdict.
    #[param(inline)]
    verdict: Option<VerdictKind>,
    /// A text of 1 to 100 characters that occurs in the run's id, in its module's digest or name (both in any case), in its
    /// entry or in one of its arguments (in this case).
    text: Option<String>,
    /// Submitted at or after, RFC 3339.
    #[param(value_type = Option<String>)]
    since: Option<Timestamp>,
    /// Submitted before, RFC 3339.
    #[param(value_type = Option<String>)]
    until: Option<Timestamp>,
    /// `next` of the page before; the first page without it.
    cursor: Option<String>,
    /// Items of the page, 1 to 200; 50 by default.
    limit: Option<u32>,
}

/// Length of a text that is searched for.
const TEXT_CHARS_MAX: usize = 100;

impl RunListParams {
    fn filter(&self) -> Result<RunFilter, ApiError> {
        let states = self.state.iter().flat_map(|list| list.split(','));
        let states = states.map(|name| {
            let known = RunState::ALL.into_iter().find(|state| state.name() == name);
            known.ok_or_else(|| {
                let names = RunState::ALL.map(RunState::name).join("`, `");
                ApiError::parameter(
                    "state",
                    format!("a state is one of `{names}`; several are separated by commas"),
                )
            })
        });
        if let Some(text) = &self.text
            && !words_fit(text, TEXT_CHARS_MAX)
        {
            let detail = format!("a text has 1 to {TEXT_CHARS_MAX} characters and no control characters");
            return Err(ApiError::parameter("text", detail));
        }
        Ok(RunFilter {
            workspace: None,
            states: states.collect::<Result<_, _>>()?,
            module: self.module,
            worker: self.worker,
            verdict: self.verdict,
            text: self.text.clone(),
            since: self.since.map(Into::into),
            until: self.until.map(Into::into),
        })
    }
}

/// List runs
///
/// Newest first. One request looks at a bounded number of runs: a page may hold fewer items than asked for, even none, and
/// still have a `next`, with which the search goes on.
#[utoipa::path(
    get, path = "/v1/runs", tag = "runs", params(RunListParams),
    responses((status = 200, description = "a page", body = RunPage))
)]
pub async fn list_runs(
    Reader(caller): Reader,
    State(service): State<Arc<Service>>,
    Params(params): Params<RunListParams>,
) -> Result<Json<RunPage>, ApiError> {
    let cursor = lists::cursor(params.cursor.as_deref())?;
    let limit = lists::limit(params.limit)?;
    let found = service.runs(&caller, params.filter()?, cursor, limit).await?;
    let items = found.runs.iter().map(|detail| views::summary(&detail.run)).collect();
    Ok(Json(Page { items, next: found.next.map(|id| id.to_string()) }))
}

/// How long an answer waits.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WaitParams {
    /// How long the answer waits for the run's end, in milliseconds, up to 300000; 0 by default.
    wait_ms: Option<u64>,
}

impl WaitParams {
    fn wait(&self) -> Result<Option<Duration>, ApiError> {
        match self.wait_ms {
            None | Some(0) => Ok(None),
            Some(wait_ms) if wait_ms <= WAIT_MS_MAX => Ok(Some(Duration::from_millis(wait_ms))),
            Some(wait_ms) => {
                let detail = format!("{wait_ms} is out of range: it must be from 0 to {WAIT_MS_MAX}");
                Err(ApiError::parameter("wait_ms", detail))
            }
        }
    }
}

/// What to read of a run.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ReadParams {
    /// How long the answer waits for the run's end, in milliseconds, up to 300000; 0 by default.
    wait_ms: Option<u64>,
    /// A revision of its final, from 1; the present one by default. A revision is not waited for.
    revision: Option<u32>,
}

/// Read a run
///
/// As it is or, with `revision`, as its final was before it was corrected.
#[utoipa::path(
    get, path = "/v1/runs/{id}", tag = "runs", params(("id" = RunId, Path), ReadParams),
    responses((status = 200, description = "the run as it is", body = Run))
)]
pub async fn get_run(
    Reader(caller): Reader,
    State(service): State<Arc<Service>>,
    Named(id): Named<RunId>,
    Params(ReadParams { wait_ms, revision }): Params<ReadParams>,
) -> Result<Json<Run>, ApiError> {
    let wait = WaitParams { wait_ms }.wait()?.filter(|_| revision.is_none());
    let detail = match wait {
        Some(wait) => service.wait_run(&caller, id, wait).await?,
        None => service.run_at(&caller, id, revision).await?,
    };
    Ok(Json(views::run(&detail)))
}

/// Cancel a run
///
/// A run that has ended stays as it is and is the answer: every caller hears the same. Where its end is not written within
/// ten seconds (a disk that is full or slow), the answer is the run as it is, and it is canceled without the caller.
#[utoipa::path(
    post, path = "/v1/runs/{id}/cancel", tag = "runs", params(("id" = RunId, Path)),
    responses(
        (status = 200, description = "the run, final", body = Run),
        (status = 202, description = "the run, whose end is not written yet", body = Run),
    )
)]
pub async fn cancel_run(
    Submitter(caller): Submitter,
    State(service): State<Arc<Service>>,
    Named(id): Named<RunId>,
) -> Result<(StatusCode, Json<Run>), ApiError> {
    let detail = service.cancel(&caller, id, Instant::now() + CANCEL_WAIT).await?;
    let status = if detail.run.state.is_final() { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, Json(views::run(&detail))))
}

/// Submit a run again
///
/// A new run of the same spec and policy; its `rerun_of` names the earlier one. It is executed anew, and its result replaces
/// what is cached. A run with `durable: false` cannot be rerun.
#[utoipa::path(
    post, path = "/v1/runs/{id}/rerun", tag = "runs", params(("id" = RunId, Path), WaitParams),
    responses((status = 201, description = "the new run", body = Run))
)]
pub async fn rerun_run(
    Submitter(caller): Submitter,
    State(service): State<Arc<Service>>,
    Named(id): Named<RunId>,
    Params(params): Params<WaitParams>,
) -> Result<Response, ApiError> {
    let answer = service.rerun(&caller, id, params.wait()?).await?;
    Ok(submitted(&answer))
}

/// Read a run's standard output
///
/// The output of the result, once the run has ended. One range may be asked for.
#[utoipa::path(
    get, path = "/v1/runs/{id}/stdout", tag = "runs",
    params(
        ("id" = RunId, Path), RevisionParams,
        ("range" = Option<String>, Header, description = "`bytes=FIRST-LAST`"),
    ),
    responses(
        (status = 200, description = "the bytes", body = inline(Binary), content_type = "text/plain"),
        (status = 206, description = "the range", body = inline(Binary), content_type = "text/plain"),
        (status = 304, description = "not changed"),
    )
)]
pub async fn get_stdout(
    Reader(caller): Reader,
    State(service): State<Arc<Service>>,
    Named(id): Named<RunId>,
    Params(params): Params<RevisionParams>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let detail = service.run_at(&caller, id, params.revision).await?;
    let output = manifest(&detail)?.stdout;
    let at_hand = service.output_at_hand(&caller, &detail, output.digest).await?;
    stream_content(output, "stdout.txt", at_hand).respond(&service, &caller, &method, &headers).await
}

/// Read a run's standard error
///
/// The output of the result, once the run has ended. One range may be asked for.
#[utoipa::path(
    get, path = "/v1/runs/{id}/stderr", tag = "runs",
    params(
        ("id" = RunId, Path), RevisionParams,
        ("range" = Option<String>, Header, description = "`bytes=FIRST-LAST`"),
    ),
    responses(
        (status = 200, description = "the bytes", body = inline(Binary), content_type = "text/plain"),
        (status = 206, description = "the range", body = inline(Binary), content_type = "text/plain"),
        (status = 304, description = "not changed"),
    )
)]
pub async fn get_stderr(
    Reader(caller): Reader,
    State(service): State<Arc<Service>>,
    Named(id): Named<RunId>,
    Params(params): Params<RevisionParams>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let detail = service.run_at(&caller, id, params.revision).await?;
    let output = manifest(&detail)?.stderr;
    let at_hand = service.output_at_hand(&caller, &detail, output.digest).await?;
    stream_content(output, "stderr.txt", at_hand).respond(&service, &caller, &method, &headers).await
}

/// A final may be corrected by a later revision, so what is at this address may change: caches have to ask.
fn stream_content(
    output: OutputRef,
    file_name: &'static str,
    at_hand: Option<axum::body::Bytes>,
) -> Content<'static> {
    Content {
        digest: output.digest,
        size: output.size,
        media_type: "text/plain; charset=utf-8",
        file_name: Some(file_name),
        immutable: false,
        at_hand,
    }
}

fn manifest(detail: &RunDetail) -> Result<&ResultManifest, ApiError> {
    detail.run.manifest.as_ref().ok_or_else(|| {
        let (id, state) = (detail.run.id, detail.run.state);
        let why = if state.is_final() {
            format!("the run `{id}` ended as {} without a result, so it gave nothing out", state.name())
        } else {
            format!("the run `{id}` has not ended: wait for it with GET /v1/runs/{id}?wait_ms=60000")
        };
        ApiError::new(ProblemCode::NotFound, why)
    })
}

/// Read a file that a run left
///
/// `path` is the file's path in the guest without its first slash, for instance `out/plot.png`. One range may be asked for.
#[utoipa::path(
    get, path = "/v1/runs/{id}/files/{*path}", tag = "runs",
    params(
        ("id" = RunId, Path), ("path" = String, Path), RevisionParams,
        ("range" = Option<String>, Header, description = "`bytes=FIRST-LAST`"),
    ),
    responses(
        (status = 200, description = "the bytes", body = inline(Binary), content_type = "application/octet-stream"),
        (status = 206, description = "the range", body = inline(Binary), content_type = "application/octet-stream"),
        (status = 304, description = "not changed"),
    )
)]
pub async fn get_file(
    Reader(caller): Reader,
    State(service): State<Arc<Service>>,
    path: Result<Path<(String, String)>, axum::extract::rejection::PathRejection>,
    Params(params): Params<RevisionParams>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let Path((id, path)) = path.map_err(bad_path)?;
    let id: RunId = parse_id(&id)?;
    let detail = service.run_at(&caller, id, params.revision).await?;
    // the path only selects among names of the manifest; nothing is opened by it
    let wanted = format!("/{path}");
    let file = manifest(&detail)?.files.iter().find(|file| file.path.as_str() == wanted);
    let file = file.ok_or_else(|| ApiError::not_found("output file", &wanted))?;
    let name = wanted.rsplit('/').next().unwrap_or("file");
    let at_hand = service.output_at_hand(&caller, &detail, file.digest).await?;
    let content = Content {
        digest: file.digest,
        size: file.size,
        media_type: "application/octet-stream",
        file_name: Some(name),
        immutable: false,
        at_hand,
    };
    content.respond(&service, &caller, &method, &headers).await
}
