//! `/v1/modules`: upload, analysis, content, quarantine. Calling one is in `call.rs`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use utoipa::IntoParams;

use super::content::Content;
use super::extract::{Admin, BlobReader, JsonBody, Named, Params, RawBody, Reader, Submitter, pieces};
use super::lists::{self, ListParams};
use super::openapi::Binary;
use super::problem::ApiError;
use super::views;
use crate::coordinator::service::{Caller, Service};
use crate::coordinator::submission::{Invalid, WAIT_MS_MAX, verify};
use crate::digest::Digest;
use crate::protocol::api::{Module, ModulePage, ProblemCode, QuarantineRequest, VerifyRequest};

/// An upload's answer waits so long for the module to be ready: most compile in less.
const UPLOAD_WAIT_MS: u64 = 5_000;
/// Length of a name for people.
const NAME_CHARS_MAX: usize = 200;
/// Length of a reason for people.
const WHY_CHARS_MAX: usize = 500;

/// Parameters of an upload.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UploadParams {
    /// A name for people; 1 to 200 characters.
    name: Option<String>,
    /// How long the answer waits for the module to be compiled, in milliseconds, up to 300000; 5000 by default.
    wait_ms: Option<u64>,
}

/// Upload a module
///
/// The body is the raw wasm, streamed and hashed on the way. It is validated and analysed before the answer; a
/// module that can never run here is refused with `module_refused` and a stable `refusal` code.
#[utoipa::path(
    post, path = "/v1/modules", tag = "modules", params(UploadParams),
    request_body(content = inline(Binary), content_type = "application/wasm"),
    responses(
        (status = 201, description = "stored and analysed", body = Module),
        (status = 200, description = "it was there", body = Module),
    )
)]
pub async fn post_module(
    Submitter(caller): Submitter,
    State(service): State<Arc<Service>>,
    Params(params): Params<UploadParams>,
    RawBody(body): RawBody,
) -> Result<Response, ApiError> {
    upload(&service, &caller, body, None, params).await
}

/// Upload a module whose digest is known
///
/// Refused with `digest_mismatch` when the bytes hash to something else.
#[utoipa::path(
    put, path = "/v1/modules/{digest}", tag = "modules", params(("digest" = Digest, Path), UploadParams),
    request_body(content = inline(Binary), content_type = "application/wasm"),
    responses(
        (status = 201, description = "stored and analysed", body = Module),
        (status = 200, description = "it was there", body = Module),
    )
)]
pub async fn put_module(
    Submitter(caller): Submitter,
    State(service): State<Arc<Service>>,
    Named(digest): Named<Digest>,
    Params(params): Params<UploadParams>,
    RawBody(body): RawBody,
) -> Result<Response, ApiError> {
    upload(&service, &caller, body, Some(digest), params).await
}

async fn upload(
    service: &Service,
    caller: &Caller,
    body: Body,
    expected: Option<Digest>,
    params: UploadParams,
) -> Result<Response, ApiError> {
    let wait_ms = params.wait_ms.unwrap_or(UPLOAD_WAIT_MS);
    if wait_ms > WAIT_MS_MAX {
        let detail = format!("{wait_ms} is out of range: it must be from 0 to {WAIT_MS_MAX}");
        return Err(ApiError::parameter("wait_ms", detail));
    }
    if let Some(name) = &params.name
        && !words_fit(name, NAME_CHARS_MAX)
    {
        let detail = format!("a name has 1 to {NAME_CHARS_MAX} characters and no control characters");
        return Err(ApiError::parameter("name", detail));
    }
    let wait = Duration::from_millis(wait_ms);
    let (module, was_there) =
        service.upload_module(caller, pieces(body), expected, params.name, wait).await?;
    let status = if was_there { StatusCode::OK } else { StatusCode::CREATED };
    let location = [(header::LOCATION, format!("/v1/modules/{}", module.digest))];
    Ok((status, location, Json(views::module(&module))).into_response())
}

/// Whether a text for people is short, not empty and without control characters.
pub fn words_fit(text: &str, chars_max: usize) -> bool {
    !text.trim().is_empty() && text.chars().count() <= chars_max && !text.contains(char::is_control)
}

/// List modules
///
/// Newest first. An `analysis` of more than 64 KiB comes without its imports and exports (empty lists): read that module
/// for them.
#[utoipa::path(
    get, path = "/v1/modules", tag = "modules", params(ListParams),
    responses((status = 200, description = "a page", body = ModulePage))
)]
pub async fn list_modules(
    Reader(caller): Reader,
    State(service): State<Arc<Service>>,
    Params(params): Params<ListParams>,
) -> Result<Json<ModulePage>, ApiError> {
    let (cursor, limit) = (params.cursor()?, params.limit()?);
    let modules = service.modules(&caller, cursor, limit + 1).await?;
    let page = lists::page(modules, limit, |module| module.digest.to_string());
    Ok(Json(lists::map(page, |module| views::module(&module))))
}

