//! The one shape of every error: problem details (RFC 9457), and the one mapping from the service's errors.
//!
//! Invariants: every error of this API has a code of the closed list [`ProblemCode`]; its detail says what to do; what went
//! wrong inside is logged once, here, under the request id, and never shown.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::observe::request_id;
use crate::coordinator::service::ServiceError;
use crate::coordinator::submission::Invalid;
use crate::digest::Digest;
use crate::protocol::api::{Problem, ProblemCode, Run};
use crate::receipt::fraction;
use crate::spec::Verify;

/// Seconds after which a refused submission may be tried again: queues drain in bursts, so one second is worth a try.
const RETRY_AFTER_S: &str = "1";

/// An error on its way to the caller.
#[derive(Debug)]
pub struct ApiError(Box<Parts>);

#[derive(Debug)]
struct Parts {
    code: ProblemCode,
    detail: String,
    pointer: Option<String>,
    digest: Option<Digest>,
    refusal: Option<String>,
    run: Option<Box<Run>>,
    /// Size of the content that a range lies outside of.
    content_size: Option<u64>,
    /// What happened inside: for the log only.
    cause: Option<String>,
}

impl ApiError {
    /// An error of that code; `detail` says what happened and what to do.
    pub fn new(code: ProblemCode, detail: impl Into<String>) -> ApiError {
        ApiError(Box::new(Parts {
            code,
            detail: detail.into(),
            pointer: None,
            digest: None,
            refusal: None,
            run: None,
            content_size: None,
            cause: None,
        }))
    }

    /// A query parameter or header that is not valid.
    pub fn parameter(name: &str, detail: impl Into<String>) -> ApiError {
        ApiError::new(ProblemCode::InvalidParameter, detail).at(name)
    }

    /// There is no such thing, or it belongs to another workspace: callers cannot tell which.
    pub fn not_found(what: &str, id: &str) -> ApiError {
        ApiError::new(ProblemCode::NotFound, format!("there is no {what} `{id}` in this workspace"))
    }

    /// Our own failure; `cause` goes to the log only.
    pub fn internal(cause: impl Into<String>) -> ApiError {
        let detail = "the coordinator could not do this; its log has the reason under this request id";
        let mut error = ApiError::new(ProblemCode::Internal, detail);
        error.0.cause = Some(cause.into());
        error
    }

    /// A range outside of content of this size.
    pub fn range(size: u64) -> ApiError {
        let detail = format!("the content has {size} bytes: ask for a range within them");
        let mut error = ApiError::new(ProblemCode::RangeNotSatisfiable, detail);
        error.0.content_size = Some(size);
        error
    }

    /// Names the field or parameter.
    #[must_use]
    pub fn at(mut self, pointer: impl Into<String>) -> ApiError {
        self.0.pointer = Some(pointer.into());
        self
    }

    /// Names the missing blob or module.
    #[must_use]
    pub fn about(mut self, digest: Digest) -> ApiError {
        self.0.digest = Some(digest);
        self
    }

    /// Carries the run that it is about.
    #[must_use]
    pub fn with_run(mut self, run: Run) -> ApiError {
        self.0.run = Some(Box::new(run));
        self
    }

    fn refused(code: String, text: &str) -> ApiError {
        let detail = format!("the module cannot run here: {text}");
        let mut error = ApiError::new(ProblemCode::ModuleRefused, detail);
        error.0.refusal = Some(code);
        error
    }

    /// What programs tell it apart by.
    #[cfg(test)]
    pub fn code(&self) -> ProblemCode {
        self.0.code
    }
}

impl From<Invalid> for ApiError {
    fn from(invalid: Invalid) -> ApiError {
        ApiError::new(invalid.code, invalid.detail).at(invalid.pointer)
    }
}

