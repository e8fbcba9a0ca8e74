//! Which event may follow, and what it changes: the life of an invocation as the protocol page draws it.

use std::collections::BTreeSet;
use std::time::Duration;

use agent_router::clock::Timestamp;
use agent_router::code::ErrorCode;
use agent_router::id::{Identity, InvocationId, Position, SessionId};
use agent_router::invocation::{Labels, Outcome};
use agent_router::journal::{Accepted, Detail, Event};
use agent_router::protocol::AnswerKind;
use serde_json::json;

use super::scene::{Answering, Asker, Scene};
use super::state::{Call, Loss, Model, Reply, Standing, State, Way};

impl Model {
    /// Takes one event, which must be one that may happen now.
    pub(super) fn apply(&mut self, event: &Event, scene: &mut Scene) {
        assert_eq!(event.position, self.head.next(), "positions are contiguous");
        assert_eq!(event.at, scene.now, "an event is dated when it is decided");
        self.head = event.position;
        self.names_its_subject(event);
        match &event.detail {
            Detail::NodeStarted { .. }
            | Detail::NodeStopped {}
            | Detail::AgentConnected { .. }
            | Detail::AgentLogged { .. }
            | Detail::AgentDismissed { .. }
            | Detail::AgentUnregistered { .. } => scene.take_due(event.detail.kind()),
            Detail::NodeDraining {} | Detail::NodeResumed {} => {
                scene.take_due(event.detail.kind());
                self.draining = !self.draining;
            }
            Detail::PayloadErased { .. } => {
                scene.take_due(event.detail.kind());
                let call = self.call(event);
                call.reply = Reply::None;
                call.erased = true;
            }
            Detail::AgentRegistered { session, version, max_in_flight, adopted } => {
                scene.take_due(event.detail.kind());
                let registered = (*session, *version, *max_in_flight as usize);
                self.registered(registered, adopted, event.position, scene);
            }
            Detail::AgentDisconnected { session, reason, announced } => {
                scene.take_due(event.detail.kind());
                self.disconnected(*session, reason, *announced, scene);
            }
            Detail::InvocationAccepted(accepted) => {
                scene.take_due(event.detail.kind());
                self.accepted(event, accepted, scene);
            }
            Detail::FeedAcknowledged { position } => {
                scene.take_due(event.detail.kind());
                self.feed_acknowledged = *position;
            }
            Detail::AnswerDelivered { .. } => {
                scene.take_due(event.detail.kind());
                assert_eq!(scene.confirmed.pop_front(), event.invocation, "another answer was confirmed");
                self.call(event).reply = Reply::None;
            }
            Detail::AnswerUnmatched { .. } | Detail::AnswerDuplicate {} | Detail::AnswerLate {} => {
                scene.take_due(event.detail.kind());
                let answering = scene.answering.take().expect("an answer came in");
                assert_eq!(answering.to, event.invocation, "the answer belongs elsewhere");
                if let Some(call) = answering.to.and_then(|id| self.calls.get_mut(&id)) {
                    call.release_plain(&answering);
                }
            }
            Detail::AnswerExpired {} => self.answer_expired(event, scene),
            Detail::InvocationRefused { .. } | Detail::ConnectionRefused { .. } | Detail::FrameRefused { .. } => {}
            Detail::JournalRecovered { .. } => panic!("nobody said that the journal had failed"),
            _ => self.apply_to_call(event, scene),
        }
    }

