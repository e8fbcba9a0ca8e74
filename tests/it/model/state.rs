//! What the model knows: sockets, identities and calls, in the words of the protocol page.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use agent_router::clock::Timestamp;
use agent_router::id::{Identity, InvocationId, Position, SessionId};
use agent_router::invocation::{Labels, Outcome, Policy};
use agent_router::protocol::{Register, Version};
use agent_router::router::Ledger;
use bytes::Bytes;

/// What is true by the protocol page, given what happened.
#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) limits: Policy,
    pub(super) sockets: BTreeMap<SessionId, Socket>,
    pub(super) identities: BTreeMap<Identity, Record>,
    pub(super) calls: BTreeMap<InvocationId, Call>,
    pub(super) feed_acknowledged: Position,
    pub(super) head: Position,
    pub(super) shutting_down: bool,
    /// An operator wants nothing new taken.
    pub(super) draining: bool,
    /// Until when the router's own restart is made up for.
    pub(super) resume_until: Timestamp,
}

/// A socket, live or not.
#[derive(Clone, Debug)]
pub(super) struct Socket {
    pub(super) identity: Identity,
    /// Whom an invoke socket calls; none for a peer's own socket.
    pub(super) target: Option<Identity>,
    pub(super) live: bool,
    pub(super) registered: Option<Registered>,
    pub(super) standing: Standing,
    /// Until when it may still register before it gets what waits.
    pub(super) drain_at: Option<Timestamp>,
    /// The router's own restart ended it.
    pub(super) cut_off: bool,
}

/// Whether a socket is sent invocations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is.
    Open,
    /// It registered, and waits for the end of the socket that it takes over from.
    Registering(Register),
    /// It asked for no more, and has still to answer.
    Leaving,
    /// It has answered all that it had, and was told that it may close.
    Released,
    /// A newer one registered, so it is being closed.
    Evicted,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Registered {
    pub(super) version: Version,
    pub(super) credit: usize,
    pub(super) position: Position,
}

/// What outlives the sockets of an identity.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Record {
    pub(super) known: bool,
    pub(super) last_seen: Option<Timestamp>,
}

/// An accepted invocation.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) agent: Identity,
    pub(super) caller: Identity,
    pub(super) way: Way,
    pub(super) additions: bool,
    pub(super) key: Option<String>,
    pub(super) payload: Bytes,
    pub(super) body: Bytes,
    pub(super) labels: Labels,
    pub(super) ttl: Duration,
    pub(super) deadline: Timestamp,
    pub(super) max_attempts: u32,
    pub(super) accepted: Position,
    pub(super) accepted_at: Timestamp,
    pub(super) state: State,
    /// Deliveries so far.
    pub(super) attempt: u32,
    /// Which of them the agent has read, or may have read before the router went away.
    pub(super) read: BTreeSet<u32>,
    /// Which of them were lost with their connection, unread as far as anybody knows.
    pub(super) lost: BTreeSet<u32>,
    /// A delivery carried the plain `invoked_by`, and its answer may still come.
    pub(super) plain_unanswered: bool,
    /// Live sockets that sent it, and whether each sees additions.
    pub(super) waiters: Vec<(SessionId, bool)>,
    pub(super) answer: Option<(Position, Bytes)>,
    pub(super) finished_at: Option<Timestamp>,
    pub(super) reply: Reply,
    /// Its payloads are gone, and the digest that went with its key.
    pub(super) erased: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Own {
        session: SessionId,
        registered: bool,
    },
    InvokeSocket(SessionId),
    /// `POST /invoke-agent`
    Message,
    /// `POST /v1/invocations`
    Http,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Queued { since: Timestamp },
    Delivered(SessionId),
    Running(SessionId),
    Interrupted { until: Timestamp },
    Finished(Outcome),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    None,
    Owed,
    Sent(SessionId),
}

/// What becomes of a call whose agent was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    Requeue,
    Interrupt,
    Fail,
}

impl Model {
    pub(super) fn new(limits: Policy) -> Self {
        Self {
            limits,
            sockets: BTreeMap::new(),
            identities: BTreeMap::new(),
            calls: BTreeMap::new(),
            feed_acknowledged: Position::default(),
            head: Position::default(),
            shutting_down: false,
            draining: false,
            resume_until: Timestamp::default(),
        }
    }

    pub(super) fn is_known(&self, identity: &Identity) -> bool {
        self.identities.get(identity).is_some_and(|record| record.known)
    }

