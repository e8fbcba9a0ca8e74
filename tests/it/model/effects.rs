//! What leaves the router: every effect belongs to something that happened, and nothing that must be told is left out.

use agent_router::code::ErrorCode;
use agent_router::id::{InvocationId, SessionId};
use agent_router::invocation::Outcome;
use agent_router::journal::EventKind;
use agent_router::router::outbox::{Answer, AnswerContent, Body, Delivery};
use agent_router::router::{Command, Effect, Outbound, Taken, Verdict};
use serde_json::{Value, json};

use super::scene::{Asker, Cause, Scene, Seen, receipt, value};
use super::state::{Model, Reply, Standing, State, Way};

impl Model {
    /// Takes one cause with all that the router made of it.
    pub(super) fn observe(&mut self, seen: &Seen<'_>) {
        let _witness = Witness { seen };
        let mut scene = self.set(seen.cause, seen.now);
        for event in seen.events {
            self.apply(event, &mut scene);
        }
        scene.assert_nothing_left();
        if let Some((asker, invoke)) = &scene.accepting {
            let (id, call) = self.calls.last_key_value().expect("it was accepted");
            match asker {
                Asker::Socket(session) if invoke.options.receipt => {
                    scene.frames.push((*session, receipt(*id, call.state_name(), invoke.metadata.as_ref())));
                }
                Asker::Socket(_) => {}
                Asker::Http(_) => scene.told = Some(Verdict::Invoked(Taken { invocation: *id, replayed: false })),
            }
        }
        verdict(seen, &scene);
        if scene.restarting {
            // Nobody is there to be sent anything.
            self.sockets.values_mut().for_each(|socket| socket.live = false);
            assert!(scene.finished.is_empty(), "a start ends nothing: {:?}", scene.finished);
            self.assert_all_is_waited_for(seen.now);
        } else {
            self.effects(seen, &mut scene);
        }
        if scene.time_passes {
            self.assert_nothing_is_overdue(seen.now);
        }
        self.assert_nothing_is_held_up();
    }

    fn effects(&mut self, seen: &Seen<'_>, scene: &mut Scene) {
        let (mut answers, mut ended) = (Vec::new(), Vec::new());
        for effect in seen.effects {
            match effect {
                Effect::Send { to, message: Outbound::Delivery(delivery), .. } => self.delivery(*to, delivery, scene),
                Effect::Send { to, message: Outbound::Answer(answer), .. } => answers.push((*to, &**answer)),
                Effect::Send { to, message: Outbound::Finish, .. } => self.release(*to),
                Effect::Send { message: Outbound::Frame(_), .. } => {
                    let sent = frame(effect);
                    let place = scene.frames.iter().position(|expected| *expected == sent);
                    assert!(place.is_some(), "not to be said: {sent:?}; but {:?}", scene.frames);
                    place.map(|place| scene.frames.swap_remove(place));
                }
                Effect::Send { message: Outbound::Notice(_), .. } => panic!("the feed sends notices, not the ledger"),
                Effect::Send { message: Outbound::Dismissal(_), .. } => panic!("no other router dismisses an agent"),
                Effect::End { session, why } => {
                    let place = scene.evictions.iter().position(|evicted| *evicted == (*session, *why));
                    scene.evictions.swap_remove(place.expect("nothing is to end it"));
                }
                Effect::Ended { invocation, answered_after } => {
                    let call = &self.calls[invocation];
                    let answered = call.answer.as_ref().map(|_| seen.now.since(call.accepted_at));
                    assert_eq!(*answered_after, answered, "how long the answer to {call:?} took");
                    ended.push(*invocation);
                }
                Effect::Feed(start) => {
                    assert!(std::mem::take(&mut scene.feed_moves), "the feed is where it should be");
                    self.feed(start.as_ref());
                }
            }
        }
        assert_eq!(ended, scene.finished, "who waits is told of every end, once");
        self.answers(&answers, scene);
        assert!(scene.deliveries.is_empty(), "in the journal and not sent: {:?}", scene.deliveries);
        assert!(scene.frames.is_empty(), "not said: {:?}", scene.frames);
        assert!(scene.evictions.is_empty(), "not closed: {:?}", scene.evictions);
        assert!(!scene.feed_moves, "the feed stays where it was");
    }

