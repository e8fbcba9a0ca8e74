//! Errors, exactly as existing clients know them.
//!
//! An error about an invocation has a `message_type`, without which `session.send()` waits for
//! ever. An error about a bad frame has none.

use bytes::Bytes;

use crate::code::ErrorCode;
use crate::id::InvocationId;
use crate::protocol::inbound::BadFrame;
use crate::protocol::json::Members;
use crate::protocol::message_type;

/// How much of a bad frame is sent back, in bytes.
const MAX_QUOTED_BYTES: usize = 4096;

const GENERAL_ERROR: &str = "AgentGeneralError";

/// What a caller that sees additions is told besides the error.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ErrorAddition {
    /// The invocation, if there is one.
    pub invocation_id: Option<InvocationId>,
    /// How many invocations wait for the agent, for [`ErrorCode::QueueFull`].
    pub queued: Option<u64>,
    /// When to try again, in milliseconds from now, for [`ErrorCode::QueueFull`] and [`ErrorCode::RateLimited`].
    pub retry_after_ms: Option<u64>,
}

/// An invocation of `agent` was refused, or ended without an answer.
#[must_use]
pub fn invocation_error(code: ErrorCode, agent: &str, addition: Option<ErrorAddition>) -> Bytes {
    let mut error = Members::new().text("error_message", code.message());
    error = match code {
        ErrorCode::AgentLost => error.text("agent_uuid", agent),
        _ => error.text("error_type", code.error_type()),
    };
    let mut frame = Members::new().text("message_type", message_type::ERROR);
    if let Some(addition) = addition {
        error = error.text("code", code.as_str());
        if let Some(queued) = addition.queued {
            error = error.number("queued", queued);
        }
        if let Some(retry_after_ms) = addition.retry_after_ms {
            error = error.number("retry_after_ms", retry_after_ms);
        }
        if let Some(invocation_id) = addition.invocation_id {
            frame = frame.text("invocation_id", &invocation_id.to_string());
        }
    }
    frame.object("error", &error).into_object()
}

/// `agent_uuid` is no agent's id.
#[must_use]
pub fn agent_uuid_error() -> Bytes {
    let error = error("Invalid agent UUID", "AgentUUIDError");
    Members::new().text("message_type", message_type::ERROR).object("error", &error).into_object()
}

/// A frame that was not understood; `frame` is what came, text or not.
#[must_use]
pub fn frame_error(bad: &BadFrame, frame: &[u8]) -> Bytes {
    let error = match bad {
        BadFrame::NotJson => error("Invalid JSON format", "InvalidJSONRequestFormat"),
        BadFrame::NoPayload => error("Missing request payload or agent UUID", "NoRequestPayload"),
        BadFrame::Unexpected { .. } => {
            let quoted = String::from_utf8_lossy(beginning(frame));
            error(&format!("Unexpected exception: {quoted}"), GENERAL_ERROR)
        }
        BadFrame::AgentUuid => return agent_uuid_error(),
    };
    Members::new().object("error", &error).into_object()
}

/// A frame that was too large to be looked at.
#[must_use]
pub fn frame_too_large_error() -> Bytes {
    let error = error(ErrorCode::FrameTooLarge.message(), GENERAL_ERROR);
    Members::new().object("error", &error).into_object()
}

fn error(message: &str, error_type: &str) -> Members {
    Members::new().text("error_message", message).text("error_type", error_type)
}

/// As much of a frame as is sent back, not cut within a character.
fn beginning(frame: &[u8]) -> &[u8] {
    let Some(mut next) = frame.get(MAX_QUOTED_BYTES).copied() else {
        return frame;
    };
    let mut end = MAX_QUOTED_BYTES;
    // At most three bytes of a character come before its last one.
    while is_continuation(next) && end > MAX_QUOTED_BYTES - 3 {
        end -= 1;
        next = frame[end];
    }
    &frame[..end]
}

fn is_continuation(byte: u8) -> bool {
    byte & 0b1100_0000 == 0b1000_0000
}
