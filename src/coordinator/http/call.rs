//! `POST /v1/modules/{digest}/call`: standard input in, the agreed standard output out. One request instead of three, for
//! callers that want nothing but the answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};

use super::extract::{Named, RawBody, Submitter, bad_query, pieces};
use super::openapi::Binary;
use super::problem::ApiError;
use super::views;
use crate::coordinator::service::{Caller, RunDetail, Service, ServiceError, Source, SubmitAnswer};
use crate::coordinator::submission::{Invalid, prepare};
use crate::digest::Digest;
use crate::protocol::api::{InputBytes, ProblemCode, RunRequest, VerifyPolicy, VerifyRequest};
use crate::result::{FailReason, Outcome, RunState};
use crate::spec::ParseCacheUseError;

/// A call waits for its answer so long, if the caller does not say.
const WAIT_MS: u64 = 60_000;
/// Standard input up to this size travels with the submission; more is stored as a blob first, streamed.
const INLINE_STDIN_BYTES_MAX: usize = 16 * 1024;

/// Id of the run behind an answer.
const LOCKSTEP_RUN: HeaderName = HeaderName::from_static("lockstep-run");
/// Digest of its result manifest.
const LOCKSTEP_RESULT: HeaderName = HeaderName::from_static("lockstep-result");
/// What comparing the votes says.
const LOCKSTEP_VERDICT: HeaderName = HeaderName::from_static("lockstep-verdict");
/// The run that computed it, if it was cached.
const LOCKSTEP_CACHED_FROM: HeaderName = HeaderName::from_static("lockstep-cached-from");
/// What the guest did.
const LOCKSTEP_OUTCOME: HeaderName = HeaderName::from_static("lockstep-outcome");

/// Call a module
///
/// The body is standard input, the answer the standard output that was agreed on (for a plain function its values, one per
/// line). The headers `Lockstep-Run`, `Lockstep-Result`, `Lockstep-Verdict` and `Lockstep-Outcome` tell how it came about,
/// and `Lockstep-Cached-From` which run computed it, if it was cached.
/// A run that fails is answered with `run_failed` or `run_timed_out`, one that has not ended within `wait_ms` with
/// `run_unfinished`; each carries the run. A caller that goes away does not stop the run.
#[utoipa::path(
    post, path = "/v1/modules/{digest}/call", tag = "modules",
    params(
        ("digest" = Digest, Path),
        ("entry" = Option<String>, Query, description = "Exported function; `_start` by default"),
        ("arg" = Option<Vec<String>>, Query, description = "An argument; may come several times, in order"),
        ("env" = Option<Vec<String>>, Query, description = "A variable as `NAME=value`; may come several times"),
        ("verify" = Option<String>, Query, description = "`standard`, `high`, `once` or `quorum:N`; by default as its module, its workspace or the pool says"),
        ("timeout_ms" = Option<u64>, Query, description = "Wall time of one attempt; 30000 by default"),
        ("wait_ms" = Option<u64>, Query, description = "How long to wait for the answer; 60000 by default"),
        ("durable" = Option<bool>, Query, description = "Whether the run is stored; true by default"),
        ("cache" = Option<String>, Query, description = "`use`, `refresh` or `off`; `use` by default"),
    ),
    request_body(content = inline(Binary), content_type = "application/octet-stream"),
    responses((status = 200, description = "standard output", body = inline(Binary), content_type = "text/plain"))
)]
pub async fn call_module(
    Submitter(caller): Submitter,
    State(service): State<Arc<Service>>,
    Named(digest): Named<Digest>,
    uri: Uri,
    RawBody(body): RawBody,
) -> Result<Response, ApiError> {
    let mut request = read_query(&uri)?;
    request.module = Some(digest);
    // once before the body is read, so that a wrong query does not cost an upload
    prepare(&request, None, jiff::Timestamp::now()).map_err(in_query)?;
    let inline = match take_stdin(&service, &caller, body).await? {
        Stdin::Inline(bytes) => Some(bytes),
        Stdin::Stored(digest) => {
            request.stdin = Some(InputBytes::Digest(digest));
            None
        }
    };
    if let Some(bytes) = &inline
        && !bytes.is_empty()
    {
        request.stdin = Some(InputBytes::Digest(Digest::of(bytes)));
    }
    let mut checked = prepare(&request, None, jiff::Timestamp::now()).map_err(in_query)?;
    if let Some(bytes) = inline
        && !bytes.is_empty()
    {
        checked.prepared.blobs.push((checked.prepared.spec.stdin, bytes));
    }
    let detail = match service.submit(&caller, checked.prepared, checked.wait).await? {
        SubmitAnswer::Accepted(detail) | SubmitAnswer::Existing(detail) => detail,
    };
    answer(&service, &caller, &detail).await
}

