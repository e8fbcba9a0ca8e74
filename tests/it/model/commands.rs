//! What each command must bring about, read from the protocol page.

use agent_router::auth::Principal;
use agent_router::clock::Timestamp;
use agent_router::code::ErrorCode;
use agent_router::id::{Identity, InvocationId, SessionId};
use agent_router::journal::EventKind;
use agent_router::protocol::{Answer, AnswerKind, Cancel, Invoke, Register};
use agent_router::router::{Command, EndReason, Ending, Taken, Verdict};
use serde_json::json;

use super::admission::Admission;
use super::scene::{Answering, Asker, Cause, Scene, receipt, value};
use super::state::{Model, Socket, Standing, State};

impl Model {
    /// Reads a cause. Sockets come here; they go when their end is journaled.
    pub(super) fn set(&mut self, cause: Cause<'_>, now: Timestamp) -> Scene {
        let mut scene = Scene { now, ..Scene::default() };
        match cause {
            Cause::Time => self.set_time(&mut scene),
            Cause::Restart => self.set_restart(&mut scene),
            Cause::Command(command, _) => self.set_command(command, &mut scene),
        }
        scene
    }

    fn set_time(&mut self, scene: &mut Scene) {
        scene.time_passes = true;
        for socket in self.sockets.values_mut().filter(|socket| socket.live) {
            socket.drain_at = socket.drain_at.filter(|at| *at > scene.now);
        }
        let patience = self.limits.late_answer_ttl;
        let held = self.calls.values_mut().filter(|call| call.plain_unanswered);
        for call in held.filter(|call| call.deadline + patience <= scene.now) {
            call.plain_unanswered = false;
            scene.released.push((call.agent.clone(), call.plain()));
        }
    }

    fn set_restart(&mut self, scene: &mut Scene) {
        scene.restarting = true;
        scene.ending = Some(EndReason::Restarting);
        scene.due.push(EventKind::NodeStarted);
        self.shutting_down = false;
        self.draining = false;
        self.resume_until = scene.now + self.limits.resume_grace;
        for socket in self.sockets.values_mut() {
            socket.cut_off = socket.live && socket.target.is_none();
            if socket.cut_off {
                scene.due.push(EventKind::AgentDisconnected);
            }
            socket.live = socket.cut_off;
        }
        for call in self.calls.values_mut() {
            call.waiters.clear();
        }
    }

    fn set_command(&mut self, command: &Command, scene: &mut Scene) {
        match command {
            Command::NodeLost { .. } | Command::Leave | Command::Withdraw { .. } => {
                unreachable!("a router that is alone on its journal has no use for it")
            }
            Command::Open { session, principal, .. } => self.set_open(*session, principal, scene),
            Command::End { session, reason } => self.set_end(*session, *reason, scene),
            Command::Register { session, register } => self.set_register(*session, register, scene),
            Command::Unregister { session } => self.set_unregister(*session, scene),
            Command::Invoke { session, invoke } => self.set_invoke(*session, invoke, scene),
            Command::Answer { session, answer } => self.set_answer(*session, answer, scene),
            Command::Cancel { session, cancel } => self.set_cancel(*session, cancel, scene),
            Command::ClientMessage { caller, client, message } => {
                scene.refused = self.admit_message(client, message);
                if scene.refused.is_none() {
                    scene.due.push(EventKind::InvocationAccepted);
                    scene.posting = Some((caller.clone(), client.clone(), message.clone()));
                }
            }
            Command::Receipts { session, deliveries } => {
                for (id, attempt) in deliveries {
                    let call = &self.calls[id];
                    if call.state == State::Delivered(*session) && call.attempt == *attempt {
                        scene.receipts.push_back((*id, *attempt));
                    }
                }
            }
            Command::AnswersDelivered { answers, .. } => {
                for answer in answers {
                    scene.due.push(EventKind::AnswerDelivered);
                    scene.confirmed.push_back(answer.invocation);
                }
            }
            Command::FeedAcknowledged { position } => {
                if *position > self.feed_acknowledged && *position <= self.head {
                    scene.due.push(EventKind::FeedAcknowledged);
                }
            }
            Command::HttpInvoke { caller, invoke } => self.ask(Asker::Http(caller.clone()), invoke, scene),
            Command::HttpCancel { caller, invocation } => match self.calls.get(invocation) {
                Some(call) if call.caller == *caller => {
                    if call.is_open() {
                        scene.due.push(EventKind::InvocationCancelled);
                    }
                }
                _ => scene.told = Some(Verdict::NotFound),
            },
            Command::Disconnect { agent } => self.set_disconnect(agent, scene),
            Command::Drain { on } => {
                if self.draining != *on {
                    scene.due.push(if *on { EventKind::NodeDraining } else { EventKind::NodeResumed });
                }
            }
            Command::Erase { invocation, .. } => match self.calls.get(invocation) {
                None => scene.told = Some(Verdict::NotFound),
                Some(call) if call.is_open() => scene.told = Some(Verdict::StillOpen),
                Some(_) => scene.due.push(EventKind::PayloadErased),
            },
            Command::Log { .. } => scene.due.push(EventKind::AgentLogged),
            Command::Shutdown => {
                self.shutting_down = true;
                scene.due.push(EventKind::NodeStopped);
            }
            Command::FrameRefused { .. } | Command::InvocationRefused { .. } | Command::ConnectionRefused { .. } => {}
            Command::Prune { .. } => panic!("nothing is so old here"),
        }
    }

