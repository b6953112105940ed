//! The public face: HTTP routes over the [`Service`], the embedded web UI, and the connection loop.
//!
//! Invariants: handlers are thin (take the request apart, call one use case, show the answer); every error is a problem of
//! [`problem`]; every route is in the OpenAPI document, because the router is made from the same table. Nothing here decides
//! anything about runs, and nothing here knows the store.
#![expect(
    unused_qualifications,
    reason = "the macro that describes a route writes its parameters with their path"
)]

use std::sync::Arc;

use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use axum::{Router, middleware};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::service::Service;

mod blobs;
mod bulk;
mod cache;
mod call;
mod callbacks;
mod compare;
mod content;
mod divergence;
mod events;
mod extract;
mod lists;
mod modules;
mod observe;
mod openapi;
mod patient;
mod pool;
mod problem;
mod receipts;
mod repairs;
mod runs;
mod server;
mod stats;
mod system;
mod tokens;
mod ui;
pub(in crate::coordinator) mod views;
mod workers;
mod workspaces;

pub use server::{ServerConfig, serve};

/// Every route of the API, by audience.
fn api() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::with_openapi(openapi::skeleton())
        // runs
        .routes(routes!(runs::post_run, runs::list_runs))
        .routes(routes!(runs::get_run))
        .routes(routes!(runs::cancel_run))
        .routes(routes!(runs::rerun_run))
        .routes(routes!(runs::get_stdout))
        .routes(routes!(runs::get_stderr))
        .routes(routes!(runs::get_file))
        .routes(routes!(receipts::get_receipt))
        .routes(routes!(callbacks::list_callbacks))
        .routes(routes!(callbacks::redeliver_callback))
        .routes(routes!(repairs::list_revisions))
        .routes(routes!(events::run_events))
        .routes(routes!(bulk::cancel_runs))
        .routes(routes!(bulk::rerun_runs))
        .routes(routes!(compare::get_attempt_stdout))
        .routes(routes!(compare::get_attempt_stderr))
        .routes(routes!(compare::get_attempt_file))
        .routes(routes!(compare::diff))
        .routes(routes!(cache::get_cache))
        .routes(routes!(cache::withdraw))
        // modules and blobs
        .routes(routes!(modules::post_module, modules::list_modules))
        .routes(routes!(modules::put_module, modules::get_module, modules::delete_module))
        .routes(routes!(modules::get_content))
        .routes(routes!(modules::quarantine_module))
        .routes(routes!(modules::readmit_module))
        .routes(routes!(modules::put_verify, modules::delete_verify))
        .routes(routes!(call::call_module))
        .routes(routes!(blobs::post_blob))
        .routes(routes!(blobs::put_blob, blobs::get_blob))
        // operators
        .routes(routes!(pool::join_pool))
        .routes(routes!(workers::list_workers))
        .routes(routes!(workers::get_worker, workers::forget_worker))
        .routes(routes!(workers::worker_evidence))
        .routes(routes!(workers::drain_worker))
        .routes(routes!(workers::quarantine_worker))
        .routes(routes!(workers::readmit_worker))
        .routes(routes!(repairs::list_repairs))
        .routes(routes!(tokens::list_tokens, tokens::post_token))
        .routes(routes!(tokens::delete_token))
        .routes(routes!(receipts::list_keys))
        .routes(routes!(receipts::rotate_key))
        .routes(routes!(callbacks::get_secret))
        .routes(routes!(callbacks::rotate_secret))
        .routes(routes!(workspaces::get_workspace, workspaces::put_workspace))
        // the coordinator itself
        .routes(routes!(events::pool_events))
        .routes(routes!(stats::stats))
        .routes(routes!(stats::series))
        .routes(routes!(system::info))
        .routes(routes!(system::metrics))
        .routes(routes!(system::healthz))
        .routes(routes!(system::readyz))
        .routes(routes!(openapi_json))
}

/// The whole application.
pub fn router(service: Arc<Service>) -> Router {
    let (router, _) = api().split_for_parts();
    router
        .fallback(ui::fallback)
        .method_not_allowed_fallback(ui::method_not_allowed)
        .layer(middleware::from_fn_with_state(Arc::clone(&service), observe::observe))
        .with_state(service)
}

/// The OpenAPI 3.1 document, as pretty JSON.
pub fn openapi_document() -> String {
    let (_, document) = api().split_for_parts();
    let document = openapi::complete(document);
    let mut text = document.to_pretty_json().expect("the document is made of strings, lists and maps");
    text.push('\n');
    text
}

/// Read this document
///
/// Needs no token.
#[utoipa::path(
    get, path = "/openapi.json", tag = "pool", security(()),
    responses((status = 200, description = "OpenAPI 3.1", body = Object, content_type = "application/json"))
)]
async fn openapi_json() -> Response {
    static DOCUMENT: std::sync::LazyLock<String> = std::sync::LazyLock::new(openapi_document);
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.as_str()).into_response()
}

#[cfg(test)]
#[cfg(test)]
mod tests;
