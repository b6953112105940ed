//! What is asked about the coordinator itself: information, figures, health.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};

use super::bulk::BULK_RUNS_MAX;
use super::extract::{JSON_BYTES_MAX, Reader};
use super::lists::LIMIT_MAX;
use super::problem::ApiError;
use super::views;
use crate::coordinator::service::{Facts, STREAMS_MAX, Service, name_of_workspace};
use crate::coordinator::submission::WAIT_MS_MAX;
use crate::protocol::api::{Bounds, Info, PoolFigures, ProblemCode, ServerFacts, StoredFigures};
use crate::sandbox::engine_name;
use crate::spec::{Limits, Policy, Profile};

/// Read what this pool is and allows
#[utoipa::path(
    get, path = "/v1/info", tag = "pool",
    responses((status = 200, description = "what it is", body = Info))
)]
pub async fn info(
    Reader(caller): Reader,
    State(service): State<Arc<Service>>,
) -> Result<Json<Info>, ApiError> {
    let (pool, stored) = service.stats().await?;
    let workers = service.workers(&caller).await?;
    let classes: BTreeSet<_> = workers.iter().filter_map(|(_, view)| Some(view.as_ref()?.class.0)).collect();
    Ok(Json(Info {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        workspace: name_of_workspace(caller.workspace),
        scopes: views::scopes(&caller.scopes),
        classes: classes.into_iter().collect(),
        limits_default: Limits::default().into(),
        limits_max: Limits::MAX.into(),
        json_bytes_max: JSON_BYTES_MAX as u64,
        wait_ms_max: WAIT_MS_MAX,
        pool: PoolFigures {
            queued: pool.queued as u64,
            running: pool.running as u64,
            attempts_live: pool.attempts_live as u64,
            workers_active: pool.workers_active as u64,
            workers_suspect: pool.workers_suspect as u64,
            slots: pool.slots.into(),
        },
        stored: StoredFigures {
            runs: stored.runs,
            runs_open: stored.runs_open,
            modules: stored.modules,
            blobs: stored.blobs,
            blob_bytes: stored.blob_bytes,
        },
        server: server(&service),
        policy_default: views::policy(&Policy {
            verify: service.facts().verify_default,
            ..Policy::default()
        }),
        bounds: bounds(service.facts()),
        retention: views::retention(service.facts()),
    }))
}

fn server(service: &Service) -> ServerFacts {
    let facts = service.facts();
    let (started_at, uptime_ms) = service.uptime();
    ServerFacts {
        engine: engine_name(),
        class: facts.classes.native.0,
        profiles: Profile::ALL.to_vec(),
        listen: facts.listen.to_string(),
        tls: facts.tls,
        started_at: started_at.into(),
        uptime_ms,
        portable_class: facts.classes.portable.results.0,
    }
}

fn bounds(facts: &Facts) -> Bounds {
    Bounds {
        module_bytes_max: facts.module_bytes_max,
        blob_bytes_max: facts.blob_bytes_max,
        json_bytes_max: JSON_BYTES_MAX as u64,
        runs_max: facts.runs_max as u64,
        runs_per_workspace_max: facts.runs_per_workspace_max as u64,
        bulk_runs_max: BULK_RUNS_MAX as u64,
        page_items_max: LIMIT_MAX.into(),
        event_streams_max: STREAMS_MAX as u64,
        connections_max: facts.connections_max.into(),
    }
}

/// Read the figures
///
/// OpenMetrics text, for Prometheus. Needs a token with the scope `read`.
#[utoipa::path(
    get, path = "/metrics", tag = "pool",
    responses((status = 200, description = "the figures", body = String, content_type = "application/openmetrics-text"))
)]
pub async fn metrics(
    Reader(_caller): Reader,
    State(service): State<Arc<Service>>,
) -> Result<Response, ApiError> {
    let (pool, stored) = service.stats().await?;
    let text = service.metrics().render(pool, stored, service.callbacks().pending());
    let media_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, media_type)], text).into_response())
}

/// Is the process alive?
///
/// Needs no token.
#[utoipa::path(
    get, path = "/healthz", tag = "pool", security(()),
    responses((status = 200, description = "it is", body = String, content_type = "text/plain"))
)]
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// Does it take submissions?
///
/// Needs no token. Answers 503 with `unavailable` while it starts or stops.
#[utoipa::path(
    get, path = "/readyz", tag = "pool", security(()),
    responses((status = 200, description = "it does", body = String, content_type = "text/plain"))
)]
pub async fn readyz(State(service): State<Arc<Service>>) -> Result<&'static str, ApiError> {
    if service.is_ready() {
        Ok("ready\n")
    } else {
        Err(ApiError::new(ProblemCode::Unavailable, "the coordinator is starting or stopping: try again"))
    }
}
