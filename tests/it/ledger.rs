//! Rules that sockets cannot show at will: which of two things comes first, and what piles up. The router's decisions
//! without its I/O; the test says what comes, and when.

mod admission;
mod answers;
mod deliveries;
mod measures;
mod operators;
mod registrations;
mod requests;
mod starts;

use std::collections::HashSet;
use std::time::Duration;

use agent_router::auth::Principal;
use agent_router::clock::Timestamp;
use agent_router::id::{Identity, InvocationId, NodeId, Position, SessionId};
use agent_router::invocation::{Labels, Policy};
use agent_router::journal::{Batch, Detail, Event, Head, NodeRow, NodeStanding, Restored};
use agent_router::protocol::Version;
use agent_router::router::{AnswerRead, Command, Effect, EndReason, Found, Ledger, Outbound, Step, Verdict};
use serde_json::{Value, json};

use crate::support::{BACKEND, ML, command};

const AGENT: &str = "agent";
const CALLER: &str = "caller";

fn identity(name: &str) -> Identity {
    Identity::new(name).unwrap()
}

/// A ledger whose every batch is committed at once.
struct Stage {
    ledger: Ledger,
    now: Timestamp,
    events: Vec<Event>,
    /// The last one.
    batch: Batch,
}

impl Stage {
    fn new() -> Self {
        Self::with(Policy::default())
    }

    fn with(policy: Policy) -> Self {
        let now = Timestamp::from_micros(1_767_322_985_000_000);
        let mut stage = Self::restored(nothing(now), policy, now);
        stage.events.clear();
        stage.batch = Batch::default();
        stage
    }

    /// A start that finds this.
    fn restored(found: Restored, policy: Policy, now: Timestamp) -> Self {
        let mut ledger = Ledger::restore(found, policy, Duration::from_secs(20), now);
        let mut step = Step::default();
        ledger.boot(now, &mut step);
        let batch = ledger.batch(&mut step);
        ledger.seal();
        Self { ledger, now, events: batch.events.clone(), batch }
    }

    /// Takes a command; returns what leaves the router.
    fn take(&mut self, command: Command) -> Vec<Effect> {
        self.ask(command).1
    }

    /// Takes a command; returns what whoever asked is told, and what leaves the router.
    fn ask(&mut self, command: Command) -> (Verdict, Vec<Effect>) {
        let mut step = Step::default();
        self.ledger.pass_time(self.now, &mut step);
        let verdict = self.ledger.decide(&command, &Found::default(), self.now, &mut step);
        self.batch = self.ledger.batch(&mut step);
        self.events.extend(self.batch.events.iter().cloned());
        self.ledger.seal();
        (verdict, step.effects)
    }

    fn send(&mut self, session: SessionId, version: Version, frame: Value) -> Vec<Effect> {
        self.take(command(session, version, &frame))
    }

    fn open(&mut self, name: &str) -> SessionId {
        self.open_as(&Principal::Own { identity: identity(name), credential: None }).0
    }

    fn open_as(&mut self, principal: &Principal) -> (SessionId, Vec<Effect>) {
        let session = SessionId::generate();
        let effects = self.take(Command::Open { session, principal: principal.clone(), sealed_credential: None });
        (session, effects)
    }

    fn end(&mut self, session: SessionId, reason: EndReason) -> Vec<Effect> {
        self.take(Command::End { session, reason })
    }

    fn register(&mut self, session: SessionId) -> Vec<Effect> {
        self.send(session, Version::One, json!({"message_type": "agent_register", "request_payload": {}}))
    }

    fn register_v2(&mut self, session: SessionId, max_in_flight: u32) -> Vec<Effect> {
        let frame = json!({
            "message_type": "agent_register", "protocol_version": 2, "max_in_flight": max_in_flight,
            "request_payload": {},
        });
        self.send(session, Version::One, frame)
    }

    fn invoke(&mut self, caller: SessionId) -> Vec<Effect> {
        self.send(caller, Version::One, invocation())
    }

    fn receipt(&mut self, session: SessionId, invocation: InvocationId) {
        self.take(Command::Receipts { session, deliveries: vec![(invocation, 1)] });
    }

    fn answer(&mut self, session: SessionId, invocation: InvocationId) -> Vec<Effect> {
        let frame = json!({"message_type": "agent_response", "invocation_id": invocation.to_string(), "response": 1});
        self.send(session, Version::Two, frame)
    }

