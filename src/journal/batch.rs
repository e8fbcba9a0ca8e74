//! What is committed together.

use std::sync::Arc;

use crate::id::{Identity, InvocationId, NodeId, Position, SessionId};
use crate::invocation::{Invocation, Order};
use crate::journal::{AgentRow, Detail, Event, Head, NodeRow, SessionRow};

/// What the backend said to an agent whose socket another router holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dismissed {
    /// The agent's socket.
    pub session: SessionId,
    /// The `agent.dismissed` that has what it said as payload.
    pub position: Position,
}

/// A finished invocation whose payloads are removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erased {
    /// Which.
    pub invocation: InvocationId,
    /// What goes with it of its agent's log; nothing if it belongs to no request, for then the lines cannot be told apart.
    pub logs: Option<LogLines>,
}

/// The log lines of an agent about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLines {
    /// Who logged.
    pub agent: Identity,
    /// What they name; never empty.
    pub request_id: Arc<str>,
    /// They come after this.
    pub after: Position,
}

impl Erased {
    /// All there is of an invocation.
    #[must_use]
    pub fn all_of(invocation: &Invocation) -> Self {
        let Order { id, agent, labels, accepted, .. } = &*invocation.order;
        let request_id = labels.request_id.clone().filter(|request_id| !request_id.is_empty());
        let logs = request_id.map(|request_id| LogLines { agent: agent.clone(), request_id, after: *accepted });
        Self { invocation: *id, logs }
    }

    /// What its event says.
    #[must_use]
    pub fn detail(&self, reason: String) -> Detail {
        let request_id = self.logs.as_ref().map(|logs| Arc::clone(&logs.request_id));
        Detail::PayloadErased { reason, request_id }
    }
}

/// Everything that is committed together.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// What happened, contiguous, right after the head.
    pub events: Vec<Event>,
    /// Invocations that are new, as they stand at the end of the batch.
    pub accepted: Vec<Invocation>,
    /// Invocations that were there and changed.
    pub changed: Vec<Invocation>,
    /// Agents that are new or changed.
    pub agents: Vec<AgentRow>,
    /// Sockets that are new or changed.
    pub sessions: Vec<SessionRow>,
    /// Sockets that ended.
    pub ended: Vec<SessionId>,
    /// How far the backend has its notifications now.
    pub feed_acknowledged: Option<Position>,
    /// Finished invocations whose payloads are removed: those of every event up to its `payload.erased`, with their salts,
    /// and the digest that goes with an idempotency key. Each is in the batch with such an event.
    pub erased: Vec<Erased>,
    /// Every event up to this place is removed, with the invocations that were accepted there. What agents registered with
    /// is kept.
    pub pruned: Option<Head>,
    /// Routers that are new or changed.
    pub nodes: Vec<NodeRow>,
    /// What other routers are to send to sockets of theirs.
    pub dismissed: Vec<Dismissed>,
    /// Routers that have something to do because of this batch, and are told so at once. (All find out in time.)
    pub wake: Vec<NodeId>,
}

impl Batch {
    /// Whether it is of events and invocations alone, and nothing of it is erased or pruned.
    pub(super) fn is_plain(&self) -> bool {
        let Self { agents, sessions, ended, feed_acknowledged, erased, pruned, nodes, dismissed, .. } = self;
        agents.is_empty()
            && sessions.is_empty()
            && ended.is_empty()
            && feed_acknowledged.is_none()
            && erased.is_empty()
            && pruned.is_none()
            && nodes.is_empty()
            && dismissed.is_empty()
    }

    /// Whether there is nothing to commit.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { events, accepted, changed, .. } = self;
        events.is_empty() && accepted.is_empty() && changed.is_empty() && self.is_plain()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use uuid::Uuid;

    use super::*;
    use crate::clock::Timestamp;
    use crate::invocation::{Labels, Origin, Terms};
    use crate::journal::{NodeStanding, SessionStanding};

