//! Who asks: on sockets of their own, on an invoke socket for each call, over HTTP.

pub(super) mod one_by_one;
pub(super) mod over_http;
pub(super) mod own_socket;

use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::notes::{End, Mark, Note, Notes, Way, new_text};
use super::stage::Stage;

/// A call that is about to be made.
struct Call {
    mark: Mark,
    agent: Uuid,
    text: String,
    max_attempts: u64,
    deadline_ms: u64,
    ttl_ms: Option<u64>,
}

impl Call {
    /// A new one, written down.
    fn new(stage: &Stage, random: &mut StdRng, notes: &mut Notes) -> Self {
        let (mark, text) = new_text(stage.bodies, random);
        let agent = stage.agent(random);
        notes.notes.push(Note::Asked { call: mark, agent });
        Self {
            mark,
            agent,
            text,
            max_attempts: random.random_range(1..4),
            deadline_ms: random.random_range(1_500..6_000),
            ttl_ms: random.random_bool(0.2).then(|| random.random_range(0..4_000)),
        }
    }

    fn frame(&self, has_key: bool) -> Value {
        let mut frame = json!({
            "message_type": "agent_invoke",
            "agent_uuid": self.agent,
            "request_payload": {"call": self.text},
            "request_metadata": {"request_id": self.mark.name, "session_id": "of the load"},
            "max_attempts": self.max_attempts,
            "deadline_ms": self.deadline_ms,
            "receipt": true,
        });
        if let Some(ttl_ms) = self.ttl_ms {
            frame["ttl_ms"] = json!(ttl_ms);
        }
        if has_key {
            frame["idempotency_key"] = json!(self.mark.name);
        }
        frame
    }

    /// The same over HTTP.
    fn body(&self) -> Value {
        let mut body = json!({
            "agent_id": self.agent,
            "payload": {"call": self.text},
            "metadata": {"request_id": self.mark.name, "session_id": "of the load"},
            "max_attempts": self.max_attempts,
            "deadline_ms": self.deadline_ms,
        });
        if let Some(ttl_ms) = self.ttl_ms {
            body["ttl_ms"] = json!(ttl_ms);
        }
        body
    }
}

/// What a frame tells a caller.
enum Heard {
    /// That this invocation was accepted; the call's name.
    Accepted(Uuid, Option<Uuid>),
    Ended(Uuid, End),
    /// Some call was refused.
    Refused,
    /// Something else.
    Else,
}

fn hear(frame: &Value) -> Heard {
    let id = |value: &Value| value.as_str().and_then(|id| id.parse::<Uuid>().ok());
    let text = |value: &Value| value.as_str().and_then(Mark::in_text);
    let code = frame["error"]["code"].as_str();
    match (frame["message_type"].as_str(), id(&frame["invocation_id"])) {
        (Some("agent_receipt"), Some(invocation)) => {
            Heard::Accepted(invocation, id(&frame["request_metadata"]["request_id"]))
        }
        (Some("agent_response"), Some(invocation)) => {
            Heard::Ended(invocation, End { way: Way::Completed, answer: text(&frame["response"]) })
        }
        (Some("agent_error"), Some(invocation)) => match code {
            None => Heard::Ended(invocation, End { way: Way::Failed, answer: text(&frame["error"]["error_message"]) }),
            Some(code) => End::by_code(code).map_or(Heard::Refused, |end| Heard::Ended(invocation, end)),
        },
        (Some("agent_error"), None) => Heard::Refused,
        _ => Heard::Else,
    }
}
