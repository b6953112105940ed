//! `/v1/cache`: results that answer equal runs, and withdrawing them. Withdrawing needs the scope `admin`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::extract::{Admin, JsonBody, Reader};
use super::problem::ApiError;
use crate::coordinator::service::{Service, Withdrawal};
use crate::core::Class;
use crate::protocol::api::{CacheView, ProblemCode, WithdrawRequest, Withdrawn};

/// Read the cache's figures
#[utoipa::path(
    get, path = "/v1/cache", tag = "runs",
    responses((status = 200, description = "the figures", body = CacheView))
)]
pub async fn get_cache(Reader(caller): Reader, State(service): State<Arc<Service>>) -> Json<CacheView> {
    let (stats, config) = (service.cache_stats(&caller), service.cache_config());
    Json(CacheView {
        entries: stats.entries,
        bytes: stats.bytes,
        hits: stats.hits,
        misses: stats.misses,
        withdrawn: stats.withdrawn,
        entries_max: config.entries_max as u64,
        bytes_max: config.bytes_max as u64,
        age_ms: config.age_ms,
    })
}

/// Withdraw cached results
///
/// What was computed up to now and meets all that is named answers no run any more. Runs that were answered before stay as
/// they are. What rests on a worker is withdrawn by itself when the worker is quarantined, what a module gave when its
/// trusted executions differ.
#[utoipa::path(
    post, path = "/v1/cache/withdraw", tag = "runs", request_body = WithdrawRequest,
    responses((status = 200, description = "how many results went", body = Withdrawn))
)]
pub async fn withdraw(
    Admin(caller): Admin,
    State(service): State<Arc<Service>>,
    JsonBody(request): JsonBody<WithdrawRequest>,
) -> Result<Json<Withdrawn>, ApiError> {
    let nothing = WithdrawRequest { all: request.all, ..WithdrawRequest::default() } == request;
    if request.all != nothing {
        let why =
            "name at least one of `run`, `worker`, `class`, `module`, `after` and `before`, or `all` alone";
        return Err(ApiError::new(ProblemCode::InvalidField, why.to_owned()).at("/all".to_owned()));
    }
    let WithdrawRequest { run, worker, class, module, after, before, .. } = request;
    let withdrawal = Withdrawal {
        run,
        worker,
        class: class.map(Class),
        module,
        after: after.map(Into::into),
        before: before.map(Into::into),
        ..Withdrawal::everything(service.now())
    };
    let withdrawn = service.withdraw(&caller, withdrawal).await? as u64;
    Ok(Json(Withdrawn { withdrawn }))
}
