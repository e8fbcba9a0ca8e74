//! Frames for tests that speak to the router without sockets.

use agent_router::id::SessionId;
use agent_router::protocol::{self, Dialect, Inbound, Version};
use agent_router::router::Command;
use bytes::Bytes;
use serde_json::Value;

/// What a session of that version makes of a frame.
pub(crate) fn command(session: SessionId, version: Version, frame: &Value) -> Command {
    let text = Bytes::from(frame.to_string());
    match protocol::parse(&text, Dialect { version, secured: false }).expect("a frame that makes sense") {
        Inbound::Register(register) => Command::Register { session, register },
        Inbound::Unregister => Command::Unregister { session },
        Inbound::Invoke(invoke) => Command::Invoke { session, invoke },
        Inbound::Answer(answer) => Command::Answer { session, answer },
        Inbound::Log(log) => Command::Log { session, log },
        Inbound::Cancel(cancel) => Command::Cancel { session, cancel },
    }
}
