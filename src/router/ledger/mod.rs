//! What happens next: the rules of the router, as data in and data out.
//!
//! [`Ledger::decide`] takes one command and the state as it is, changes the state, and says which events that makes and
//! what is to be sent once they are durable. It does no I/O, reads no clock and draws nothing but ids, so every rule can
//! be tried at any moment and in any order. The writer commits the events and the changed rows, and then either
//! [`seal`](Ledger::seal)s the batch or [`take_back`](Ledger::take_back)s it. Meanwhile, once it is
//! [launched](Ledger::launch), the next batch can be decided.

mod accept;
mod answer;
mod asker;
mod cancel;
mod connection;
mod deliver;
mod follow;
mod loss;
mod message;
mod nodes;
mod operator;
mod pending;
mod refusals;
mod registration;
mod replies;
mod session;
mod step;
mod tables;
mod timers;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use self::pending::Pending;
use self::refusals::Refusals;
use self::step::Subject;
use self::tables::{Agent, KeyScope, Patience, Tables};
use crate::clock::Timestamp;
use crate::id::{Identity, InvocationId, NodeId, Position, SessionId};
use crate::invocation::{Invocation, Policy};
use crate::journal::{AgentRow, Batch, Detail, Event, Lookup, Restored};
use crate::protocol;
use crate::router::command::Command;

pub(super) use self::accept::labels_of;
pub use self::nodes::Rows;
pub use self::step::{Effect, FeedStart, Step, Verdict};

/// The state of the router, less sockets and bytes.
#[derive(Debug)]
pub struct Ledger {
    /// This router.
    node: NodeId,
    /// Which of its lives this is.
    epoch: i64,
    /// Nobody else can be using the journal.
    alone: bool,
    policy: Policy,
    ping_interval: Duration,
    tables: Tables,
    marks: Marks,
    /// As they were after the last batch that is durable.
    sealed: Marks,
    /// As they were after the batch that is being committed.
    launched: Option<Marks>,
    refusals: Refusals,
    /// Own sockets that the end or the loss of their router ended.
    cut_off: HashSet<SessionId>,
    /// Until when that is made up for.
    resume_until: Timestamp,
    /// What other routers have committed and nothing was decided about yet.
    pending: Pending,
}