    const NOW: Timestamp = Timestamp::from_micros(1_767_322_985_000_000);
    const SESSION: SessionId = SessionId(Uuid::from_u128(1));

    fn invocation(request_id: Option<&str>) -> Invocation {
        Invocation::new(Order {
            id: InvocationId(Uuid::from_u128(7)),
            agent: Identity::new("agent").unwrap(),
            caller: Identity::new("caller").unwrap(),
            origin: Origin::Http,
            home: NodeId(1),
            additions: false,
            accepted: Position(3),
            accepted_at: NOW,
            body_bytes: 2,
            terms: Terms { ttl: Duration::ZERO, ttl_given: false, deadline: NOW, max_attempts: 1 },
            key: None,
            labels: Labels { request_id: request_id.map(Into::into), session_id: Some("session".into()) },
        })
    }

    #[test]
    fn log_lines_go_with_an_invocation_whose_request_they_name() {
        let agent = Identity::new("agent").unwrap();
        let lines = LogLines { agent, request_id: "request".into(), after: Position(3) };
        for (request_id, logs) in [(Some("request"), Some(lines)), (Some(""), None), (None, None)] {
            let named = logs.as_ref().map(|logs| Arc::clone(&logs.request_id));
            let erased = Erased::all_of(&invocation(request_id));
            assert_eq!(erased, Erased { invocation: InvocationId(Uuid::from_u128(7)), logs });
            let detail = erased.detail("why".to_owned());
            let Detail::PayloadErased { reason, request_id } = detail else { panic!("{detail:?}") };
            assert_eq!((&*reason, request_id), ("why", named));
        }
    }

    #[test]
    fn a_batch_is_plain_or_empty_if_nothing_else_is_in_it() {
        let event = || Event {
            position: Position(1),
            at: NOW,
            invocation: None,
            agent: None,
            caller: None,
            detail: Detail::NodeStopped {},
            payload: None,
            labels: Labels::default(),
        };
        let agent = || AgentRow { agent: Identity::ml(), registered: None, last_seen: None };
        let session = || SessionRow {
            session: SESSION,
            identity: Identity::ml(),
            registered: None,
            version: 1,
            connected_at: NOW,
            node: NodeId(1),
            standing: SessionStanding::Live,
            max_in_flight: 0,
            sealed_credential: None,
        };
        let node = || NodeRow {
            node: NodeId(1),
            name: "node".into(),
            epoch: 1,
            standing: NodeStanding::Up,
            version: "1".into(),
            started_at: NOW,
        };
        let erased = || Erased::all_of(&invocation(None));
        let plain = [
            Batch { events: vec![event()], ..Batch::default() },
            Batch { accepted: vec![invocation(None)], ..Batch::default() },
            Batch { changed: vec![invocation(None)], ..Batch::default() },
        ];
        let other = [
            Batch { agents: vec![agent()], ..Batch::default() },
            Batch { sessions: vec![session()], ..Batch::default() },
            Batch { ended: vec![SESSION], ..Batch::default() },
            Batch { feed_acknowledged: Some(Position(1)), ..Batch::default() },
            Batch { erased: vec![erased()], ..Batch::default() },
            Batch { pruned: Some(Head::EMPTY), ..Batch::default() },
            Batch { nodes: vec![node()], ..Batch::default() },
            Batch { dismissed: vec![Dismissed { session: SESSION, position: Position(1) }], ..Batch::default() },
        ];
        // To wake somebody is nothing to commit.
        for empty in [Batch::default(), Batch { wake: vec![NodeId(1)], ..Batch::default() }] {
            assert!(empty.is_plain() && empty.is_empty(), "{empty:?}");
        }
        for batch in plain {
            assert!(batch.is_plain() && !batch.is_empty(), "{batch:?}");
        }
        for batch in other {
            assert!(!batch.is_plain() && !batch.is_empty(), "{batch:?}");
        }
    }
}
