//! Other routers on the same journal: what they have committed is taken over, and what follows from it here is decided.

use std::collections::HashSet;

use smallvec::SmallVec;

use super::pending::{Concern, Ended};
use super::replies::answer;
use super::session::{Session, Standing};
use super::tables::AgentRecord;
use super::{Effect, Ledger, Step, Subject};
use crate::clock::Timestamp;
use crate::id::{Identity, InvocationId, NodeId, SessionId};
use crate::invocation::{Invocation, Origin, Reply};
use crate::journal::{AgentRow, Detail, News, NodeRow, NodeStanding, SessionRow, SessionStanding};
use crate::router::outbox::{Ending, Outbound};

impl Ledger {
    /// Takes over what other routers have committed: from now on it is as durable here as what this router committed itself.
    /// Gives back [what is missing](Self::missing).
    pub fn follow(&mut self, news: News) -> Vec<InvocationId> {
        debug_assert!(self.tables.is_sealed(), "a turn begins before anything is decided");
        let backend = self.newest_backend();
        self.marks.head = self.marks.head.max(news.head);
        self.marks.feed_acknowledged = self.marks.feed_acknowledged.max(news.feed_acknowledged);
        self.marks.pruned = self.marks.pruned.max(news.pruned);
        let mut ended = news.ended;
        if news.whole {
            let there: HashSet<SessionId> = news.sessions.iter().map(|row| row.session).collect();
            let gone = |session: &&Session| session.counts() && !there.contains(&session.id);
            ended.extend(self.tables.sessions().filter(gone).map(|session| session.id));
            self.follow_absences(&news.invocations);
        }
        let gone = self.follow_nodes(news.nodes);
        for session in ended {
            self.follow_end(session, &gone);
        }
        for row in news.sessions {
            self.follow_session(row);
        }
        for AgentRow { agent, registered, last_seen } in news.agents {
            self.tables.put_agent(&agent, AgentRecord { registered, last_seen });
        }
        for invocation in news.invocations {
            self.follow_invocation(invocation);
        }
        let is_here =
            |session: SessionId| self.tables.session(session).is_some_and(|session| session.node == self.node);
        self.pending.dismissed.extend(news.dismissed.into_iter().filter(|dismissed| is_here(dismissed.session)));
        self.pending.feed |= self.newest_backend() != backend;
        let tables = &self.tables;
        let has_socket_here =
            |identity: &Identity| tables.sessions_of(identity).any(|session| session.node == self.node);
        for identities in [&mut self.pending.owed, &mut self.pending.agents, &mut self.pending.takeovers] {
            identities.retain(has_socket_here);
        }
        self.tables.seal();
        self.sealed = self.marks;
        self.missing()
    }

    /// Invocations that somebody here waits for and that the news left out because they are settled: the journal is to be
    /// asked for them, for [`Self::follow_settled`].
    #[must_use]
    pub fn missing(&self) -> Vec<InvocationId> {
        self.pending.missing.keys().copied().collect()
    }

    /// Takes over what the journal has of [what was missing](Self::missing).
    pub fn follow_settled(&mut self, found: Vec<Invocation>) {
        for invocation in found {
            if let Some(concern) = self.pending.missing.remove(&invocation.id) {
                self.pending.ended.push(Ended { id: invocation.id, invocation: Some(invocation), concern });
            }
        }
        for (id, concern) in std::mem::take(&mut self.pending.missing) {
            self.pending.ended.push(Ended { id, invocation: None, concern });
        }
    }

    /// Whether another process has started under this router's name: this one must end.
    #[must_use]
    pub fn is_superseded(&self) -> bool {
        self.tables.node(self.node).is_some_and(|row| row.epoch > self.epoch)
    }

    /// Takes over what became of routers; returns those whose sockets ended with them.
    fn follow_nodes(&mut self, rows: Vec<NodeRow>) -> HashSet<NodeId> {
        let mut gone = HashSet::new();
        for row in rows {
            if row.node == self.node {
                self.pending.lost = row.standing == NodeStanding::Lost && row.epoch == self.epoch;
            }
            let is_new_life = self.tables.node(row.node).is_some_and(|old| old.epoch != row.epoch);
            if is_new_life || !row.standing.is_present() {
                gone.insert(row.node);
            }
            self.tables.put_node(row);
        }
        gone
    }

