//! Whether a request is taken.

use std::time::Duration;

use agent_router::clock::Timestamp;
use agent_router::code::ErrorCode;
use agent_router::id::{Identity, InvocationId};
use agent_router::protocol::Invoke;
use bytes::Bytes;

use super::scene::Asker;
use super::state::Model;

/// What the protocol says of a request.
pub(super) enum Admission {
    Accept,
    Join(InvocationId),
    Refuse(ErrorCode),
}

impl Model {
    /// Whether a request is taken, and if not, why.
    pub(super) fn admit(&self, asker: &Asker, invoke: &Invoke, now: Timestamp) -> Admission {
        if self.shutting_down {
            return Admission::Refuse(ErrorCode::ShuttingDown);
        }
        let Ok(agent) = Identity::new(&invoke.target) else { return Admission::Refuse(ErrorCode::AgentUnknown) };
        let caller = self.asks(asker);
        let target = match asker {
            Asker::Socket(session) => self.sockets[session].target.as_ref(),
            Asker::Http(_) => Some(&agent),
        };
        let allowed = match target {
            None => !agent.is_master(),
            Some(target) => *target == agent && !agent.is_backend() && (!agent.is_master() || caller.is_backend()),
        };
        // An invoke key is good while its agent is connected.
        let vouched = match asker {
            Asker::Socket(session) if self.sockets[session].target.is_some() => {
                !self.limits.secured || caller.is_master() || self.is_connected(caller)
            }
            _ => true,
        };
        if !allowed || !vouched {
            return Admission::Refuse(ErrorCode::NotAllowed);
        }
        if let Some(earlier) = self.remembered(caller, &agent, invoke, now) {
            let earlier_call = &self.calls[&earlier];
            let same = !earlier_call.erased && earlier_call.payload == invoke.payload.clone().unwrap_or_default();
            return if same { Admission::Join(earlier) } else { Admission::Refuse(ErrorCode::IdempotencyKeyReused) };
        }
        if invoke.options.max_attempts.is_some_and(|asked| asked > self.limits.max_max_attempts) {
            return Admission::Refuse(ErrorCode::Malformed);
        }
        let ttl = invoke.options.ttl_ms.map(Duration::from_millis);
        match self.room(&agent, invoke.body.len(), ttl, now) {
            None => Admission::Accept,
            Some(code) => Admission::Refuse(code),
        }
    }

    /// Whose the invocation is.
    pub(super) fn asks<'a>(&'a self, asker: &'a Asker) -> &'a Identity {
        match asker {
            Asker::Socket(session) => &self.sockets[session].identity,
            Asker::Http(caller) => caller,
        }
    }

    pub(super) fn admit_message(&self, client: &Identity, message: &Bytes) -> Option<ErrorCode> {
        if self.shutting_down {
            return Some(ErrorCode::ShuttingDown);
        }
        self.room(client, message.len(), Some(Duration::ZERO), Timestamp::default())
    }

    /// The newest invocation with this key, while it is remembered.
    fn remembered(&self, caller: &Identity, agent: &Identity, invoke: &Invoke, now: Timestamp) -> Option<InvocationId> {
        let key = invoke.options.idempotency_key.as_ref()?;
        let (id, call) = self
            .calls_to(agent)
            .filter(|(_, call)| call.caller == *caller && call.key.as_ref() == Some(key))
            .max_by_key(|(_, call)| call.accepted)?;
        call.finished_at.is_none_or(|at| now.since(at) < self.limits.idempotency_ttl).then_some(id)
    }

    /// Why a new invocation finds no place; `None` if it does.
    fn room(&self, agent: &Identity, bytes: usize, ttl: Option<Duration>, now: Timestamp) -> Option<ErrorCode> {
        if self.draining {
            return Some(ErrorCode::ShuttingDown);
        }
        let queued: Vec<_> = self.queue(agent).collect();
        let never_waits = ttl == Some(Duration::ZERO);
        if self.calls.values().filter(|call| call.is_open()).count() >= self.limits.max_open {
            return Some(ErrorCode::QueueFull);
        }
        if queued.is_empty() && self.ready(agent).is_some() {
            return None;
        }
        if !self.is_connected(agent) {
            let just_left = self.last_seen(agent).is_some_and(|seen| now.since(seen) < self.limits.agent_grace);
            if !self.is_known(agent) {
                return Some(ErrorCode::AgentUnknown);
            }
            if never_waits || (ttl.is_none() && !just_left) {
                return Some(ErrorCode::AgentAway);
            }
        }
        let waiting: usize = queued.iter().map(|(_, call)| call.body.len()).sum();
        let full = queued.len() >= self.limits.max_queued || (waiting + bytes) as u64 > self.limits.max_queued_bytes;
        (never_waits || full).then_some(ErrorCode::QueueFull)
    }
}