    fn apply_to_call(&mut self, event: &Event, scene: &mut Scene) {
        let id = event.invocation.expect("it is about an invocation");
        let call = self.calls[&id].clone();
        assert!(call.is_open(), "{:?} after the end: {call:?}", event.detail);
        if let Detail::InvocationStarted { attempt, .. }
        | Detail::InvocationInterrupted { attempt, .. }
        | Detail::InvocationRequeued { attempt }
        | Detail::InvocationCompleted { attempt }
        | Detail::InvocationFailed { attempt, .. } = &event.detail
        {
            assert_eq!(*attempt, call.attempt, "the event names another delivery");
        }
        match &event.detail {
            Detail::InvocationDelivered { attempt, session, plain } => {
                self.delivered(id, (*session, *attempt, *plain), scene);
            }
            Detail::InvocationStarted { session, adopted, .. } => self.started(id, *session, *adopted, scene),
            Detail::InvocationInterrupted { until, .. } => {
                self.assert_lost(&call, Loss::Interrupt, scene);
                assert_eq!(*until, scene.now + self.limits.resume_grace, "the grace is another");
                self.call(event).interrupt(*until);
            }
            Detail::InvocationRequeued { .. } => {
                self.assert_lost(&call, Loss::Requeue, scene);
                self.call(event).requeue(scene.now);
            }
            Detail::InvocationCompleted { .. } | Detail::InvocationFailed { code: None, .. } => {
                self.answered(event, scene);
            }
            Detail::InvocationFailed { code: Some(code), .. } => {
                assert_eq!(*code, ErrorCode::AgentLost, "nothing else makes it fail here");
                self.assert_lost(&call, Loss::Fail, scene);
                self.finish(id, Outcome::Failed(Some(*code)), scene);
            }
            Detail::InvocationExpired {} => {
                let over = self.ttl_over_at(&call).expect("only what waits for an absent agent expires");
                assert!(scene.time_passes && over <= scene.now, "expired too early: {over:?}");
                self.finish(id, Outcome::Expired, scene);
            }
            Detail::InvocationTimedOut {} => {
                assert!(scene.time_passes && call.deadline <= scene.now, "timed out before {:?}", call.deadline);
                self.finish(id, Outcome::TimedOut, scene);
            }
            Detail::InvocationCancelled {} => {
                scene.take_due(event.detail.kind());
                self.finish(id, Outcome::Cancelled, scene);
            }
            other => panic!("what is {other:?}?"),
        }
    }

    fn accepted(&mut self, event: &Event, facts: &Accepted, scene: &mut Scene) {
        let id = event.invocation.expect("it is about an invocation");
        let call = if let Some((asker, invoke)) = scene.accepting.clone() {
            let waiter = match &asker {
                Asker::Socket(session) => Some((*session, invoke.options.used)),
                Asker::Http(_) => None,
            };
            let millis = |asked: Option<u64>, default: Duration| {
                asked.map_or(default, Duration::from_millis).min(self.limits.max_deadline)
            };
            Call {
                agent: Identity::new(&invoke.target).expect("it was accepted"),
                caller: self.asks(&asker).clone(),
                way: self.way(&asker),
                additions: waiter.is_some_and(|(_, additions)| additions),
                key: invoke.options.idempotency_key.clone(),
                payload: invoke.payload.clone().unwrap_or_default(),
                body: invoke.body.clone(),
                labels: Labels {
                    request_id: invoke.request_id.as_deref().map(Into::into),
                    session_id: invoke.session_id.as_deref().map(Into::into),
                },
                ttl: millis(invoke.options.ttl_ms, self.limits.default_ttl),
                deadline: scene.now + millis(invoke.options.deadline_ms, self.limits.default_deadline),
                max_attempts: invoke.options.max_attempts.unwrap_or(self.limits.default_max_attempts),
                waiters: waiter.into_iter().collect(),
                ..Call::new(event.position, scene.now)
            }
        } else {
            let (caller, agent, body) = scene.posting.clone().expect("something was asked");
            Call {
                agent,
                caller,
                body,
                ttl: Duration::ZERO,
                deadline: scene.now + self.limits.default_deadline,
                max_attempts: self.limits.default_max_attempts,
                ..Call::new(event.position, scene.now)
            }
        };
        assert_eq!(event.payload.as_ref(), Some(&call.body), "what is passed on");
        assert_eq!(u128::from(facts.deadline_ms), call.deadline.since(event.at).as_millis());
        assert_eq!(u128::from(facts.ttl_ms), call.ttl.as_millis());
        assert_eq!(facts.max_attempts, call.max_attempts);
        assert_eq!(facts.idempotency_key.as_deref(), call.key.as_deref());
        assert_eq!((event.agent.as_ref(), event.caller.as_ref()), (Some(&call.agent), Some(&call.caller)));
        let last = self.calls.last_key_value().map(|(last, _)| *last);
        assert!(last < Some(id), "ids are in the order of acceptance");
        self.calls.insert(id, call);
    }