    /// Takes over that another router has ended a socket.
    fn follow_end(&mut self, id: SessionId, gone: &HashSet<NodeId>) {
        let Some(session) = self.tables.session(id).filter(|session| session.counts()).cloned() else { return };
        if gone.contains(&session.node) {
            self.pending.cut_off.push(id);
        }
        self.concerns(session.identity());
        if session.node == self.node {
            let why = if gone.contains(&self.node) { Ending::Restarting } else { Ending::TakenOver };
            self.pending.closing.entry(id).or_insert(why);
            let fenced = Session { standing: Standing::Fenced, drain_at: None, fence_at: None, ..session };
            self.tables.put_session(id, Some(fenced));
        } else {
            self.tables.put_session(id, None);
        }
    }

    fn follow_session(&mut self, row: SessionRow) {
        self.concerns(&row.identity);
        if row.node != self.node {
            self.tables.put_session(row.session, Some(Session::of_row(row)));
            return;
        }
        // Nobody else changes more of a socket of this router than that it is to be closed.
        let (standing, why) = match row.standing {
            SessionStanding::Evicted => (Standing::Evicted, Ending::TakenOver),
            SessionStanding::Disconnected => (Standing::Disconnected, Ending::Disconnected),
            SessionStanding::Live | SessionStanding::Registering | SessionStanding::Leaving => return,
        };
        let Some(session) = self.tables.session(row.session).filter(|session| session.counts()).cloned() else {
            return;
        };
        self.pending.closing.entry(session.id).or_insert(why);
        let closed = Session { standing, drain_at: None, fence_at: None, ..session };
        self.tables.put_session(closed.id, Some(closed));
    }

    fn follow_invocation(&mut self, invocation: Invocation) {
        let old = self.tables.invocation(invocation.id).cloned();
        let was_open = old.as_ref().is_none_or(|old| old.invocation.is_open());
        let was_sent = old.as_ref().is_some_and(|old| matches!(old.invocation.reply, Reply::Sent { .. }));
        let (waiters, was_on) = old.map_or_else(Default::default, |old| (old.waiters, old.invocation.in_flight_on()));
        self.pending.agents.insert(invocation.agent.clone());
        // What was sent and is owed no more, because it is erased, may never be confirmed: what comes behind it goes on.
        if invocation.reply == Reply::Owed || (was_sent && invocation.reply == Reply::None) {
            self.pending.owed.insert(invocation.caller.clone());
        }
        let is_over = was_open && !invocation.is_open();
        if is_over {
            let concern = Concern { waiters: waiters.clone(), was_on };
            let ended = Ended { id: invocation.id, invocation: Some(invocation.clone()), concern };
            self.pending.ended.push(ended);
        } else if was_on != invocation.in_flight_on() {
            self.pending.relieved.extend(was_on);
        }
        self.tables.put_invocation(invocation, if is_over { SmallVec::new() } else { waiters });
    }

    /// Takes over that invocations which are not in the news are settled.
    fn follow_absences(&mut self, unsettled: &[Invocation]) {
        let there: HashSet<InvocationId> = unsettled.iter().map(|invocation| invocation.id).collect();
        let settled: Vec<Invocation> = self
            .tables
            .invocations()
            .map(|entry| &entry.invocation)
            .filter(|invocation| !there.contains(&invocation.id))
            .cloned()
            .collect();
        for invocation in settled {
            let id = invocation.id;
            self.pending.agents.insert(invocation.agent.clone());
            if let Some(entry) = self.tables.forget(id).filter(|entry| entry.invocation.is_open()) {
                let was_on = invocation.in_flight_on().filter(|session| self.is_held(*session));
                let cut_off =
                    matches!(invocation.origin, Origin::Socket { session, .. } if self.cut_off.contains(&session));
                let concern = Concern { waiters: entry.waiters, was_on };
                if concern.waiters.is_empty() && concern.was_on.is_none() && !cut_off {
                    self.pending.ended.push(Ended { id, invocation: None, concern });
                } else {
                    self.pending.missing.insert(id, concern);
                }
            }
        }
    }