impl From<ServiceError> for ApiError {
    fn from(error: ServiceError) -> ApiError {
        use ProblemCode as Code;
        match error {
            ServiceError::NotFound { what, id } => ApiError::not_found(what, &id),
            ServiceError::MissingBlob(digest) => {
                let detail =
                    format!("the blob `{digest}` is not there: upload it with PUT /v1/blobs/{digest}");
                ApiError::new(Code::MissingBlob, detail).about(digest)
            }
            ServiceError::ModuleNotThere(digest) => {
                let detail = format!("the module `{digest}` is not there: upload it with POST /v1/modules");
                ApiError::new(Code::MissingModule, detail).about(digest)
            }
            ServiceError::ModuleRefused { code, text } => ApiError::refused(code, &text),
            ServiceError::ModuleQuarantined(why) => {
                let detail = format!("the module is quarantined ({why}); an admin can readmit it");
                ApiError::new(Code::ModuleQuarantined, detail)
            }
            ServiceError::ModuleInUse => ApiError::new(
                Code::ModuleInUse,
                "a run of this module has not ended: cancel it or wait for its end",
            ),
            ServiceError::BadEntry(why) => ApiError::new(Code::BadEntry, why).at("/entry"),
            ServiceError::NotKept(why) => ApiError::new(Code::Gone, why),
            ServiceError::NotAsked => ApiError::new(
                Code::Forbidden,
                "a worker puts only the outputs that it was asked for: they are asked for when a vote decides",
            ),
            ServiceError::NoReceipt(why) => ApiError::new(Code::NoReceipt, why),
            ServiceError::TooManyKeys => ApiError::new(
                Code::TooManyKeys,
                "the coordinator has had as many keys as it publishes: go on with this one",
            ),
            ServiceError::TooManyStreams { open } => {
                let detail = format!("{open} event streams are open: close one, or try again later");
                ApiError::new(Code::Unavailable, detail)
            }
            ServiceError::QueueFull { queued } => {
                let detail =
                    format!("{queued} runs are queued or running; nothing was accepted, try again later");
                ApiError::new(Code::QueueFull, detail)
            }
            ServiceError::NoWorker { lacks } => {
                let detail = format!("no worker {lacks}: start one, or ask for less");
                ApiError::new(Code::TooFewWorkers, detail)
            }
            ServiceError::TooFewWorkers { wanted, there } => {
                let detail = format!(
                    "a quorum of {wanted} needs {wanted} workers of one class, and there are {there}: ask for a \
                     smaller `n`, start more workers, or ask for `det-1-portable` if those that are there have different CPUs"
                );
                ApiError::new(Code::TooFewWorkers, detail).at("/verify/n")
            }
            ServiceError::Undecidable { verify, there, domains, error_ppb } => {
                let detail = undecidable(verify, there, domains, error_ppb);
                ApiError::new(Code::TooFewWorkers, detail).at("/verify")
            }
            ServiceError::WorkerConnected => ApiError::new(
                Code::WorkerConnected,
                "the worker is connected, and would only enrol again: stop it first, or quarantine it",
            ),
            ServiceError::WorkerNotConnected => ApiError::new(
                Code::WorkerNotConnected,
                "the worker is not connected: quarantine it to refuse it when it comes back, or forget it",
            ),
            ServiceError::Duplicate { .. } => ApiError::new(
                Code::IdempotencyMismatch,
                "this Idempotency-Key came with another request before: use a new key for a new run",
            )
            .at("Idempotency-Key"),
            ServiceError::DigestMismatch { expected, actual } => {
                let detail = format!("the bytes hash to `{actual}`, not to `{expected}`; nothing was stored");
                ApiError::new(Code::DigestMismatch, detail).about(actual)
            }
            ServiceError::TooLarge { max } => {
                ApiError::new(Code::TooLarge, format!("the body may have {max} bytes; nothing was stored"))
            }
            ServiceError::BodyBroken(why) => {
                let detail =
                    format!("the body ended or broke before it was whole ({why}); nothing was stored");
                ApiError::new(Code::InvalidBody, detail)
            }
            ServiceError::CallbackRefused(why) => {
                ApiError::new(Code::CallbackRefused, why).at("/callback/url")
            }
            ServiceError::CallbacksFull { pending, of } => {
                let detail = format!(
                    "{pending} callbacks of {of} wait to be delivered; nothing was accepted, try again later, or without \
                     `callback`"
                );
                ApiError::new(Code::QueueFull, detail)
            }
            ServiceError::DiskFull => {
                ApiError::new(Code::DiskFull, "the coordinator's disk is full; nothing was accepted")
            }
            ServiceError::HoldsUnstored => ApiError::new(
                Code::DiskFull,
                "it holds now, and is stored as soon as the coordinator's disk has room; until then a restart forgets it",
            ),
            ServiceError::Exhausted(why) => ApiError::new(
                Code::Unavailable,
                format!(
                    "the coordinator has no descriptors or memory left for this ({why}): try again in a moment"
                ),
            ),
            ServiceError::AnswerGone => ApiError::new(
                Code::Unavailable,
                "the cached result that another request with this Idempotency-Key was to get went at this moment: send it \
                 again",
            ),
            ServiceError::TakenOver => ApiError::new(
                Code::Unavailable,
                "another coordinator has taken the run over: read it again in a moment",
            ),
            ServiceError::ShuttingDown => {
                ApiError::new(Code::Unavailable, "the coordinator is shutting down: try again")
            }
            ServiceError::Internal(cause) => ApiError::internal(cause),
        }
    }
}

