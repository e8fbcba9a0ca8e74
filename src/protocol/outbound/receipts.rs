//! What only those see who asked for more: receipts, and the frames of version 2.

use bytes::Bytes;

use crate::id::{InvocationId, SessionId};
use crate::protocol::json::Members;
use crate::protocol::message_type;

/// To an agent of version 2 that has registered: which of the invocations that it works on it may
/// go on with, and how often it is pinged, in milliseconds.
#[must_use]
pub fn agent_registered(session: SessionId, adopted: &[InvocationId], ping_interval_ms: u64) -> Bytes {
    Members::new()
        .text("message_type", message_type::REGISTERED)
        .text("session_id", &session.to_string())
        .texts("adopted", adopted.iter().map(InvocationId::to_string))
        .number("ping_interval_ms", ping_interval_ms)
        .into_object()
}

/// To a caller: its invocation is durable, or what became of its cancel. `metadata` is the text of
/// the caller's own `request_metadata`, `null` if it had none.
#[must_use]
pub fn caller_receipt(invocation: InvocationId, state: &str, metadata: Option<&[u8]>) -> Bytes {
    Members::new()
        .text("message_type", message_type::RECEIPT)
        .text("invocation_id", &invocation.to_string())
        .text("state", state)
        .raw("request_metadata", metadata.unwrap_or(b"null"))
        .into_object()
}

/// To an agent of version 2: what became of its answer, so that it need not keep it any longer.
/// `outcome` is `accepted`, `duplicate`, `late` or `unknown`.
#[must_use]
pub fn agent_receipt(invocation: &str, outcome: &str) -> Bytes {
    Members::new()
        .text("message_type", message_type::RECEIPT)
        .text("invocation_id", invocation)
        .text("outcome", outcome)
        .into_object()
}

/// To an agent of version 2: nobody wants the answer any more.
#[must_use]
pub fn agent_cancel(invocation: InvocationId) -> Bytes {
    Members::new()
        .text("message_type", message_type::CANCEL)
        .text("invocation_id", &invocation.to_string())
        .into_object()
}