    /// Something has become of sockets of this identity.
    fn concerns(&mut self, identity: &Identity) {
        self.pending.takeovers.insert(identity.clone());
        self.pending.owed.insert(identity.clone());
        self.pending.agents.insert(identity.clone());
    }

    /// Decides what follows here from what other routers have committed: who is told an answer, which sockets are to be closed,
    /// which agents can be sent something. Nothing of it is lost if the batch is taken back.
    pub fn catch_up(&mut self, now: Timestamp, step: &mut Step) {
        if self.pending.lost {
            self.put_own_standing();
            self.record(step, now, Subject::none(), Detail::NodeReturned {}, None);
        }
        let cut_off = std::mem::take(&mut self.pending.cut_off);
        self.cut_off(cut_off, now);
        for (session, why) in self.pending.closing.clone() {
            step.effects.push(Effect::End { session, why });
        }
        for (index, ended) in self.pending.ended.clone().iter().enumerate() {
            self.tell_end(ended, index >= self.pending.told, now, step);
        }
        for session in self.pending.relieved.clone() {
            self.finish_leaving(session, step);
        }
        for identity in self.pending.takeovers.clone() {
            self.finish_takeover(&identity, now, step);
        }
        for caller in self.pending.owed.clone() {
            let here = self.tables.sessions_of(&caller).rev().filter(|session| session.node == self.node);
            for socket in here.map(|session| session.id).collect::<Vec<_>>() {
                self.send_owed_answers(socket, step);
            }
        }
        for dismissed in self.pending.dismissed.iter().filter(|dismissed| self.is_held(dismissed.session)) {
            step.send(dismissed.session, Outbound::Dismissal(dismissed.position));
        }
        if self.pending.feed {
            self.direct_feed(step);
        }
        for agent in self.pending.agents.clone() {
            step.wake(&agent);
        }
        self.deliver_woken(now, step);
    }

    /// What [is known](Step::known) was released: it is not told again, should the batch be taken back.
    pub fn told(&mut self) {
        self.pending.told = self.pending.ended.len();
    }

    /// An invocation has ended. `tell`: whoever waits for it here was not told yet.
    fn tell_end(&mut self, ended: &Ended, tell: bool, now: Timestamp, step: &mut Step) {
        let Ended { id, invocation, concern } = ended;
        if tell {
            step.known.push(Effect::Ended { invocation: *id, answered_after: None });
        }
        let Some(invocation) = invocation else {
            self.pending.relieved.extend(concern.was_on);
            return;
        };
        let mut sent_to = None;
        for waiter in concern.waiters.iter().filter(|waiter| self.is_held(waiter.session)) {
            if tell {
                step.known.push(answer(invocation, *waiter, None));
            }
            let own = self.tables.session(waiter.session).filter(|session| session.is_own());
            sent_to = sent_to.or(own.map(|session| session.id));
        }
        let is_owed = self.tables.invocation(*id).is_some_and(|entry| entry.invocation.reply == Reply::Owed);
        if let Some(session) = sent_to.filter(|_| is_owed) {
            self.tables.change(*id, |entry| entry.invocation.reply = Reply::Sent { session });
        }
        if let Origin::Socket { session, .. } = invocation.origin
            && !self.waits_for_good(&invocation.caller)
            && sent_to.is_none()
        {
            let newest = self.tables.sessions_of(&invocation.caller).next_back();
            if newest.is_some_and(|newest| newest.node == self.node) {
                self.make_up_for(session, invocation, None, now, step);
            }
        }
        if let (Some(session), Some(finished)) = (concern.was_on.filter(|on| self.is_held(*on)), invocation.finished())
        {
            self.no_longer_in_flight(*id, finished.outcome, session, step);
        }
    }
}