    /// Whom the router has a reason to remember.
    fn named(&self) -> BTreeSet<&Identity> {
        let known = self.identities.iter().filter(|(_, record)| record.known).map(|(identity, _)| identity);
        let connected = self.sockets.values().filter(|socket| socket.live && socket.target.is_none());
        let agents = self.calls.values().filter(|call| call.is_open() || call.plain_unanswered);
        let callers = self.calls.values().filter(|call| call.reply != Reply::None);
        known
            .chain(connected.map(|socket| &socket.identity))
            .chain(agents.map(|call| &call.agent))
            .chain(callers.map(|call| &call.caller))
            .collect()
    }

    /// What a router has in memory is what it has a reason to.
    pub(super) fn assert_remembered(&self, ledger: &Ledger) {
        assert_eq!(ledger.remembered().collect::<BTreeSet<_>>(), self.named());
        let unsettled = self.calls.iter().filter(|(_, call)| !call.is_settled()).map(|(id, _)| *id);
        let remembered = ledger.rows().invocations.iter().map(|row| row.id).collect::<BTreeSet<_>>();
        assert_eq!(remembered, unsettled.collect());
    }

    pub(super) fn last_seen(&self, identity: &Identity) -> Option<Timestamp> {
        self.identities.get(identity).and_then(|record| record.last_seen)
    }

    /// The live own sockets of an identity, the oldest first.
    pub(super) fn own<'a>(
        &'a self,
        identity: &'a Identity,
    ) -> impl DoubleEndedIterator<Item = (SessionId, &'a Socket)> + 'a {
        self.sockets
            .iter()
            .filter(move |(_, socket)| socket.live && socket.target.is_none() && socket.identity == *identity)
            .map(|(id, socket)| (*id, socket))
    }

    pub(super) fn is_connected(&self, identity: &Identity) -> bool {
        self.own(identity).next().is_some()
    }

    pub(super) fn is_live(&self, session: SessionId) -> bool {
        self.sockets.get(&session).is_some_and(|socket| socket.live)
    }

    pub(super) fn speaks_v2(&self, session: SessionId) -> bool {
        let socket = &self.sockets[&session];
        match &socket.standing {
            Standing::Registering(register) => register.version == Version::Two,
            _ => socket.registered.is_some_and(|registered| registered.version == Version::Two),
        }
    }

    /// Answers that were sent on a socket and are not confirmed.
    pub(super) fn unconfirmed(&self, session: SessionId) -> usize {
        self.calls.values().filter(|call| call.reply == Reply::Sent(session)).count()
    }

    pub(super) fn is_at_work(&self, session: SessionId) -> bool {
        self.calls.values().any(|call| call.in_flight_on() == Some(session))
    }

    /// The calls to an agent, in the order of acceptance.
    pub(super) fn calls_to<'a>(
        &'a self,
        agent: &'a Identity,
    ) -> impl Iterator<Item = (InvocationId, &'a Call)> + Clone + 'a {
        self.calls.iter().filter(move |(_, call)| call.agent == *agent).map(|(id, call)| (*id, call))
    }

    pub(super) fn queue<'a>(&'a self, agent: &'a Identity) -> impl Iterator<Item = (InvocationId, &'a Call)> + 'a {
        self.calls_to(agent).filter(|(_, call)| matches!(call.state, State::Queued { .. }))
    }

    pub(super) fn in_flight(&self, agent: &Identity) -> usize {
        self.calls_to(agent).filter(|(_, call)| call.in_flight_on().is_some()).count()
    }

    /// The socket on which an agent is sent invocations: the registered one, else the newest; none while one is being
    /// taken over or asked for no more.
    pub(super) fn receiver<'a>(&'a self, agent: &'a Identity) -> Option<(SessionId, &'a Socket)> {
        let registered = self.own(agent).find(|(_, socket)| socket.is_registered());
        let (id, socket) = registered.or_else(|| self.own(agent).next_back())?;
        (socket.standing == Standing::Open).then_some((id, socket))
    }

    /// The socket that takes one more invocation of an agent now; none once the router goes down.
    pub(super) fn ready<'a>(&'a self, agent: &'a Identity) -> Option<(SessionId, &'a Socket)> {
        let (id, socket) = self.receiver(agent).filter(|_| !self.shutting_down)?;
        let interrupted = self.calls_to(agent).any(|(_, call)| matches!(call.state, State::Interrupted { .. }));
        (!interrupted && self.in_flight(agent) < self.credit(socket)).then_some((id, socket))
    }

    pub(super) fn credit(&self, socket: &Socket) -> usize {
        socket.registered.map_or(self.limits.max_in_flight as usize, |registered| registered.credit)
    }

    /// The call whose delivery to the agent carried this plain `invoked_by`, and whose answer may still come.
    pub(super) fn plain_holder(&self, agent: &Identity, plain: &str) -> Option<InvocationId> {
        let mut holders = self.calls_to(agent).filter(|(_, call)| call.plain_unanswered && call.plain() == plain);
        let holder = holders.next().map(|(id, _)| id);
        assert_eq!(holders.next().map(|(id, _)| id), None, "two deliveries to {agent} carry {plain:?}");
        holder
    }

    pub(super) fn plain_unanswered(&self, agent: &Identity) -> usize {
        self.calls_to(agent).filter(|(_, call)| call.plain_unanswered).count()
    }

    /// Whether a socket of the caller may be given an answer whose own socket is gone.
    pub(super) fn may_take(&self, session: SessionId, call: &Call) -> bool {
        let socket = &self.sockets[&session];
        let Way::Own { registered, .. } = call.way else { return false };
        socket.live
            && socket.target.is_none()
            && socket.identity == call.caller
            && !matches!(socket.standing, Standing::Evicted | Standing::Registering(_))
            && (socket.identity.is_master()
                || if socket.registered.is_some() { registered } else { socket.drain_at.is_none() })
    }

    /// What becomes of a call in flight on a connection that is lost.
    pub(super) fn after_loss(&self, call: &Call, by_restart: bool) -> Loss {
        if by_restart {
            return Loss::Interrupt;
        }
        let Some(session) = call.in_flight_on() else { return self.after_interruption(call) };
        if matches!(call.state, State::Running(_)) {
            return if self.speaks_v2(session) { Loss::Interrupt } else { self.after_interruption(call) };
        }
        let unread = call.lost.len() + 1;
        if self.is_known(&call.agent) && unread < self.limits.max_deliveries as usize {
            self.unless_it_never_waits(call)
        } else {
            Loss::Fail
        }
    }

    /// What becomes of work that began and that nobody came back with.
    pub(super) fn after_interruption(&self, call: &Call) -> Loss {
        if self.is_known(&call.agent) && call.read.len() < call.max_attempts as usize {
            self.unless_it_never_waits(call)
        } else {
            Loss::Fail
        }
    }

    fn unless_it_never_waits(&self, call: &Call) -> Loss {
        if call.ttl.is_zero() && !self.is_connected(&call.agent) { Loss::Fail } else { Loss::Requeue }
    }
}

