//! What a cause must bring about: the model's reading of one command, before it looks at what the router made of it.

use std::collections::VecDeque;

use agent_router::clock::Timestamp;
use agent_router::code::ErrorCode;
use agent_router::id::{Identity, InvocationId, SessionId};
use agent_router::journal::{Event, EventKind};
use agent_router::protocol::{AnswerKind, Invoke, Register};
use agent_router::router::{Command, Effect, EndReason, Ending, Verdict};
use bytes::Bytes;
use serde_json::{Value, json};

/// Why the router did something.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cause<'a> {
    Command(&'a Command, Verdict),
    Time,
    Restart,
}

/// One cause, and all that the router made of it.
#[derive(Debug)]
pub(super) struct Seen<'a> {
    pub(super) cause: Cause<'a>,
    pub(super) now: Timestamp,
    pub(super) events: &'a [Event],
    pub(super) effects: &'a [Effect],
    pub(super) at_once: &'a [Effect],
}

/// What must come of a cause. Events take from it what they stand for; at the end nothing may be left.
#[derive(Debug, Default)]
pub(super) struct Scene {
    pub(super) now: Timestamp,
    pub(super) restarting: bool,
    pub(super) time_passes: bool,
    pub(super) refused: Option<ErrorCode>,
    /// What else the asker is told, if it is not just that its command was taken.
    pub(super) told: Option<Verdict>,
    /// Events of which there is exactly one each.
    pub(super) due: Vec<EventKind>,
    pub(super) accepting: Option<(Asker, Invoke)>,
    pub(super) posting: Option<(Identity, Identity, Bytes)>,
    pub(super) registering: Option<(SessionId, Register)>,
    /// Who has just come back, so that the rest of its interrupted work is decided.
    pub(super) returned: Option<Identity>,
    pub(super) adopting: VecDeque<InvocationId>,
    pub(super) receipts: VecDeque<(InvocationId, u32)>,
    pub(super) confirmed: VecDeque<InvocationId>,
    pub(super) ending: Option<EndReason>,
    pub(super) answering: Option<Answering>,
    /// Effects, each of which there must be exactly once.
    pub(super) deliveries: VecDeque<(SessionId, InvocationId, u32, String)>,
    pub(super) answers: Vec<(SessionId, InvocationId, bool)>,
    pub(super) frames: Vec<(SessionId, Value)>,
    pub(super) evictions: Vec<(SessionId, Ending)>,
    /// Another socket of the backend gets the feed.
    pub(super) feed_moves: bool,
    pub(super) finished: Vec<InvocationId>,
    /// Answers that nobody fetched in time; in the same moment, but before, they may have been sent once more.
    pub(super) given_up: Vec<InvocationId>,
    /// Plain names that time has just set free; what came due before may not know yet.
    pub(super) released: Vec<(Identity, String)>,
}

/// Who asks for an invocation.
#[derive(Clone, Debug)]
pub(super) enum Asker {
    Socket(SessionId),
    /// A master.
    Http(Identity),
}

/// An answer that came in.
#[derive(Debug)]
pub(super) struct Answering {
    pub(super) to: Option<InvocationId>,
    pub(super) settles_plain: bool,
    pub(super) kind: AnswerKind,
    pub(super) body: Bytes,
}

impl Scene {
    pub(super) fn take_due(&mut self, kind: EventKind) {
        let place = self.due.iter().position(|due| *due == kind);
        self.due.swap_remove(place.unwrap_or_else(|| panic!("{kind:?} is not to happen now")));
    }

    pub(super) fn assert_nothing_left(&self) {
        assert!(self.due.is_empty(), "did not happen: {:?}", self.due);
        assert!(self.registering.is_none(), "was not registered: {:?}", self.registering);
        assert!(self.adopting.is_empty(), "were not adopted: {:?}", self.adopting);
        assert!(self.receipts.is_empty(), "receipts that did not count: {:?}", self.receipts);
        assert!(self.confirmed.is_empty(), "confirmations that did not count: {:?}", self.confirmed);
    }
}

pub(super) fn receipt(id: InvocationId, state: &str, metadata: Option<&Bytes>) -> Value {
    json!({
        "message_type": "agent_receipt", "invocation_id": id.to_string(), "state": state,
        "request_metadata": metadata.map_or(Value::Null, |metadata| value(Some(metadata))),
    })
}

pub(super) fn value(bytes: Option<&Bytes>) -> Value {
    bytes.map_or_else(|| json!({}), |bytes| serde_json::from_slice(bytes).expect("the tests send JSON"))
}
