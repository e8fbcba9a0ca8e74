//! What happens next: the rules of the router, as data in and data out.
//!
//! [`Ledger::decide`] takes one command and the state as it is, changes the state, and says which events that makes and
//! what is to be sent once they are durable. It does no I/O, reads no clock and draws nothing but ids, so every rule can
//! be tried at any moment and in any order. The writer commits the events and the changed rows, and then either
//! [`seal`](Ledger::seal)s the batch or [`take_back`](Ledger::take_back)s it.

mod accept;
mod answer;
mod connection;
mod deliver;
mod loss;
mod refusals;
mod registration;
mod replies;
mod session;
mod tables;
mod timers;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use self::refusals::Refusals;
use self::tables::{Agent, KeyScope, Tables};
use crate::clock::Timestamp;
use crate::code::ErrorCode;
use crate::id::{Identity, InvocationId, Position, SessionId};
use crate::invocation::{Invocation, Policy};
use crate::journal::{AgentRow, Batch, Detail, Event, Lookup, NewInvocation, Restored, SessionRow};
use crate::router::command::Command;
use crate::router::outbox::{Ending, Outbound};

/// The state of the router, less sockets and bytes.
#[derive(Debug)]
pub struct Ledger {
    policy: Policy,
    ping_interval: Duration,
    tables: Tables,
    marks: Marks,
    /// As they were when the running batch began.
    sealed: Marks,
    refusals: Refusals,
    /// Own sockets that the router's own restart ended.
    cut_off: HashSet<SessionId>,
    /// Until when the router's own restart is made up for.
    resume_until: Timestamp,
}

/// How far things have come.
#[derive(Clone, Copy, Debug)]
struct Marks {
    head: Position,
    feed_acknowledged: Position,
    shutting_down: bool,
}

/// What a batch amounts to so far.
#[derive(Debug, Default)]
pub struct Step {
    /// What happened, to be committed.
    pub events: Vec<Event>,
    /// What is to be done once that is durable, in order.
    pub effects: Vec<Effect>,
    /// What needs no event to be durable: refusals and errors about bad input.
    pub at_once: Vec<Effect>,
    labels: HashMap<InvocationId, Labels>,
    /// Agents to whom what waits may go now.
    woken: BTreeSet<Identity>,
}

#[derive(Debug)]
struct Labels {
    request_id: Option<String>,
    session_id: Option<String>,
}

/// Something that leaves the router.
#[derive(Debug)]
pub enum Effect {
    /// Send this to a socket.
    Send {
        /// The connection.
        to: SessionId,
        /// What.
        message: Outbound,
        /// Where its body is in the journal, should the socket have no room for it.
        stored: Option<Position>,
    },
    /// End a socket.
    End {
        /// The connection.
        session: SessionId,
        /// Why.
        why: Ending,
    },
    /// The backend's notifications go to this socket from now on, or to none.
    Feed(Option<FeedStart>),
}

/// What a backend's socket starts from.
#[derive(Debug)]
pub struct FeedStart {
    /// The connection.
    pub session: SessionId,
    /// What the backend has already.
    pub acknowledged: Position,
    /// What it missed ends here; what is still connected is told next.
    pub head: Position,
    /// The sockets that have registered: whose, and by which event.
    pub registered: Vec<(SessionId, Identity, Position)>,
}

/// What became of a command, for whoever waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was taken; it is so once the batch is durable.
    Taken,
    /// It was refused, and whoever sent a frame has been told.
    Refused(ErrorCode),
}

/// Invocations that the journal was asked for because they may be settled.
#[derive(Debug, Default)]
pub struct Found {
    by_id: HashMap<InvocationId, Invocation>,
    by_key: HashMap<KeyScope, (Position, InvocationId)>,
}

impl Found {
    /// Indexes what the journal returned.
    #[must_use]
    pub fn new(invocations: Vec<Invocation>) -> Self {
        let mut found = Self::default();
        for invocation in invocations {
            if let Some(key) = &invocation.key {
                let scope = (invocation.caller.clone(), invocation.agent.clone(), Arc::clone(&key.key));
                let newest = found.by_key.entry(scope).or_insert((invocation.accepted, invocation.id));
                *newest = (*newest).max((invocation.accepted, invocation.id));
            }
            found.by_id.insert(invocation.id, invocation);
        }
        found
    }
}