    /// For each socket of the agent that has ended, whether that was announced to the backend.
    fn ends_of_agent(&self) -> Vec<bool> {
        let ends = self.events.iter().filter(|event| event.agent == Some(identity(AGENT)));
        ends.filter_map(|event| match event.detail {
            Detail::AgentDisconnected { announced, .. } => Some(announced),
            _ => None,
        })
        .collect()
    }
}

/// An empty journal.
fn nothing(now: Timestamp) -> Restored {
    Restored {
        head: Head { position: Position(0), hash: [0; 32] },
        agents: Vec::new(),
        sessions: Vec::new(),
        unsettled: Vec::new(),
        feed_acknowledged: Position(0),
        pruned: Position(0),
        nodes: Vec::new(),
        node: NodeRow {
            node: NodeId(1),
            name: "node".into(),
            epoch: 0,
            standing: NodeStanding::Stopped,
            version: "0".into(),
            started_at: now,
        },
        alone: true,
    }
}

fn invocation() -> Value {
    json!({"message_type": "agent_invoke", "agent_uuid": AGENT, "request_payload": {}})
}

/// The invocations that are delivered, in order.
fn delivered(effects: &[Effect]) -> Vec<InvocationId> {
    let deliveries = effects.iter().filter_map(|effect| match effect {
        Effect::Send { message: Outbound::Delivery(delivery), .. } => Some(delivery.invocation),
        _ => None,
    });
    deliveries.collect()
}

/// The invocations whose answers are sent to that socket, in order.
fn answers(effects: &[Effect], socket: SessionId) -> Vec<InvocationId> {
    let answers = effects.iter().filter_map(|effect| match effect {
        Effect::Send { to, message: Outbound::Answer(answer), .. } if *to == socket => Some(answer.invocation),
        _ => None,
    });
    answers.collect()
}

/// The type of each frame that is sent to that socket; deliveries go by the same name as on the wire.
fn frames(effects: &[Effect], socket: SessionId) -> Vec<String> {
    let frames = effects.iter().filter_map(|effect| match effect {
        Effect::Send { to, message: Outbound::Frame(frame), .. } if *to == socket => {
            let frame: Value = serde_json::from_slice(frame).unwrap();
            Some(frame["message_type"].as_str().unwrap().to_owned())
        }
        Effect::Send { to, message: Outbound::Delivery(_), .. } if *to == socket => Some("agent_invoke".to_owned()),
        _ => None,
    });
    frames.collect()
}

#[test]
fn the_end_of_an_agent_is_announced_once_although_the_socket_that_took_over_died_first() {
    let mut stage = Stage::new();
    let old = stage.open(AGENT);
    stage.register(old);
    let new = stage.open(AGENT);
    stage.register(new);
    stage.end(new, EndReason::Closed);
    stage.end(old, EndReason::TakenOver);
    assert_eq!(stage.ends_of_agent().iter().filter(|announced| **announced).count(), 1);

    let next = stage.open(AGENT);
    stage.register(next);
    stage.end(next, EndReason::Closed);
    assert_eq!(stage.ends_of_agent().len(), 3);
    assert_eq!(stage.ends_of_agent().last(), Some(&true));
}

#[test]
fn a_socket_that_is_taken_over_does_not_take_over_from_its_successor() {
    let mut stage = Stage::new();
    let old = stage.open(AGENT);
    stage.register(old);
    let new = stage.open(AGENT);
    let effects = stage.register(new);
    assert!(matches!(effects[..], [Effect::End { session, .. }] if session == old), "{effects:?}");
    let effects = stage.register(old);
    assert!(effects.is_empty(), "{effects:?}");

    stage.end(old, EndReason::TakenOver);
    let caller = stage.open(CALLER);
    let effects = stage.invoke(caller);
    assert!(matches!(effects[..], [Effect::Send { to, .. }] if to == new), "{effects:?}");
}

#[test]
fn an_answer_right_behind_a_registration_that_takes_over_gets_its_receipt() {
    let mut stage = Stage::new();
    let caller = stage.open(CALLER);
    let old = stage.open(AGENT);
    stage.register_v2(old, 10);
    let id = delivered(&stage.invoke(caller))[0];
    let new = stage.open(AGENT);
    stage.register_v2(new, 10);
    assert_eq!(frames(&stage.answer(new, id), new), ["agent_receipt"]);
    assert_eq!(frames(&stage.end(old, EndReason::TakenOver), new), ["agent_registered"]);
}

#[test]
fn the_queue_follows_the_answer_to_the_registration() {
    let mut stage = Stage::new();
    let caller = stage.open(CALLER);
    let old = stage.open(AGENT);
    stage.register_v2(old, 1);
    let id = delivered(&stage.invoke(caller))[0];
    stage.receipt(old, id);
    stage.invoke(caller);
    stage.end(old, EndReason::Closed);
    let new = stage.open(AGENT);
    assert_eq!(frames(&stage.register_v2(new, 1), new), ["agent_registered", "agent_invoke"]);
}

