//! What masters ask over HTTP is the same as what they ask on their own sockets.

use agent_router::code::ErrorCode;
use agent_router::id::{Identity, InvocationId, SessionId};
use agent_router::invocation::{Origin, Reply};
use agent_router::journal::{Detail, Event, EventKind};
use agent_router::protocol::Version;
use agent_router::router::{Command, Effect, EndReason, Found, Step, Taken, Verdict};
use serde_json::{Value, json};

use super::{AGENT, CALLER, Stage, answers, delivered, frames, identity};
use crate::support::stage::invocation;
use crate::support::{BACKEND, ML};

impl Stage {
    fn http_invoke(&mut self, caller: &str, agent: &str, options: Value) -> (Verdict, Vec<Effect>) {
        let invoke = invocation(agent, &json!({}), &options);
        self.ask(Command::HttpInvoke { caller: identity(caller), invoke })
    }

    /// An invocation that is taken.
    fn taken(&mut self, caller: &str, options: Value) -> Taken {
        match self.http_invoke(caller, AGENT, options).0 {
            Verdict::Invoked(taken) => taken,
            other => panic!("not taken: {other:?}"),
        }
    }

    fn http_cancel(&mut self, caller: &str, invocation: InvocationId) -> (Verdict, Vec<Effect>) {
        self.ask(Command::HttpCancel { caller: identity(caller), invocation })
    }

    fn agent(&mut self) -> SessionId {
        let agent = self.open(AGENT);
        self.register(agent);
        agent
    }

    fn newest(&self, kind: EventKind) -> &Event {
        self.events.iter().rfind(|event| event.detail.kind() == kind).expect("it happened")
    }
}

/// The ends that whoever waits is told of.
fn ended(effects: &[Effect]) -> Vec<InvocationId> {
    let ended = effects.iter().filter_map(|effect| match effect {
        Effect::Ended { invocation, .. } => Some(*invocation),
        _ => None,
    });
    ended.collect()
}

#[test]
fn an_invocation_over_http_is_delivered_as_from_the_masters_own_socket_and_answered_to_no_socket() {
    let mut stage = Stage::new();
    let agent = stage.agent();
    let master = stage.open(BACKEND);
    let (verdict, effects) = stage.http_invoke(BACKEND, AGENT, json!({"ttl_ms": 5, "receipt": true}));
    let Verdict::Invoked(Taken { invocation, replayed: false }) = verdict else { panic!("{verdict:?}") };
    let [Effect::Send { to, message: agent_router::router::Outbound::Delivery(delivery), .. }] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!((*to, delivery.invocation, delivery.invoked_by.as_str()), (agent, invocation, BACKEND));
    assert_eq!(stage.batch.accepted[0].origin, Origin::Http);

    let effects = stage.answer(agent, invocation);
    assert!(answers(&effects, master).is_empty(), "{effects:?}");
    assert_eq!(ended(&effects), [invocation]);
    assert_eq!(stage.batch.changed[0].reply, Reply::None);
    let (_, effects) =
        stage.open_as(&agent_router::auth::Principal::Own { identity: identity(BACKEND), credential: None });
    assert!(matches!(effects[..], [Effect::Feed(_)]), "nothing is owed to its next socket: {effects:?}");
}

#[test]
fn over_http_a_master_may_invoke_any_agent_the_backend_the_master_agent_and_nobody_the_backend() {
    let mut stage = Stage::new();
    stage.agent();
    stage.open(ML);
    stage.open(BACKEND);
    let may = |caller, agent, stage: &mut Stage| {
        let (verdict, _) = stage.http_invoke(caller, agent, json!({}));
        assert!(matches!(verdict, Verdict::Invoked(_) | Verdict::Refused(ErrorCode::NotAllowed)), "{verdict:?}");
        verdict != Verdict::Refused(ErrorCode::NotAllowed)
    };
    for (caller, agent, allowed) in [
        (BACKEND, AGENT, true),
        (ML, AGENT, true),
        (BACKEND, ML, true),
        (ML, ML, false),
        (BACKEND, BACKEND, false),
        (ML, BACKEND, false),
    ] {
        assert_eq!(may(caller, agent, &mut stage), allowed, "{caller} asks {agent}");
    }
}