impl Ledger {
    /// The state that the journal's rows amount to.
    #[must_use]
    pub fn restore(restored: Restored, policy: Policy, ping_interval: Duration, now: Timestamp) -> Self {
        let mut tables = Tables::new(policy.answer_ttl);
        for row in restored.agents {
            tables.put_agent(&row.agent, tables::AgentRecord { registered: row.registered, last_seen: row.last_seen });
        }
        for row in &restored.sessions {
            tables.put_session(row.session, Some(session::Session::restored(row)));
        }
        for invocation in restored.unsettled {
            tables.put_invocation(invocation, smallvec::SmallVec::new());
        }
        tables.seal();
        let marks =
            Marks { head: restored.head.position, feed_acknowledged: restored.feed_acknowledged, shutting_down: false };
        Self {
            refusals: Refusals::new(policy.refusals_per_second),
            resume_until: now + policy.resume_grace,
            policy,
            ping_interval,
            tables,
            marks,
            sealed: marks,
            cut_off: restored.sessions.iter().map(|row| row.session).collect(),
        }
    }

    /// Adds to `lookup` what [`decide`](Self::decide) will need of the journal for this command.
    pub fn wants(&self, command: &Command, lookup: &mut Lookup) {
        match command {
            Command::Invoke { session, invoke } => self.wants_key(*session, invoke, lookup),
            Command::Answer { answer, .. } => {
                let by_token = answer::id_in_token(&answer.invoked_by).map(|(_, id)| id);
                let unknown = |id: &InvocationId| self.tables.invocation(*id).is_none();
                lookup.ids.extend(answer.invocation_id.or(by_token).filter(unknown));
            }
            Command::Cancel { cancel, .. } if self.tables.invocation(cancel.invocation_id).is_none() => {
                lookup.ids.push(cancel.invocation_id);
            }
            _ => {}
        }
    }

    /// Takes one command.
    pub fn decide(&mut self, command: &Command, found: &Found, now: Timestamp, step: &mut Step) -> Verdict {
        let verdict = self.take_command(command, found, now, step);
        self.deliver_woken(now, step);
        verdict
    }

    fn take_command(&mut self, command: &Command, found: &Found, now: Timestamp, step: &mut Step) -> Verdict {
        match command {
            Command::Open { session, principal } => return self.open(*session, principal, now, step),
            Command::End { session, reason } => self.end(*session, *reason, now, step),
            Command::Register { session, register } => return self.register(*session, register, now, step),
            Command::Unregister { session } => self.unregister(*session, now, step),
            Command::Invoke { session, invoke } => return self.invoke(*session, invoke, found, now, step),
            Command::Answer { session, answer } => self.answer(*session, answer, found, now, step),
            Command::Log { session, log } => self.log(*session, log, now, step),
            Command::Cancel { session, cancel } => return self.cancel(*session, cancel, found, now, step),
            Command::Receipts { session, deliveries } => self.receipts(*session, deliveries, now, step),
            Command::AnswersDelivered { session, answers } => self.answers_delivered(*session, answers, now, step),
            Command::FeedAcknowledged { position } => self.acknowledge_feed(*position, now, step),
            Command::FrameRefused { session, reason } => self.frame_refused(*session, reason, now, step),
            Command::ConnectionRefused { peer, reason } => self.connection_refused(peer, reason, now, step),
            Command::ClientMessage { caller, client, message } => {
                return self.client_message(caller, client, message, now, step);
            }
            Command::Shutdown => {
                self.marks.shutting_down = true;
                self.record(step, now, Subject::none(), Detail::NodeStopped {}, None);
            }
        }
        Verdict::Taken
    }