/// A refusal names the query parameter, which has the name of the field.
fn in_query(mut invalid: Invalid) -> ApiError {
    if invalid.code == ProblemCode::InvalidField {
        invalid.code = ProblemCode::InvalidParameter;
    }
    let name = invalid.pointer.split('/').find(|part| !part.is_empty()).unwrap_or_default();
    let name = if name == "args" { "arg" } else { name }.to_owned();
    ApiError::from(invalid).at(name)
}

/// The request that the query spells.
fn read_query(uri: &Uri) -> Result<RunRequest, ApiError> {
    let Query(pairs) =
        Query::<Vec<(String, String)>>::try_from_uri(uri).map_err(|error| bad_query(&error))?;
    let mut request = RunRequest { wait_ms: Some(WAIT_MS), ..RunRequest::default() };
    let mut env = BTreeMap::new();
    for (name, value) in pairs {
        match name.as_str() {
            "arg" => request.args.push(value),
            "entry" => request.entry = Some(value),
            "env" => match value.split_once('=') {
                Some((name, value)) => drop(env.insert(name.to_owned(), value.to_owned())),
                None => return Err(ApiError::parameter("env", "a variable is written `NAME=value`")),
            },
            "verify" => request.verify = Some(read_verify(&value)?),
            "timeout_ms" => request.timeout_ms = Some(read_number("timeout_ms", &value)?),
            "wait_ms" => request.wait_ms = Some(read_number("wait_ms", &value)?),
            "durable" => {
                let refuse =
                    |_| ApiError::parameter("durable", format!("`{value}` is neither true nor false"));
                request.durable = Some(value.parse().map_err(refuse)?);
            }
            "cache" => {
                let refuse = |error: ParseCacheUseError| ApiError::parameter("cache", error.to_string());
                request.cache = Some(value.parse().map_err(refuse)?);
            }
            _ => {
                let known = "`arg`, `entry`, `env`, `verify`, `timeout_ms`, `wait_ms`, `durable` and `cache`";
                let detail = format!("there is no such parameter; a call takes {known}");
                return Err(ApiError::parameter(&name, detail));
            }
        }
    }
    request.env = env;
    Ok(request)
}

fn read_number(name: &str, value: &str) -> Result<u64, ApiError> {
    value.parse().map_err(|_| ApiError::parameter(name, format!("`{value}` is no whole number")))
}

fn read_verify(value: &str) -> Result<VerifyRequest, ApiError> {
    let (policy, n) = match value.split_once(':') {
        Some((policy, n)) => (policy, Some(read_number("verify", n)?)),
        None => (value, None),
    };
    let policy = match policy {
        "once" => VerifyPolicy::Once,
        "quorum" => VerifyPolicy::Quorum,
        "standard" => VerifyPolicy::Standard,
        "high" => VerifyPolicy::High,
        _ => {
            let why = format!("`{value}` is none of `standard`, `high`, `once` and `quorum:N`");
            return Err(ApiError::parameter("verify", why));
        }
    };
    Ok(VerifyRequest { policy, n })
}

enum Stdin {
    Inline(Bytes),
    Stored(Digest),
}

/// Reads a small body whole; a larger one goes to the blob store as it comes.
async fn take_stdin(service: &Service, caller: &Caller, body: Body) -> Result<Stdin, ApiError> {
    let mut rest = pieces(body);
    let mut head = BytesMut::new();
    while head.len() <= INLINE_STDIN_BYTES_MAX {
        match rest.next().await {
            None => return Ok(Stdin::Inline(head.freeze())),
            Some(Ok(piece)) => head.extend_from_slice(&piece),
            Some(Err(error)) => return Err(ServiceError::BodyBroken(error.to_string()).into()),
        }
    }
    let head = stream::iter([Ok(head.freeze())]);
    let (digest, _, _) = service.put_blob(caller, head.chain(rest), None).await?;
    Ok(Stdin::Stored(digest))
}