#[test]
fn a_key_is_the_same_over_http_and_on_a_socket() {
    let mut stage = Stage::new();
    let agent = stage.agent();
    let socket = stage.open(ML);
    let key = json!({"idempotency_key": "once"});
    let first = stage.taken(ML, key.clone());
    let again = stage.taken(ML, key.clone());
    assert_eq!(again, Taken { invocation: first.invocation, replayed: true });
    let mut frame = super::invocation();
    frame["idempotency_key"] = json!("once");
    assert!(delivered(&stage.send(socket, Version::One, frame.clone())).is_empty(), "it is the same invocation");
    assert_eq!(answers(&stage.answer(agent, first.invocation), socket), [first.invocation]);

    frame["idempotency_key"] = json!("from a socket");
    let asked = delivered(&stage.send(socket, Version::One, frame))[0];
    assert_eq!(
        stage.taken(ML, json!({"idempotency_key": "from a socket"})),
        Taken { invocation: asked, replayed: true }
    );
    assert!(!stage.taken(BACKEND, key.clone()).replayed, "another caller's key is another key");
    let other = invocation(AGENT, &json!({"other": 1}), &json!({"idempotency_key": "from a socket"}));
    let (verdict, _) = stage.ask(Command::HttpInvoke { caller: identity(ML), invoke: other });
    assert_eq!(verdict, Verdict::Refused(ErrorCode::IdempotencyKeyReused));
}

#[test]
fn nobody_is_dismissed_over_http() {
    let mut stage = Stage::new();
    stage.agent();
    let invoke = invocation(AGENT, &json!({"error_message": "go"}), &json!({}));
    assert!(invoke.dismissal);
    let (_, effects) = stage.ask(Command::HttpInvoke { caller: identity(BACKEND), invoke });
    assert_eq!(delivered(&effects).len(), 1, "it is a payload like any other: {effects:?}");
}

#[test]
fn a_refusal_over_http_is_journaled_by_caller_and_with_what_it_belongs_to() {
    let mut stage = Stage::new();
    let metadata = json!({"request_metadata": {"request_id": "r", "session_id": "s"}});
    for _ in 0..50 {
        let (verdict, effects) = stage.http_invoke(ML, "nobody", metadata.clone());
        assert_eq!(verdict, Verdict::Refused(ErrorCode::AgentUnknown));
        assert!(effects.is_empty());
    }
    assert_eq!(stage.events.len(), 10, "the rest is counted");
    stage.now = stage.now + std::time::Duration::from_secs(2);
    stage.open(CALLER);
    let last = stage.newest(EventKind::InvocationRefused);
    assert!(matches!(last.detail, Detail::InvocationRefused { suppressed: 39, .. }), "{last:?}");
    for event in stage.events.iter().filter(|event| event.detail.kind() == EventKind::InvocationRefused) {
        assert_eq!(event.caller, Some(identity(ML)));
        let labels = [&event.labels.request_id, &event.labels.session_id].map(|label| label.as_deref());
        assert_eq!(labels, [Some("r"), Some("s")]);
        let kept = serde_json::to_value(&event.detail).unwrap();
        assert_eq!((&kept["request_id"], &kept["session_id"]), (&json!("r"), &json!("s")), "or a restart forgets it");
    }
}

#[test]
fn a_refusal_that_is_decided_anew_counts_once() {
    let mut stage = Stage::new();
    let refuse = |stage: &mut Stage| stage.http_invoke(ML, "nobody", json!({}));
    for _ in 0..12 {
        refuse(&mut stage);
    }
    let again = Command::HttpInvoke { caller: identity(ML), invoke: invocation("nobody", &json!({}), &json!({})) };
    for _ in 0..3 {
        stage.ledger.decide(&again, &Found::default(), stage.now, &mut Step::default());
        stage.ledger.take_back();
    }
    stage.now = stage.now + std::time::Duration::from_secs(2);
    for _ in 0..3 {
        let mut step = Step::default();
        stage.ledger.pass_time(stage.now, &mut step);
        assert_eq!(step.events.len(), 1, "how many there were");
        stage.ledger.take_back();
    }
    stage.open(CALLER);
    let last = stage.newest(EventKind::InvocationRefused);
    assert!(matches!(last.detail, Detail::InvocationRefused { suppressed: 1, .. }), "{last:?}");
}

