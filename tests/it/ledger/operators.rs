//! What operators have the router do, and what its journal may let go of.

use std::time::Duration;

use agent_router::auth::Principal;
use agent_router::code::ErrorCode;
use agent_router::id::{InvocationId, Position};
use agent_router::invocation::{Invocation, Policy, Reply};
use agent_router::journal::{Detail, Erased, EventKind, Head, LogLines, News};
use agent_router::protocol::Version;
use agent_router::router::{Command, Effect, EndReason, Ending, Found, Load, Step, Verdict};
use serde_json::json;

use super::{AGENT, CALLER, Stage, answers, delivered, frames, identity};
use crate::support::stage::invocation;
use crate::support::{BACKEND, ML};

impl Stage {
    fn disconnect(&mut self, agent: &str) -> (Verdict, Vec<Effect>) {
        self.ask(Command::Disconnect { agent: identity(agent) })
    }

    fn drain(&mut self, on: bool) -> Verdict {
        self.ask(Command::Drain { on }).0
    }

    fn erase(&mut self, invocation: InvocationId, reason: &str) -> Verdict {
        self.ask(Command::Erase { invocation, reason: reason.to_owned() }).0
    }

    fn prune(&mut self, through: Position) -> Verdict {
        self.ask(Command::Prune { through: Head { position: through, hash: [7; 32] }, events: 1 }).0
    }

    fn count(&self, kind: EventKind) -> usize {
        self.events.iter().filter(|event| event.detail.kind() == kind).count()
    }

    fn head(&self) -> Position {
        self.events.last().expect("something happened").position
    }
}

