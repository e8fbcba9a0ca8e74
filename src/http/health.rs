//! Whether the router lives, and whether it takes anything.

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::Problem;
use super::{Context, reply};

/// How it is.
#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    /// `live`, or `ready`.
    #[schema(examples("ready"))]
    status: &'static str,
    /// Which router this is: its `NODE_ID`.
    node: String,
}

impl Health {
    fn new(status: &'static str, context: &Context) -> Self {
        Self { status, node: context.router.node().name.to_string() }
    }
}

/// Whether it lives
///
/// The process answers.
#[utoipa::path(
    get, path = "/health/live", tag = "health", operation_id = "isLive",
    responses((status = 200, description = "It does.", body = Health))
)]
pub(super) async fn live(State(context): State<Context>) -> Response {
    reply::json(&Health::new("live", &context))
}

/// Whether it is ready
///
/// What is sent to it now is accepted: the journal takes commits, its schema is this version's, and the router is
/// neither being drained nor about to stop.
#[utoipa::path(
    get, path = "/health/ready", tag = "health", operation_id = "isReady",
    responses(
        (status = 200, description = "It is.", body = Health),
        (status = 503, description = "It is not; `detail` says why."),
    )
)]
pub(super) async fn ready(State(context): State<Context>) -> Result<Response, Problem> {
    match context.router.health().await {
        Ok(()) => Ok(reply::json(&Health::new("ready", &context))),
        Err((code, reason)) => Err(Problem::unavailable(code, reason)),
    }
}
