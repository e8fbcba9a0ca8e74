//! What `POST /v1/invocations` is asked: the body and the headers, read by the rules of the socket's own frame.

use std::borrow::Cow;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName};
use serde_json::json;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, Schema, SchemaType, Type};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use crate::http::Context;
use crate::http::body::JsonBody;
use crate::http::negotiation::preferred_wait;
use crate::http::problem::Problem;
use crate::http::values;
use crate::protocol::json::{Members, Object, Value};
use crate::protocol::{self, BadFrame, Dialect, Inbound, Invoke, Version};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The longest idempotency key, in bytes, as headers are ASCII.
const MAX_KEY_BYTES: usize = 255;
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Fields of the body, and of the frame that says the same.
const FIELDS: [(&str, &str); 6] = [
    ("agent_id", "agent_uuid"),
    ("payload", "request_payload"),
    ("metadata", "request_metadata"),
    ("ttl_ms", "ttl_ms"),
    ("deadline_ms", "deadline_ms"),
    ("max_attempts", "max_attempts"),
];

/// The largest whole number that every JSON reader has exactly.
const MAX_EXACT: u64 = (1 << 53) - 1;

/// The highest that `MAX_ATTEMPTS_LIMIT` can be set to.
const MOST_ATTEMPTS: u64 = 10_000;

/// Fields that are whole numbers: from which, and to which.
const NUMBERS: [(&str, u64, u64); 3] =
    [("ttl_ms", 0, MAX_EXACT), ("deadline_ms", 0, MAX_EXACT), ("max_attempts", 1, MOST_ATTEMPTS)];

/// What the headers of a request say.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub(in crate::http) struct Wishes {
    /// A key of the master's own against doing it twice.
    #[param(rename = "Idempotency-Key", value_type = values::KeyText, inline, required = false)]
    idempotency_key: Option<String>,
    /// `wait=N`: wait up to N seconds for the end. Anything else is passed over.
    #[param(rename = "Prefer", value_type = values::AnyText, inline, required = false)]
    pub(super) wait: Option<Duration>,
    /// A W3C trace context. If it is one, it is kept in the journal; it is passed to the agent.
    #[param(value_type = values::AnyText, inline, required = false)]
    traceparent: Option<String>,
}

/// Blanks at its ends are not the key's, as in any header.
fn is_possible_key(key: &str) -> bool {
    (1..=MAX_KEY_BYTES).contains(&key.len()) && key.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
}

impl Wishes {
    /// Refuses a key that cannot be one.
    pub(super) fn read(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut keys = headers.get_all(IDEMPOTENCY_KEY).iter();
        let key = keys.next().map(|key| key.to_str().ok().filter(|key| is_possible_key(key)));
        if key == Some(None) || keys.next().is_some() {
            let allowed = format!("once, with 1 to {MAX_KEY_BYTES} visible ASCII characters");
            return Err(Problem::malformed(format!("header Idempotency-Key cannot be taken; allowed: {allowed}")));
        }
        Ok(Self {
            idempotency_key: key.flatten().map(str::to_owned),
            wait: preferred_wait(headers),
            traceparent: headers.get(TRACEPARENT).and_then(|trace| trace.to_str().ok()).map(str::to_owned),
        })
    }
}

/// The description of the body, whose bytes are cut and joined, and never decoded.
pub(in crate::http) struct NewInvocation;

impl ToSchema for NewInvocation {
    fn name() -> Cow<'static, str> {
        "NewInvocation".into()
    }
}

impl PartialSchema for NewInvocation {
    #[expect(clippy::cast_precision_loss, reason = "exactly the numbers without a loss")]
    fn schema() -> RefOr<Schema> {
        let nullable = |kind, description| {
            ObjectBuilder::new().schema_type(SchemaType::from_iter([kind, Type::Null])).description(Some(description))
        };
        let millis =
            |description| nullable(Type::Integer, description).minimum(Some(0)).maximum(Some(MAX_EXACT as f64));
        ObjectBuilder::new()
            .schema_type(Type::Object)
            .description(Some("What an agent is to do. Every field but `agent_id` may be left out or null."))
            .property("agent_id", values::name().description(Some("Which agent.")))
            .property("payload", nullable(Type::Object, "What its handler gets, passed on as the bytes that came."))
            .property(
                "metadata",
                nullable(
                    Type::Object,
                    "Passed on as well. By `request_id` and `session_id` the invocation can be found.",
                ),
            )
            .property(
                "ttl_ms",
                millis("Milliseconds that it may wait while its agent is away; 0 never waits. Cut to `MAX_DEADLINE`."),
            )
            .property("deadline_ms", millis("Milliseconds from its acceptance to its end. Cut to `MAX_DEADLINE`."))
            .property(
                "max_attempts",
                nullable(
                    Type::Integer,
                    "How often work that the agent has received may be started. At most `MAX_ATTEMPTS_LIMIT`.",
                )
                .minimum(Some(1))
                .maximum(Some(MOST_ATTEMPTS as f64)),
            )
            .required("agent_id")
            .additional_properties(Some(AdditionalProperties::FreeForm(false)))
            .examples([json!({
                "agent_id": "5f0c1bd2-6f1c-4b8e-9d7e-0c8a3f1e2d4b", "payload": {"name": "Ada"},
                "metadata": {"request_id": "r1", "session_id": "s1"}, "ttl_ms": 60_000,
            })])
            .into()
    }
}