impl Socket {
    /// Whether it is its agent's registered socket, or will be when the one that it takes over from has ended.
    pub(super) fn is_registered(&self) -> bool {
        match self.standing {
            Standing::Open | Standing::Leaving | Standing::Released => self.registered.is_some(),
            Standing::Registering(_) => true,
            Standing::Evicted => false,
        }
    }
}

impl Call {
    pub(super) fn is_open(&self) -> bool {
        !matches!(self.state, State::Finished(_))
    }

    pub(super) fn is_settled(&self) -> bool {
        !self.is_open() && !self.plain_unanswered && self.reply == Reply::None
    }

    pub(super) fn in_flight_on(&self) -> Option<SessionId> {
        match self.state {
            State::Delivered(session) | State::Running(session) => Some(session),
            _ => None,
        }
    }

    /// `invoked_by` as the original has it.
    pub(super) fn plain(&self) -> String {
        match self.way {
            Way::Own { .. } | Way::Http => self.caller.to_string(),
            Way::InvokeSocket(_) => format!("{}:{}", self.caller, self.agent),
            Way::Message => String::new(),
        }
    }

    pub(super) fn state_name(&self) -> &'static str {
        match self.state {
            State::Queued { .. } => "queued",
            State::Delivered(_) => "delivered",
            State::Running(_) => "running",
            State::Interrupted { .. } => "interrupted",
            State::Finished(Outcome::Completed) => "completed",
            State::Finished(Outcome::Failed(_)) => "failed",
            State::Finished(Outcome::Expired) => "expired",
            State::Finished(Outcome::TimedOut) => "timed_out",
            State::Finished(Outcome::Cancelled) => "cancelled",
        }
    }
}