    fn delivery(&self, to: SessionId, delivery: &Delivery, scene: &mut Scene) {
        let expected = scene.deliveries.pop_front().expect("a delivery without its event");
        let token = delivery.invoked_by.clone();
        assert_eq!((to, delivery.invocation, delivery.attempt, token), expected);
        let call = &self.calls[&delivery.invocation];
        assert_eq!(delivery.addition.is_some(), self.speaks_v2(to), "who sees additions");
        if let Some(addition) = delivery.addition {
            assert_eq!(addition.deadline, call.deadline);
            assert_eq!(addition.redelivered, delivery.attempt > 1);
        }
        match &delivery.body {
            Body::Inline(body) => assert_eq!(*body, call.body),
            Body::Stored(position) => assert_eq!(*position, call.accepted),
        }
    }

    fn release(&mut self, session: SessionId) {
        assert!(!self.is_at_work(session), "told to close with work in flight");
        let socket = self.sockets.get_mut(&session).expect("it is there");
        assert_eq!(socket.standing, Standing::Leaving, "told to close without having asked, or twice");
        socket.standing = Standing::Released;
    }

    fn feed(&self, start: Option<&agent_router::router::FeedStart>) {
        let backend = agent_router::id::Identity::backend();
        let newest = self.own(&backend).next_back().map(|(id, _)| id);
        assert_eq!(start.map(|start| start.session), newest, "the newest backend gets the feed");
        let Some(start) = start else { return };
        assert_eq!(start.acknowledged, self.feed_acknowledged);
        assert_eq!(start.head, self.head);
        let mut registered: Vec<_> = self
            .sockets
            .iter()
            .filter(|(_, socket)| socket.live && socket.is_registered() && !socket.identity.is_master())
            .filter_map(|(id, socket)| Some((*id, socket.identity.clone(), socket.registered?.position)))
            .collect();
        registered.sort_by_key(|(_, _, position)| *position);
        assert_eq!(start.registered, registered, "who is registered");
    }

    /// Answers go to the sockets that wait, and what cannot, to the caller's next own socket.
    fn answers(&mut self, sent: &[(SessionId, &Answer)], scene: &mut Scene) {
        for id in std::mem::take(&mut scene.finished) {
            self.owe(id, scene);
        }
        for (to, answer) in sent {
            self.content(answer);
            let this = (*to, answer.invocation, answer.additions);
            if let Some(place) = scene.answers.iter().position(|expected| *expected == this) {
                scene.answers.swap_remove(place);
                continue;
            }
            let call = &self.calls[&answer.invocation];
            let given_up = scene.given_up.contains(&answer.invocation);
            assert!(given_up || call.reply == Reply::Owed, "nobody there waits for it: {answer:?}");
            assert!(self.may_take(*to, call), "an old answer goes to the caller's own next socket: {answer:?}");
            assert_eq!(answer.additions, call.additions);
            if !given_up {
                self.calls.get_mut(&answer.invocation).expect("it is there").reply = Reply::Sent(*to);
            }
        }
        assert!(scene.answers.is_empty(), "not answered: {:?}", scene.answers);
    }

    /// Who else is to be told of an end, beside the sockets that wait.
    fn owe(&mut self, id: InvocationId, scene: &mut Scene) {
        let call = &self.calls[&id];
        let Way::Own { session, .. } = call.way else { return };
        let own = |session: &SessionId| self.sockets[session].target.is_none();
        let told = call.waiters.iter().map(|(waiter, _)| *waiter).find(|waiter| self.is_live(*waiter) && own(waiter));
        let comes_back = call.caller.is_master() || self.is_known(&call.caller);
        let cut_off = self.sockets[&session].cut_off && scene.now < self.resume_until;
        let reply = match told {
            Some(session) if comes_back => Reply::Sent(session),
            None if comes_back => Reply::Owed,
            None if cut_off => {
                let newest = self.own(&call.caller).next_back().map(|(newest, _)| newest);
                scene.answers.extend(newest.map(|newest| (newest, id, call.additions)));
                Reply::None
            }
            _ => Reply::None,
        };
        let call = self.calls.get_mut(&id).expect("it is there");
        call.reply = reply;
        call.waiters.clear();
    }

