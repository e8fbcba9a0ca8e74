//! What follows from the records: who has what waiting and in flight, which plain names are taken, and what is due when.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Agent, Due, Entry, KeyScope, Tables};
use crate::clock::Timestamp;
use crate::id::{Identity, InvocationId, Position};
use crate::invocation::{Invocation, Reply, State};

impl Tables {
    pub(super) fn index(&mut self, entry: &mut Entry) {
        let invocation = &entry.invocation;
        self.open += usize::from(invocation.is_open());
        if let Some(key) = &invocation.key {
            let scope = scope_of(invocation, &key.key);
            self.keys.insert((scope, invocation.accepted), invocation.id);
        }
        let agent = self.agents.entry(invocation.agent.clone()).or_default();
        match invocation.state {
            State::Queued { since } => {
                self.waiting.insert((since, invocation.id));
                agent.queue.insert(invocation.accepted, invocation.id);
                agent.queued_bytes += u64::from(invocation.body_bytes);
            }
            State::Delivered { .. } | State::Running { .. } => {
                self.in_flight += 1;
                agent.in_flight.insert(invocation.accepted, invocation.id);
            }
            State::Interrupted { .. } => {
                agent.interrupted.insert(invocation.accepted, invocation.id);
            }
            State::Finished(_) => {}
        }
        if invocation.plain_unanswered {
            agent.plain.insert(invocation.plain_invoked_by().into(), invocation.id);
        }
        let due = due_at(invocation, agent, self.answer_ttl);
        if !matches!(invocation.reply, Reply::None) {
            let caller = self.agents.entry(invocation.caller.clone()).or_default();
            caller.answers(invocation.reply).insert(invocation.accepted, invocation.id);
        }
        entry.due = due;
        if let Some(at) = due {
            self.due.insert((at, Due::Invocation(invocation.id)));
        }
    }

    pub(super) fn unindex(&mut self, entry: &Entry) {
        let invocation = &entry.invocation;
        self.open -= usize::from(invocation.is_open());
        if let Some(key) = &invocation.key {
            let scope = scope_of(invocation, &key.key);
            self.keys.remove(&(scope, invocation.accepted));
        }
        if let Some(agent) = self.agents.get_mut(&invocation.agent) {
            match invocation.state {
                State::Queued { since } => {
                    self.waiting.remove(&(since, invocation.id));
                    agent.queue.remove(&invocation.accepted);
                    agent.queued_bytes -= u64::from(invocation.body_bytes);
                }
                State::Delivered { .. } | State::Running { .. } => {
                    self.in_flight -= 1;
                    agent.in_flight.remove(&invocation.accepted);
                }
                State::Interrupted { .. } => {
                    agent.interrupted.remove(&invocation.accepted);
                }
                State::Finished(_) => {}
            }
            if invocation.plain_unanswered {
                let plain = invocation.plain_invoked_by();
                if agent.plain.get(plain.as_str()) == Some(&invocation.id) {
                    agent.plain.remove(plain.as_str());
                }
            }
        }
        if !matches!(invocation.reply, Reply::None)
            && let Some(caller) = self.agents.get_mut(&invocation.caller)
        {
            caller.answers(invocation.reply).remove(&invocation.accepted);
        }
        if let Some(at) = entry.due {
            self.due.remove(&(at, Due::Invocation(invocation.id)));
        }
    }

    /// Whether an agent is connected decides when what waits for it expires.
    pub(super) fn follow_connection(&mut self, identity: &Identity) {
        let Some(agent) = self.agents.get(identity) else { return };
        for id in agent.queue.values() {
            let Some(entry) = self.invocations.get_mut(id) else { continue };
            let due = due_at(&entry.invocation, agent, self.answer_ttl);
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
    const fn answers(&mut self, reply: Reply) -> &mut BTreeMap<Position, InvocationId> {
        match reply {
            Reply::Owed => &mut self.owed,
            Reply::Sent { .. } | Reply::None => &mut self.unconfirmed,
        }
    }
}

fn scope_of(invocation: &Invocation, key: &Arc<str>) -> KeyScope {
    (invocation.caller.clone(), invocation.agent.clone(), Arc::clone(key))
}

fn due_at(invocation: &Invocation, agent: &Agent, answer_ttl: Duration) -> Option<Timestamp> {
    let deadline = invocation.terms.deadline;
    match invocation.state {
        State::Queued { .. } if agent.sessions.is_empty() => {
            Some(invocation.ttl_over_at(agent.record.last_seen).map_or(deadline, |ttl| ttl.min(deadline)))
        }
        State::Queued { .. } | State::Delivered { .. } | State::Running { .. } => Some(deadline),
        State::Interrupted { until } => Some(until.min(deadline)),
        State::Finished(finished) => {
            let plain = invocation.plain_unanswered.then_some(deadline);
            let reply = (!matches!(invocation.reply, Reply::None)).then(|| finished.at + answer_ttl);
            match (plain, reply) {
                (Some(plain), Some(reply)) => Some(plain.min(reply)),
                (plain, reply) => plain.or(reply),
            }
        }
    }
}
