//! Which rows a batch changed: what the records were at the last seal says it.

use std::collections::HashSet;

use super::{Entry, Tables, Undo};
use crate::id::{IdSet, Identity, InvocationId, SessionId};
use crate::journal::{NodeRow, SessionRow};
use crate::router::ledger::session::Session;

/// The rows that a batch changed.
#[derive(Debug, Default)]
pub(in crate::router::ledger) struct Touched {
    pub(in crate::router::ledger) accepted: Vec<InvocationId>,
    pub(in crate::router::ledger) changed: Vec<InvocationId>,
    pub(in crate::router::ledger) agents: Vec<Identity>,
    pub(in crate::router::ledger) sessions: Vec<SessionRow>,
    pub(in crate::router::ledger) ended: Vec<SessionId>,
    pub(in crate::router::ledger) nodes: Vec<NodeRow>,
}

impl Tables {
    /// What was touched since the last seal: exactly the rows that a commit has to write.
    pub(in crate::router::ledger) fn touched(&self) -> Touched {
        let mut touched = Touched::default();
        let mut seen_invocations = IdSet::default();
        let mut seen_agents = IdSet::default();
        let mut seen_sessions = IdSet::default();
        let mut seen_nodes = HashSet::new();
        // The first old record of each is how its row stands. Who waits, and what is due when, is in no row.
        for undo in &self.undo {
            match undo {
                Undo::Invocation(id, None) if seen_invocations.insert(*id) => touched.accepted.push(*id),
                Undo::Invocation(id, Some(old)) if seen_invocations.insert(*id) => {
                    let is_changed = |new: &&Entry| new.invocation != old.invocation;
                    touched.changed.extend(self.invocations.get(id).filter(is_changed).map(|_| *id));
                }
                Undo::Agent(identity, _) if seen_agents.insert(identity) => touched.agents.push(identity.clone()),
                Undo::Session(id, old) if seen_sessions.insert(*id) => {
                    let was = old.as_ref().and_then(Session::row);
                    let is = self.sessions.get(id).and_then(Session::row);
                    match (was, is) {
                        (was, Some(row)) if was.as_ref() != Some(&row) => touched.sessions.push(row),
                        (Some(_), None) => touched.ended.push(*id),
                        _ => {}
                    }
                }
                Undo::Node(id, old) if seen_nodes.insert(*id) => {
                    let row = self.nodes.get(id).filter(|row| old.as_ref() != Some(*row));
                    touched.nodes.extend(row.cloned());
                }
                _ => {}
            }
        }
        touched
    }
}