    /// When the next thing happens without a command.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        match (self.tables.next_due(), self.refusals.next_due()) {
            (Some(left), Some(right)) => Some(left.min(right)),
            (left, right) => left.or(right),
        }
    }

    /// The rows and events of the running batch.
    #[must_use]
    pub fn batch(&self, step: &mut Step) -> Batch {
        let touched = self.tables.touched();
        let invocation = |id: &InvocationId| self.tables.invocation(*id).map(|entry| entry.invocation.clone());
        Batch {
            events: std::mem::take(&mut step.events),
            accepted: touched
                .accepted
                .iter()
                .filter_map(|id| {
                    let labels = step.labels.remove(id);
                    let (request_id, session_id) =
                        labels.map_or((None, None), |labels| (labels.request_id, labels.session_id));
                    Some(NewInvocation { invocation: invocation(id)?, request_id, session_id })
                })
                .collect(),
            changed: touched.changed.iter().filter_map(invocation).collect(),
            agents: touched
                .agents
                .into_iter()
                .filter_map(|agent| {
                    let Agent { record, queue, .. } = self.tables.agent(&agent)?;
                    // One that never registered is remembered for what waits for it, whose ttl runs from its last end.
                    if record.registered.is_none() && queue.is_empty() {
                        return None;
                    }
                    Some(AgentRow { agent, registered: record.registered, last_seen: record.last_seen })
                })
                .collect(),
            sessions: touched
                .sessions
                .into_iter()
                .filter_map(|id| self.tables.session(id))
                .map(|session| SessionRow {
                    session: session.id,
                    identity: session.identity().clone(),
                    registered: session.registration.map(|registration| registration.position),
                    version: session.registration.map_or(1, |registration| registration.version.number()),
                    connected_at: session.connected_at,
                })
                .collect(),
            ended: touched.ended,
            feed_acknowledged: (self.marks.feed_acknowledged != self.sealed.feed_acknowledged)
                .then_some(self.marks.feed_acknowledged),
        }
    }

    /// The running batch is durable.
    pub fn seal(&mut self) {
        self.tables.seal();
        self.sealed = self.marks;
    }

    /// The running batch is not durable, and never was.
    pub fn take_back(&mut self) {
        self.tables.take_back();
        self.marks = self.sealed;
    }

    /// Notes that the journal takes commits again.
    pub fn recovered(&mut self, since: Timestamp, now: Timestamp, step: &mut Step) {
        self.record(step, now, Subject::none(), Detail::JournalRecovered { since }, None);
    }

    fn acknowledge_feed(&mut self, position: Position, now: Timestamp, step: &mut Step) {
        if position > self.marks.feed_acknowledged && position <= self.marks.head {
            self.marks.feed_acknowledged = position;
            let subject = Subject { agent: Some(Identity::backend()), ..Subject::none() };
            self.record(step, now, subject, Detail::FeedAcknowledged { position }, None);
        }
    }

    fn record(
        &mut self,
        step: &mut Step,
        at: Timestamp,
        subject: Subject,
        detail: Detail,
        payload: Option<Bytes>,
    ) -> Position {
        self.marks.head = self.marks.head.next();
        step.events.push(Event {
            position: self.marks.head,
            at,
            invocation: subject.invocation,
            agent: subject.agent,
            caller: subject.caller,
            detail,
            payload,
        });
        self.marks.head
    }
}

/// What an event is about.
#[derive(Clone, Debug, Default)]
struct Subject {
    invocation: Option<InvocationId>,
    agent: Option<Identity>,
    caller: Option<Identity>,
}

impl Subject {
    fn none() -> Self {
        Self::default()
    }

    fn agent(agent: &Identity) -> Self {
        Self { agent: Some(agent.clone()), ..Self::default() }
    }

    fn of(invocation: &Invocation) -> Self {
        Self {
            invocation: Some(invocation.id),
            agent: Some(invocation.agent.clone()),
            caller: Some(invocation.caller.clone()),
        }
    }
}

impl Step {
    /// Has what waits for an agent looked at once the decision is complete, so that nothing overtakes what a decision
    /// is still to queue.
    fn wake(&mut self, agent: &Identity) {
        self.woken.insert(agent.clone());
    }

    fn send(&mut self, to: SessionId, message: Outbound) {
        self.effects.push(Effect::Send { to, message, stored: None });
    }

    fn send_at_once(&mut self, to: SessionId, frame: Bytes) {
        self.at_once.push(Effect::Send { to, message: Outbound::Frame(frame), stored: None });
    }
}
