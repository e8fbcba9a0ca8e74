//! Sockets come and go.

use std::sync::Arc;

use bytes::Bytes;

use super::session::{Session, Standing};
use super::{Effect, FeedStart, Ledger, Step, Subject, Verdict};
use crate::auth::Principal;
use crate::clock::Timestamp;
use crate::code::ErrorCode;
use crate::id::{Identity, NodeId, SessionId};
use crate::invocation::Labels;
use crate::journal::{Detail, NodeRow, NodeStanding};
use crate::protocol::Log;
use crate::router::command::EndReason;

impl Ledger {
    pub(super) fn open(
        &mut self,
        id: SessionId,
        principal: &Principal,
        sealed_credential: Option<&Bytes>,
        now: Timestamp,
        step: &mut Step,
    ) -> Verdict {
        if self.marks.shutting_down || self.marks.draining {
            return Verdict::Refused(ErrorCode::ShuttingDown);
        }
        if !self.vouches_for(principal) {
            return Verdict::Refused(ErrorCode::NotAllowed);
        }
        let own = matches!(principal, Principal::Own { .. });
        let identity = principal.identity().clone();
        let session = Session {
            id,
            principal: principal.clone(),
            node: self.node,
            connected_at: now,
            registration: None,
            standing: Standing::Live,
            drain_at: (own && !identity.is_backend()).then(|| now + self.policy.drain_delay),
            fence_at: None,
            sealed_credential: sealed_credential.cloned(),
        };
        self.tables.put_session(id, Some(session));
        if own {
            self.record(step, now, Subject::agent(&identity), Detail::AgentConnected { session: id }, None);
            if identity.is_master() {
                self.send_owed_answers(id, step);
            }
            if identity.is_backend() {
                self.direct_feed(step);
            }
        }
        Verdict::Taken
    }

    /// Whether an invoke socket's caller is connected now, in secured mode, or a master, whose key was shown.
    pub(super) fn vouches_for(&self, principal: &Principal) -> bool {
        match principal {
            Principal::Invoke { caller, .. } => {
                !self.policy.secured || caller.is_master() || self.tables.is_connected(caller)
            }
            Principal::Own { .. } => true,
        }
    }

    pub(super) fn end(&mut self, id: SessionId, reason: EndReason, now: Timestamp, step: &mut Step) {
        let Some(session) = self.tables.session(id).cloned() else { return };
        if self.marks.shutting_down {
            // Its end is the router's doing: the next start finds the socket's row, and makes up for it.
            return;
        }
        let identity = session.identity().clone();
        let newest = self.tables.sessions_of(&identity).next_back().map(|session| session.id);
        self.tables.put_session(id, None);
        if session.counts() {
            self.disconnected(&session, reason, now, step);
            self.lose(&session, false, now, step);
            self.replies_lost(&identity, id, step);
            self.finish_takeover(&identity, now, step);
            step.wake(&identity);
            if identity.is_backend() && newest == Some(id) {
                self.direct_feed(step);
            }
        }
    }

    /// Journals what a start finds: every socket that the predecessor held has ended, and what was in flight on them
    /// may have been started. So has every socket of another router that is not there.
    pub fn boot(&mut self, now: Timestamp, step: &mut Step) {
        if let Some(row) = self.tables.node(self.node) {
            self.epoch += 1;
            let (epoch, standing, version) = (self.epoch, NodeStanding::Up, env!("CARGO_PKG_VERSION").into());
            self.tables.put_node(NodeRow { epoch, standing, version, started_at: now, ..row.clone() });
        }
        self.record(step, now, Subject::none(), Detail::NodeStarted { version: env!("CARGO_PKG_VERSION") }, None);
        let gone: Vec<NodeRow> =
            self.tables.nodes().filter(|row| self.alone && row.node != self.node).cloned().collect();
        for row in gone.into_iter().filter(|row| row.standing.is_present()) {
            // It ran under another name, and its file is in nobody's hands.
            self.tables.put_node(NodeRow { standing: NodeStanding::Lost, ..row });
        }
        let is_there = |node: NodeId| self.others().any(|other| other.node == node);
        let held = self.sorted_sessions(|session| !is_there(session.node));
        self.end_all(&held, EndReason::Restarting, now, step);
        if self.others().next().is_none() {
            self.wait_anew(now, step);
        }
        self.wake_others(step);
        self.deliver_woken(now, step);
    }

    /// Agents could not come back with their work while the router was away.
    fn wait_anew(&mut self, now: Timestamp, step: &mut Step) {
        let until = now + self.policy.resume_grace;
        for id in self.tables.interrupted_until(until) {
            let Some(entry) = self.tables.invocation(id) else { continue };
            let (subject, attempt) = (Subject::of(&entry.invocation), entry.invocation.attempt);
            self.record(step, now, subject, Detail::InvocationInterrupted { attempt, until }, None);
            self.tables.change(id, |entry| entry.invocation.interrupt(until));
        }
    }

    pub(super) fn disconnected(&mut self, session: &Session, reason: EndReason, now: Timestamp, step: &mut Step) {
        let identity = session.identity();
        // The backend takes it for the end of the agent, so it is not told while the agent is still there.
        let still_registered = self.tables.sessions_of(identity).any(Session::is_registered);
        let announced = !identity.is_backend() && reason != EndReason::TakenOver && !still_registered;
        let detail = Detail::AgentDisconnected { session: session.id, reason: reason.as_str(), announced };
        self.record(step, now, Subject::agent(identity), detail, None);
        if !self.tables.is_connected(identity)
            && let Some(agent) = self.tables.agent(identity)
        {
            let mut record = agent.record;
            record.last_seen = Some(now);
            self.tables.put_agent(identity, record);
        }
    }

    /// The newest of the backend's sockets is told what the backend misses, by the router that holds it.
    pub(super) fn direct_feed(&self, step: &mut Step) {
        let newest = self.tables.sessions_of(&Identity::backend()).next_back();
        // Who told it until now is to stop.
        self.tables.sessions_of(&Identity::backend()).for_each(|session| step.wake_node(session.node));
        step.effects.push(Effect::Feed(newest.filter(|session| session.node == self.node).map(|session| FeedStart {
            session: session.id,
            acknowledged: self.marks.feed_acknowledged,
            head: self.marks.head,
            registered: self.registered(),
        })));
    }

    fn registered(&self) -> Vec<(SessionId, Identity, crate::id::Position)> {
        let mut registered: Vec<_> = self
            .tables
            .sessions()
            .filter(|session| session.is_own() && !session.identity().is_master())
            .filter(|session| session.is_registered())
            .filter_map(|session| {
                let registration = session.registration?;
                Some((session.id, session.identity().clone(), registration.position))
            })
            .collect();
        registered.sort_by_key(|(_, _, position)| *position);
        registered
    }

    pub(super) fn log(&mut self, id: SessionId, log: &Log, now: Timestamp, step: &mut Step) {
        let Some(session) = self.tables.session(id) else { return };
        let labels = Labels {
            request_id: log.request_id.as_deref().map(Arc::from),
            session_id: log.session_id.as_deref().map(Arc::from),
        };
        let subject = Subject { labels, ..Subject::agent(session.identity()) };
        let detail = Detail::AgentLogged { request_id: log.request_id.clone(), session_id: log.session_id.clone() };
        self.record(step, now, subject, detail, Some(log.body.clone()));
    }
}
