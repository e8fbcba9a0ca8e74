//! `agent_invoke`: a caller asks an agent to do something.

use bytes::Bytes;
use uuid::Uuid;

use super::{BadFrame, Dialect, Frame, label, unexpected};
use crate::id::Identity;
use crate::protocol::json::{Object, Value};

/// The longest idempotency key, in characters.
const MAX_IDEMPOTENCY_KEY_CHARS: usize = 255;

/// What an agent is not to see of a caller's frame.
const CUT: [&str; 7] =
    ["message_type", "agent_uuid", "ttl_ms", "deadline_ms", "max_attempts", "receipt", "idempotency_key"];

/// A call of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invoke {
    /// The agent's id as the caller gave it (in secured mode in its canonical form). It may be no
    /// agent's, and it may be empty.
    pub target: String,
    /// What is passed on: the frame without its type, its target and the options.
    pub body: Bytes,
    /// The text of `request_payload`, an object; a view of the frame.
    pub payload: Option<Bytes>,
    /// The text of `request_metadata`, an object; a view of the frame.
    pub metadata: Option<Bytes>,
    /// From `request_metadata`, at most [`super::MAX_LABEL_BYTES`].
    pub request_id: Option<String>,
    /// From `request_metadata`, at most [`super::MAX_LABEL_BYTES`].
    pub session_id: Option<String>,
    /// The W3C trace context that came with it, if it is one. It is passed on with the body.
    pub traceparent: Option<String>,
    /// How the caller wants it done.
    pub options: InvokeOptions,
    /// The payload has an `error_message`: from the backend's invoke socket, the agent is dismissed
    /// and not invoked.
    pub dismissal: bool,
}

/// The optional fields of a call. `null` is the same as nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InvokeOptions {
    /// How long it may wait for the agent, in milliseconds; zero: not at all.
    pub ttl_ms: Option<u64>,
    /// From accepted to finished, in milliseconds.
    pub deadline_ms: Option<u64>,
    /// How often the work may be started; at least 1.
    pub max_attempts: Option<u32>,
    /// The caller wants to be told when it is accepted.
    pub receipt: bool,
    /// 1 to 255 characters.
    pub idempotency_key: Option<String>,
    /// Whether any of them was given: then the caller sees what this router adds to answers and
    /// errors.
    pub used: bool,
}

pub(super) fn invoke(frame: &Frame<'_>, dialect: Dialect) -> Result<Invoke, BadFrame> {
    let absent = |name| frame.object.get(name).is_none_or(Value::is_falsy);
    if absent("request_payload") && absent("agent_uuid") {
        return Err(BadFrame::NoPayload);
    }
    let target = target(frame.object.get("agent_uuid"), dialect.secured)?;
    let payload = frame.object_field("request_payload", "request_payload is not an object")?;
    let metadata = frame.object_field("request_metadata", "request_metadata is not an object")?;
    if frame.object.get("error").is_some_and(|error| !error.is_falsy()) {
        // An agent takes it for its dismissal: it would end, or never answer.
        return Err(unexpected("an invocation has an error"));
    }
    let options = options(frame)?;
    let labels = metadata.and_then(Value::as_object);
    let label = |name| labels.as_ref().and_then(|labels: &Object<'_>| label(labels, name));
    Ok(Invoke {
        target,
        body: frame.without(&CUT),
        payload: payload.map(|payload| frame.view(payload)),
        metadata: metadata.map(|metadata| frame.view(metadata)),
        request_id: label("request_id"),
        session_id: label("session_id"),
        traceparent: traceparent(frame),
        options,
        dismissal: payload.and_then(Value::as_object).is_some_and(|payload| payload.get("error_message").is_some()),
    })
}

/// The W3C trace context of the call. Anything else of that name is the agent's business alone.
fn traceparent(frame: &Frame<'_>) -> Option<String> {
    let text = frame.given("traceparent")?.as_text()?;
    is_traceparent(&text).then(|| text.into_owned())
}

/// Version 00 of the W3C recommendation: `00-<32 digits>-<16 digits>-<2 digits>`, in lower case; an id that is all zeroes is
/// none.
fn is_traceparent(text: &str) -> bool {
    let mut parts = text.splitn(4, '-');
    let [Some(version), Some(trace), Some(parent), Some(flags)] = std::array::from_fn(|_| parts.next()) else {
        return false;
    };
    let is_hex =
        |part: &str, digits| part.len() == digits && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_id = |part: &str, digits| is_hex(part, digits) && part.bytes().any(|byte| byte != b'0');
    version == "00" && is_id(trace, 32) && is_id(parent, 16) && is_hex(flags, 2)
}

fn target(agent_uuid: Option<Value<'_>>, secured: bool) -> Result<String, BadFrame> {
    let target = agent_uuid.and_then(Value::as_text).ok_or(BadFrame::AgentUuid)?;
    if !secured || [Identity::BACKEND, Identity::ML].contains(&&*target) {
        return Ok(target.into_owned());
    }
    Uuid::try_parse(&target).map(|id| id.to_string()).map_err(|_| BadFrame::AgentUuid)
}

fn options(frame: &Frame<'_>) -> Result<InvokeOptions, BadFrame> {
    let ttl = frame.given("ttl_ms");
    let deadline = frame.given("deadline_ms");
    let max_attempts = frame.given("max_attempts");
    let receipt = frame.given("receipt");
    let idempotency_key = frame.given("idempotency_key");
    Ok(InvokeOptions {
        used: [ttl, deadline, max_attempts, receipt, idempotency_key].iter().any(Option::is_some),
        ttl_ms: read(ttl, Value::as_u64, "ttl_ms is not a number of milliseconds")?,
        deadline_ms: read(deadline, Value::as_u64, "deadline_ms is not a number of milliseconds")?,
        max_attempts: read(max_attempts, attempts, "max_attempts is not a number from 1")?,
        receipt: read(receipt, Value::as_bool, "receipt is neither true nor false")?.unwrap_or_default(),
        idempotency_key: read(idempotency_key, key, "idempotency_key is not a string of 1 to 255 characters")?,
    })
}

fn read<'a, T>(
    value: Option<Value<'a>>,
    read: impl FnOnce(Value<'a>) -> Option<T>,
    mistyped: &'static str,
) -> Result<Option<T>, BadFrame> {
    value.map(|value| read(value).ok_or(unexpected(mistyped))).transpose()
}

fn attempts(value: Value<'_>) -> Option<u32> {
    value.as_u64()?.try_into().ok().filter(|&attempts| attempts > 0)
}

/// A NUL is refused, as not every database takes it in a text.
fn key(value: Value<'_>) -> Option<String> {
    let key = value.as_text()?;
    let fits = (1..=MAX_IDEMPOTENCY_KEY_CHARS).contains(&key.chars().take(MAX_IDEMPOTENCY_KEY_CHARS + 1).count());
    (fits && !key.contains('\0')).then(|| key.into_owned())
}
