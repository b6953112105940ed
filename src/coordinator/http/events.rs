//! Server-sent events: the life of one run, and the ids of whatever changes in the pool.
//!
//! A stream is read with `fetch`, which can send the token in a header; `EventSource` cannot, and a token never travels in an
//! address. A reader that is slow holds up nobody: the service drops what it cannot take and says so.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::{Stream, StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

use super::extract::{Named, Params, Reader};
use super::problem::ApiError;
use super::views;
use crate::coordinator::service::{PoolEvent, RunEvent, Service};
use crate::id::RunId;
use crate::protocol::api::{
    Changed, Correction, LiveOutput, Resync, ResyncReason, RunEnd, StreamName, text_or_base64,
};

/// Comments at this pace keep proxies from closing a quiet stream.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What to hear of a run.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventsParams {
    /// Whether to stay after the run's end and hear of corrections.
    #[serde(default)]
    corrections: bool,
}

/// Watch a run
///
/// Server-sent events. A stream that is opened again begins anew: nothing is lost. `run`: the run, at first and whenever it changes (`Run`). `output`: what an attempt writes, as it writes
/// it, not verified, and anew on a rerun (`LiveOutput`). `end`: the run is final (`RunEnd`); nothing follows, unless `corrections` are asked for: then the stream stays open, and
/// `corrected` says that the final was wrong and is another one now (`Correction`), with the run behind it.
#[utoipa::path(
    get, path = "/v1/runs/{id}/events", tag = "runs", params(("id" = RunId, Path), EventsParams),
    responses((status = 200, description = "events", body = String, content_type = "text/event-stream"))
)]
pub async fn run_events(
    Reader(caller): Reader,
    State(service): State<Arc<Service>>,
    Named(id): Named<RunId>,
    Params(params): Params<EventsParams>,
) -> Result<Response, ApiError> {
    let events = service.watch_run(&caller, id, params.corrections).await?;
    Ok(respond(events.flat_map(|event| stream::iter(of_run(event)))))
}

fn of_run(event: RunEvent) -> Vec<Event> {
    match event {
        RunEvent::Changed(detail) => {
            let mut events = vec![named("run", &views::run(&detail))];
            if detail.run.state.is_final() {
                events.push(named("end", &RunEnd { id: detail.run.id, state: detail.run.state }));
            }
            events
        }
        RunEvent::Corrected(detail) => {
            let correction = Correction { id: detail.run.id, revision: detail.run.revision };
            vec![named("corrected", &correction), named("run", &views::run(&detail))]
        }
        RunEvent::Live { attempt, is_stderr, offset, bytes } => {
            let (text, base64) = text_or_base64(&bytes);
            let stream = if is_stderr { StreamName::Stderr } else { StreamName::Stdout };
            vec![named("output", &LiveOutput { attempt, stream, offset, text, base64, verified: false })]
        }
    }
}

/// Watch the pool
///
/// Server-sent events. `open`: from here on nothing is missed. `run`, `worker`, `module`: the one with this `id` changed (`Changed`); read it again if it is shown.
/// `corrected`: the final of a run was wrong, and is of this revision now (`Correction`).
/// `resync`: some were lost, because the reader was too slow or because the stream was opened again (`Last-Event-ID` says
/// that there was one before; what came in between is not kept): read everything again (`Resync`).
#[utoipa::path(
    get, path = "/v1/events", tag = "pool",
    params(("last-event-id" = Option<String>, Header, description = "The `id` of the last event that was read")),
    responses((status = 200, description = "events", body = String, content_type = "text/event-stream"))
)]
pub async fn pool_events(
    Reader(caller): Reader,
    State(service): State<Arc<Service>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let events = service.watch_all(&caller)?;
    let is_again = headers.contains_key("last-event-id");
    let first =
        if is_again { resync(ResyncReason::Reconnected) } else { Event::default().event("open").data("{}") };
    let mut number = 0_u64;
    let events = stream::iter([first]).chain(events.map(|event| of_pool(&event))).map(move |event| {
        number += 1;
        event.id(number.to_string())
    });
    Ok(respond(events))
}

fn of_pool(event: &PoolEvent) -> Event {
    match event {
        PoolEvent::Run(id) => named("run", &Changed { id: id.to_string() }),
        PoolEvent::Corrected(id, revision) => {
            named("corrected", &Correction { id: *id, revision: *revision })
        }
        PoolEvent::Worker(id) => named("worker", &Changed { id: id.to_string() }),
        PoolEvent::Module(digest) => named("module", &Changed { id: digest.to_string() }),
        PoolEvent::Lagged => resync(ResyncReason::Lagged),
    }
}

fn resync(reason: ResyncReason) -> Event {
    named("resync", &Resync { reason })
}

fn named<T: Serialize>(name: &str, data: &T) -> Event {
    // the wire types have string keys and no failing serialiser; should one fail, the stream goes on without its data
    let fallback = |_| Event::default().comment("an event could not be written");
    Event::default().event(name).json_data(data).unwrap_or_else(fallback)
}

fn respond(events: impl Stream<Item = Event> + Send + 'static) -> Response {
    let events = events.map(Ok::<_, Infallible>);
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    // nginx buffers answers unless it is told not to
    let unbuffered = [(HeaderName::from_static("x-accel-buffering"), "no")];
    (unbuffered, Sse::new(events).keep_alive(keep_alive)).into_response()
}
