//! What operators look at and do: metrics, disconnecting an agent, draining the router, erasing payloads.

use std::borrow::Cow;

use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use super::body::JsonBody;
use super::parameters::Parameters;
use super::problem::Problem;
use super::values::{AgentInPath, InvocationInPath};
use super::{Context, reply};
use crate::clock::Timestamp;
use crate::id::InvocationId;
use crate::protocol::json::Value;
use crate::router::{self, Declined};

/// The longest reason for an erasure, in characters.
const MAX_REASON_CHARS: usize = 1024;

/// What there is to do: `connections` of this router alone, the rest for all routers on the journal.
#[derive(Serialize, ToSchema)]
pub(super) struct Workload {
    /// Whether this router takes nothing new, because an operator wants it so.
    draining: bool,
    /// Sockets of this router, invoke sockets included.
    #[schema(minimum = 0)]
    connections: usize,
    /// Invocations that wait for their agents.
    #[schema(minimum = 0)]
    queued: usize,
    /// Invocations that were sent and are not answered.
    #[schema(minimum = 0)]
    in_flight: usize,
    /// Since when the longest waiting one waits.
    #[schema(format = DateTime, required = true)]
    oldest_queued_at: Option<String>,
}

/// How many sockets were told to close.
#[derive(Serialize, ToSchema)]
pub(super) struct Disconnected {
    /// So many.
    #[schema(minimum = 1)]
    disconnected: usize,
}

/// The description of the body of an erasure, which is read field by field.
pub(super) struct Erasure;

impl ToSchema for Erasure {
    fn name() -> Cow<'static, str> {
        "Erasure".into()
    }
}

impl PartialSchema for Erasure {
    fn schema() -> RefOr<Schema> {
        let reason = ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("Why. It is kept in the journal for good: nothing that would have to be erased itself."))
            .min_length(Some(1))
            .max_length(Some(MAX_REASON_CHARS));
        ObjectBuilder::new()
            .schema_type(Type::Object)
            .property("reason", reason)
            .required("reason")
            .additional_properties(Some(AdditionalProperties::FreeForm(false)))
            .into()
    }
}

/// What was erased.
#[derive(Serialize, ToSchema)]
pub(super) struct Erased {
    /// Whose payloads.
    #[schema(value_type = String, format = Uuid)]
    invocation_id: InvocationId,
    /// Always true.
    erased: bool,
}

/// Metrics
///
/// In the text format of Prometheus, version 0.0.4. Each router counts what it does itself; what waits and is in flight is
/// said of the whole journal, the same by each router on it.
#[utoipa::path(
    get, path = "/metrics", tag = "operators", operation_id = "readMetrics",
    responses((status = 200, description = "All of them.", body = String, content_type = "text/plain"))
)]
pub(super) async fn metrics(State(context): State<Context>, parameters: Parameters) -> Result<Response, Problem> {
    parameters.only(&[])?;
    // Without it, what it says is as it was; what else there is to see is the more needed then.
    let _ = context.router.workload().await;
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    Ok(([(CONTENT_TYPE, kind)], context.router.metrics().render()).into_response())
}

/// Disconnect an agent
///
/// Closes each of its own sockets, whichever router holds it, with 1008. What it was at work on is lost with its connection; it may connect again
/// at once.
#[utoipa::path(
    post, path = "/v1/agents/{id}/disconnect", tag = "operators", operation_id = "disconnectAgent",
    params(AgentInPath),
    responses(
        (status = 200, description = "Its sockets are being closed.", body = Disconnected),
        (status = 404, description = "It has no socket."),
        (status = 500, description = "The router had to stop before it knew whether the journal has it."),
    )
)]
pub(super) async fn disconnect(
    State(context): State<Context>,
    AgentInPath(id): AgentInPath,
    parameters: Parameters,
) -> Result<Response, Problem> {
    parameters.only(&[])?;
    let absent = || Problem::not_found("no agent of this id has a socket");
    let id = context.settings.authenticator.canonical(id.ok_or_else(absent)?);
    let disconnected = context.router.disconnect(id).await.map_err(|declined| match declined {
        Declined::NotFound => absent(),
        declined => declined.into(),
    })?;
    Ok(reply::json(&Disconnected { disconnected }))
}

