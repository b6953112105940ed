//! Calls about many runs at once. Each run is done for itself: one that cannot be is a problem among the answers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use futures_util::{StreamExt as _, stream};
use serde::Deserialize;
use tokio::time::Instant;
use utoipa::IntoParams;

use super::extract::{JsonBody, Params, Submitter};
use super::problem::ApiError;
use super::runs::CANCEL_WAIT;
use super::views;
use crate::coordinator::service::{RunDetail, Service, SubmitAnswer};
use crate::coordinator::submission::WAIT_MS_MAX;
use crate::id::RunId;
use crate::protocol::api::{BulkItem, BulkPage, BulkRequest, Page, ProblemCode};

/// Runs that one call may name.
pub const BULK_RUNS_MAX: usize = 500;
/// Runs of one call that are worked on at once: enough to share the store's commits.
const AT_ONCE: usize = 64;

/// How long a call waits for the ends of its runs.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CancelParams {
    /// How long the answer waits for the ends of the runs to be written, in milliseconds, up to 300000; 10000 by default.
    wait_ms: Option<u64>,
}

impl CancelParams {
    fn until(&self) -> Result<Instant, ApiError> {
        let wait = self.wait_ms.map_or(CANCEL_WAIT, Duration::from_millis);
        if wait > Duration::from_millis(WAIT_MS_MAX) {
            let detail = format!("{} is out of range: it must be from 0 to {WAIT_MS_MAX}", wait.as_millis());
            return Err(ApiError::parameter("wait_ms", detail));
        }
        Ok(Instant::now() + wait)
    }
}

/// Cancel several runs
///
/// As `POST /v1/runs/{id}/cancel`, once for each. The answer has one item for each run that was named, in the same order,
/// when all of them are final or the wait is over. One that is not final then has `pending: true`: it is canceled all the
/// same, as soon as its end can be written.
#[utoipa::path(
    post, path = "/v1/runs/cancel", tag = "runs", request_body = BulkRequest, params(CancelParams),
    responses((status = 200, description = "how it went with each", body = BulkPage))
)]
pub async fn cancel_runs(
    Submitter(caller): Submitter,
    State(service): State<Arc<Service>>,
    Params(params): Params<CancelParams>,
    JsonBody(request): JsonBody<BulkRequest>,
) -> Result<Json<BulkPage>, ApiError> {
    let (ids, until) = (checked(request)?, params.until()?);
    let cancel = |id| {
        let (service, caller) = (&service, &caller);
        async move {
            let answer = service.cancel(caller, id, until).await.map_err(ApiError::from);
            let is_pending = answer.as_ref().is_ok_and(|detail| !detail.run.state.is_final());
            BulkItem { pending: is_pending, ..item(id, answer) }
        }
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
        Ok(detail) => {
            BulkItem { id, ok: true, pending: false, run: Some(views::summary(&detail.run)), problem: None }
        }
        Err(error) => {
            BulkItem { id, ok: false, pending: false, run: None, problem: Some(error.into_problem()) }
        }
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