    fn way(&self, asker: &Asker) -> Way {
        let Asker::Socket(session) = *asker else { return Way::Http };
        let socket = &self.sockets[&session];
        let registered = socket.registered.is_some() || matches!(socket.standing, Standing::Registering(_));
        if socket.target.is_none() { Way::Own { session, registered } } else { Way::InvokeSocket(session) }
    }

    fn delivered(&mut self, id: InvocationId, delivery: (SessionId, u32, bool), scene: &mut Scene) {
        let (session, attempt, plain) = delivery;
        let call = &self.calls[&id];
        let agent = call.agent.clone();
        assert!(matches!(call.state, State::Queued { .. }), "delivered from {:?}", call.state);
        assert_eq!(attempt, call.attempt + 1);
        let (ready, socket) = self.ready(&agent).expect("an agent without socket, credit or leave is sent nothing");
        assert_eq!(session, ready, "sent to another socket");
        let queue: Vec<InvocationId> = self.queue(&agent).map(|(id, _)| id).collect();
        assert_eq!(queue.first(), Some(&id), "out of turn");
        let is_new = call.accepted == self.head_of_acceptance(scene) && queue.len() == 1;
        assert!(socket.drain_at.is_none() || is_new, "what waited was sent before the socket had its time to register");
        let token = call.plain();
        let free = call.way != Way::Message
            && self.plain_holder(&agent, &token).is_none()
            && self.plain_unanswered(&agent) < self.limits.max_plain;
        assert!(free || !plain, "the plain name may be carried by one unanswered delivery alone: {token:?}");
        let freed = scene.released.iter().filter(|(of, _)| *of == agent).count();
        let just_freed = scene.released.contains(&(agent.clone(), token.clone()))
            || self.plain_unanswered(&agent) + freed >= self.limits.max_plain;
        assert!(plain || !free || just_freed, "a part-1 agent expects the plain name: {token:?}");
        let token = if plain { token } else { format!("{token}#{id}") };
        scene.deliveries.push_back((session, id, attempt, token));
        let call = self.calls.get_mut(&id).expect("it is there");
        call.state = State::Delivered(session);
        call.attempt = attempt;
        call.plain_unanswered |= plain;
    }

    /// Where the invocation stands that is being accepted right now, if one is.
    fn head_of_acceptance(&self, scene: &Scene) -> Position {
        let accepting = scene.accepting.is_some() || scene.posting.is_some();
        let newest = self.calls.last_key_value().filter(|_| accepting);
        newest.map_or(Position::default(), |(_, call)| call.accepted)
    }

    fn started(&mut self, id: InvocationId, session: SessionId, adopted: bool, scene: &mut Scene) {
        let call = self.calls.get_mut(&id).expect("it is there");
        if adopted {
            assert_eq!(scene.adopting.pop_front(), Some(id), "adopted without being asked");
        } else {
            assert_eq!(scene.receipts.pop_front(), Some((id, call.attempt)), "started without a receipt");
            assert_eq!(call.state, State::Delivered(session), "read elsewhere");
        }
        call.state = State::Running(session);
        call.read.insert(call.attempt);
        call.lost.remove(&call.attempt);
    }

    /// Whether the loss of its agent may be decided now, and in this way.
    fn assert_lost(&self, call: &Call, decided: Loss, scene: &Scene) {
        let may_be_decided = match call.state {
            State::Delivered(session) | State::Running(session) => !self.is_live(session),
            State::Interrupted { until } => {
                let waits_anew = scene.restarting && until < scene.now + self.limits.resume_grace;
                let is_over = scene.time_passes && until <= scene.now;
                waits_anew || is_over || scene.returned.as_ref() == Some(&call.agent)
            }
            State::Queued { .. } | State::Finished(_) => false,
        };
        assert!(may_be_decided, "its agent is not lost: {call:?}");
        assert_eq!(decided, self.after_loss(call, scene.restarting), "what becomes of {call:?}");
    }

    fn answered(&mut self, event: &Event, scene: &mut Scene) {
        scene.take_due(event.detail.kind());
        let answering = scene.answering.take().expect("an answer came in");
        assert_eq!(answering.to, event.invocation, "the answer belongs elsewhere");
        assert_eq!(event.payload.as_ref(), Some(&answering.body));
        let outcome = match answering.kind {
            AnswerKind::Response => Outcome::Completed,
            AnswerKind::Error => Outcome::Failed(None),
        };
        let call = self.call(event);
        assert!(call.answer.is_none(), "the first answer wins");
        call.answer = Some((event.position, answering.body.clone()));
        call.release_plain(&answering);
        self.finish(event.invocation.expect("it is about an invocation"), outcome, scene);
    }

