//! What the backend is told of agents, and an agent of its dismissal.

use bytes::Bytes;

use super::fields;
use crate::protocol::json::Members;
use crate::protocol::message_type;

/// An agent has registered. `payload` is the object it registered with, `jwt` the credential of its
/// connection, which only a connection that still lives has.
#[must_use]
pub fn registered_notice(payload: &[u8], agent: &str, jwt: Option<&str>) -> Bytes {
    let mut last = Members::new().text("agent_uuid", agent);
    last = match jwt {
        Some(jwt) => last.text("agent_jwt", jwt),
        None => last.raw("agent_jwt", b"null"),
    };
    last = last.text("message_type", message_type::REGISTER);
    let notice = fields(payload).splice(&["agent_uuid", "agent_jwt", "message_type"], &Members::new(), &last);
    Members::new().raw("request_payload", &notice).into_object()
}

/// An agent's connection has ended.
#[must_use]
pub fn unregistered_notice(agent: &str) -> Bytes {
    let notice = Members::new().text("agent_uuid", agent).text("message_type", message_type::UNREGISTER);
    Members::new().object("request_payload", &notice).into_object()
}

/// The backend dismisses an agent, whose library exits on it. `payload` is the object that the
/// backend sent.
#[must_use]
pub fn dismissal(payload: &[u8]) -> Bytes {
    let last = Members::new().text("message_type", message_type::ERROR);
    let error = fields(payload).splice(&["message_type"], &Members::new(), &last);
    Members::new().raw("error", &error).into_object()
}