/// What is missing where votes are weighed, and what to do about it.
fn undecidable(verify: Verify, there: usize, domains: usize, error_ppb: u64) -> String {
    if there < 2 {
        return format!(
            "`{verify}` compares what several workers compute, and {there} of one class could execute this: start \
             another one, ask for `det-1-portable` if those that are there have different CPUs, or ask for `once`, which \
             compares nothing (`lockstep run --once`, `lockstep serve --verify once` for all runs)"
        );
    }
    let allowed = fraction(verify.epsilon_ppb().unwrap_or_default());
    let left = fraction(error_ppb);
    format!(
        "`{verify}` allows an error of {allowed}, and the {there} workers of one class that could execute this, which \
         count as {domains}, leave {left} although all of them agree: start more workers (those of one foreign trust \
         domain count once where domains meet; your own machines' tokens need neither --domain nor --foreign), add an \
         arbiter (`lockstep serve --arbiters 1`), or ask for `quorum:2` or `once`"
    )
}

impl ApiError {
    /// The error as callers read it; what happened inside is logged here.
    pub fn into_problem(self) -> Problem {
        let parts = *self.0;
        let request_id = request_id();
        if let Some(cause) = &parts.cause {
            tracing::error!(request.id = %request_id, cause = %cause, "a request failed");
        }
        let code = parts.code;
        Problem {
            kind: format!("urn:lockstep:problem:{}", code.name()),
            title: code.title().to_owned(),
            status: code.status(),
            code,
            detail: parts.detail,
            pointer: parts.pointer,
            digest: parts.digest,
            refusal: parts.refusal,
            run: parts.run,
            request_id,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (code, content_size) = (self.0.code, self.0.content_size);
        let problem = self.into_problem();
        let status = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match code {
            ProblemCode::Unauthorized => {
                headers
                    .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"lockstep\""));
            }
            ProblemCode::QueueFull | ProblemCode::Unavailable => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
            }
            _ => {}
        }
        if let Some(size) = content_size
            && let Ok(value) = HeaderValue::try_from(format!("bytes */{size}"))
        {
            headers.insert(header::CONTENT_RANGE, value);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    async fn rendered(error: ApiError) -> (StatusCode, axum::http::HeaderMap, Problem) {
        let response = error.into_response();
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, headers, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn every_service_error_has_its_status_and_code() {
        let digest = Digest::EMPTY;
        let text = || "why".to_owned();
        let cases = [
            (ServiceError::NotFound { what: "run", id: text() }, 404, "not_found"),
            (ServiceError::MissingBlob(digest), 422, "missing_blob"),
            (ServiceError::ModuleNotThere(digest), 422, "missing_module"),
            (ServiceError::ModuleRefused { code: text(), text: text() }, 422, "module_refused"),
            (ServiceError::ModuleQuarantined(text()), 409, "module_quarantined"),
            (ServiceError::ModuleInUse, 409, "module_in_use"),
            (ServiceError::BadEntry(text()), 422, "bad_entry"),
            (ServiceError::NotKept(text()), 410, "gone"),
            (ServiceError::NotAsked, 403, "forbidden"),
            (ServiceError::NoReceipt(text()), 409, "no_receipt"),
            (ServiceError::TooManyKeys, 409, "too_many_keys"),
            (ServiceError::TooManyStreams { open: 3 }, 503, "unavailable"),
            (ServiceError::QueueFull { queued: 3 }, 429, "queue_full"),
            (ServiceError::TooFewWorkers { wanted: 3, there: 2 }, 409, "too_few_workers"),
            (ServiceError::NoWorker { lacks: text() }, 409, "too_few_workers"),
            (
                ServiceError::Undecidable {
                    verify: Verify::Standard,
                    there: 3,
                    domains: 2,
                    error_ppb: 5_076_143,
                },
                409,
                "too_few_workers",
            ),
            (
                ServiceError::Duplicate { run: crate::id::RunId(1), same_payload: false },
                422,
                "idempotency_mismatch",
            ),
            (ServiceError::DigestMismatch { expected: digest, actual: digest }, 422, "digest_mismatch"),
            (ServiceError::TooLarge { max: 5 }, 413, "too_large"),
            (ServiceError::BodyBroken(text()), 400, "invalid_body"),
            (ServiceError::CallbackRefused(text()), 422, "callback_refused"),
            (ServiceError::CallbacksFull { pending: 9, of: "the pool" }, 429, "queue_full"),
            (ServiceError::DiskFull, 507, "disk_full"),
            (ServiceError::HoldsUnstored, 507, "disk_full"),
            (ServiceError::Exhausted(text()), 503, "unavailable"),
            (ServiceError::AnswerGone, 503, "unavailable"),
            (ServiceError::ShuttingDown, 503, "unavailable"),
            (ServiceError::Internal(text()), 500, "internal"),
        ];
        for (error, status, code) in cases {
            let (there, headers, problem) = rendered(error.into()).await;
            assert_eq!((there.as_u16(), problem.status, problem.code.name()), (status, status, code));
            assert_eq!(problem.kind, format!("urn:lockstep:problem:{code}"));
            assert_eq!(headers[header::CONTENT_TYPE], "application/problem+json");
            assert_eq!(headers.contains_key(header::RETRY_AFTER), matches!(status, 429 | 503), "{code}");
        }
    }

    #[tokio::test]
    async fn what_happened_inside_is_not_shown() {
        let (_, _, problem) =
            rendered(ServiceError::Internal("disk /dev/sda is on fire".into()).into()).await;
        let text = serde_json::to_string(&problem).unwrap();
        assert!(!text.contains("fire"), "{text}");
    }

    #[tokio::test]
    async fn headers_say_how_to_authenticate_and_how_large_the_content_is() {
        let (_, headers, _) = rendered(ApiError::new(ProblemCode::Unauthorized, "no token")).await;
        assert_eq!(headers[header::WWW_AUTHENTICATE], "Bearer realm=\"lockstep\"");
        let (status, headers, _) = rendered(ApiError::range(7)).await;
        assert_eq!(
            (status.as_u16(), &headers[header::CONTENT_RANGE]),
            (416, &HeaderValue::from_static("bytes */7"))
        );
    }
}
