//! Invocations.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{schema, strict};
use crate::clock::Timestamp;
use crate::code::ErrorCode;
use crate::id::{Identity, InvocationId};
use crate::invocation::StateName;
use crate::journal::InvocationRecord;
use crate::protocol::Redactor;
use crate::protocol::json::{Object, Value};

/// The `code` of an error that is the agent's own.
pub(super) const AGENT_ERROR: &str = "agent_error";

/// What an agent that answered with a model has at the top level besides the model's fields.
const NOT_OF_THE_MODEL: &[&str] = &["message_type", "execution_time", "response_metadata", "invocation_id"];

/// Some invocations, and where to go on behind them.
#[derive(Serialize, ToSchema)]
#[schema(as = InvocationPage)]
pub struct Invocations<'a> {
    invocations: Vec<Invocation<'a>>,
    /// The cursor that goes on behind these invocations; null at the end.
    #[schema(required = true)]
    next: Option<String>,
}

impl<'a> Invocations<'a> {
    /// With the cursor that goes on behind them. Without a redactor, with secrets as they are.
    #[must_use]
    pub fn new(invocations: &'a [InvocationRecord], redactor: Option<&Redactor>, next: Option<String>) -> Self {
        let invocations = invocations.iter().map(|invocation| Invocation::new(invocation, redactor)).collect();
        Self { invocations, next }
    }
}

/// One invocation, as it stands.
#[derive(Serialize, ToSchema)]
pub struct Invocation<'a> {
    /// Its id.
    #[schema(value_type = String, format = Uuid)]
    id: InvocationId,
    /// Whom it is for.
    #[schema(value_type = String)]
    agent_id: &'a Identity,
    /// Who asked for it.
    #[schema(value_type = String)]
    caller: &'a Identity,
    /// What has become of it.
    #[schema(schema_with = schema::state)]
    state: &'static str,
    /// Which delivery is the last so far; 0 before the first.
    #[schema(minimum = 0)]
    attempt: u32,
    /// How often its work may be started.
    #[schema(minimum = 1)]
    max_attempts: u32,
    /// `request_metadata.request_id`.
    #[schema(value_type = Option<String>, required = true)]
    request_id: Option<&'a str>,
    /// `request_metadata.session_id`.
    #[schema(value_type = Option<String>, required = true)]
    session_id: Option<&'a str>,
    /// When it was accepted.
    #[schema(value_type = String, format = DateTime)]
    accepted_at: String,
    /// When it was last sent to its agent.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    delivered_at: Option<String>,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    finished_at: Option<String>,
    /// How many milliseconds it may wait for an agent that is away.
    #[schema(minimum = 0)]
    ttl_ms: u64,
    /// Within how many milliseconds from its acceptance it has to end.
    #[schema(minimum = 0)]
    deadline_ms: u64,
    /// The caller's key against doing it twice.
    #[schema(value_type = Option<String>, required = true)]
    idempotency_key: Option<&'a str>,
    /// What the caller sent; null also if it was erased.
    #[schema(schema_with = schema::any_json, required = true)]
    payload: Option<Box<RawValue>>,
    /// What the agent answered, once it is completed; null also if it was erased.
    #[schema(schema_with = schema::any_json, required = true)]
    result: Option<Box<RawValue>>,
    /// Why there is no result, once it has ended without.
    #[schema(required = true)]
    error: Option<Failure>,
}

/// Why an invocation has no result.
#[derive(Serialize, ToSchema)]
#[schema(as = InvocationError)]
pub struct Failure {
    /// The router's error code, or `agent_error` for an error of the agent's own.
    #[schema(schema_with = schema::failure_code)]
    code: &'static str,
    /// The same for people.
    message: String,
}

impl<'a> Invocation<'a> {
    /// As it is stored. Without a redactor, with secrets as they are: for the master whose they are.
    #[must_use]
    pub fn new(invocation: &'a InvocationRecord, redactor: Option<&Redactor>) -> Self {
        let shown = |bytes: &'a [u8]| redactor.map_or(Cow::Borrowed(bytes), |redactor| redactor.redact(bytes));
        let [body, answer] = [&invocation.body, &invocation.answer].map(|bytes| bytes.as_deref().map(shown));
        let body = body.as_deref().and_then(|body| Object::parse(body).ok());
        let answer = answer.as_deref().and_then(|answer| Object::parse(answer).ok());
        let answer = answer.as_ref();
        let completed = invocation.state == StateName::Completed;
        let deadline = invocation.deadline.since(invocation.accepted_at);
        Self {
            id: invocation.id,
            agent_id: &invocation.agent,
            caller: &invocation.caller,
            state: invocation.state.as_str(),
            attempt: invocation.attempt,
            max_attempts: invocation.max_attempts,
            request_id: invocation.request_id.as_deref(),
            session_id: invocation.session_id.as_deref(),
            accepted_at: invocation.accepted_at.to_rfc3339(),
            delivered_at: invocation.delivered_at.map(Timestamp::to_rfc3339),
            finished_at: invocation.finished_at.map(Timestamp::to_rfc3339),
            ttl_ms: invocation.ttl_ms,
            deadline_ms: u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX),
            idempotency_key: invocation.idempotency_key.as_deref(),
            payload: body.and_then(|body| body.get("request_payload")).map(|payload| strict(payload.bytes())),
            result: answer.filter(|_| completed).map(result),
            error: router_error(invocation).or_else(|| answer.filter(|_| !completed).map(agent_error)),
        }
    }
}

/// What the agent's handler returned: `response`, or the fields of a model.
fn result(answer: &Object<'_>) -> Box<RawValue> {
    match answer.get("response") {
        Some(response) => strict(response.bytes()),
        None => strict(&answer.without(NOT_OF_THE_MODEL)),
    }
}

fn agent_error(answer: &Object<'_>) -> Failure {
    let error = answer.get("error");
    let message = error.and_then(Value::as_object).and_then(|error| error.get("error_message")).or(error);
    let text = |message: Value<'_>| match message.as_text() {
        Some(text) => text.into_owned(),
        None => strict(message.bytes()).get().to_owned(),
    };
    Failure { code: AGENT_ERROR, message: message.map_or_else(|| "the agent did not say".to_owned(), text) }
}

fn router_error(invocation: &InvocationRecord) -> Option<Failure> {
    let code = invocation.code.or(match invocation.state {
        StateName::Expired => Some(ErrorCode::Expired),
        StateName::TimedOut => Some(ErrorCode::TimedOut),
        StateName::Cancelled => Some(ErrorCode::Cancelled),
        _ => None,
    })?;
    Some(Failure { code: code.as_str(), message: code.message().to_owned() })
}
