//! `/v1/stats`: the pool at a glance, and minute by minute.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::extract::{Params, Reader};
use super::problem::ApiError;
use super::views;
use crate::coordinator::service::Service;
use crate::protocol::api::{Bucket, PoolStats, Series};

/// Minutes of a series, if the caller does not say.
const MINUTES: u64 = 60;

/// Read the pool at a glance
///
/// Workers, slots, queue, what happened in the last hour, and what is stored. What is about runs counts the caller's
/// workspace only. What is stored is counted at most every two seconds.
#[utoipa::path(
    get, path = "/v1/stats", tag = "pool",
    responses((status = 200, description = "the figures", body = PoolStats))
)]
pub async fn stats(
    Reader(caller): Reader,
    State(service): State<Arc<Service>>,
) -> Result<Json<PoolStats>, ApiError> {
    let figures = service.figures(&caller).await?;
    Ok(Json(views::stats(&figures, service.facts())))
}

/// How long a series is.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SeriesParams {
    /// How many minutes, 1 to 1440; 60 by default.
    minutes: Option<u64>,
}

/// Read the figures of each minute
///
/// For plots: what happened to the runs of the caller's workspace. It is counted in memory; after a restart the runs
/// that ended within the hour before are counted again, and `since` says from when on nothing is missing.
#[utoipa::path(
    get, path = "/v1/stats/series", tag = "pool", params(SeriesParams),
    responses((status = 200, description = "the minutes, the oldest first", body = Series))
)]
pub async fn series(
    Reader(caller): Reader,
    State(service): State<Arc<Service>>,
    Params(params): Params<SeriesParams>,
) -> Result<Json<Series>, ApiError> {
    let (minutes, most) = (params.minutes.unwrap_or(MINUTES), service.series_minutes_max());
    if !(1..=most).contains(&minutes) {
        let detail = format!("{minutes} is out of range: it must be from 1 to {most}");
        return Err(ApiError::parameter("minutes", detail));
    }
    let (since, series) = service.series(&caller, minutes).await?;
    let buckets = series.into_iter().map(|(at, tally)| Bucket { at: at.into(), tally }).collect();
    Ok(Json(Series { since: since.into(), bucket_ms: 60_000, buckets }))
}