/// Read a module
#[utoipa::path(
    get, path = "/v1/modules/{digest}", tag = "modules", params(("digest" = Digest, Path)),
    responses((status = 200, description = "the module", body = Module))
)]
pub async fn get_module(
    Reader(caller): Reader,
    State(service): State<Arc<Service>>,
    Named(digest): Named<Digest>,
) -> Result<Json<Module>, ApiError> {
    let module = service.module(&caller, digest).await?;
    Ok(Json(views::module(&module)))
}

/// Read a module's bytes
///
/// One range may be asked for. HEAD answers the size only.
#[utoipa::path(
    get, path = "/v1/modules/{digest}/content", tag = "modules",
    params(("digest" = Digest, Path), ("range" = Option<String>, Header, description = "`bytes=FIRST-LAST`")),
    responses(
        (status = 200, description = "the wasm", body = inline(Binary), content_type = "application/wasm"),
        (status = 206, description = "the range", body = inline(Binary), content_type = "application/wasm"),
        (status = 304, description = "not changed: nothing ever changes under a digest"),
    )
)]
pub async fn get_content(
    BlobReader(caller): BlobReader,
    State(service): State<Arc<Service>>,
    Named(digest): Named<Digest>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let module = service.module(&caller, digest).await?;
    let name = format!("{}.wasm", digest.short());
    let media_type = "application/wasm";
    let content = Content {
        digest,
        size: module.size,
        media_type,
        file_name: Some(&name),
        immutable: true,
        at_hand: None,
    };
    content.respond(&service, &caller, &method, &headers).await
}

/// Delete a module
///
/// Refused with `module_in_use` while a run of it has not ended. Needs the scope `admin`.
#[utoipa::path(
    delete, path = "/v1/modules/{digest}", tag = "modules", params(("digest" = Digest, Path)),
    responses((status = 204, description = "it is gone"))
)]
pub async fn delete_module(
    Admin(caller): Admin,
    State(service): State<Arc<Service>>,
    Named(digest): Named<Digest>,
) -> Result<StatusCode, ApiError> {
    service.delete_module(&caller, digest).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Take a module out of service
///
/// New runs of it are refused with `module_quarantined`. Needs the scope `admin`.
#[utoipa::path(
    post, path = "/v1/modules/{digest}/quarantine", tag = "modules", params(("digest" = Digest, Path)),
    request_body = QuarantineRequest,
    responses((status = 200, description = "the module", body = Module))
)]
pub async fn quarantine_module(
    Admin(caller): Admin,
    State(service): State<Arc<Service>>,
    Named(digest): Named<Digest>,
    JsonBody(request): JsonBody<QuarantineRequest>,
) -> Result<Json<Module>, ApiError> {
    let module = service.quarantine_module(&caller, digest, why(request)?).await?;
    Ok(Json(views::module(&module)))
}

/// Say how a module's runs are verified
///
/// Those that ask for nothing else. Needs the scope `admin`.
#[utoipa::path(
    put, path = "/v1/modules/{digest}/verify", tag = "modules", params(("digest" = Digest, Path)),
    request_body = VerifyRequest,
    responses((status = 200, description = "the module", body = Module))
)]
pub async fn put_verify(
    Admin(caller): Admin,
    State(service): State<Arc<Service>>,
    Named(digest): Named<Digest>,
    JsonBody(request): JsonBody<VerifyRequest>,
) -> Result<Json<Module>, ApiError> {
    let verify = verify(&request).map_err(|invalid| {
        // the body is what a run has in `verify`
        let pointer = invalid.pointer.trim_start_matches("/verify").to_owned();
        Invalid { pointer, ..invalid }
    })?;
    let module = service.set_module_verify(&caller, digest, Some(verify)).await?;
    Ok(Json(views::module(&module)))
}

/// Leave it to the pool how a module's runs are verified
///
/// Needs the scope `admin`.
#[utoipa::path(
    delete, path = "/v1/modules/{digest}/verify", tag = "modules", params(("digest" = Digest, Path)),
    responses((status = 200, description = "the module", body = Module))
)]
pub async fn delete_verify(
    Admin(caller): Admin,
    State(service): State<Arc<Service>>,
    Named(digest): Named<Digest>,
) -> Result<Json<Module>, ApiError> {
    let module = service.set_module_verify(&caller, digest, None).await?;
    Ok(Json(views::module(&module)))
}

/// The checked reason of a quarantine.
pub fn why(request: QuarantineRequest) -> Result<String, ApiError> {
    if words_fit(&request.why, WHY_CHARS_MAX) {
        return Ok(request.why);
    }
    let detail = format!("say why in 1 to {WHY_CHARS_MAX} characters, without control characters");
    Err(ApiError::new(ProblemCode::InvalidField, detail).at("/why"))
}

/// Put a module back into service
///
/// Needs the scope `admin`.
#[utoipa::path(
    post, path = "/v1/modules/{digest}/readmit", tag = "modules", params(("digest" = Digest, Path)),
    responses((status = 200, description = "the module", body = Module))
)]
pub async fn readmit_module(
    Admin(caller): Admin,
    State(service): State<Arc<Service>>,
    Named(digest): Named<Digest>,
) -> Result<Json<Module>, ApiError> {
    let module = service.readmit_module(&caller, digest).await?;
    Ok(Json(views::module(&module)))
}
