//! What follows from the records: who has what waiting and in flight, which plain names are taken, and what is due when.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Agent, Due, Entry, KeyScope, Patience, Tables};
use crate::clock::Timestamp;
use crate::id::{Identity, InvocationId, Position};
use crate::invocation::{Invocation, Order, Reply, State};

/// Where the indexes have an invocation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Places {
    open: bool,
    of_agent: OfAgent,
    plain: bool,
    of_caller: Option<Answers>,
}

/// In which of its agent's lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum OfAgent {
    Queue {
        since: Timestamp,
    },
    InFlight,
    Interrupted,
    #[default]
    None,
}

/// In which of its caller's lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answers {
    Owed,
    Unconfirmed,
}

impl Places {
    fn of(invocation: &Invocation) -> Self {
        Self {
            open: invocation.is_open(),
            of_agent: match invocation.state {
                State::Queued { since } => OfAgent::Queue { since },
                State::Delivered { .. } | State::Running { .. } => OfAgent::InFlight,
                State::Interrupted { .. } => OfAgent::Interrupted,
                State::Finished(_) => OfAgent::None,
            },
            plain: invocation.plain_unanswered,
            of_caller: match invocation.reply {
                Reply::None => None,
                Reply::Owed => Some(Answers::Owed),
                Reply::Sent { .. } => Some(Answers::Unconfirmed),
            },
        }
    }
}

impl Tables {
    /// Has the indexes follow a new record.
    pub(super) fn index(&mut self, entry: &mut Entry) {
        let order = &entry.invocation.order;
        self.unsettled.insert(order.accepted);
        if let Some(key) = &order.key {
            self.keys.insert((scope_of(order, &key.key), order.accepted), order.id);
        }
        self.place(order, Places::default(), Places::of(&entry.invocation));
        self.schedule(None, entry);
    }

    /// Has the indexes forget a record.
    pub(super) fn unindex(&mut self, entry: &Entry) {
        let order = &entry.invocation.order;
        self.unsettled.remove(&order.accepted);
        if let Some(key) = &order.key {
            self.keys.remove(&(scope_of(order, &key.key), order.accepted));
        }
        self.place(order, Places::of(&entry.invocation), Places::default());
        if let Some(at) = entry.due {
            self.due.remove(&(at, Due::Invocation(order.id)));
        }
    }

    /// Has the indexes follow a record of the same invocation in place of another. Most changes move it in few of them.
    pub(super) fn reindex(&mut self, old: &Entry, new: &mut Entry) {
        let (was, is) = (Places::of(&old.invocation), Places::of(&new.invocation));
        if was != is {
            self.place(&new.invocation.order, was, is);
        }
        self.schedule(old.due, new);
    }

    fn place(&mut self, order: &Order, was: Places, is: Places) {
        self.open = self.open + usize::from(is.open) - usize::from(was.open);
        let (id, accepted) = (order.id, order.accepted);
        if was.of_agent != is.of_agent || was.plain != is.plain {
            let agent = self.agents.entry(order.agent.clone()).or_default();
            agent.batch = self.batch;
            match was.of_agent {
                OfAgent::Queue { since } => {
                    self.waiting.remove(&(since, id));
                    agent.queue.remove(&accepted);
                    agent.queued_bytes -= u64::from(order.body_bytes);
                }
                OfAgent::InFlight => {
                    self.in_flight -= 1;
                    agent.in_flight.remove(&accepted);
                }
                OfAgent::Interrupted => _ = agent.interrupted.remove(&accepted),
                OfAgent::None => {}
            }
            match is.of_agent {
                OfAgent::Queue { since } => {
                    self.waiting.insert((since, id));
                    agent.queue.insert(accepted, id);
                    agent.queued_bytes += u64::from(order.body_bytes);
                }
                OfAgent::InFlight => {
                    self.in_flight += 1;
                    agent.in_flight.insert(accepted, id);
                }
                OfAgent::Interrupted => _ = agent.interrupted.insert(accepted, id),
                OfAgent::None => {}
            }
            if was.plain && !is.plain {
                let plain = order.plain_invoked_by();
                if agent.plain.get(&*plain) == Some(&id) {
                    agent.plain.remove(&*plain);
                }
            }
            if is.plain {
                agent.plain.insert(order.plain_invoked_by().into(), id);
            }
        }
        if was.of_caller != is.of_caller {
            let caller = self.agents.entry(order.caller.clone()).or_default();
            caller.batch = self.batch;
            if let Some(answers) = was.of_caller {
                caller.answers(answers).remove(&accepted);
            }
            if let Some(answers) = is.of_caller {
                caller.answers(answers).insert(accepted, id);
            }
        }
    }

    /// Notes when there is something to do about it.
    fn schedule(&mut self, was: Option<Timestamp>, entry: &mut Entry) {
        let invocation = &entry.invocation;
        entry.due = due_at(invocation, self.agents.get(&invocation.agent), self.patience);
        if entry.due != was {
            let due = Due::Invocation(invocation.id);
            if let Some(at) = was {
                self.due.remove(&(at, due));
            }
            if let Some(at) = entry.due {
                self.due.insert((at, due));
            }
        }
    }

    /// Whether an agent is connected decides when what waits for it expires.
    pub(super) fn follow_connection(&mut self, identity: &Identity) {
        let Some(agent) = self.agents.get(identity) else { return };
        for id in agent.queue.values() {
            let Some(entry) = self.invocations.get_mut(id) else { continue };
            let due = due_at(&entry.invocation, Some(agent), self.patience);
            if due != entry.due {
                if let Some(at) = entry.due {
                    self.due.remove(&(at, Due::Invocation(*id)));
                }
                if let Some(at) = due {
                    self.due.insert((at, Due::Invocation(*id)));
                }
                entry.due = due;
            }
        }
    }
}

impl Agent {
    /// Where its invocations are whose answers have not reached it.
    const fn answers(&mut self, answers: Answers) -> &mut BTreeMap<Position, InvocationId> {
        match answers {
            Answers::Owed => &mut self.owed,
            Answers::Unconfirmed => &mut self.unconfirmed,
        }
    }
}

fn scope_of(order: &Order, key: &Arc<str>) -> KeyScope {
    (order.caller.clone(), order.agent.clone(), Arc::clone(key))
}

fn due_at(invocation: &Invocation, agent: Option<&Agent>, patience: Patience) -> Option<Timestamp> {
    let deadline = invocation.terms.deadline;
    match invocation.state {
        State::Queued { .. } if agent.is_none_or(|agent| agent.sessions.is_empty()) => {
            let last_seen = agent.and_then(|agent| agent.record.last_seen);
            Some(invocation.ttl_over_at(last_seen).map_or(deadline, |ttl| ttl.min(deadline)))
        }
        State::Queued { .. } | State::Delivered { .. } | State::Running { .. } => Some(deadline),
        State::Interrupted { until } => Some(until.min(deadline)),
        State::Finished(finished) => {
            let plain = invocation.plain_unanswered.then(|| deadline + patience.late_answer);
            let reply = (!matches!(invocation.reply, Reply::None)).then(|| finished.at + patience.answer);
            match (plain, reply) {
                (Some(plain), Some(reply)) => Some(plain.min(reply)),
                (plain, reply) => plain.or(reply),
            }
        }
    }
}
