//! `/v1/workspaces/{name}`: what holds for all runs of a workspace.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::extract::{Admin, JsonBody, Named, Reader};
use super::problem::ApiError;
use super::views;
use crate::coordinator::service::{Service, WorkspaceSettings};
use crate::coordinator::submission::verify;
use crate::protocol::api::{Workspace, WorkspaceRequest};

/// Read a workspace
///
/// Only the token's own is there: `workspace` of `GET /v1/info` is its name, `default` so far.
#[utoipa::path(
    get, path = "/v1/workspaces/{name}", tag = "pool", params(("name" = String, Path)),
    responses((status = 200, description = "the workspace", body = Workspace))
)]
pub async fn get_workspace(
    Reader(caller): Reader,
    State(service): State<Arc<Service>>,
    Named(name): Named<String>,
) -> Result<Json<Workspace>, ApiError> {
    let settings = service.workspace(&caller, &name).await?;
    Ok(Json(views::workspace(&name, settings)))
}

/// Settle what holds for all runs of a workspace
///
/// `verify` is how its runs are verified that ask for nothing else and whose module has no default of its own: the run's own
/// word goes first, then its module's, then its workspace's, then the pool's. The whole is replaced. Needs the scope `admin`.
#[utoipa::path(
    put, path = "/v1/workspaces/{name}", tag = "pool", params(("name" = String, Path)),
    request_body = WorkspaceRequest,
    responses((status = 200, description = "the workspace", body = Workspace))
)]
pub async fn put_workspace(
    Admin(caller): Admin,
    State(service): State<Arc<Service>>,
    Named(name): Named<String>,
    JsonBody(request): JsonBody<WorkspaceRequest>,
) -> Result<Json<Workspace>, ApiError> {
    let verify = request.verify.as_ref().map(verify).transpose()?;
    let settings = service.put_workspace(&caller, &name, WorkspaceSettings { verify }).await?;
    Ok(Json(views::workspace(&name, settings)))
}
