//! Errors: problem details and the closed list of their codes.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Run;
use crate::digest::Digest;

/// Problem details (RFC 9457), the one shape of every error.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `urn:lockstep:problem:` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// The code in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What programs tell errors apart by.
    pub code: ProblemCode,
    /// What happened and what to do about it.
    pub detail: String,
    /// JSON pointer (RFC 6901) of the field of the request body that is at fault; for a query parameter its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// With `missing_blob` and `missing_module`: what has to be uploaded first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// With `module_refused`: the stable code of the refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// With `run_failed`, `run_timed_out` and `run_unfinished`: the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Box<Run>>,
    /// Names the request in the coordinator's log; also in the header `X-Request-Id`.
    pub request_id: String,
}

macro_rules! problem_codes {
    ($($(#[doc = $doc:literal])+ $code:ident = $name:literal, $status:literal, $title:literal;)+) => {
        /// Every code that an error of this API can have. The list only grows.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum ProblemCode {
            $($(#[doc = $doc])+ $code,)+
        }

        impl ProblemCode {
            /// Every code.
            pub const ALL: &'static [ProblemCode] = &[$(ProblemCode::$code),+];

            /// The name that JSON uses.
            pub fn name(self) -> &'static str {
                match self { $(ProblemCode::$code => $name),+ }
            }

            /// The HTTP status that goes with it.
            pub fn status(self) -> u16 {
                match self { $(ProblemCode::$code => $status),+ }
            }

            /// The code in words.
            pub fn title(self) -> &'static str {
                match self { $(ProblemCode::$code => $title),+ }
            }

            /// What it means and what to do, for the OpenAPI document.
            pub fn meaning(self) -> &'static str {
                match self { $(ProblemCode::$code => concat!($($doc),+).trim_ascii_start()),+ }
            }
        }
    };
}

problem_codes! {
    /// The body is no JSON, or it ended or broke in the middle. Send it again, whole.
    InvalidBody = "invalid_body", 400, "The request body cannot be read";
    /// The port speaks TLS, and the request came in plain HTTP. Use `https://`.
    TlsRequired = "tls_required", 400, "This port speaks TLS";
    /// A query parameter or header has no valid form; `pointer` names it.
    InvalidParameter = "invalid_parameter", 400, "A parameter is not valid";
    /// No valid token. Send `Authorization: Bearer TOKEN`.
    Unauthorized = "unauthorized", 401, "A valid token is needed";
    /// The token lacks a scope. Use one that has it.
    Forbidden = "forbidden", 403, "The token does not allow this";
    /// There is no such thing, or not in the token's workspace.
    NotFound = "not_found", 404, "Not found";
    /// The path exists, but not with this method; `Allow` names those that do.
    MethodNotAllowed = "method_not_allowed", 405, "The method is not allowed here";
    /// The module is used by a run that has not ended. Cancel the run or wait for its end.
    ModuleInUse = "module_in_use", 409, "The module is in use";
    /// The module is out of service. An admin can readmit it.
    ModuleQuarantined = "module_quarantined", 409, "The module is quarantined";
    /// No worker could run it (labels, memory), or fewer of one class than its quorum has voters. Ask for less, or start workers.
    TooFewWorkers = "too_few_workers", 409, "Too few workers";
    /// Only a worker that is not connected can be forgotten. Stop it first.
    WorkerConnected = "worker_connected", 409, "The worker is connected";
    /// A worker that is not connected holds nothing that it could finish. Quarantine it, or forget it.
    WorkerNotConnected = "worker_not_connected", 409, "The worker is not connected";
    /// A receipt is of a final, durable run with a result whose votes were kept; `detail` says what is missing.
    NoReceipt = "no_receipt", 409, "The run has no receipt";
    /// The coordinator has had as many keys as it publishes.
    TooManyKeys = "too_many_keys", 409, "Too many keys";
    /// It was there and has not been kept: outputs that lost a vote stay for a while, as long as there is room.
    Gone = "gone", 410, "Not kept any longer";
    /// The body is larger than this route takes. Send large inputs as blobs, and refer to them by digest.
    TooLarge = "too_large", 413, "The request body is too large";
    /// The body has the wrong content type. JSON routes take `application/json`.
    UnsupportedMediaType = "unsupported_media_type", 415, "The content type is not supported";
    /// The range lies outside of the content; `Content-Range` tells its size.
    RangeNotSatisfiable = "range_not_satisfiable", 416, "The range cannot be satisfied";
    /// A field is unknown, of the wrong type or out of its range; `pointer` names it.
    InvalidField = "invalid_field", 422, "A field of the request is not valid";
    /// The entry or its arguments do not fit the module; its analysis lists what it exports.
    BadEntry = "bad_entry", 422, "The entry does not fit the module";
    /// The module has not been uploaded; `digest` names it.
    MissingModule = "missing_module", 422, "The module is not there";
    /// An input has not been uploaded; `digest` names it.
    MissingBlob = "missing_blob", 422, "A blob is not there";
    /// The bytes have another digest than the request says. Nothing was stored.
    DigestMismatch = "digest_mismatch", 422, "The bytes do not match the digest";
    /// The callback may not go there: its URL has no valid form, or its address is not public and not allowed.
    CallbackRefused = "callback_refused", 422, "The callback was refused";
    /// The module cannot run here; `refusal` says why.
    ModuleRefused = "module_refused", 422, "The module was refused";
    /// The policy is planned, not there yet; `detail` lists what there is.
    PolicyNotAvailable = "policy_not_available", 422, "The policy is not available yet";
    /// The feature is planned, not there yet.
    NotAvailable = "not_available", 422, "This is not available yet";
    /// The Idempotency-Key belongs to another request. Use a new key.
    IdempotencyMismatch = "idempotency_mismatch", 422, "The idempotency key belongs to another request";
    /// The run ended without success; `run` tells how. A verified failure will fail again.
    RunFailed = "run_failed", 422, "The run failed";
    /// The queue is full; nothing was accepted. Try again after `Retry-After` seconds.
    QueueFull = "queue_full", 429, "The queue is full";
    /// The coordinator failed; its log has the reason under the request id.
    Internal = "internal", 500, "The coordinator failed";
    /// The coordinator is starting, stopping or at its bound of requests. Try again.
    Unavailable = "unavailable", 503, "The coordinator is not available";
    /// The run did not end in the time that the request waits; `run` tells where it stands, and goes on.
    RunUnfinished = "run_unfinished", 504, "The run has not ended yet";
    /// The run failed because its attempts or the run itself took too long; `run` tells how. Raise the bound.
    RunTimedOut = "run_timed_out", 504, "The run took too long";
    /// The disk is full; nothing was accepted.
    DiskFull = "disk_full", 507, "The disk is full";
}