    fn set_open(&mut self, id: SessionId, principal: &Principal, scene: &mut Scene) {
        let (identity, target) = match principal {
            Principal::Own { identity, .. } => (identity.clone(), None),
            Principal::Invoke { caller, target } => (caller.clone(), Some(target.clone())),
        };
        if self.shutting_down || self.draining {
            scene.refused = Some(ErrorCode::ShuttingDown);
        } else if self.limits.secured && target.is_some() && !identity.is_master() && !self.is_connected(&identity) {
            scene.refused = Some(ErrorCode::NotAllowed);
        } else {
            let own = target.is_none();
            let drain_at = (own && !identity.is_backend()).then(|| scene.now + self.limits.drain_delay);
            let socket = Socket {
                identity,
                target,
                live: true,
                registered: None,
                standing: Standing::Open,
                drain_at,
                cut_off: false,
            };
            self.sockets.insert(id, socket);
            if own {
                scene.due.push(EventKind::AgentConnected);
                scene.feed_moves = self.sockets[&id].identity.is_backend();
            }
        }
    }

    fn set_end(&mut self, id: SessionId, reason: EndReason, scene: &mut Scene) {
        let shutting_down = self.shutting_down;
        let newest_backend = self.own(&Identity::backend()).next_back().map(|(newest, _)| newest);
        let socket = self.sockets.get_mut(&id).expect("only what is there ends");
        if shutting_down {
            // The next start finds it, and tells.
        } else if socket.target.is_some() {
            socket.live = false;
        } else {
            scene.ending = Some(reason);
            scene.due.push(EventKind::AgentDisconnected);
            scene.feed_moves = newest_backend == Some(id);
        }
    }

    fn set_register(&mut self, id: SessionId, register: &Register, scene: &mut Scene) {
        let identity = self.sockets[&id].identity.clone();
        if !matches!(self.sockets[&id].standing, Standing::Open | Standing::Registering(_)) {
            // It is on its way out; what it says of itself is over.
            return;
        }
        // One that is being closed is still there.
        let is_older = |socket: &Socket| socket.is_registered() || socket.standing == Standing::Evicted;
        let older: Vec<SessionId> = self
            .own(&identity)
            .filter(|(other, socket)| *other != id && is_older(socket))
            .map(|(other, _)| other)
            .collect();
        if older.is_empty() || identity.is_backend() {
            Self::must_register(id, register.clone(), scene);
            return;
        }
        for other in older {
            let socket = self.sockets.get_mut(&other).expect("it was just found");
            if socket.standing != Standing::Evicted {
                socket.standing = Standing::Evicted;
                socket.drain_at = None;
                scene.evictions.push((other, Ending::TakenOver));
            }
        }
        self.sockets.get_mut(&id).expect("it is there").standing = Standing::Registering(register.clone());
    }

    pub(super) fn must_register(id: SessionId, register: Register, scene: &mut Scene) {
        scene.due.push(EventKind::AgentRegistered);
        scene.registering = Some((id, register));
    }

    /// An operator ends all own sockets of an agent, as a newer one would.
    fn set_disconnect(&mut self, agent: &Identity, scene: &mut Scene) {
        let own: Vec<SessionId> = self.own(agent).map(|(id, _)| id).collect();
        scene.told = Some(if own.is_empty() { Verdict::NotFound } else { Verdict::Disconnected(own.len()) });
        for id in own {
            let socket = self.sockets.get_mut(&id).expect("it was just found");
            if socket.standing != Standing::Evicted {
                socket.standing = Standing::Evicted;
                socket.drain_at = None;
                scene.evictions.push((id, Ending::Disconnected));
            }
        }
    }

    fn set_unregister(&mut self, id: SessionId, scene: &mut Scene) {
        let socket = self.sockets.get_mut(&id).expect("it is there");
        if matches!(socket.standing, Standing::Open | Standing::Registering(_)) {
            socket.standing = Standing::Leaving;
            scene.due.push(EventKind::AgentUnregistered);
        }
    }

