//! Frames that peers send: parsed once, here, into what the rest of the router can rely on.
//!
//! A frame that a peer will see again keeps its bytes: the fields that are the router's business
//! are cut out, and nothing else is touched.

mod invoke;
mod others;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use bytes::Bytes;
use uuid::Uuid;

use self::others::{answer, cancel, log, register};
use super::json::{Object, ParseError, Value};
use super::message_type;

pub use self::invoke::{Invoke, InvokeOptions};
pub use self::others::{Answer, AnswerKind, Cancel, Log, Register};

/// The longest `request_id` or `session_id` that is kept, in bytes; the rest is cut off.
pub const MAX_LABEL_BYTES: usize = 255;

/// The protocol version that an agent registers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    /// What existing clients speak; also what a session speaks before it has registered.
    #[default]
    One,
    /// For agents that say more.
    Two,
}

impl Version {
    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::One => 1,
            Self::Two => 2,
        }
    }
}

/// What decides how a peer's frames are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dialect {
    /// What the session has registered with.
    pub version: Version,
    /// Whether the router runs in secured mode, where every agent's id is a UUID.
    pub secured: bool,
}

/// A frame that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inbound {
    /// `agent_register`.
    Register(Register),
    /// `agent_unregister`: the agent wants no more invocations.
    Unregister,
    /// `agent_invoke`.
    Invoke(Box<Invoke>),
    /// `agent_response` or `agent_error`.
    Answer(Answer),
    /// `agent_log`.
    Log(Log),
    /// `agent_cancel`.
    Cancel(Cancel),
}

/// A frame that was not understood: it gets one error, and changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// Not JSON as Python reads it.
    #[error("not JSON")]
    NotJson,
    /// An `agent_invoke` with neither a payload nor an agent.
    #[error("neither a payload nor an agent")]
    NoPayload,
    /// Of an unknown type, not an object, binary, or with a field of a wrong type.
    #[error("{reason}")]
    Unexpected {
        /// What is wrong, for the journal; nothing of the frame's contents.
        reason: &'static str,
    },
    /// `agent_uuid` is not a string, or not an id where it has to be one.
    #[error("agent_uuid is no agent's id")]
    AgentUuid,
}

impl From<ParseError> for BadFrame {
    fn from(error: ParseError) -> Self {
        match error {
            ParseError::NotJson => Self::NotJson,
            ParseError::NotUtf8 => unexpected("the frame is binary"),
            ParseError::NotAnObject => unexpected("the frame is not an object"),
            ParseError::TooDeep => unexpected("the frame is nested too deeply for an agent to read"),
            ParseError::TooManyDigits => unexpected("the frame has an integer too long for an agent to read"),
        }
    }
}

fn unexpected(reason: &'static str) -> BadFrame {
    BadFrame::Unexpected { reason }
}

/// Reads one text frame.
pub fn parse(text: &Bytes, dialect: Dialect) -> Result<Inbound, BadFrame> {
    let frame = Frame { text, object: Object::parse(text)? };
    let kind = frame.object.get("message_type").and_then(Value::as_text);
    match kind.as_deref() {
        Some(message_type::REGISTER) => register(&frame).map(Inbound::Register),
        Some(message_type::UNREGISTER) if dialect.version == Version::Two => Ok(Inbound::Unregister),
        Some(message_type::INVOKE) => invoke::invoke(&frame, dialect).map(|invoke| Inbound::Invoke(Box::new(invoke))),
        Some(message_type::RESPONSE) => answer(&frame, AnswerKind::Response, dialect.version).map(Inbound::Answer),
        Some(message_type::ERROR) => answer(&frame, AnswerKind::Error, dialect.version).map(Inbound::Answer),
        Some(message_type::LOG) => Ok(Inbound::Log(log(&frame))),
        Some(message_type::CANCEL) => cancel(&frame).map(Inbound::Cancel),
        Some(_) => Err(unexpected("message_type is unknown")),
        None => Err(unexpected("message_type is missing or not a string")),
    }
}

/// A frame's fields, and the buffer that they are views of.
struct Frame<'a> {
    text: &'a Bytes,
    object: Object<'a>,
}

impl<'a> Frame<'a> {
    /// A field that is there and not `null`.
    fn given(&self, name: &str) -> Option<Value<'a>> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// A field that an agent reads as an object, and breaks on if it is anything else, `null`
    /// included.
    fn object_field(&self, name: &str, mistyped: &'static str) -> Result<Option<Value<'a>>, BadFrame> {
        match self.object.get(name) {
            Some(value) if !value.is_object() => Err(unexpected(mistyped)),
            value => Ok(value),
        }
    }

    /// A field that is an invocation's id, if it is given.
    fn uuid_field(&self, name: &str, mistyped: &'static str) -> Result<Option<Uuid>, BadFrame> {
        self.given(name).map(|value| uuid(value).ok_or(unexpected(mistyped))).transpose()
    }

    /// A value of this frame, sharing its buffer.
    fn view(&self, value: Value<'a>) -> Bytes {
        self.text.slice_ref(value.bytes())
    }

    /// The frame without these fields: in a new buffer, or the frame itself if it has none of them.
    fn without(&self, names: &[&str]) -> Bytes {
        match self.object.without(names) {
            Cow::Borrowed(_) => self.text.clone(),
            Cow::Owned(body) => body.into(),
        }
    }
}

fn uuid(value: Value<'_>) -> Option<Uuid> {
    Uuid::try_parse(&value.as_text()?).ok()
}

/// `request_id` or `session_id`: the caller's own words to find an invocation again. Anything but a
/// string is ignored. A NUL, which not every database takes in a text, is kept as U+FFFD.
fn label(object: &Object<'_>, name: &str) -> Option<String> {
    let text = object.get(name)?.as_text()?;
    let text = if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { text };
    Some(text[..text.floor_char_boundary(MAX_LABEL_BYTES)].to_owned())
}
