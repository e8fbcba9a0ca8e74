//! What is stored, as JSON for readers: the field names of the HTTP interface.
//!
//! Peers' own JSON is put in as it was stored, as far as strict JSON allows, never decoded and written again.

use std::fmt::Write;

use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::clock::Timestamp;
use crate::code::ErrorCode;
use crate::id::{Identity, InvocationId, Position};
use crate::invocation::StateName;
use crate::journal::{EventRecord, InvocationRecord};
use crate::protocol::json::{Object, Value};
use crate::protocol::to_strict;

/// The `code` of an error that is the agent's own.
const AGENT_ERROR: &str = "agent_error";

/// What an agent that answered with a model has at the top level besides the model's fields.
const NOT_OF_THE_MODEL: &[&str] = &["message_type", "execution_time", "response_metadata", "invocation_id"];

/// One page of events.
#[derive(Serialize)]
pub(super) struct Page<'a> {
    events: Vec<Event<'a>>,
    next: String,
}

impl<'a> Page<'a> {
    pub(super) fn new(events: &'a [EventRecord], next: String) -> Self {
        Self { events: events.iter().map(Event::new).collect(), next }
    }
}

/// One event.
#[derive(Serialize)]
struct Event<'a> {
    position: Position,
    at: String,
    kind: &'static str,
    node_id: &'a str,
    invocation_id: Option<InvocationId>,
    agent_id: Option<&'a Identity>,
    caller: Option<&'a Identity>,
    detail: Box<RawValue>,
    payload: Option<Box<RawValue>>,
    hash: String,
}

impl<'a> Event<'a> {
    fn new(event: &'a EventRecord) -> Self {
        Self {
            position: event.position,
            at: event.at.to_rfc3339(),
            kind: event.kind.as_str(),
            node_id: &event.node,
            invocation_id: event.invocation,
            agent_id: event.agent.as_ref(),
            caller: event.caller.as_ref(),
            detail: strict(event.detail.as_bytes()),
            payload: event.payload.as_deref().map(strict),
            hash: hex(&event.hash),
        }
    }
}

/// One invocation.
#[derive(Serialize)]
pub(super) struct Invocation<'a> {
    id: InvocationId,
    agent_id: &'a Identity,
    caller: &'a Identity,
    state: &'static str,
    attempt: u32,
    max_attempts: u32,
    request_id: Option<&'a str>,
    session_id: Option<&'a str>,
    accepted_at: String,
    delivered_at: Option<String>,
    finished_at: Option<String>,
    ttl_ms: u64,
    deadline_ms: u64,
    idempotency_key: Option<&'a str>,
    payload: Option<Box<RawValue>>,
    result: Option<Box<RawValue>>,
    error: Option<Failure>,
}

/// Why an invocation has no result.
#[derive(Serialize)]
struct Failure {
    code: &'static str,
    message: String,
}

