//! `GET /v1/invocations/{id}`: how one invocation stands.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use uuid::Uuid;

use super::Context;
use super::access::Master;
use super::history::unreadable;
use super::parameters::{Parameters, wrong_value};
use super::problem::Problem;
use super::record;
use crate::id::InvocationId;

/// The backend reads every invocation, the master agent its own.
pub(super) async fn read(
    State(context): State<Context>,
    Master(master): Master,
    id: Result<Path<String>, PathRejection>,
    parameters: Parameters,
) -> Result<Response, Problem> {
    parameters.only(&[])?;
    let Path(id) = id.map_err(|rejection| Problem::malformed(rejection.body_text()))?;
    let id = id.parse::<Uuid>().map(InvocationId).map_err(|_| wrong_value("id", &id, "a UUID"))?;
    let found = context.router.journal().invocation(id).await.map_err(|error| unreadable(&error))?;
    found
        .filter(|invocation| master.is_backend() || invocation.caller == master)
        .map(|invocation| record::response(&record::Invocation::new(&invocation)).into_response())
        .ok_or_else(|| Problem::not_found(format!("there is no invocation {id}")))
}