/// How far things have come.
#[derive(Clone, Copy, Debug)]
struct Marks {
    head: Position,
    feed_acknowledged: Position,
    /// The last event that the journal has let go of.
    pruned: Position,
    /// An operator has nothing new taken.
    draining: bool,
    shutting_down: bool,
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
        let node = restored.node.node;
        let mut tables = Tables::new(node, Patience { answer: policy.answer_ttl, late_answer: policy.late_answer_ttl });
        for row in restored.nodes {
            tables.put_node(row);
        }
        let epoch = restored.node.epoch;
        tables.put_node(restored.node);
        for row in restored.agents {
            tables.put_agent(&row.agent, tables::AgentRecord { registered: row.registered, last_seen: row.last_seen });
        }
        for row in restored.sessions {
            tables.put_session(row.session, Some(session::Session::of_row(row)));
        }
        for invocation in restored.unsettled {
            tables.put_invocation(invocation, smallvec::SmallVec::new());
        }
        tables.seal();
        let marks = Marks {
            head: restored.head.position,
            feed_acknowledged: restored.feed_acknowledged,
            pruned: restored.pruned,
            draining: false,
            shutting_down: false,
        };
        Self {
            node,
            epoch,
            alone: restored.alone,
            refusals: Refusals::new(policy.refusals_per_second),
            resume_until: now,
            policy,
            ping_interval,
            tables,
            marks,
            sealed: marks,
            launched: None,
            cut_off: HashSet::new(),
            pending: Pending::default(),
        }
    }

    /// Adds to `lookup` what [`decide`](Self::decide) will need of the journal for this command.
    pub fn wants(&self, command: &Command, lookup: &mut Lookup) {
        match command {
            Command::Invoke { session, invoke } => {
                if let Some(session) = self.tables.session(*session) {
                    self.wants_key(session.identity(), invoke, lookup);
                }
            }
            Command::HttpInvoke { caller, invoke } => self.wants_key(caller, invoke, lookup),
            Command::Answer { answer, .. } => {
                let by_token = answer::id_in_token(&answer.invoked_by).map(|(_, id)| id);
                let unknown = |id: &InvocationId| self.tables.invocation(*id).is_none();
                lookup.ids.extend(answer.invocation_id.or(by_token).filter(unknown));
            }
            Command::Cancel { cancel: protocol::Cancel { invocation_id: id, .. }, .. }
            | Command::HttpCancel { invocation: id, .. }
            | Command::Erase { invocation: id, .. }
                if self.tables.invocation(*id).is_none() =>
            {
                lookup.ids.push(*id);
            }
            _ => {}
        }
    }

    /// An invocation, settled or not, if the journal was asked for it.
    fn stored<'a>(&'a self, id: InvocationId, found: &'a Found) -> Option<&'a Invocation> {
        self.tables.invocation(id).map(|entry| &entry.invocation).or_else(|| found.by_id.get(&id))
    }

    /// Takes one command.
    pub fn decide(&mut self, command: &Command, found: &Found, now: Timestamp, step: &mut Step) -> Verdict {
        let verdict = self.take_command(command, found, now, step);
        self.deliver_woken(now, step);
        verdict
    }

    fn take_command(&mut self, command: &Command, found: &Found, now: Timestamp, step: &mut Step) -> Verdict {
        match command {
            Command::Open { session, principal, sealed_credential } => {
                return self.open(*session, principal, sealed_credential.as_ref(), now, step);
            }
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
            Command::InvocationRefused { caller, target, labels, code } => {
                self.invocation_refused(caller, target, labels.clone(), *code, now, step);
            }
            Command::ConnectionRefused { peer, reason } => self.connection_refused(peer, reason, now, step),
            Command::ClientMessage { caller, client, message } => {
                return self.client_message(caller, client, message, now, step);
            }
            Command::HttpInvoke { caller, invoke } => return self.http_invoke(caller, invoke, found, now, step),
            Command::HttpCancel { caller, invocation } => {
                return self.http_cancel(caller, *invocation, found, now, step);
            }
            Command::Disconnect { agent } => return self.disconnect(agent, step),
            Command::Drain { on } => self.set_draining(*on, now, step),
            Command::Erase { invocation, reason } => return self.erase(*invocation, reason, found, now, step),
            Command::Prune { through, events } => return self.prune(*through, *events, now, step),
            Command::NodeLost { node, epoch } => self.node_lost(*node, *epoch, now, step),
            Command::Leave => self.leave(now, step),
            Command::Withdraw { invocation } => self.withdraw(*invocation, now, step),
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
        match (self.next_in_tables(), self.refusals.next_due()) {
            (Some(left), Some(right)) => Some(left.min(right)),
            (left, right) => left.or(right),
        }
    }

    /// The rows and events of the running batch.
    #[must_use]
    pub fn batch(&self, step: &mut Step) -> Batch {
        let touched = self.tables.touched();
        let invocation = |id: &InvocationId| self.tables.invocation(*id).map(|entry| entry.invocation.clone());
        let events = std::mem::take(&mut step.events);
        let wake = self.to_wake(step, &events);
        Batch {
            events,
            accepted: touched.accepted.iter().filter_map(invocation).collect(),
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
            sessions: touched.sessions,
            ended: touched.ended,
            feed_acknowledged: (self.marks.feed_acknowledged != self.sealed.feed_acknowledged)
                .then_some(self.marks.feed_acknowledged),
            erased: std::mem::take(&mut step.erased),
            pruned: step.pruned.take(),
            nodes: touched.nodes,
            dismissed: std::mem::take(&mut step.dismissed),
            wake,
        }
    }

    /// The running batch is being committed. What is decided from now on belongs to the next one, which rests on it.
    pub fn launch(&mut self) {
        self.tables.launch();
        self.launched = Some(self.marks);
        self.refusals.launch();
    }

    /// The launched batch is durable; or the running one, if none is launched.
    pub fn seal(&mut self) {
        if self.launched.is_none() {
            self.launch();
        }
        self.tables.seal();
        self.sealed = self.launched.take().unwrap_or(self.marks);
        self.refusals.seal();
        self.pending.seal();
    }

    /// Neither the launched batch nor the running one is durable, and they never were.
    pub fn take_back(&mut self) {
        self.tables.take_back();
        self.launched = None;
        self.marks = self.sealed;
        self.refusals.take_back();
    }

    /// What the running batch has decided is taken back, to be decided anew; what is launched stays so.
    pub fn retract(&mut self) {
        self.tables.retract();
        self.marks = self.launched.unwrap_or(self.sealed);
        self.refusals.retract();
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
            labels: subject.labels,
        });
        self.marks.head
    }
}
