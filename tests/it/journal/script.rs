//! What happens, in batches: events at the next place, and the rows that they amount to.

use std::time::Duration;

use agent_router::clock::Timestamp;
use agent_router::id::{Identity, InvocationId, NodeId, Position, SessionId};
use agent_router::invocation::{Invocation, Labels, Order, Origin, Outcome, Reply, Terms};
use agent_router::journal::chain::to_hex;
use agent_router::journal::{Accepted, Batch, Detail, Erased, Event, Head};
use bytes::Bytes;

pub(super) fn identity(name: &str) -> Identity {
    Identity::new(name).unwrap()
}

/// A moment, in seconds after one long ago.
pub(super) fn second(second: i64) -> Timestamp {
    Timestamp::from_micros(1_767_322_985_000_000 + second * 1_000_000)
}

/// Writes batches, each event after the last.
pub(super) struct Script {
    pub(super) position: Position,
    pub(super) batch: Batch,
}

impl Script {
    pub(super) fn new() -> Self {
        Self::after(Position(0))
    }

    pub(super) fn after(position: Position) -> Self {
        Self { position, batch: Batch::default() }
    }

    /// The batch so far; the next one begins.
    pub(super) fn take(&mut self) -> Batch {
        std::mem::take(&mut self.batch)
    }

    pub(super) fn event(
        &mut self,
        detail: Detail,
        invocation: Option<InvocationId>,
        agent: Option<&str>,
        payload: Option<&[u8]>,
    ) -> Position {
        self.position = self.position.next();
        self.batch.events.push(Event {
            position: self.position,
            at: second(self.position.0),
            invocation,
            agent: agent.map(identity),
            caller: invocation.map(|_| identity("caller")),
            detail,
            payload: payload.map(Bytes::copy_from_slice),
            labels: Labels::default(),
        });
        self.position
    }

    /// An event that is about nobody.
    pub(super) fn started(&mut self) -> Position {
        self.event(Detail::NodeStarted { version: "1" }, None, None, None)
    }

    pub(super) fn registered(&mut self, agent: &str, session: SessionId, payload: &[u8]) -> Position {
        let detail = Detail::AgentRegistered { session, version: 1, max_in_flight: 1000, adopted: Vec::new() };
        self.event(detail, None, Some(agent), Some(payload))
    }

    pub(super) fn logged(&mut self, agent: &str, body: &[u8]) -> Position {
        self.event(Detail::AgentLogged { request_id: None, session_id: None }, None, Some(agent), Some(body))
    }

    /// A log line about a request.
    pub(super) fn logged_about(&mut self, agent: &str, request_id: &str, body: &[u8]) -> Position {
        let detail = Detail::AgentLogged { request_id: Some(request_id.to_owned()), session_id: None };
        let position = self.event(detail, None, Some(agent), Some(body));
        self.label(Labels { request_id: Some(request_id.into()), session_id: None });
        position
    }

    /// What the last event can be found by besides.
    pub(super) fn label(&mut self, labels: Labels) {
        self.batch.events.last_mut().expect("there is one").labels = labels;
    }

    pub(super) fn disconnected(&mut self, agent: &str, announced: bool) -> Position {
        let detail = Detail::AgentDisconnected { session: SessionId::generate(), reason: "closed", announced };
        self.event(detail, None, Some(agent), None)
    }

    /// An invocation of `agent`, queued, whose row is left to [`Self::keep`].
    pub(super) fn accepted(&mut self, agent: &str, body: &[u8]) -> Invocation {
        let id = InvocationId::generate();
        let session = SessionId::generate();
        let terms = Terms {
            ttl: Duration::from_millis(1500),
            ttl_given: true,
            deadline: second(self.position.0 + 900),
            max_attempts: 3,
        };
        let detail = Detail::InvocationAccepted(Accepted {
            origin: "socket",
            session: Some(session),
            ttl_ms: 1500,
            deadline_ms: 900_000,
            max_attempts: terms.max_attempts,
            idempotency_key: None,
            request_id: Some("request".into()),
            session_id: None,
            traceparent: None,
        });
        let labels = Labels { request_id: Some("request".into()), session_id: None };
        let accepted = self.event(detail, Some(id), Some(agent), Some(body));
        Invocation::new(Order {
            id,
            agent: identity(agent),
            caller: identity("caller"),
            origin: Origin::Socket { session, registered: true },
            home: NodeId(1),
            additions: true,
            accepted,
            accepted_at: second(accepted.0),
            body_bytes: u32::try_from(body.len()).unwrap(),
            terms,
            key: None,
            labels,
        })
    }

    /// The row of an invocation that this batch accepts.
    pub(super) fn keep(&mut self, invocation: &Invocation) {
        self.batch.accepted.push(invocation.clone());
    }

    /// Accepts an invocation and keeps its row.
    pub(super) fn invoked(&mut self, agent: &str, body: &[u8]) -> Invocation {
        let invocation = self.accepted(agent, body);
        self.keep(&invocation);
        invocation
    }

    /// Answers it; nothing is left to do.
    pub(super) fn completed(&mut self, invocation: &mut Invocation, answer: &[u8]) -> Position {
        let detail = Detail::InvocationCompleted { attempt: 1 };
        let position = self.event(detail, Some(invocation.id), Some(invocation.agent.as_str()), Some(answer));
        invocation.finish(Outcome::Completed, second(position.0), Some(position));
        invocation.reply = Reply::None;
        self.batch.changed.push(invocation.clone());
        position
    }

    /// Has the payloads of its events so far removed, and of what its agent logged about its request.
    pub(super) fn erased(&mut self, invocation: &Invocation) -> Position {
        let erased = Erased::all_of(invocation);
        let detail = erased.detail("asked for".to_owned());
        self.batch.erased.push(erased);
        let position = self.event(detail, Some(invocation.id), Some(invocation.agent.as_str()), None);
        self.label(invocation.labels.clone());
        position
    }

    /// Has the oldest events removed.
    pub(super) fn pruned(&mut self, through: Head) -> Position {
        self.batch.pruned = Some(through);
        let detail = Detail::JournalPruned { through: through.position, hash: to_hex(&through.hash), events: 1 };
        self.event(detail, None, None, None)
    }
}
