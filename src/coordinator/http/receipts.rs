//! Receipts, and the public keys of those who sign them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};

use super::extract::{Admin, Named, Params, Reader};
use super::problem::ApiError;
use super::repairs::RevisionParams;
use super::views;
use crate::coordinator::keys::PublishedKey;
use crate::coordinator::service::Service;
use crate::id::RunId;
use crate::protocol::api::{KeyPage, Page, Receipt};

/// Read a run's receipt
///
/// The signed certificate of a final result, which anybody can check offline (`lockstep verify`): a DSSE envelope around an
/// in-toto statement. It is signed when it is asked for; every byte of it counts. There is none (`no_receipt`) of a run that
/// has not ended, has no result, was submitted with `durable: false`, or ended before receipts were kept.
#[utoipa::path(
    get, path = "/v1/runs/{id}/receipt", tag = "runs", params(("id" = RunId, Path), RevisionParams),
    responses((status = 200, description = "the receipt", body = Receipt))
)]
pub async fn get_receipt(
    Reader(caller): Reader,
    State(service): State<Arc<Service>>,
    Named(id): Named<RunId>,
    Params(params): Params<RevisionParams>,
) -> Result<Response, ApiError> {
    let receipt = service.receipt(&caller, id, params.revision).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], receipt).into_response())
}

/// List the coordinator's public keys
///
/// Those that receipts are signed with, the newest first, with the time in which each signed: old ones stay, so that old
/// receipts can be checked. Needs no token.
#[utoipa::path(
    get, path = "/v1/keys", tag = "pool", security(()),
    responses((status = 200, description = "the keys, on one page", body = KeyPage))
)]
pub async fn list_keys(State(service): State<Arc<Service>>) -> Json<KeyPage> {
    Json(page(&service.keys()))
}

/// Replace the coordinator's key
///
/// Receipts are signed with a new one from now on; those of before stay valid. Needs the scope `admin`.
#[utoipa::path(
    post, path = "/v1/keys/rotate", tag = "pool",
    responses((status = 200, description = "the keys, the new one first", body = KeyPage))
)]
pub async fn rotate_key(
    Admin(caller): Admin,
    State(service): State<Arc<Service>>,
) -> Result<Json<KeyPage>, ApiError> {
    Ok(Json(page(&service.rotate_key(&caller).await?)))
}

fn page(keys: &[PublishedKey]) -> KeyPage {
    Page { items: keys.iter().map(views::key).collect(), next: None }
}
