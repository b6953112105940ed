//! Calls about many runs at once. Each run is done for itself: one that cannot be is a problem among the answers.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use futures_util::{StreamExt as _, stream};

use super::extract::{JsonBody, Submitter};
use super::problem::ApiError;
use super::views;
use crate::coordinator::service::{RunDetail, Service, SubmitAnswer};
use crate::id::RunId;
use crate::protocol::api::{BulkItem, BulkPage, BulkRequest, Page, ProblemCode};

/// Runs that one call may name.
pub const BULK_RUNS_MAX: usize = 500;
/// Runs of one call that are worked on at once: enough to share the store's commits.
const AT_ONCE: usize = 64;

/// Cancel several runs
///
/// As `POST /v1/runs/{id}/cancel`, once for each. The answer has one item for each run that was named, in the same order,
/// when all of them are final.
#[utoipa::path(
    post, path = "/v1/runs/cancel", tag = "runs", request_body = BulkRequest,
    responses((status = 200, description = "how it went with each", body = BulkPage))
)]
pub async fn cancel_runs(
    Submitter(caller): Submitter,
    State(service): State<Arc<Service>>,
    JsonBody(request): JsonBody<BulkRequest>,
) -> Result<Json<BulkPage>, ApiError> {
    let ids = checked(request)?;
    let cancel = |id| {
        let (service, caller) = (&service, &caller);
        async move { item(id, service.cancel(caller, id).await.map_err(ApiError::from)) }
    };
    Ok(Json(Page { items: stream::iter(ids).map(cancel).buffered(AT_ONCE).collect().await, next: None }))
}

/// Submit several runs again
///
/// As `POST /v1/runs/{id}/rerun`, once for each. The answer has one item for each run that was named, in the same order,
/// when all of the new ones are acknowledged.
#[utoipa::path(
    post, path = "/v1/runs/rerun", tag = "runs", request_body = BulkRequest,
    responses((status = 200, description = "how it went with each", body = BulkPage))
)]
pub async fn rerun_runs(
    Submitter(caller): Submitter,
    State(service): State<Arc<Service>>,
    JsonBody(request): JsonBody<BulkRequest>,
) -> Result<Json<BulkPage>, ApiError> {
    let ids = checked(request)?;
    let rerun = |id| {
        let (service, caller) = (&service, &caller);
        async move {
            let answer = service.rerun(caller, id, None).await.map_err(ApiError::from);
            let detail = answer.map(|answer| match answer {
                SubmitAnswer::Accepted(detail) | SubmitAnswer::Existing(detail) => detail,
            });
            item(id, detail)
        }
    };
    Ok(Json(Page { items: stream::iter(ids).map(rerun).buffered(AT_ONCE).collect().await, next: None }))
}

fn item(id: RunId, answer: Result<Arc<RunDetail>, ApiError>) -> BulkItem {
    match answer {
        Ok(detail) => BulkItem { id, ok: true, run: Some(views::summary(&detail.run)), problem: None },
        Err(error) => BulkItem { id, ok: false, run: None, problem: Some(error.into_problem()) },
    }
}

fn checked(request: BulkRequest) -> Result<Vec<RunId>, ApiError> {
    let refuse = |why: String| Err(ApiError::new(ProblemCode::InvalidField, why).at("/ids"));
    let distinct: BTreeSet<_> = request.ids.iter().collect();
    if request.ids.is_empty() || request.ids.len() > BULK_RUNS_MAX {
        return refuse(format!("name 1 to {BULK_RUNS_MAX} runs; there are {}", request.ids.len()));
    }
    if distinct.len() < request.ids.len() {
        return refuse("name each run once".to_owned());
    }
    Ok(request.ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_names_some_runs_and_each_once() {
        let request = |ids: Vec<u128>| BulkRequest { ids: ids.into_iter().map(RunId).collect() };
        assert_eq!(checked(request(vec![2, 1])).unwrap(), [RunId(2), RunId(1)]);
        assert_eq!(checked(request((0..500).collect())).unwrap().len(), 500);
        for wrong in [vec![], vec![1, 1], (0..501).collect()] {
            assert_eq!(checked(request(wrong)).unwrap_err().code(), ProblemCode::InvalidField);
        }
    }
}