#[test]
fn while_the_router_goes_down_nothing_is_delivered() {
    let mut stage = Stage::new();
    let caller = stage.open(CALLER);
    let agent = stage.open(AGENT);
    stage.register_v2(agent, 1);
    let running = delivered(&stage.invoke(caller))[0];
    stage.receipt(agent, running);
    assert!(delivered(&stage.invoke(caller)).is_empty(), "the agent has no credit");
    stage.take(Command::Shutdown);
    let effects = stage.answer(agent, running);
    assert_eq!(answers(&effects, caller), [running]);
    assert!(delivered(&effects).is_empty(), "{effects:?}");
}

#[test]
fn what_is_delivered_again_keeps_its_place_before_newer_work() {
    let mut stage = Stage::with(Policy { max_in_flight: 2, ..Policy::default() });
    let caller = stage.open(CALLER);
    let registered = stage.open(AGENT);
    stage.register(registered);
    let beside = stage.open(AGENT);
    stage.now = stage.now + Duration::from_secs(1);
    let started = delivered(&stage.invoke(caller))[0];
    let unseen = delivered(&stage.invoke(caller))[0];
    assert!(delivered(&stage.invoke(caller)).is_empty(), "the agent has no credit");
    stage.receipt(registered, started);
    let effects = stage.end(registered, EndReason::Closed);
    assert_eq!(frames(&effects, beside), ["agent_invoke", "agent_invoke"]);
    assert_eq!(delivered(&effects)[0], unseen);
}

#[test]
fn retries_of_sockets_that_are_gone_do_not_pile_up() {
    let mut stage = Stage::new();
    let agent = stage.open(AGENT);
    stage.register(agent);
    let principal = Principal::Invoke { caller: identity(CALLER), target: identity(AGENT) };
    let mut frame = invocation();
    frame["idempotency_key"] = json!("once");
    let mut sizes = Vec::new();
    for _ in 0..200 {
        let (socket, _) = stage.open_as(&principal);
        stage.send(socket, Version::One, frame.clone());
        stage.end(socket, EndReason::Closed);
        sizes.push(format!("{:?}", stage.ledger).len());
    }
    let (first, last) = (sizes[10], sizes[199]);
    assert!(last < first + 200, "the ledger has grown from {first} to {last} characters");
    assert_eq!(stage.events.iter().filter(|event| matches!(event.detail, Detail::InvocationAccepted(_))).count(), 1);
}

#[test]
fn the_end_of_an_older_backend_socket_leaves_the_feed_alone() {
    let mut stage = Stage::new();
    let oldest = stage.open(BACKEND);
    let older = stage.open(BACKEND);
    let newest = stage.open(BACKEND);
    assert!(stage.end(older, EndReason::Dead).is_empty());
    let effects = stage.end(newest, EndReason::Closed);
    assert!(matches!(&effects[..], [Effect::Feed(Some(start))] if start.session == oldest), "{effects:?}");
}

#[test]
fn owed_answers_come_in_pages_each_once() {
    let mut stage = Stage::new();
    let agent = stage.open(AGENT);
    stage.register(agent);
    let master = stage.open(ML);
    let ids: Vec<_> = (0..1000).flat_map(|_| delivered(&stage.invoke(master))).collect();
    assert_eq!(ids.len(), 1000);
    stage.end(master, EndReason::Closed);
    for id in &ids {
        stage.answer(agent, *id);
    }

    let (master, effects) = stage.open_as(&Principal::Own { identity: identity(ML), credential: None });
    let mut page = answers(&effects, master);
    let mut seen = Vec::new();
    while !page.is_empty() {
        assert!(page.len() < ids.len() / 2, "{} answers at once", page.len());
        seen.extend_from_slice(&page);
        let read = |invocation| AnswerRead { invocation, agent: identity(AGENT), labels: Labels::default() };
        let confirmed = page.drain(..).map(read).collect();
        page = answers(&stage.take(Command::AnswersDelivered { session: master, answers: confirmed }), master);
    }
    assert_eq!(seen, ids, "all, in order");
    assert_eq!(seen.iter().collect::<HashSet<_>>().len(), ids.len());
    stage.end(master, EndReason::Closed);
    let (master, effects) = stage.open_as(&Principal::Own { identity: identity(ML), credential: None });
    assert!(answers(&effects, master).is_empty(), "what was confirmed does not come again");
}