    fn set_invoke(&mut self, id: SessionId, invoke: &Invoke, scene: &mut Scene) {
        let socket = &self.sockets[&id];
        if invoke.dismissal && socket.target.is_some() && socket.identity.is_backend() {
            return self.set_dismissal(id, invoke, scene);
        }
        self.ask(Asker::Socket(id), invoke, scene);
    }

    fn ask(&mut self, asker: Asker, invoke: &Invoke, scene: &mut Scene) {
        match self.admit(&asker, invoke, scene.now) {
            Admission::Refuse(code) => scene.refused = Some(code),
            Admission::Accept => {
                scene.due.push(EventKind::InvocationAccepted);
                scene.accepting = Some((asker, invoke.clone()));
            }
            Admission::Join(earlier) => {
                let Asker::Socket(id) = asker else {
                    scene.told = Some(Verdict::Invoked(Taken { invocation: earlier, replayed: true }));
                    return;
                };
                let call = self.calls.get_mut(&earlier).expect("it was just found");
                if invoke.options.receipt {
                    scene.frames.push((id, receipt(earlier, call.state_name(), invoke.metadata.as_ref())));
                }
                if call.is_open() {
                    call.waiters.retain(|(waiter, _)| *waiter != id);
                    call.waiters.push((id, true));
                } else {
                    scene.answers.push((id, earlier, true));
                }
            }
        }
    }

    fn set_dismissal(&mut self, id: SessionId, invoke: &Invoke, scene: &mut Scene) {
        let Some(agent) = self.sockets[&id].target.clone().filter(|target| target.as_str() == invoke.target) else {
            scene.refused = Some(ErrorCode::NotAllowed);
            return;
        };
        let Some((receiver, _)) = self.receiver(&agent).filter(|_| !agent.is_backend()) else {
            scene.refused = Some(if agent.is_backend() { ErrorCode::NotAllowed } else { ErrorCode::AgentAway });
            return;
        };
        let mut error = value(invoke.payload.as_ref());
        error["message_type"] = json!("agent_error");
        scene.due.push(EventKind::AgentDismissed);
        scene.frames.push((receiver, json!({ "error": error })));
    }

    fn set_answer(&self, id: SessionId, answer: &Answer, scene: &mut Scene) {
        let agent = &self.sockets[&id].identity;
        let was_sent =
            |id: &InvocationId| self.calls.get(id).is_some_and(|call| call.agent == *agent && call.attempt > 0);
        let by_token = || {
            let (plain, id) = answer.invoked_by.rsplit_once('#')?;
            let id = InvocationId(uuid::Uuid::try_parse(id).ok()?);
            (was_sent(&id) && self.calls[&id].plain() == plain).then_some(id)
        };
        let (to, settles_plain) = match answer.invocation_id {
            Some(id) => {
                let to = Some(id).filter(was_sent);
                (to, to.is_some_and(|id| self.calls[&id].plain() == answer.invoked_by))
            }
            None => match by_token() {
                Some(id) => (Some(id), false),
                None => (self.plain_holder(agent, &answer.invoked_by), true),
            },
        };
        let (kind, outcome) = match to.map(|id| &self.calls[&id]) {
            None => (EventKind::AnswerUnmatched, "unknown"),
            Some(call) if call.is_open() && answer.kind == AnswerKind::Response => {
                (EventKind::InvocationCompleted, "accepted")
            }
            Some(call) if call.is_open() => (EventKind::InvocationFailed, "accepted"),
            Some(call) if call.answer.is_some() => (EventKind::AnswerDuplicate, "duplicate"),
            Some(_) => (EventKind::AnswerLate, "late"),
        };
        scene.due.push(kind);
        if self.speaks_v2(id)
            && let Some(named) = to.or(answer.invocation_id)
        {
            let receipt =
                json!({ "message_type": "agent_receipt", "invocation_id": named.to_string(), "outcome": outcome });
            scene.frames.push((id, receipt));
        }
        scene.answering = Some(Answering { to, settles_plain, kind: answer.kind, body: answer.body.clone() });
    }

    fn set_cancel(&self, id: SessionId, cancel: &Cancel, scene: &mut Scene) {
        let caller = &self.sockets[&id].identity;
        let Some(call) = self.calls.get(&cancel.invocation_id).filter(|call| call.caller == *caller) else {
            scene.refused = Some(ErrorCode::NotAllowed);
            return;
        };
        let state = if call.is_open() { "cancelled" } else { call.state_name() };
        scene.frames.push((id, receipt(cancel.invocation_id, state, cancel.metadata.as_ref())));
        if call.is_open() {
            scene.due.push(EventKind::InvocationCancelled);
        }
    }
}