async fn answer(service: &Service, caller: &Caller, detail: &RunDetail) -> Result<Response, ApiError> {
    let run = &detail.run;
    let failed = |code, why: String| Err(ApiError::new(code, why).with_run(views::run(detail)));
    let (Some(manifest), RunState::Succeeded) = (&run.manifest, run.state) else {
        let id = run.id;
        return match (run.state, run.reason, &run.outcome) {
            (RunState::Queued | RunState::Running, _, _) => failed(
                ProblemCode::RunUnfinished,
                format!("the run goes on: wait for it with GET /v1/runs/{id}?wait_ms=60000"),
            ),
            (_, Some(FailReason::TimedOut | FailReason::Expired), _) => failed(
                ProblemCode::RunTimedOut,
                "the run did not end in the time that it was given: raise `timeout_ms`".to_owned(),
            ),
            (RunState::Canceled, _, _) => {
                failed(ProblemCode::RunFailed, "the run was canceled before it ended".to_owned())
            }
            (_, _, Some(outcome)) => failed(ProblemCode::RunFailed, format!("the guest {outcome}")),
            (_, _, None) => failed(
                ProblemCode::RunFailed,
                "the run ended without a result: `run.reason` and `run.explain` say why".to_owned(),
            ),
        };
    };
    let body = match (&run.outcome, &detail.stdout) {
        (Some(Outcome::Returned { values }), _) if manifest.stdout.size == 0 => {
            Body::from(values.iter().fold(String::new(), |text, value| text + value + "\n"))
        }
        (_, Some(bytes)) => Body::from(bytes.clone()),
        _ if manifest.stdout.size == 0 => Body::empty(),
        _ => {
            let whole = 0..manifest.stdout.size;
            Body::from_stream(service.read_blob(caller, manifest.stdout.digest, whole).await?)
        }
    };
    Ok((StatusCode::OK, headers(detail), body).into_response())
}

fn headers(detail: &RunDetail) -> HeaderMap {
    let run = &detail.run;
    let texts = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8".to_owned()),
        (header::CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'; frame-ancestors 'none'".to_owned()),
        (LOCKSTEP_RUN, run.id.to_string()),
        (LOCKSTEP_RESULT, run.result.map(|digest| digest.to_string()).unwrap_or_default()),
        (LOCKSTEP_VERDICT, run.verdict.kind.name().to_owned()),
        (LOCKSTEP_OUTCOME, run.outcome.as_ref().map(outcome_words).unwrap_or_default()),
    ];
    let mut headers = HeaderMap::new();
    for (name, text) in texts {
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(name, value);
        }
    }
    if let Some(Source::Cached(from)) = run.source
        && let Ok(value) = HeaderValue::from_str(&from.to_string())
    {
        headers.insert(LOCKSTEP_CACHED_FROM, value);
    }
    headers
}

/// The outcome's kind with its number, bounded: returned values are the body.
fn outcome_words(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Exited { code } => format!("exited {code}"),
        Outcome::Returned { .. } => "returned".to_owned(),
        Outcome::Responded { status } => format!("responded {status}"),
        Outcome::Trapped { .. } => "trapped".to_owned(),
        Outcome::OutOfFuel => "out_of_fuel".to_owned(),
        Outcome::OutputLimit => "output_limit".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Result<RunRequest, ApiError> {
        read_query(&format!("/v1/modules/x/call?{text}").parse().unwrap())
    }

    #[test]
    fn a_query_spells_a_request() {
        let request = query(
            "arg=-n&arg=a%20b&env=LANG=C&env=X=a=b&entry=fib&verify=quorum:3&timeout_ms=5&durable=false&cache=off",
        )
        .unwrap();
        assert_eq!(request.args, ["-n", "a b"]);
        assert_eq!(request.env, BTreeMap::from([("LANG".into(), "C".into()), ("X".into(), "a=b".into())]));
        assert_eq!(request.entry.as_deref(), Some("fib"));
        assert_eq!(request.cache, Some(crate::spec::CacheUse::Off));
        assert_eq!(request.verify, Some(VerifyRequest { policy: VerifyPolicy::Quorum, n: Some(3) }));
        assert_eq!(
            (request.timeout_ms, request.wait_ms, request.durable),
            (Some(5), Some(WAIT_MS), Some(false))
        );
        assert_eq!(query("").unwrap(), RunRequest { wait_ms: Some(WAIT_MS), ..RunRequest::default() });
    }

    #[test]
    fn a_value_out_of_range_is_refused_by_its_parameter() {
        for (text, name) in
            [("timeout_ms=0", "timeout_ms"), ("arg=a%00", "arg"), ("verify=quorum:99", "verify")]
        {
            let request = RunRequest { module: Some(Digest::EMPTY), ..query(text).unwrap() };
            let invalid = prepare(&request, None, jiff::Timestamp::now()).unwrap_err();
            let text = format!("{:?}", in_query(invalid));
            assert!(text.contains("InvalidParameter") && text.contains(&format!("Some({name:?})")), "{text}");
        }
    }

    #[test]
    fn what_a_call_does_not_take_is_refused() {
        for wrong in
            ["args=x", "env=x", "verify=most", "verify=quorum:x", "timeout_ms=-1", "durable=1", "cache=no"]
        {
            assert_eq!(query(wrong).unwrap_err().code(), ProblemCode::InvalidParameter, "{wrong}");
        }
    }
}