#[test]
fn an_operator_ends_every_own_socket_of_an_agent_and_nobody_elses() {
    let mut stage = Stage::new();
    let registered = stage.open(AGENT);
    stage.register(registered);
    let beside = stage.open(AGENT);
    stage.open(CALLER);
    let (verdict, effects) = stage.disconnect(AGENT);
    assert_eq!(verdict, Verdict::Disconnected(2));
    let told: Vec<_> = effects
        .iter()
        .map(|effect| match effect {
            Effect::End { session, why: Ending::Disconnected } => *session,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told, [registered, beside]);
    let (verdict, effects) = stage.disconnect(AGENT);
    assert_eq!(verdict, Verdict::Disconnected(2), "they are still there");
    assert!(effects.is_empty(), "and were told already: {effects:?}");
    stage.end(registered, EndReason::Operator);
    stage.end(beside, EndReason::Operator);
    assert_eq!(stage.disconnect(AGENT).0, Verdict::NotFound);
    let Detail::AgentDisconnected { reason, .. } = stage.events.last().unwrap().detail else { panic!() };
    assert_eq!(reason, "operator");
}

#[test]
fn an_agent_that_is_being_disconnected_is_sent_nothing_more_and_what_it_had_sent_counts() {
    let mut stage = Stage::new();
    let caller = stage.open(CALLER);
    let agent = stage.open(AGENT);
    stage.register_v2(agent, 10);
    let id = delivered(&stage.invoke(caller))[0];
    stage.disconnect(AGENT);
    assert!(delivered(&stage.invoke(caller)).is_empty(), "it waits for the agent's next socket");
    assert_eq!(answers(&stage.answer(agent, id), caller), [id]);
    let new = stage.open(AGENT);
    assert!(frames(&stage.register_v2(new, 10), new).is_empty(), "the older socket has still to end");
    assert_eq!(frames(&stage.end(agent, EndReason::Operator), new), ["agent_registered", "agent_invoke"]);
}

#[test]
fn a_router_that_drains_takes_nothing_new_and_goes_on_with_the_rest() {
    let mut stage = Stage::with(Policy { max_in_flight: 1, ..Policy::default() });
    let caller = stage.open(CALLER);
    let master = stage.open(ML);
    let agent = stage.open(AGENT);
    stage.register(agent);
    let key =
        json!({"message_type": "agent_invoke", "agent_uuid": AGENT, "request_payload": {}, "idempotency_key": "k"});
    let running = delivered(&stage.send(master, Version::One, key.clone()))[0];
    stage.invoke(caller);
    assert_eq!((stage.drain(true), stage.drain(true)), (Verdict::Taken, Verdict::Taken));
    assert_eq!(stage.count(EventKind::NodeDraining), 1);
    assert!(stage.ledger.is_draining());

    let open = Command::Open {
        session: agent_router::id::SessionId::generate(),
        principal: agent_router::auth::Principal::Own { identity: identity("late"), credential: None },
        sealed_credential: None,
    };
    assert_eq!(stage.ask(open).0, Verdict::Refused(ErrorCode::ShuttingDown));
    let invoke = invocation(AGENT, &json!({}), &json!({}));
    let over_http = Command::HttpInvoke { caller: identity(ML), invoke };
    assert_eq!(stage.ask(over_http).0, Verdict::Refused(ErrorCode::ShuttingDown));
    let message = Command::ClientMessage { caller: identity(ML), client: identity(AGENT), message: "{}".into() };
    assert_eq!(stage.ask(message).0, Verdict::Refused(ErrorCode::ShuttingDown));
    stage.invoke(caller);
    assert_eq!(stage.count(EventKind::InvocationAccepted), 2);

    stage.send(caller, Version::One, key.clone());
    assert_eq!(stage.count(EventKind::InvocationAccepted), 2);
    let again = invocation(AGENT, &json!({}), &json!({"idempotency_key": "k"}));
    let (verdict, _) = stage.ask(Command::HttpInvoke { caller: identity(ML), invoke: again });
    assert!(matches!(verdict, Verdict::Invoked(taken) if taken.invocation == running && taken.replayed), "{verdict:?}");
    let effects = stage.answer(agent, running);
    assert_eq!(answers(&effects, master), [running]);
    assert_eq!(delivered(&effects).len(), 1, "what was accepted is delivered");

    assert_eq!((stage.drain(false), stage.drain(false)), (Verdict::Taken, Verdict::Taken));
    assert_eq!(stage.count(EventKind::NodeResumed), 1);
    assert!(!stage.ledger.is_draining());
    stage.open("late");
}

#[test]
fn an_answer_that_is_erased_is_owed_to_nobody_and_its_key_goes_with_nothing() {
    let mut stage = Stage::new();
    let agent = stage.open(AGENT);
    stage.register(agent);
    let master = stage.open(ML);
    let mut frame = super::invocation();
    frame["idempotency_key"] = json!("k");
    frame["request_metadata"] = json!({"request_id": "of this one"});
    let accepted = stage.head().next();
    let id = delivered(&stage.send(master, Version::One, frame.clone()))[0];
    assert_eq!(stage.erase(id, "too early"), Verdict::StillOpen);
    assert_eq!(stage.erase(InvocationId::generate(), "of what?"), Verdict::NotFound);
    stage.end(master, EndReason::Closed);
    stage.answer(agent, id);
    assert_eq!(stage.batch.changed[0].reply, Reply::Owed);

    let reason = format!("{}\u{e9}", "x".repeat(4095));
    assert_eq!(stage.erase(id, &reason), Verdict::Taken);
    let logs = LogLines { agent: identity(AGENT), request_id: "of this one".into(), after: accepted };
    assert_eq!(stage.batch.erased, [Erased { invocation: id, logs: Some(logs) }]);
    assert_eq!(stage.batch.changed[0].reply, Reply::None);
    let event = stage.events.last().unwrap();
    let Detail::PayloadErased { reason, request_id } = &event.detail else { panic!("{event:?}") };
    assert_eq!((request_id.as_deref(), &event.agent), (Some("of this one"), &Some(identity(AGENT))));
    assert_eq!((event.invocation, reason.len()), (Some(id), 4095), "cut between two characters");
    let (_, effects) = stage.open_as(&agent_router::auth::Principal::Own { identity: identity(ML), credential: None });
    assert!(effects.is_empty(), "{effects:?}");
}

#[test]
fn a_key_of_what_is_erased_goes_with_nothing_from_that_moment_on() {
    let mut stage = Stage::new();
    let agent = stage.open(AGENT);
    stage.register_v2(agent, 10);
    let invoke = || invocation(AGENT, &json!({}), &json!({"idempotency_key": "k"}));
    let ask = || Command::HttpInvoke { caller: identity(ML), invoke: invoke() };
    let (Verdict::Invoked(taken), _) = stage.ask(ask()) else { panic!("it is taken") };
    stage.answer(agent, taken.invocation);
    let found = Found::new(stage.batch.changed.clone());
    // Both were asked for before either was decided, so the journal was asked once, and knew the key.
    let erase = Command::Erase { invocation: taken.invocation, reason: "asked".to_owned() };
    let mut step = Step::default();
    assert_eq!(stage.ledger.decide(&erase, &found, stage.now, &mut step), Verdict::Taken);
    let verdict = stage.ledger.decide(&ask(), &found, stage.now, &mut step);
    assert_eq!(verdict, Verdict::Refused(ErrorCode::IdempotencyKeyReused));
}

#[test]
fn answers_that_are_erased_on_their_way_do_not_hold_up_those_behind_them() {
    let mut stage = Stage::new();
    let agent = stage.open(AGENT);
    stage.register_v2(agent, 1000);
    let master = stage.open(ML);
    let asked: Vec<_> =
        (0..300).map(|_| delivered(&stage.send(master, Version::One, super::invocation()))[0]).collect();
    stage.end(master, EndReason::Closed);
    for id in &asked {
        stage.answer(agent, *id);
    }
    let principal = agent_router::auth::Principal::Own { identity: identity(ML), credential: None };
    let (back, effects) = stage.open_as(&principal);
    let sent = answers(&effects, back);
    assert!(sent.len() < asked.len(), "a page at a time");
    let mut behind = Vec::new();
    for id in &sent {
        let (_, effects) = stage.ask(Command::Erase { invocation: *id, reason: "asked".to_owned() });
        behind.extend(answers(&effects, back));
    }
    assert_eq!(behind, asked[sent.len()..], "whose payload is gone is neither sent nor confirmed");
}

#[test]
fn the_journal_lets_go_of_nothing_that_may_still_be_needed() {
    let mut stage = Stage::new();
    let agent = stage.open(AGENT);
    stage.register(agent);
    let caller = stage.open(CALLER);
    let before = stage.head();
    let id = delivered(&stage.invoke(caller))[0];
    let accepted = before.next();
    assert_eq!(stage.prune(accepted), Verdict::StillOpen);
    assert_eq!(stage.batch.pruned, None);
    assert_eq!(stage.prune(before), Verdict::Taken);
    assert_eq!(stage.batch.pruned.map(|head| head.position), Some(before));
    let event = stage.events.last().unwrap();
    let Detail::JournalPruned { through, hash, events } = &event.detail else { panic!("{event:?}") };
    assert_eq!((*through, hash.as_str(), *events), (before, "07".repeat(32).as_str(), 1));

    stage.answer(agent, id);
    assert_eq!(stage.prune(accepted), Verdict::Taken);
    let beyond = stage.head().next();
    assert_eq!(stage.prune(beyond), Verdict::StillOpen, "what is not there cannot go");
}

#[test]
fn what_another_router_has_let_go_of_is_counted_there() {
    let mut stage = Stage::new();
    for _ in 0..4 {
        stage.open(CALLER);
    }
    let (through, gone) = (stage.head(), Position(stage.head().0 - 2));
    stage.ledger.follow(News { head: through, pruned: gone, ..News::default() });
    let counted_before = u64::try_from(through.0).unwrap();
    stage.ask(Command::Prune { through: Head { position: through, hash: [7; 32] }, events: counted_before });
    let event = stage.events.last().unwrap();
    assert!(matches!(event.detail, Detail::JournalPruned { events: 2, .. }), "{event:?}");
}

#[test]
fn what_another_router_erased_makes_room_for_what_is_owed_behind_it() {
    let mut stage = Stage::new();
    let agent = stage.open(AGENT);
    stage.register(agent);
    let master = stage.open(ML);
    let asked: Vec<_> = (0..400).flat_map(|_| delivered(&stage.invoke(master))).collect();
    stage.end(master, EndReason::Closed);
    for id in &asked {
        stage.answer(agent, *id);
    }
    let (back, effects) = stage.open_as(&Principal::Own { identity: identity(ML), credential: None });
    let sent = answers(&effects, back);
    assert!(sent.len() < asked.len());
    let erased = stage.ledger.rows().invocations.into_iter().find(|invocation| invocation.id == sent[0]).unwrap();
    let erased = Invocation { reply: Reply::None, ..erased };
    stage.ledger.follow(News { head: stage.head(), invocations: vec![erased], ..News::default() });
    let mut step = Step::default();
    stage.ledger.catch_up(stage.now, &mut step);
    assert_eq!(answers(&step.effects, back), asked[sent.len()..=sent.len()]);
}

#[test]
fn the_workload_says_what_there_is_to_do() {
    let mut stage = Stage::with(Policy { max_in_flight: 2, ..Policy::default() });
    let caller = stage.open(CALLER);
    let agent = stage.open(AGENT);
    stage.register(agent);
    stage.open(BACKEND);
    stage.open(ML);
    stage.open_as(&agent_router::auth::Principal::Invoke { caller: identity(BACKEND), target: identity(AGENT) });
    let running = delivered(&stage.invoke(caller))[0];
    stage.invoke(caller);
    assert_eq!(stage.ledger.workload().oldest_queued, None);
    stage.now = stage.now + Duration::from_secs(1);
    let since = stage.now;
    stage.invoke(caller);
    stage.now = stage.now + Duration::from_secs(1);
    stage.invoke(caller);
    let workload = stage.ledger.workload();
    assert_eq!((workload.open, workload.queued, workload.in_flight), (4, 2, 2));
    assert_eq!((workload.connections, workload.oldest_queued), (5, Some(since)));
    let by_role = workload.by_role;
    assert_eq!([by_role.agents, by_role.backend, by_role.master_agent, by_role.invoke], [2, 1, 1, 1]);
    assert_eq!(stage.ledger.load(&identity(AGENT)), Load { queued: 2, in_flight: 2 });
    assert_eq!(stage.ledger.load(&identity("nobody")), Load::default());

    stage.answer(agent, running);
    let workload = stage.ledger.workload();
    assert_eq!((workload.open, workload.queued, workload.in_flight), (3, 1, 2));
    stage.end(agent, EndReason::Closed);
    assert_eq!(stage.ledger.workload().connections, 4);
}
