//! `/v1/workers`: who works, and taking one out of service. Changing anything needs the scope `admin`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::extract::{Admin, JsonBody, Named, Params, Reader};
use super::lists::{self, ListParams};
use super::modules::why;
use super::problem::ApiError;
use super::views;
use crate::coordinator::service::{Caller, Service};
use crate::id::WorkerId;
use crate::protocol::api::{EvidencePage, Page, QuarantineRequest, Worker, WorkerDetail, WorkerPage};

/// List workers
///
/// All that are enrolled, on one page: also those that are not connected.
#[utoipa::path(
    get, path = "/v1/workers", tag = "workers",
    responses((status = 200, description = "the workers", body = WorkerPage))
)]
pub async fn list_workers(
    Reader(caller): Reader,
    State(service): State<Arc<Service>>,
) -> Result<Json<WorkerPage>, ApiError> {
    let workers = service.workers(&caller).await?;
    let now = service.now();
    let items =
        workers.iter().map(|(row, view)| views::worker(row, view.as_ref(), now, service.classes())).collect();
    Ok(Json(Page { items, next: None }))
}

/// Read a worker
///
/// With the attempts that it holds, and the newest of what was seen of it.
#[utoipa::path(
    get, path = "/v1/workers/{id}", tag = "workers", params(("id" = WorkerId, Path)),
    responses((status = 200, description = "the worker", body = WorkerDetail))
)]
pub async fn get_worker(
    Reader(caller): Reader,
    State(service): State<Arc<Service>>,
    Named(id): Named<WorkerId>,
) -> Result<Json<WorkerDetail>, ApiError> {
    let report = service.worker_report(&caller, id).await?;
    Ok(Json(views::worker_detail(&report, service.classes())))
}

/// List what was seen of a worker
///
/// Dissents, faults and confirmations, the newest first. An operator's retention forgets old ones: see `retention` of `GET /v1/info`.
#[utoipa::path(
    get, path = "/v1/workers/{id}/evidence", tag = "workers", params(("id" = WorkerId, Path), ListParams),
    responses((status = 200, description = "a page", body = EvidencePage))
)]
pub async fn worker_evidence(
    Reader(caller): Reader,
    State(service): State<Arc<Service>>,
    Named(id): Named<WorkerId>,
    Params(params): Params<ListParams>,
) -> Result<Json<EvidencePage>, ApiError> {
    let (cursor, limit) = (params.cursor()?, params.limit()?);
    let evidence = service.evidence(&caller, id, cursor, limit + 1).await?;
    let page = lists::page(evidence, limit, |(number, _)| number.to_string());
    Ok(Json(lists::map(page, |(number, seen)| views::evidence(number, &seen))))
}

async fn find(service: &Service, caller: &Caller, id: WorkerId) -> Result<Json<Worker>, ApiError> {
    let workers = service.workers(caller).await?;
    let found = workers.iter().find(|(row, _)| row.id == id);
    let (row, view) = found.ok_or_else(|| ApiError::not_found("worker", &id.to_string()))?;
    Ok(Json(views::worker(row, view.as_ref(), service.now(), service.classes())))
}

/// Drain a worker
///
/// It gets no new work and finishes what it holds.
#[utoipa::path(
    post, path = "/v1/workers/{id}/drain", tag = "workers", params(("id" = WorkerId, Path)),
    responses((status = 200, description = "the worker", body = Worker))
)]
pub async fn drain_worker(
    Admin(caller): Admin,
    State(service): State<Arc<Service>>,
    Named(id): Named<WorkerId>,
) -> Result<Json<Worker>, ApiError> {
    service.drain_worker(&caller, id).await?;
    find(&service, &caller, id).await
}

/// Quarantine a worker
///
/// It gets nothing and its votes count for nothing until it is readmitted.
#[utoipa::path(
    post, path = "/v1/workers/{id}/quarantine", tag = "workers", params(("id" = WorkerId, Path)),
    request_body = QuarantineRequest,
    responses((status = 200, description = "the worker", body = Worker))
)]
pub async fn quarantine_worker(
    Admin(caller): Admin,
    State(service): State<Arc<Service>>,
    Named(id): Named<WorkerId>,
    JsonBody(request): JsonBody<QuarantineRequest>,
) -> Result<Json<Worker>, ApiError> {
    service.quarantine_worker(&caller, id, why(request)?).await?;
    find(&service, &caller, id).await
}

/// Readmit a worker
///
/// After a drain or a quarantine.
#[utoipa::path(
    post, path = "/v1/workers/{id}/readmit", tag = "workers", params(("id" = WorkerId, Path)),
    responses((status = 200, description = "the worker", body = Worker))
)]
pub async fn readmit_worker(
    Admin(caller): Admin,
    State(service): State<Arc<Service>>,
    Named(id): Named<WorkerId>,
) -> Result<Json<Worker>, ApiError> {
    service.readmit_worker(&caller, id).await?;
    find(&service, &caller, id).await
}

/// Forget a worker
///
/// One that is not connected, and will not come back. If it does, it enrols anew, under another number.
#[utoipa::path(
    delete, path = "/v1/workers/{id}", tag = "workers", params(("id" = WorkerId, Path)),
    responses((status = 204, description = "it is forgotten"))
)]
pub async fn forget_worker(
    Admin(caller): Admin,
    State(service): State<Arc<Service>>,
    Named(id): Named<WorkerId>,
) -> Result<StatusCode, ApiError> {
    service.forget_worker(&caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
