//! `/v1/invocations`: made, waited for, read, listed and cancelled over HTTP.
//!
//! An invocation from here is the same thing as one from a socket: the same text is read by the same rules, and the
//! router decides the rest. A master sees its own, with the real payloads; an auditor sees all, with secrets hidden.

mod invoke;
mod list;
mod request;
mod wait;

pub(super) use invoke::*;
pub(super) use list::*;

use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use utoipa::IntoParams;

use super::access::Asker;
use super::parameters::Parameters;
use super::problem::Problem;
use super::values::{self, InvocationInPath};
use super::{Context, reply};
use crate::auth::Role;
use crate::id::InvocationId;
use crate::journal::InvocationRecord;
use crate::record;

/// How long to wait.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Wait {
    /// Seconds to wait for its end, if it has not ended.
    #[param(value_type = values::WaitNumber, inline, required = false)]
    wait: Duration,
}

/// How an invocation stands
///
/// With `wait`, the answer comes when it ends, or after so many seconds. Masters see their own invocations; auditors see
/// all, with the values of `REDACT_KEYS` hidden.
#[utoipa::path(
    get, path = "/v1/invocations/{id}", tag = "invocations", operation_id = "getInvocation",
    params(InvocationInPath, Wait),
    responses(
        (status = 200, description = "As it stands.", body = record::Invocation),
        (status = 404, description = "There is none of this id, or it is another master's."),
    )
)]
pub(super) async fn read(
    State(context): State<Context>,
    asker: Asker,
    InvocationInPath(id): InvocationInPath,
    parameters: Parameters,
) -> Result<Response, Problem> {
    let Wait { wait } = Wait { wait: parameters.only(&["wait"])?.wait()? };
    let found = wait::ended(&context, &asker, id, wait).await?;
    Ok(shown(&context, &asker, &found))
}

/// An invocation, if the asker may see it.
async fn visible(context: &Context, asker: &Asker, id: InvocationId) -> Result<InvocationRecord, Problem> {
    let found = context.router.journal().invocation(id).await.map_err(|error| Problem::unreadable(&error))?;
    found
        .filter(|invocation| asker.master().is_none_or(|master| *master == invocation.caller))
        .ok_or_else(|| Problem::not_found(format!("there is no invocation {id}")))
}

/// An invocation as the asker may see it.
fn shown(context: &Context, asker: &Asker, invocation: &InvocationRecord) -> Response {
    let redactor = match asker.0 {
        Role::Master(_) => None,
        Role::Auditor | Role::Operator => Some(&*context.redactor),
    };
    reply::json(&record::Invocation::new(invocation, redactor))
}
