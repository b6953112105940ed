//! Callbacks: how those of a run went, and what they are signed with.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use utoipa::IntoParams;

use super::extract::{Admin, Named, Params, Reader, Submitter, idempotency_key};
use super::problem::ApiError;
use super::views;
use crate::coordinator::service::{Delivery, Service};
use crate::coordinator::submission::idempotency_key_checked;
use crate::id::RunId;
use crate::protocol::api::{CallbackSecret, DeliveryPage, Page};

fn page(deliveries: &[Delivery]) -> Json<DeliveryPage> {
    Json(Page { items: deliveries.iter().map(views::delivery).collect(), next: None })
}

/// List a run's callbacks
///
/// A delivery for each revision that became final, by revision, on one page; none of a run without a `callback`, or one that
/// has not ended.
#[utoipa::path(
    get, path = "/v1/runs/{id}/callbacks", tag = "runs", params(("id" = RunId, Path)),
    responses((status = 200, description = "the deliveries", body = DeliveryPage))
)]
pub async fn list_callbacks(
    Reader(caller): Reader,
    State(service): State<Arc<Service>>,
    Named(id): Named<RunId>,
) -> Result<Json<DeliveryPage>, ApiError> {
    Ok(page(&service.callbacks_of(&caller, id).await?))
}

/// Which delivery.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RedeliverParams {
    /// The revision that is delivered again; the newest by default.
    revision: Option<u32>,
}

/// Deliver a callback again
///
/// However it went before: its tries and its time count anew. The receiver knows it by the same `webhook-id`.
#[utoipa::path(
    post, path = "/v1/runs/{id}/callbacks/redeliver", tag = "runs",
    params(("id" = RunId, Path), RedeliverParams),
    responses((status = 202, description = "the deliveries; it is on its way", body = DeliveryPage))
)]
pub async fn redeliver_callback(
    Submitter(caller): Submitter,
    State(service): State<Arc<Service>>,
    Named(id): Named<RunId>,
    Params(params): Params<RedeliverParams>,
) -> Result<(StatusCode, Json<DeliveryPage>), ApiError> {
    let deliveries = service.redeliver(&caller, id, params.revision).await?;
    Ok((StatusCode::ACCEPTED, page(&deliveries)))
}

/// Read the secret of callbacks
///
/// With it receivers check the header `webhook-signature`. Needs the scope `admin`.
#[utoipa::path(
    get, path = "/v1/callbacks/secret", tag = "pool",
    responses((status = 200, description = "the secret", body = CallbackSecret))
)]
pub async fn get_secret(Admin(caller): Admin, State(service): State<Arc<Service>>) -> Json<CallbackSecret> {
    Json(views::callback_secret(&service.callback_secrets(&caller), service.now()))
}

/// Replace the secret of callbacks
///
/// For a day callbacks carry a signature of the old one too, so that receivers can take up the new one meanwhile; one that was
/// replaced before signs no more. With an Idempotency-Key a request that is sent again (its answer was lost) replaces nothing
/// again: without one, the secret of the first answer would be the old one then. Needs the scope `admin`.
#[utoipa::path(
    post, path = "/v1/callbacks/secret/rotate", tag = "pool",
    params(("idempotency-key" = Option<String>, Header, description = "1 to 255 visible ASCII characters")),
    responses((status = 200, description = "the new secret", body = CallbackSecret))
)]
pub async fn rotate_secret(
    Admin(caller): Admin,
    State(service): State<Arc<Service>>,
    headers: HeaderMap,
) -> Result<Json<CallbackSecret>, ApiError> {
    let key = idempotency_key(&headers)?.map(idempotency_key_checked).transpose()?;
    let secrets = service.rotate_callback_secret(&caller, key).await?;
    Ok(Json(views::callback_secret(&secrets, service.now())))
}
