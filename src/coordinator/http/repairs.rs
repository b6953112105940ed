//! What is verified anew, and the revisions of a run.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::extract::{Named, Reader};
use super::problem::ApiError;
use super::views;
use crate::coordinator::service::Service;
use crate::id::RunId;
use crate::protocol::api::{Page, RepairPage, RevisionPage};

/// Which revision of a final.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RevisionParams {
    /// A revision, from 1; the present one by default.
    pub revision: Option<u32>,
}

/// List what is verified anew
///
/// One item for each worker that was quarantined, on one page, the latest first: how many finals rested on it, and what
/// became of those that would not have been without it. A final that turns out wrong is replaced by its next revision, and
/// so is that of every run which had been answered with it (`dependents`).
#[utoipa::path(
    get, path = "/v1/repairs", tag = "workers",
    responses((status = 200, description = "the repairs", body = RepairPage))
)]
pub async fn list_repairs(
    Reader(caller): Reader,
    State(service): State<Arc<Service>>,
) -> Result<Json<RepairPage>, ApiError> {
    let repairs = service.repairs(&caller).await?;
    Ok(Json(Page { items: repairs.iter().map(views::repair).collect(), next: None }))
}

/// List the revisions of a run
///
/// The first one first, on one page; empty while the run has not ended. `GET /v1/runs/{id}?revision=` reads each with its
/// attempts and explanations, and so do `stdout`, `stderr`, `files`, `receipt` and `diff`.
#[utoipa::path(
    get, path = "/v1/runs/{id}/revisions", tag = "runs", params(("id" = RunId, Path)),
    responses((status = 200, description = "the revisions", body = RevisionPage))
)]
pub async fn list_revisions(
    Reader(caller): Reader,
    State(service): State<Arc<Service>>,
    Named(id): Named<RunId>,
) -> Result<Json<RevisionPage>, ApiError> {
    let revisions = service.revisions(&caller, id).await?;
    Ok(Json(Page { items: revisions.iter().map(views::revision).collect(), next: None }))
}