#[test]
fn a_caller_cancels_over_http_what_is_its_own_and_what_has_ended_stays() {
    let mut stage = Stage::new();
    let agent = stage.open(AGENT);
    stage.register_v2(agent, 10);
    let id = stage.taken(ML, json!({})).invocation;
    assert_eq!(stage.http_cancel(BACKEND, id).0, Verdict::NotFound);
    assert_eq!(stage.http_cancel(ML, InvocationId::generate()).0, Verdict::NotFound);
    assert_eq!(stage.newest(EventKind::InvocationRefused).caller, Some(identity(ML)));
    let (verdict, effects) = stage.http_cancel(ML, id);
    assert_eq!((verdict, ended(&effects)), (Verdict::Taken, vec![id]));
    assert_eq!(frames(&effects, agent), ["agent_cancel"]);

    let done = stage.taken(ML, json!({})).invocation;
    let cancelled = stage.events.len();
    stage.answer(agent, done);
    assert!(stage.events[cancelled..].iter().all(|event| event.detail.kind() != EventKind::InvocationCancelled));
    // What is settled is no longer in memory; the journal was not asked here.
    assert_eq!(stage.http_cancel(ML, done).0, Verdict::NotFound);
}

#[test]
fn a_caller_cancels_over_http_what_it_asked_on_a_socket() {
    let mut stage = Stage::new();
    stage.agent();
    let master = stage.open(ML);
    let id = delivered(&stage.invoke(master))[0];
    let (verdict, effects) = stage.http_cancel(ML, id);
    assert_eq!(verdict, Verdict::Taken);
    assert_eq!(answers(&effects, master), [id]);
    assert_eq!(stage.http_cancel(ML, id).0, Verdict::Taken, "it has ended, and its answer is not confirmed");
    let cancels = stage.events.iter().filter(|event| event.detail.kind() == EventKind::InvocationCancelled);
    assert_eq!(cancels.count(), 1);
}

#[test]
fn a_trace_context_is_in_the_journal() {
    let mut stage = Stage::new();
    stage.agent();
    let context = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    stage.taken(ML, json!({"traceparent": context}));
    let event = stage.newest(EventKind::InvocationAccepted);
    let Detail::InvocationAccepted(accepted) = &event.detail else { panic!("{event:?}") };
    assert_eq!((accepted.origin, accepted.traceparent.as_deref()), ("http", Some(context)));
    assert!(String::from_utf8_lossy(event.payload.as_ref().unwrap()).contains(context), "the agent gets it too");
}

#[test]
fn the_delivery_of_an_answer_can_be_found_by_what_it_belongs_to() {
    let mut stage = Stage::new();
    let agent = stage.agent();
    let caller = stage.open(CALLER);
    let mut frame = super::invocation();
    frame["request_metadata"] = json!({"request_id": "r", "session_id": "s"});
    let id = delivered(&stage.send(caller, Version::One, frame))[0];
    let effects = stage.answer(agent, id);
    let [Effect::Ended { .. }, Effect::Send { message: agent_router::router::Outbound::Answer(answer), .. }] =
        &effects[..]
    else {
        panic!("{effects:?}")
    };
    let read = agent_router::router::AnswerRead {
        invocation: id,
        agent: Identity::new(AGENT).unwrap(),
        labels: answer.labels.clone(),
    };
    stage.take(Command::AnswersDelivered { session: caller, answers: vec![read] });
    let labels = &stage.newest(EventKind::AnswerDelivered).labels;
    assert_eq!((labels.request_id.as_deref(), labels.session_id.as_deref()), (Some("r"), Some("s")));
    stage.end(caller, EndReason::Closed);
}
