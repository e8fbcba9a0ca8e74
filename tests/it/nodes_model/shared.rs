//! A journal in memory that several routers share: rows, events, and what each commit changed.

use std::collections::{BTreeMap, BTreeSet};

use agent_router::clock::Timestamp;
use agent_router::id::{Identity, InvocationId, NodeId, Position, SessionId};
use agent_router::invocation::Invocation;
use agent_router::journal::{
    AgentRow, Batch, Dismissed, Event, Head, Lookup, News, NodeRow, NodeStanding, Restored, SessionRow,
};

/// So many of the newest commits can be followed one by one.
const RING: usize = 24;

#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) revision: usize,
    pub(super) events: Vec<Event>,
    pub(super) invocations: BTreeMap<InvocationId, Invocation>,
    agents: BTreeMap<Identity, AgentRow>,
    pub(super) sessions: BTreeMap<SessionId, SessionRow>,
    pub(super) nodes: BTreeMap<NodeId, NodeRow>,
    feed_acknowledged: Position,
    pruned: Position,
    changes: Vec<Change>,
}

#[derive(Debug, Default)]
struct Change {
    invocations: BTreeSet<InvocationId>,
    agents: BTreeSet<Identity>,
    sessions: BTreeSet<SessionId>,
    nodes: BTreeSet<NodeId>,
    dismissed: Vec<Dismissed>,
}

impl Shared {
    pub(super) fn head(&self) -> Position {
        Position(i64::try_from(self.events.len()).expect("few"))
    }

    pub(super) fn restore(&self, node: NodeId, now: Timestamp) -> Restored {
        let own = self.nodes.get(&node).cloned().unwrap_or(NodeRow {
            node,
            name: format!("node {}", node.0).into(),
            epoch: 0,
            standing: NodeStanding::Stopped,
            version: "0".into(),
            started_at: now,
        });
        Restored {
            head: Head { position: self.head(), hash: [0; 32] },
            agents: self.agents.values().cloned().collect(),
            sessions: self.sessions.values().cloned().collect(),
            unsettled: self.unsettled(),
            feed_acknowledged: self.feed_acknowledged,
            pruned: self.pruned,
            nodes: self.nodes.values().cloned().collect(),
            node: own,
            alone: false,
        }
    }

    pub(super) fn unsettled(&self) -> Vec<Invocation> {
        in_order(self.invocations.values().filter(|invocation| !invocation.is_settled()).cloned().collect())
    }

    /// What was committed since that revision.
    pub(super) fn news(&self, since: usize) -> Option<News> {
        if since == self.revision {
            return None;
        }
        let (head, feed_acknowledged) = (self.head(), self.feed_acknowledged);
        if self.revision - since > RING {
            return Some(News {
                head,
                whole: true,
                invocations: self.unsettled(),
                agents: self.agents.values().cloned().collect(),
                sessions: self.sessions.values().cloned().collect(),
                nodes: self.nodes.values().cloned().collect(),
                feed_acknowledged,
                pruned: self.pruned,
                ..News::default()
            });
        }
        let mut all = Change::default();
        for change in &self.changes[since..] {
            all.invocations.extend(&change.invocations);
            all.agents.extend(change.agents.iter().cloned());
            all.sessions.extend(&change.sessions);
            all.nodes.extend(&change.nodes);
            all.dismissed.extend(&change.dismissed);
        }
        Some(News {
            head,
            whole: false,
            invocations: in_order(all.invocations.iter().map(|id| self.invocations[id].clone()).collect()),
            agents: all.agents.iter().filter_map(|agent| self.agents.get(agent).cloned()).collect(),
            sessions: all.sessions.iter().filter_map(|id| self.sessions.get(id).cloned()).collect(),
            ended: all.sessions.iter().filter(|id| !self.sessions.contains_key(id)).copied().collect(),
            nodes: all.nodes.iter().filter_map(|node| self.nodes.get(node).cloned()).collect(),
            dismissed: all.dismissed,
            feed_acknowledged,
            pruned: self.pruned,
            ..News::default()
        })
    }

    pub(super) fn commit(&mut self, batch: &Batch) {
        let mut change = Change { dismissed: batch.dismissed.clone(), ..Change::default() };
        for event in &batch.events {
            assert_eq!(event.position, self.head().next(), "events are contiguous");
            self.events.push(event.clone());
        }
        for row in &batch.accepted {
            assert!(self.invocations.insert(row.id, row.clone()).is_none(), "accepted twice: {row:?}");
            change.invocations.insert(row.id);
        }
        for row in &batch.changed {
            let old = self.invocations.insert(row.id, row.clone()).expect("what is changed is there");
            assert!(old.is_open() || old.finished() == row.finished(), "an end is for good: {old:?} {row:?}");
            change.invocations.insert(row.id);
        }
        for row in &batch.agents {
            self.agents.insert(row.agent.clone(), row.clone());
            change.agents.insert(row.agent.clone());
        }
        for row in &batch.sessions {
            self.sessions.insert(row.session, row.clone());
            change.sessions.insert(row.session);
        }
        for id in &batch.ended {
            assert!(self.sessions.remove(id).is_some(), "what has ended was there: {id}");
            change.sessions.insert(*id);
        }
        for row in &batch.nodes {
            self.nodes.insert(row.node, row.clone());
            change.nodes.insert(row.node);
        }
        self.feed_acknowledged = batch.feed_acknowledged.unwrap_or(self.feed_acknowledged);
        self.pruned = batch.pruned.map_or(self.pruned, |through| through.position);
        self.changes.push(change);
        self.revision += 1;
    }

    pub(super) fn lookup(&self, lookup: &Lookup) -> Vec<Invocation> {
        let by_id = lookup.ids.iter().filter_map(|id| self.invocations.get(id));
        let by_key = lookup.keys.iter().filter_map(|(caller, agent, key)| {
            self.invocations
                .values()
                .filter(|row| row.caller == *caller && row.agent == *agent)
                .filter(|row| row.key.as_ref().is_some_and(|used| used.key == *key))
                .max_by_key(|row| row.accepted)
        });
        by_id.chain(by_key).cloned().collect()
    }
}

fn in_order(mut rows: Vec<Invocation>) -> Vec<Invocation> {
    rows.sort_by_key(|row| row.accepted);
    rows
}