impl<'a> Invocation<'a> {
    pub(super) fn new(invocation: &'a InvocationRecord) -> Self {
        let body = invocation.body.as_deref().and_then(|body| Object::parse(body).ok());
        let answer = invocation.answer.as_deref().and_then(|answer| Object::parse(answer).ok());
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

/// A peer's JSON, for strict readers. What is no JSON, which the journal should not have, is shown as a string.
fn strict(python: &[u8]) -> Box<RawValue> {
    String::from_utf8(to_strict(python).into_owned())
        .ok()
        .and_then(|text| RawValue::from_string(text).ok())
        .unwrap_or_else(|| {
            to_raw_value(&String::from_utf8_lossy(python)).expect("a string can always be written as JSON")
        })
}

fn hex(hash: &[u8; 32]) -> String {
    hash.iter().fold(String::with_capacity(64), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        text
    })
}

/// The answer that carries a record.
pub(super) fn response(record: &impl Serialize) -> Response {
    let body = serde_json::to_vec(record).expect("a record has text keys and no maps that can fail");
    ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use serde_json::{Value as Json, json};
    use uuid::Uuid;

    use super::*;
    use crate::journal::EventKind;

    const AT: Timestamp = Timestamp::from_micros(1_767_323_045_000_006);

    fn invocation(state: StateName, answer: Option<&str>, code: Option<ErrorCode>) -> Json {
        let record = InvocationRecord {
            id: InvocationId(Uuid::from_u128(1)),
            agent: Identity::new("a").unwrap(),
            caller: Identity::backend(),
            state,
            attempt: 1,
            max_attempts: 2,
            request_id: Some("r".to_owned()),
            session_id: None,
            accepted_at: AT,
            delivered_at: Some(AT),
            finished_at: None,
            ttl_ms: 60_000,
            deadline: AT + Duration::from_millis(1_500),
            idempotency_key: None,
            body: Some(Bytes::from_static(br#"{"request_payload": {"n": NaN}, "request_metadata": {}}"#)),
            answer: answer.map(|answer| Bytes::copy_from_slice(answer.as_bytes())),
            code,
        };
        serde_json::from_slice(&serde_json::to_vec(&Invocation::new(&record)).unwrap()).unwrap()
    }

    #[test]
    fn an_invocation_has_every_field_of_the_interface() {
        let expected = json!({
            "id": "00000000-0000-0000-0000-000000000001", "agent_id": "a", "caller": "master_server_be",
            "state": "delivered", "attempt": 1, "max_attempts": 2, "request_id": "r", "session_id": null,
            "accepted_at": "2026-01-02T03:04:05.000006Z", "delivered_at": "2026-01-02T03:04:05.000006Z",
            "finished_at": null, "ttl_ms": 60_000, "deadline_ms": 1_500, "idempotency_key": null,
            "payload": {"n": "NaN"}, "result": null, "error": null,
        });
        assert_eq!(invocation(StateName::Delivered, None, None), expected);
    }

    #[test]
    fn a_result_is_the_response_or_the_fields_of_a_model() {
        let result = |answer: &str| invocation(StateName::Completed, Some(answer), None)["result"].clone();
        let common = r#""message_type": "agent_response", "execution_time": 0.1, "response_metadata": {}"#;
        assert_eq!(result(&format!(r#"{{"response": [1], {common}}}"#)), json!([1]));
        assert_eq!(result(&format!(r#"{{"response": null, {common}}}"#)), Json::Null);
        assert_eq!(result(&format!(r#"{{"name": "x", {common}, "age": 1}}"#)), json!({"name": "x", "age": 1}));
    }

    #[test]
    fn an_error_is_the_agents_own_or_the_routers() {
        let error = |answer: &str| invocation(StateName::Failed, Some(answer), None)["error"].clone();
        let of_the_agent = |message: &str| json!({"code": "agent_error", "message": message});
        assert_eq!(error(r#"{"error": {"error_message": "no\u0021"}}"#), of_the_agent("no!"));
        assert_eq!(error(r#"{"error": {"error_message": [NaN]}}"#), of_the_agent(r#"["NaN"]"#));
        assert_eq!(error(r#"{"error": "plain"}"#), of_the_agent("plain"));
        assert_eq!(error("{}"), of_the_agent("the agent did not say"));

        let lost = invocation(StateName::Failed, None, Some(ErrorCode::AgentLost));
        assert_eq!(lost["error"], json!({"code": "agent_lost", "message": "Agent has been unregistered"}));
        let cancelled = invocation(StateName::Cancelled, None, None);
        assert_eq!(cancelled["error"], json!({"code": "cancelled", "message": "Cancelled"}));
    }

    #[test]
    fn an_event_shows_the_stored_bytes_as_strict_json() {
        let event = |payload: Option<&'static str>| {
            let record = EventRecord {
                position: Position(7),
                at: AT,
                kind: EventKind::AgentLogged,
                node: "n".to_owned(),
                invocation: None,
                agent: Some(Identity::new("a").unwrap()),
                caller: None,
                detail: r#"{"request_id":"r"}"#.to_owned(),
                payload: payload.map(|payload| Bytes::from_static(payload.as_bytes())),
                hash: [0xab; 32],
            };
            serde_json::to_string(&Page::new(&[record], "cursor".to_owned())).unwrap()
        };
        let page: Json = serde_json::from_str(&event(None)).unwrap();
        assert_eq!(page["next"], "cursor");
        assert_eq!(
            page["events"],
            json!([{
                "position": 7, "at": "2026-01-02T03:04:05.000006Z", "kind": "agent.logged", "node_id": "n",
                "invocation_id": null, "agent_id": "a", "caller": null, "detail": {"request_id": "r"}, "payload": null,
                "hash": "ab".repeat(32),
            }])
        );
        assert!(event(Some(r#"{"b":  1.50, "a": "\ud800"}"#)).contains(r#""payload":{"b":  1.50, "a": "\\ud800"}"#));
        assert!(event(Some("not JSON")).contains(r#""payload":"not JSON""#));
    }
}
