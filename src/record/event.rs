//! Events.

use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{hex, schema, strict};
use crate::id::{Identity, InvocationId, Position};
use crate::journal::EventRecord;
use crate::protocol::Redactor;

/// Some events, and where to go on behind them.
#[derive(Serialize, ToSchema)]
#[schema(as = EventPage)]
pub struct Page<'a> {
    events: Vec<Event<'a>>,
    /// The cursor that goes on behind these events. It is always there: what comes later is found by it too.
    next: String,
}

impl<'a> Page<'a> {
    /// With the cursor that goes on behind it.
    #[must_use]
    pub fn new(events: &'a [EventRecord], redactor: &Redactor, next: String) -> Self {
        Self { events: events.iter().map(|event| Event::new(event, redactor)).collect(), next }
    }
}

/// One thing that happened, at its place in the journal.
#[derive(Serialize, ToSchema)]
pub struct Event<'a> {
    /// Its place: contiguous, from 1.
    #[schema(value_type = i64, minimum = 1, examples(42))]
    pub(super) position: Position,
    /// When it was decided: UTC, with microseconds.
    #[schema(value_type = String, format = DateTime, examples("2026-01-02T03:04:05.000006Z"))]
    pub(super) at: String,
    /// What kind of thing happened.
    #[schema(schema_with = schema::event_kind)]
    pub(super) kind: &'static str,
    /// The router that wrote it.
    pub(super) node_id: &'a str,
    /// The invocation that it is about.
    #[schema(value_type = Option<String>, format = Uuid, required = true)]
    pub(super) invocation_id: Option<InvocationId>,
    /// The agent that it is about.
    #[schema(value_type = Option<String>, required = true)]
    pub(super) agent_id: Option<&'a Identity>,
    /// The caller that it is about.
    #[schema(value_type = Option<String>, required = true)]
    pub(super) caller: Option<&'a Identity>,
    /// The facts that belong to the kind, exactly as they were hashed.
    #[schema(value_type = Object, examples(json!({"attempt": 1})))]
    pub(super) detail: Box<RawValue>,
    /// A peer's own JSON, with secrets hidden; null if there never was one, or if it was erased.
    #[schema(schema_with = schema::any_json, required = true)]
    pub(super) payload: Option<Box<RawValue>>,
    /// SHA-256 of the chain up to and with this event.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    pub(super) hash: String,
    /// SHA-256 of `salt` and the payload as it was stored; null if there never was one.
    #[schema(value_type = Option<String>, pattern = "^[0-9a-f]{64}$", required = true)]
    pub(super) payload_hash: Option<String>,
    /// The salt of `payload_hash`. It is there only if `payload` is, byte for byte as it was stored: with it, a short
    /// secret could be guessed.
    #[schema(value_type = Option<String>, pattern = "^[0-9a-f]{32}$", required = true)]
    pub(super) salt: Option<String>,
    /// True if `payload` is not byte for byte what was stored: something in it is hidden, or strict JSON has no word for
    /// it. Otherwise absent.
    #[serde(skip_serializing_if = "is_false")]
    #[schema(required = false)]
    pub(super) redacted: bool,
    /// True if there was a payload and it was erased. Otherwise absent.
    #[serde(skip_serializing_if = "is_false")]
    #[schema(required = false)]
    pub(super) erased: bool,
}

impl<'a> Event<'a> {
    /// As it is stored, with the secrets in its payload hidden.
    #[must_use]
    pub fn new(event: &'a EventRecord, redactor: &Redactor) -> Self {
        let payload = event.payload.as_deref().map(|payload| strict(&redactor.redact(payload)));
        let shown = payload.as_ref().map(|payload| payload.get().as_bytes());
        let as_stored = shown == event.payload.as_deref();
        Self {
            position: event.position,
            at: event.at.to_rfc3339(),
            kind: event.kind.as_str(),
            node_id: &event.node,
            invocation_id: event.invocation,
            agent_id: event.agent.as_ref(),
            caller: event.caller.as_ref(),
            detail: strict(event.detail.as_bytes()),
            hash: hex(&event.hash),
            payload_hash: event.payload_hash.map(|hash| hex(&hash)),
            salt: event.salt.filter(|_| payload.is_some() && as_stored).map(|salt| hex(&salt)),
            redacted: !as_stored,
            erased: payload.is_none() && event.payload_hash.is_some(),
            payload,
        }
    }
}

/// The event as one line of an export, without the line's end: a JSON object.
#[must_use]
#[expect(clippy::missing_panics_doc, reason = "it does not panic")]
pub fn event_line(event: &EventRecord, redactor: &Redactor) -> Vec<u8> {
    serde_json::to_vec(&Event::new(event, redactor)).expect("strings, numbers and JSON can be written as JSON")
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}