/// What is asked for, read by the rules of the socket's own frame.
pub(super) fn understood(context: &Context, wishes: &Wishes, body: &JsonBody) -> Result<Box<Invoke>, Problem> {
    let object = body.object(&FIELDS.map(|(field, _)| field))?;
    check(&object)?;
    let mut frame = Members::new().text("message_type", "agent_invoke");
    for (field, of_the_frame) in FIELDS {
        if let Some(value) = given(&object, field) {
            frame = match whole(value) {
                Some(number) => frame.number(of_the_frame, number),
                None => frame.raw(of_the_frame, value.bytes()),
            };
        }
    }
    if let Some(key) = &wishes.idempotency_key {
        frame = frame.text("idempotency_key", key);
    }
    if let Some(trace) = &wishes.traceparent {
        frame = frame.text("traceparent", trace);
    }
    let dialect = Dialect { version: Version::One, secured: context.settings.authenticator.is_secured() };
    match protocol::parse(&frame.into_object(), dialect) {
        Ok(Inbound::Invoke(invoke)) => without_keys(context, wishes, invoke),
        Ok(_) => Err(Problem::malformed("the body asks for something else than an invocation")),
        Err(BadFrame::AgentUuid) => Err(Problem::not_found("no agent can have this agent_id: check it")),
        Err(bad) => Err(Problem::malformed(format!("the body cannot be taken: {bad}"))),
    }
}

/// Refuses one that has a key of the router's where it would be journaled.
fn without_keys(context: &Context, wishes: &Wishes, invoke: Box<Invoke>) -> Result<Box<Invoke>, Problem> {
    let key = wishes.idempotency_key.as_deref().unwrap_or_default();
    let trace = wishes.traceparent.as_deref().unwrap_or_default();
    for (place, text) in [("agent_id", &*invoke.target), ("Idempotency-Key", key), ("traceparent", trace)] {
        if context.settings.authenticator.finds_secret(text.as_bytes()) {
            let detail =
                format!("there is a key of the router's in {place}: replace that key, and send what belongs there");
            return Err(Problem::malformed(detail));
        }
    }
    Ok(invoke)
}

/// What the frame's own rules do not say, or say in the frame's words.
fn check(object: &Object<'_>) -> Result<(), Problem> {
    let id = object.get("agent_id").ok_or_else(|| Problem::malformed("field agent_id is missing"))?;
    if id.string_content().is_none() {
        return Err(Problem::malformed("field agent_id is not a string"));
    }
    // One with a lone surrogate is no text, and nobody's id.
    if id.as_text().is_some_and(|id| !values::is_name(&id)) {
        let allowed = values::allowed_name();
        return Err(Problem::malformed(format!("field agent_id is not a possible id; allowed: {allowed}")));
    }
    for field in ["payload", "metadata"] {
        if given(object, field).is_some_and(|value| !value.is_object()) {
            return Err(Problem::malformed(format!("field {field} is not an object")));
        }
    }
    for (field, least, most) in NUMBERS {
        let fits = |value: Value<'_>| whole(value).is_some_and(|number| (least..=most).contains(&number));
        if given(object, field).is_some_and(|value| !fits(value)) {
            return Err(Problem::malformed(format!("field {field} is not a whole number from {least} to {most}")));
        }
    }
    Ok(())
}

/// A whole number, however it is written: to a schema, `60.0` is one too.
#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_sign_loss, reason = "in range")]
fn whole(value: Value<'_>) -> Option<u64> {
    let written = || str::from_utf8(value.bytes()).ok()?.parse().ok();
    let is_exact = |number: &f64| number.fract() == 0.0 && (0.0..=MAX_EXACT as f64).contains(number);
    value.as_u64().or_else(|| written().filter(is_exact).map(|number: f64| number as u64))
}

/// A field that is there and not `null`.
fn given<'a>(object: &Object<'a>, field: &str) -> Option<Value<'a>> {
    object.get(field).filter(|value| !value.is_null())
}