/// What there is to do
///
/// And whether the router is being drained.
#[utoipa::path(
    get, path = "/v1/drain", tag = "operators", operation_id = "readDrain",
    responses((status = 200, description = "As it is now.", body = Workload))
)]
pub(super) async fn workload(State(context): State<Context>, parameters: Parameters) -> Result<Response, Problem> {
    parameters.only(&[])?;
    as_it_is(&context).await
}

/// Drain the router
///
/// It takes no new sockets and invocations from now on, and says so in `/health/ready`; what was accepted goes on. Look
/// at how much is left, and stop it when that is little enough. The end of the process ends it too.
#[utoipa::path(
    post, path = "/v1/drain", tag = "operators", operation_id = "drain",
    responses(
        (status = 200, description = "It is being drained; this is what is left.", body = Workload),
        (status = 500, description = "The router had to stop before it knew whether the journal has it."),
    )
)]
pub(super) async fn drain(State(context): State<Context>, parameters: Parameters) -> Result<Response, Problem> {
    parameters.only(&[])?;
    context.router.drain(true).await?;
    as_it_is(&context).await
}

/// Drain the router no more
///
/// It takes new sockets and invocations again.
#[utoipa::path(
    delete, path = "/v1/drain", tag = "operators", operation_id = "resume",
    responses(
        (status = 200, description = "It takes new things again.", body = Workload),
        (status = 500, description = "The router had to stop before it knew whether the journal has it."),
    )
)]
pub(super) async fn resume(State(context): State<Context>, parameters: Parameters) -> Result<Response, Problem> {
    parameters.only(&[])?;
    context.router.drain(false).await?;
    as_it_is(&context).await
}

async fn as_it_is(context: &Context) -> Result<Response, Problem> {
    let router::Workload { draining, connections, queued, in_flight, oldest_queued, .. } =
        context.router.workload().await?;
    let oldest_queued_at = oldest_queued.map(Timestamp::to_rfc3339);
    Ok(reply::json(&Workload { draining, connections, queued, in_flight, oldest_queued_at }))
}

/// Erase the payloads of an invocation
///
/// For good, from the journal and its files; that it was done and why is an event, and the chain still verifies. With them
/// go those of the lines that its agent has logged about the same request since the invocation was accepted; log lines
/// without a request id cannot be told apart and stay. The invocation has to be finished.
#[utoipa::path(
    post, path = "/v1/invocations/{id}/erase", tag = "operators", operation_id = "eraseInvocation",
    params(InvocationInPath),
    request_body(content = Erasure, content_type = "application/json"),
    responses(
        (status = 200, description = "They are gone.", body = Erased),
        (status = 404, description = "There is no invocation of this id."),
        (status = 408, description = "The body did not come in time."),
        (status = 409, description = "The invocation is not finished."),
        (status = 413, description = "The body is larger than `MAX_FRAME_BYTES`."),
        (status = 415, description = "The body is not labelled as JSON."),
        (status = 500, description = "The router had to stop before it knew whether the journal has it."),
    )
)]
pub(super) async fn erase(
    State(context): State<Context>,
    InvocationInPath(id): InvocationInPath,
    parameters: Parameters,
    body: JsonBody,
) -> Result<Response, Problem> {
    parameters.only(&[])?;
    let object = body.object(&["reason"])?;
    let reason = object.get("reason").and_then(Value::as_text);
    let fits = |reason: &str| (1..=MAX_REASON_CHARS).contains(&reason.chars().count());
    let reason = reason.filter(|reason| fits(reason)).ok_or_else(|| {
        Problem::malformed(format!("field reason has to be a string of 1 to {MAX_REASON_CHARS} characters"))
    })?;
    if context.settings.authenticator.finds_secret(reason.as_bytes()) {
        return Err(Problem::malformed("there is a key in the reason, which would be kept for good: replace that key"));
    }
    context.router.erase(id, reason.into_owned()).await.map_err(|declined| match declined {
        Declined::NotFound => Problem::not_found(format!("there is no invocation {id}")),
        declined => declined.into(),
    })?;
    Ok(reply::json(&Erased { invocation_id: id, erased: true }))
}