    fn content(&self, answer: &Answer) {
        let call = &self.calls[&answer.invocation];
        assert_eq!(answer.agent, call.agent);
        let State::Finished(outcome) = call.state else { panic!("an answer before the end: {answer:?}") };
        match (&answer.content, &call.answer) {
            (AnswerContent::Agent(Body::Inline(body)), Some((_, first))) => assert_eq!(body, first),
            (AnswerContent::Agent(Body::Stored(stored)), Some((position, _))) => assert_eq!(stored, position),
            (AnswerContent::Router(bytes), None) => {
                let code = match outcome {
                    Outcome::Expired => ErrorCode::Expired,
                    Outcome::TimedOut => ErrorCode::TimedOut,
                    Outcome::Cancelled => ErrorCode::Cancelled,
                    Outcome::Failed(Some(code)) => code,
                    Outcome::Completed | Outcome::Failed(None) => panic!("ended by an answer, without one"),
                };
                let id = Some(answer.invocation).filter(|_| answer.additions);
                assert_eq!(value(Some(bytes)), error(code, call.agent.as_str(), answer.additions, id));
            }
            (content, first) => panic!("{first:?} is told as {content:?}"),
        }
    }
}

/// Who asked is told the truth, at once if it is a refusal.
fn verdict(seen: &Seen<'_>, scene: &Scene) {
    let Cause::Command(command, verdict) = seen.cause else {
        assert!(seen.at_once.is_empty(), "nobody asked: {:?}", seen.at_once);
        return;
    };
    assert_eq!(verdict, scene.told.unwrap_or(scene.refused.map_or(Verdict::Taken, Verdict::Refused)));
    let told: Vec<(SessionId, Value)> = seen.at_once.iter().map(frame).collect();
    let expected: Vec<(SessionId, Value)> = match (command, scene.refused) {
        (Command::Invoke { session, invoke }, Some(code)) => {
            let mut refusal = error(code, &invoke.target, invoke.options.used, None);
            if invoke.options.used && code == ErrorCode::QueueFull {
                let queued = told.first().map(|(_, told)| told["error"]["queued"].clone());
                assert!(queued.as_ref().is_some_and(Value::is_u64), "how many wait is told: {told:?}");
                refusal["error"]["queued"] = queued.unwrap_or_default();
                refusal["error"]["retry_after_ms"] = json!(1000);
            }
            vec![(*session, refusal)]
        }
        (Command::Cancel { session, cancel }, Some(code)) => {
            vec![(*session, error(code, "", true, Some(cancel.invocation_id)))]
        }
        _ => Vec::new(),
    };
    assert_eq!(told, expected, "what is said at once");
    if scene.refused.is_some() || matches!(verdict, Verdict::NotFound | Verdict::StillOpen) {
        assert!(seen.effects.is_empty(), "a refusal has an effect: {:?}", seen.effects);
        let refusals = seen.events.iter().all(|event| event.detail.kind() == EventKind::InvocationRefused);
        assert!(refusals && seen.events.len() <= 1, "a refusal changes something: {:?}", seen.events);
    }
}

/// Says at which cause the router and the model parted.
struct Witness<'a> {
    seen: &'a Seen<'a>,
}

impl Drop for Witness<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the router and the model part here: {:#?}", self.seen);
        }
    }
}

fn frame(effect: &Effect) -> (SessionId, Value) {
    match effect {
        Effect::Send { to, message: Outbound::Frame(bytes), .. } => (*to, value(Some(bytes))),
        other => panic!("only a frame may be sent like this: {other:?}"),
    }
}

/// An error about an invocation, by the table of the protocol page.
fn error(code: ErrorCode, agent: &str, additions: bool, id: Option<InvocationId>) -> Value {
    let (message, error_type) = match code {
        ErrorCode::AgentUnknown | ErrorCode::AgentAway | ErrorCode::Expired | ErrorCode::NotAllowed => {
            ("Agent is NOT active", "AgentNotActive")
        }
        ErrorCode::AgentLost => ("Agent has been unregistered", ""),
        ErrorCode::TimedOut => ("Request timed out", "AgentGeneralError"),
        ErrorCode::QueueFull => ("Queue is full", "AgentGeneralError"),
        ErrorCode::Cancelled => ("Cancelled", "AgentGeneralError"),
        ErrorCode::ShuttingDown => ("Router is shutting down", "AgentGeneralError"),
        ErrorCode::IdempotencyKeyReused => ("Idempotency key was used for another request", "AgentGeneralError"),
        _ => (code.message(), "AgentGeneralError"),
    };
    let mut error = json!({ "error_message": message });
    match code {
        ErrorCode::AgentLost => error["agent_uuid"] = json!(agent),
        _ => error["error_type"] = json!(error_type),
    }
    if additions {
        error["code"] = json!(code.as_str());
    }
    let mut frame = json!({ "message_type": "agent_error", "error": error });
    if let Some(id) = id {
        frame["invocation_id"] = json!(id.to_string());
    }
    frame
}
