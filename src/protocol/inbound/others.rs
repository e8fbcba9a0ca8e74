//! What agents say of themselves and of their work, and a caller's cancel.

use bytes::Bytes;

use super::{BadFrame, Frame, Version, label, unexpected, uuid};
use crate::id::InvocationId;
use crate::protocol::json::Value;

/// The most invocations that an agent can list as running.
const MAX_RUNNING: usize = 10_000;

/// An agent, or a master, announces itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Register {
    /// The text of `request_payload`, an object; a view of the frame.
    pub payload: Bytes,
    /// What the session speaks from now on.
    pub version: Version,
    /// The invocations that the agent still works on. Empty for version 1.
    pub running: Vec<InvocationId>,
    /// How many invocations it wants to have at once, at least 1. `None` for version 1.
    pub max_in_flight: Option<u32>,
    /// From the payload, if it is a string there, at most [`super::MAX_LABEL_BYTES`].
    pub agent_name: Option<String>,
}

/// How an agent's work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerKind {
    /// `agent_response`.
    Response,
    /// `agent_error`.
    Error,
}

/// What came out of an invocation; or, from a master, the acknowledgement of a notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Whether the work was done.
    pub kind: AnswerKind,
    /// The delivery's own words, to find it again; empty if missing or `null`.
    pub invoked_by: String,
    /// The better way to find it again, which version 2 has. With version 1 such a field is the
    /// handler's own, and stays in the body.
    pub invocation_id: Option<InvocationId>,
    /// What is passed on: the frame without its correlation and the sender's id.
    pub body: Bytes,
}

/// A line of an agent's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// What is passed on: the frame without its type, its sender and `invoked_by`, which the
    /// backend refuses.
    pub body: Bytes,
    /// At most [`super::MAX_LABEL_BYTES`].
    pub request_id: Option<String>,
    /// At most [`super::MAX_LABEL_BYTES`].
    pub session_id: Option<String>,
}

/// A caller does not want an answer any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cancel {
    /// What is cancelled.
    pub invocation_id: InvocationId,
    /// The text of `request_metadata`, an object, to be sent back with the receipt; a view of the
    /// frame.
    pub metadata: Option<Bytes>,
}

pub(super) fn register(frame: &Frame<'_>) -> Result<Register, BadFrame> {
    let payload = frame
        .object_field("request_payload", "request_payload is not an object")?
        .ok_or(unexpected("request_payload is missing"))?;
    let version = match frame.given("protocol_version").map(Value::as_u64) {
        None | Some(Some(1)) => Version::One,
        Some(Some(2)) => Version::Two,
        Some(_) => return Err(unexpected("protocol_version is neither 1 nor 2")),
    };
    let (running, max_in_flight) = match version {
        Version::One => (Vec::new(), None),
        Version::Two => (running(frame)?, max_in_flight(frame)?),
    };
    Ok(Register {
        payload: frame.view(payload),
        version,
        running,
        max_in_flight,
        agent_name: payload.as_object().and_then(|payload| label(&payload, "agent_name")),
    })
}

fn running(frame: &Frame<'_>) -> Result<Vec<InvocationId>, BadFrame> {
    let mistyped = unexpected("running is not a list of at most 10000 invocation ids");
    let Some(value) = frame.given("running") else {
        return Ok(Vec::new());
    };
    let mut running = Vec::new();
    for element in value.elements().ok_or(mistyped)? {
        if running.len() == MAX_RUNNING {
            return Err(mistyped);
        }
        running.push(InvocationId(uuid(element).ok_or(mistyped)?));
    }
    Ok(running)
}

fn max_in_flight(frame: &Frame<'_>) -> Result<Option<u32>, BadFrame> {
    match frame.given("max_in_flight").map(Value::as_u64) {
        None => Ok(None),
        Some(None | Some(0)) => Err(unexpected("max_in_flight is not a number from 1")),
        Some(Some(wanted)) => Ok(Some(u32::try_from(wanted).unwrap_or(u32::MAX))),
    }
}

pub(super) fn answer(frame: &Frame<'_>, kind: AnswerKind, version: Version) -> Result<Answer, BadFrame> {
    let invoked_by = match frame.given("invoked_by") {
        Some(value) => value.as_text().ok_or(unexpected("invoked_by is not a string"))?.into_owned(),
        None => String::new(),
    };
    let (invocation_id, body) = match version {
        Version::One => (None, frame.without(&["invoked_by", "agent_uuid"])),
        Version::Two => (
            frame.uuid_field("invocation_id", "invocation_id is not an id")?.map(InvocationId),
            frame.without(&["invoked_by", "agent_uuid", "invocation_id"]),
        ),
    };
    Ok(Answer { kind, invoked_by, invocation_id, body })
}

pub(super) fn log(frame: &Frame<'_>) -> Log {
    Log {
        body: frame.without(&["message_type", "agent_uuid", "invoked_by"]),
        request_id: label(&frame.object, "request_id"),
        session_id: label(&frame.object, "session_id"),
    }
}

pub(super) fn cancel(frame: &Frame<'_>) -> Result<Cancel, BadFrame> {
    let invocation_id = frame
        .uuid_field("invocation_id", "invocation_id is not an id")?
        .ok_or(unexpected("invocation_id is missing"))?;
    let metadata = frame.object_field("request_metadata", "request_metadata is not an object")?;
    Ok(Cancel { invocation_id: InvocationId(invocation_id), metadata: metadata.map(|metadata| frame.view(metadata)) })
}
