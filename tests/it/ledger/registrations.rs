//! What registers, with what it is still at work on, and what a socket of the backend may say besides.

use std::time::Duration;

use agent_router::auth::Principal;
use agent_router::clock::Timestamp;
use agent_router::code::ErrorCode;
use agent_router::id::{InvocationId, NodeId, Position, SessionId};
use agent_router::invocation::Policy;
use agent_router::journal::{EventKind, NodeRow, NodeStanding, Restored, SessionRow, SessionStanding};
use agent_router::protocol::Version;
use agent_router::protocol::outbound::dismissal;
use agent_router::router::{Effect, EndReason, Verdict};
use serde_json::json;

use super::{AGENT, CALLER, Stage, answers, delivered, identity, invocation, nothing};
use crate::support::{BACKEND, ML, command};

impl Stage {
    fn register_at_work(&mut self, session: SessionId, running: &[InvocationId]) -> Vec<Effect> {
        let running: Vec<String> = running.iter().map(ToString::to_string).collect();
        let frame = json!({
            "message_type": "agent_register", "protocol_version": 2, "running": running, "request_payload": {},
        });
        self.send(session, Version::One, frame)
    }

    fn kinds(&self) -> Vec<EventKind> {
        self.batch.events.iter().map(|event| event.detail.kind()).collect()
    }
}

#[test]
fn an_agent_goes_on_with_what_it_was_sent_and_with_nothing_else() {
    let mut stage = Stage::new();
    let caller = stage.open(CALLER);
    let agent = stage.open(AGENT);
    stage.register_v2(agent, 1);
    let running = delivered(&stage.invoke(caller))[0];
    stage.receipt(agent, running);
    stage.invoke(caller);
    let waits = stage.batch.accepted[0].id;
    stage.end(agent, EndReason::Closed);
    let agent = stage.open(AGENT);
    let effects = stage.register_at_work(agent, &[waits, running, running, InvocationId::generate()]);
    assert_eq!(
        stage.kinds(),
        [EventKind::AgentRegistered, EventKind::InvocationStarted, EventKind::InvocationDelivered]
    );
    assert_eq!(delivered(&effects), [waits], "it was never sent, so nobody is at work on it");
    assert_eq!(answers(&stage.answer(agent, running), caller), [running]);
}

#[test]
fn what_a_registered_caller_missed_comes_when_it_registers_again() {
    let mut stage = Stage::new();
    let agent = stage.open(AGENT);
    stage.register(agent);
    let caller = stage.open(CALLER);
    stage.register(caller);
    let id = delivered(&stage.invoke(caller))[0];
    stage.end(caller, EndReason::Closed);
    stage.answer(agent, id);
    let caller = stage.open(CALLER);
    let effects = stage.register(caller);
    assert_eq!(answers(&effects, caller), [id]);
}

#[test]
fn an_agent_is_dismissed_by_an_invoke_socket_of_the_backend_alone() {
    for (caller, own, dismissed) in [(BACKEND, false, true), (ML, false, false), (BACKEND, true, false)] {
        let mut stage = Stage::new();
        let agent = stage.open(AGENT);
        stage.register(agent);
        let principal = if own {
            Principal::Own { identity: identity(caller), credential: None }
        } else {
            Principal::Invoke { caller: identity(caller), target: identity(AGENT) }
        };
        let (socket, _) = stage.open_as(&principal);
        let mut frame = invocation();
        stage.send(socket, Version::One, frame.clone());
        assert_eq!(stage.kinds()[0], EventKind::InvocationAccepted);
        frame["request_payload"] = json!({"error_message": "go"});
        stage.send(socket, Version::One, frame);
        let expected = if dismissed { EventKind::AgentDismissed } else { EventKind::InvocationAccepted };
        assert_eq!(stage.kinds()[0], expected, "{caller}, own: {own}");
    }
}

#[test]
fn a_dismissal_says_who_dismissed_whom_and_is_no_larger_than_a_frame_may_be() {
    let payload = json!({"error_message": "go"});
    let largest = dismissal(payload.to_string().as_bytes()).len();
    for (max_frame_bytes, verdict) in
        [(largest, Verdict::Taken), (largest - 1, Verdict::Refused(ErrorCode::FrameTooLarge))]
    {
        let mut stage = Stage::with(Policy { max_frame_bytes, ..Policy::default() });
        stage.open(AGENT);
        let (socket, _) = stage.open_as(&Principal::Invoke { caller: identity(BACKEND), target: identity(AGENT) });
        let mut frame = invocation();
        frame["request_payload"] = payload.clone();
        assert_eq!(stage.ask(command(socket, Version::One, &frame)).0, verdict);
        let event = stage.events.last().unwrap();
        assert_eq!([&event.agent, &event.caller], [&Some(identity(AGENT)), &Some(identity(BACKEND))]);
    }
}

#[test]
fn a_registration_waits_for_other_routers_from_its_own_time_and_not_from_that_of_one_it_takes_over_from() {
    const WAITS: Duration = Duration::from_secs(2);
    let now = Timestamp::from_micros(1_767_322_985_000_000);
    let elsewhere = NodeRow {
        node: NodeId(2),
        name: "another".into(),
        epoch: 1,
        standing: NodeStanding::Up,
        version: "0".into(),
        started_at: now,
    };
    let held_there = SessionRow {
        session: SessionId::generate(),
        identity: identity(AGENT),
        registered: Some(Position(1)),
        version: 1,
        connected_at: now,
        node: elsewhere.node,
        standing: SessionStanding::Live,
        max_in_flight: 1,
        sealed_credential: None,
    };
    let found = Restored { sessions: vec![held_there], nodes: vec![elsewhere], alone: false, ..nothing(now) };
    let policy = Policy { drain_delay: Duration::from_mins(1), ..Policy::default() };
    let mut stage = Stage::restored(found, policy, now);
    let first = stage.open(AGENT);
    stage.register(first);
    assert_eq!(stage.ledger.next_due(), Some(now + WAITS));
    stage.now = now + WAITS / 2;
    let second = stage.open(AGENT);
    let effects = stage.register(second);
    assert!(matches!(effects[..], [Effect::End { session, .. }] if session == first), "{effects:?}");
    assert_eq!(stage.ledger.next_due(), Some(stage.now + WAITS));
    stage.now = stage.now + WAITS;
    stage.end(first, EndReason::TakenOver);
    assert_eq!(stage.kinds().last(), Some(&EventKind::AgentRegistered), "{:?}", stage.batch.events);
}
