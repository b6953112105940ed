//! `/v1/pool/session`: where workers on other machines come in.

use std::sync::Arc;

use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::response::Response;

use super::extract::Enrolling;
use super::problem::ApiError;
use crate::coordinator::service::Service;
use crate::protocol::api::ProblemCode;
use crate::protocol::wire::{MESSAGE_BYTES_MAX, READ_BUFFER_BYTES};

/// Join as a worker
///
/// A WebSocket of binary messages, spoken by `lockstep worker` of the same protocol version; not for other clients. A worker
/// whose key is not known yet needs a token with the scope `worker`; one that is known needs none.
#[utoipa::path(
    get, path = "/v1/pool/session", tag = "workers", security((), ("token" = [])),
    responses(
        (status = 101, description = "the connection is a WebSocket from now on"),
        (status = 400, description = "it is no WebSocket upgrade"),
    )
)]
pub async fn join_pool(
    Enrolling(admission): Enrolling,
    State(service): State<Arc<Service>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let upgrade = upgrade.map_err(|why| {
        let detail =
            format!("this is where `lockstep worker` joins, by a WebSocket upgrade: {}", why.body_text());
        ApiError::new(ProblemCode::InvalidParameter, detail)
    })?;
    let bounded = upgrade
        .max_message_size(MESSAGE_BYTES_MAX)
        .max_frame_size(MESSAGE_BYTES_MAX)
        .read_buffer_size(READ_BUFFER_BYTES);
    // what cannot be written is not gathered without end
    let bounded = bounded.max_write_buffer_size(4 * MESSAGE_BYTES_MAX);
    Ok(bounded.on_upgrade(async move |socket| service.pool().serve(socket, admission).await))
}
