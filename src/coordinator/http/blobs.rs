//! `/v1/blobs`: bytes by their digest, streamed in both directions.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use super::content::Content;
use super::extract::{BlobReader, BlobWriter, Named, RawBody, Submitter, pieces};
use super::openapi::Binary;
use super::problem::ApiError;
use crate::coordinator::service::{Caller, Service};
use crate::digest::Digest;
use crate::protocol::api::Blob;

/// Upload bytes
///
/// Streamed and hashed on the way. What nothing refers to within a day may be collected.
#[utoipa::path(
    post, path = "/v1/blobs", tag = "blobs",
    request_body(content = inline(Binary), content_type = "application/octet-stream"),
    responses((status = 201, description = "stored", body = Blob), (status = 200, description = "it was there", body = Blob))
)]
pub async fn post_blob(
    Submitter(caller): Submitter,
    State(service): State<Arc<Service>>,
    RawBody(body): RawBody,
) -> Result<Response, ApiError> {
    store(&service, &caller, body, None).await
}

/// Upload bytes whose digest is known
///
/// Refused with `digest_mismatch` when the bytes hash to something else.
#[utoipa::path(
    put, path = "/v1/blobs/{digest}", tag = "blobs", params(("digest" = Digest, Path)),
    request_body(content = inline(Binary), content_type = "application/octet-stream"),
    responses((status = 201, description = "stored", body = Blob), (status = 200, description = "it was there", body = Blob))
)]
pub async fn put_blob(
    BlobWriter(caller): BlobWriter,
    State(service): State<Arc<Service>>,
    Named(digest): Named<Digest>,
    RawBody(body): RawBody,
) -> Result<Response, ApiError> {
    store(&service, &caller, body, Some(digest)).await
}

async fn store(
    service: &Service,
    caller: &Caller,
    body: Body,
    expected: Option<Digest>,
) -> Result<Response, ApiError> {
    let (digest, size, was_there) = service.put_blob(caller, pieces(body), expected).await?;
    let status = if was_there { StatusCode::OK } else { StatusCode::CREATED };
    let location = [(header::LOCATION, format!("/v1/blobs/{digest}"))];
    Ok((status, location, axum::Json(Blob { digest, size })).into_response())
}

/// Read bytes
///
/// One range may be asked for. HEAD answers the size only.
#[utoipa::path(
    get, path = "/v1/blobs/{digest}", tag = "blobs",
    params(("digest" = Digest, Path), ("range" = Option<String>, Header, description = "`bytes=FIRST-LAST`")),
    responses(
        (status = 200, description = "the bytes", body = inline(Binary), content_type = "application/octet-stream"),
        (status = 206, description = "the range", body = inline(Binary), content_type = "application/octet-stream"),
        (status = 304, description = "not changed: nothing ever changes under a digest"),
    )
)]
pub async fn get_blob(
    BlobReader(caller): BlobReader,
    State(service): State<Arc<Service>>,
    Named(digest): Named<Digest>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let size = service.blob_size(&caller, digest).await?;
    let name = format!("{}.bin", digest.short());
    let media_type = "application/octet-stream";
    let content =
        Content { digest, size, media_type, file_name: Some(&name), immutable: true, at_hand: None };
    content.respond(&service, &caller, &method, &headers).await
}
