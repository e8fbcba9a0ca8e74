//! `POST /v1/invocations`, and cancelling.

use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use super::request::{NewInvocation, Wishes, understood};
use super::{shown, visible, wait};
use crate::http::Context;
use crate::http::access::{Asker, Kind};
use crate::http::body::JsonBody;
use crate::http::negotiation::PREFERENCE_APPLIED;
use crate::http::parameters::Parameters;
use crate::http::problem::Problem;
use crate::http::values::InvocationInPath;
use crate::id::Identity;
use crate::record;
use crate::router::Declined;

const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Have an agent do something
///
/// The same as an `agent_invoke` from the master's own socket, but that the answer is read and not sent: with
/// `Prefer: wait=N` in the answer to this, if it comes within N seconds (at most 60); later at the `Location`. What was
/// accepted is in the journal when this is answered.
///
/// With an `Idempotency-Key`, a request that is sent again finds the invocation that it made the first time, and the
/// answer has `Idempotency-Replayed: true`. A key is good for one agent and one payload, and is kept for
/// `IDEMPOTENCY_TTL` after the end.
#[utoipa::path(
    post, path = "/v1/invocations", tag = "invocations", operation_id = "invoke",
    params(Wishes),
    request_body(content = NewInvocation, content_type = "application/json"),
    responses(
        (status = 200, description = "It has ended: with a result or with an error.", body = record::Invocation,
            headers(
                ("Location" = String, description = "Where it is read."),
                ("Preference-Applied" = String, description = "`wait=N`, as it was applied."),
                ("Idempotency-Replayed" = String, description = "`true`, if an earlier request had made it."),
            )),
        (status = 202, description = "It was accepted, and has not ended yet.", body = record::Invocation,
            headers(
                ("Location" = String, description = "Where it is read."),
                ("Preference-Applied" = String, description = "`wait=N`, if it was asked for."),
                ("Idempotency-Replayed" = String, description = "`true`, if an earlier request had made it."),
            )),
        (status = 404, description = "No such agent has ever registered."),
        (status = 408, description = "The body did not come in time."),
        (status = 413, description = "It is larger than `MAX_FRAME_BYTES`."),
        (status = 415, description = "The body is not labelled as JSON."),
        (status = 422, description = "The idempotency key belongs to a request with another payload."),
        (status = 429, description = "As many invocations wait as may, or the caller asks more often than it may; see `RATE_LIMIT`."),
        (status = 500, description = "The router had to stop before it knew whether the journal has it."),
        (status = 503, description = "The agent is away, the journal takes no commits, or the router takes nothing new."),
    )
)]
pub(in crate::http) async fn invoke(
    State(context): State<Context>,
    asker: Asker,
    headers: HeaderMap,
    parameters: Parameters,
    body: JsonBody,
) -> Result<Response, Problem> {
    parameters.only(&[])?;
    let caller = caller(&asker)?;
    let wishes = Wishes::read(&headers)?;
    let invoke = understood(&context, &wishes, &body)?;
    let taken = context.router.invoke(caller, invoke).await?;

    let id = taken.invocation;
    let wait = wishes.wait;
    let mut response = match wait::ended(&context, &asker, id, wait.unwrap_or_default()).await {
        Ok(found) => {
            let mut response = shown(&context, &asker, &found);
            let ended = wait.is_some() && found.finished_at.is_some();
            *response.status_mut() = if ended { StatusCode::OK } else { StatusCode::ACCEPTED };
            response
        }
        // It is accepted all the same, and to be told otherwise would have it done twice.
        Err(_) => Problem::unknown_outcome()
            .saying(format!("invocation {id} was accepted and cannot be read now: look at its Location in a moment"))
            .into_response(),
    };
    let location =
        HeaderValue::try_from(format!("/v1/invocations/{id}")).expect("a UUID is made of visible characters");
    response.headers_mut().insert(LOCATION, location);
    if taken.replayed {
        response.headers_mut().insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    }
    if let Some(wait) = wait {
        let applied = HeaderValue::try_from(format!("wait={}", wait.as_secs())).expect("a number is visible");
        response.headers_mut().insert(PREFERENCE_APPLIED, applied);
    }
    Ok(response)
}

/// Cancel an invocation
///
/// A queued one never runs; one at work ends as `cancelled`, and a late answer is only journaled. One that has ended
/// stays as it is, and the answer says how.
#[utoipa::path(
    post, path = "/v1/invocations/{id}/cancel", tag = "invocations", operation_id = "cancelInvocation",
    params(InvocationInPath),
    responses(
        (status = 200, description = "As it stands now.", body = record::Invocation),
        (status = 404, description = "There is none of this id, or it is another master's."),
        (status = 500, description = "The router had to stop before it knew whether the journal has it."),
    )
)]
pub(in crate::http) async fn cancel(
    State(context): State<Context>,
    asker: Asker,
    InvocationInPath(id): InvocationInPath,
    parameters: Parameters,
) -> Result<Response, Problem> {
    parameters.only(&[])?;
    context.router.cancel(caller(&asker)?, id).await.map_err(|declined| match declined {
        Declined::NotFound => Problem::not_found(format!("there is no invocation {id}")),
        declined => declined.into(),
    })?;
    let found = visible(&context, &asker, id).await?;
    Ok(shown(&context, &asker, &found))
}

fn caller(asker: &Asker) -> Result<Identity, Problem> {
    asker.master().cloned().ok_or_else(|| Problem::forbidden(format!("this is for a {}", Kind::Master.as_str())))
}
