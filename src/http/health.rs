//! Whether the router lives, and whether it takes anything.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::Context;
use super::problem::Problem;

/// `GET /health/live`: the process answers.
pub(super) async fn live() -> Json<Value> {
    Json(json!({"status": "live"}))
}

/// `GET /health/ready`: what is sent to it now is accepted. 503 with the reason if not.
pub(super) async fn ready(State(context): State<Context>) -> Result<Json<Value>, Problem> {
    match context.router.health() {
        Ok(()) => Ok(Json(json!({"status": "ready"}))),
        Err((code, reason)) => Err(Problem::unavailable(code, reason)),
    }
}