    fn finish(&mut self, id: InvocationId, outcome: Outcome, scene: &mut Scene) {
        let call = self.calls.get_mut(&id).expect("it is there");
        let was_on = call.in_flight_on();
        call.state = State::Finished(outcome);
        call.finished_at = Some(scene.now);
        // What became of another may have sent it in the moment in which it was long overdue.
        let is_given_up = scene.time_passes && call.deadline + self.limits.late_answer_ttl <= scene.now;
        if call.plain_unanswered && is_given_up {
            call.plain_unanswered = false;
            scene.released.push((call.agent.clone(), call.plain()));
        }
        let call = &self.calls[&id];
        for (waiter, additions) in &call.waiters {
            if self.is_live(*waiter) {
                scene.answers.push((*waiter, id, *additions));
            }
        }
        if let Some(session) = was_on.filter(|session| self.is_live(*session) && self.speaks_v2(*session))
            && matches!(outcome, Outcome::Cancelled | Outcome::TimedOut)
        {
            scene.frames.push((session, json!({ "message_type": "agent_cancel", "invocation_id": id.to_string() })));
        }
        scene.finished.push(id);
    }

    /// When a call that waits for an absent agent expires.
    pub(super) fn ttl_over_at(&self, call: &Call) -> Option<Timestamp> {
        let State::Queued { since } = call.state else { return None };
        let from = self.last_seen(&call.agent).map_or(since, |seen| seen.max(since));
        (!self.is_connected(&call.agent)).then(|| from + call.ttl)
    }

    fn answer_expired(&mut self, event: &Event, scene: &mut Scene) {
        let answer_ttl = self.limits.answer_ttl;
        let call = self.call(event);
        let over = call.finished_at.expect("it is finished") + answer_ttl;
        assert!(scene.time_passes && over <= scene.now, "the answer was given up before {over:?}");
        assert_ne!(call.reply, Reply::None, "nobody waited for this answer");
        call.reply = Reply::None;
        scene.given_up.extend(event.invocation);
    }

    fn names_its_subject(&self, event: &Event) {
        if let Some(call) = event.invocation.and_then(|id| self.calls.get(&id)) {
            assert_eq!(event.agent.as_ref(), Some(&call.agent), "{event:?}");
            assert_eq!(event.caller.as_ref(), Some(&call.caller), "{event:?}");
            assert_eq!(event.labels, call.labels, "by what it can be found: {event:?}");
        }
    }

    fn call(&mut self, event: &Event) -> &mut Call {
        let id = event.invocation.expect("it is about an invocation");
        self.calls.get_mut(&id).expect("it was accepted")
    }
}

impl Call {
    fn new(accepted: Position, now: Timestamp) -> Self {
        Self {
            agent: Identity::ml(),
            caller: Identity::ml(),
            way: Way::Message,
            additions: false,
            key: None,
            payload: bytes::Bytes::new(),
            body: bytes::Bytes::new(),
            labels: Labels::default(),
            ttl: Duration::ZERO,
            deadline: now,
            max_attempts: 1,
            accepted,
            accepted_at: now,
            state: State::Queued { since: now },
            attempt: 0,
            read: BTreeSet::new(),
            lost: BTreeSet::new(),
            plain_unanswered: false,
            waiters: Vec::new(),
            answer: None,
            finished_at: None,
            reply: Reply::None,
            erased: false,
        }
    }

    fn interrupt(&mut self, until: Timestamp) {
        // The router went away before it could count what the agent had read.
        self.read.insert(self.attempt);
        self.state = State::Interrupted { until };
    }

    fn requeue(&mut self, now: Timestamp) {
        if matches!(self.state, State::Delivered(_)) {
            self.lost.insert(self.attempt);
        }
        self.state = State::Queued { since: now };
    }

    /// The delivery with the plain name is answered if the answer echoes that name, or if there was no other delivery.
    fn release_plain(&mut self, answering: &Answering) {
        self.plain_unanswered &= !(answering.settles_plain || self.attempt == 1);
    }
}
