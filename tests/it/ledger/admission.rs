//! What is taken, and the bounds at which it no longer is.

use std::time::Duration;

use agent_router::auth::Principal;
use agent_router::code::ErrorCode;
use agent_router::id::{InvocationId, SessionId};
use agent_router::invocation::Policy;
use agent_router::journal::Detail;
use agent_router::protocol::Version;
use agent_router::router::{Command, EndReason, Found, Step, Verdict};
use serde_json::{Value, json};

use super::{AGENT, CALLER, Stage, answers, delivered, identity, invocation};
use crate::support::{ML, command, stage};

const INSTANT: Duration = Duration::from_micros(1);

impl Stage {
    fn invoke_with(&mut self, caller: SessionId, options: &Value) -> Verdict {
        let mut frame = invocation();
        frame.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        self.ask(command(caller, Version::One, &frame)).0
    }

    /// An agent that was there and has left.
    fn agent_that_left(&mut self) {
        let agent = self.open(AGENT);
        self.register(agent);
        self.end(agent, EndReason::Closed);
    }
}

#[test]
fn an_agent_that_just_left_is_waited_for_and_later_only_if_its_caller_says_so() {
    let mut stage = Stage::new();
    let caller = stage.open(CALLER);
    stage.agent_that_left();
    let left = stage.now;
    stage.now = left + Policy::default().agent_grace - INSTANT;
    assert_eq!(stage.invoke_with(caller, &json!({})), Verdict::Taken);
    stage.now = left + Policy::default().agent_grace;
    assert_eq!(stage.invoke_with(caller, &json!({})), Verdict::Refused(ErrorCode::AgentAway));
    assert_eq!(stage.invoke_with(caller, &json!({"ttl_ms": 1})), Verdict::Taken);
    assert_eq!(stage.invoke_with(caller, &json!({"ttl_ms": 0})), Verdict::Refused(ErrorCode::AgentAway));
}

#[test]
fn when_an_agent_that_never_registered_was_there_last_is_known_also_if_a_commit_that_empties_its_queue_fails() {
    let ttl = Policy::default().default_ttl;
    let mut stage = Stage::new();
    let caller = stage.open(CALLER);
    stage.register(caller);
    let agent = stage.open(AGENT);
    stage.take(Command::Unregister { session: agent });
    stage.invoke(caller);
    let waits = stage.batch.accepted[0].id;
    stage.end(agent, EndReason::Closed);
    assert_eq!(stage.ledger.next_due(), Some(stage.now + ttl));
    // It is there for a moment. While that is being committed, what waits for it is cancelled.
    stage.now = stage.now + ttl / 2;
    let (session, principal) = (SessionId::generate(), Principal::Own { identity: identity(AGENT), credential: None });
    let came_and_went = [
        Command::Open { session, principal, sealed_credential: None },
        Command::End { session, reason: EndReason::Closed },
    ];
    let cancelled = [Command::HttpCancel { caller: identity(CALLER), invocation: waits }];
    for (commands, is_first) in [(&came_and_went[..], true), (&cancelled, false)] {
        let mut step = Step::default();
        for command in commands {
            assert_eq!(stage.ledger.decide(command, &Found::default(), stage.now, &mut step), Verdict::Taken);
        }
        let _ = stage.ledger.batch(&mut step);
        if is_first {
            stage.ledger.launch();
        }
    }
    stage.ledger.seal();
    stage.ledger.take_back();
    assert_eq!(stage.ledger.next_due(), Some(stage.now + ttl));
}

#[test]
fn a_queue_is_full_by_what_its_bodies_come_to() {
    let bytes = stage::invocation(AGENT, &json!({}), &json!({})).body.len() as u64;
    for (max_queued_bytes, taken) in [(2 * bytes, 2), (2 * bytes - 1, 1)] {
        let mut stage = Stage::with(Policy { max_queued_bytes, ..Policy::default() });
        let caller = stage.open(CALLER);
        stage.agent_that_left();
        let verdicts = [0; 3].map(|_| stage.invoke_with(caller, &json!({})));
        let refused = verdicts.iter().position(|verdict| *verdict == Verdict::Refused(ErrorCode::QueueFull));
        assert_eq!(refused, Some(taken), "{verdicts:?}");
    }
}

#[test]
fn what_may_not_wait_goes_to_another_socket_of_its_agent_or_ends() {
    let mut stage = Stage::new();
    let caller = stage.open(CALLER);
    let registered = stage.open(AGENT);
    stage.register(registered);
    let beside = stage.open(AGENT);
    stage.now = stage.now + Policy::default().drain_delay;
    let mut frame = invocation();
    frame["ttl_ms"] = json!(0);
    let id = delivered(&stage.send(caller, Version::One, frame))[0];
    assert_eq!(delivered(&stage.end(registered, EndReason::Closed)), [id]);
    let effects = stage.end(beside, EndReason::Closed);
    assert_eq!(answers(&effects, caller), [id]);
    let failed = stage.batch.events.iter().find(|event| event.invocation == Some(id)).unwrap();
    assert!(matches!(failed.detail, Detail::InvocationFailed { code: Some(ErrorCode::AgentLost), .. }), "{failed:?}");
}

#[test]
fn an_invoke_key_is_good_while_its_agent_is_connected_and_a_masters_always() {
    let mut stage = Stage::with(Policy { secured: true, ..Policy::default() });
    let agent = stage.open(AGENT);
    stage.register(agent);
    let invoke = |caller| Principal::Invoke { caller: identity(caller), target: identity(AGENT) };
    let open =
        |caller| Command::Open { session: SessionId::generate(), principal: invoke(caller), sealed_credential: None };
    assert_eq!(stage.ask(open(CALLER)).0, Verdict::Refused(ErrorCode::NotAllowed));
    assert_eq!(stage.ask(open(ML)).0, Verdict::Taken);
    let caller = stage.open(CALLER);
    let (socket, _) = stage.open_as(&invoke(CALLER));
    assert_eq!(stage.invoke_with(socket, &json!({})), Verdict::Taken);
    stage.end(caller, EndReason::Closed);
    assert_eq!(stage.invoke_with(socket, &json!({})), Verdict::Refused(ErrorCode::NotAllowed));
}

#[test]
fn an_idempotency_key_is_remembered_until_its_time_is_over_and_then_the_newest_counts() {
    let idempotency_ttl = Duration::from_mins(1);
    let mut stage = Stage::with(Policy { idempotency_ttl, ..Policy::default() });
    let agent = stage.open(AGENT);
    stage.register(agent);
    let ask = || {
        let options = json!({"idempotency_key": "k", "deadline_ms": 1});
        Command::HttpInvoke { caller: identity(ML), invoke: stage::invocation(AGENT, &json!({}), &options) }
    };
    let taken = |verdict| match verdict {
        Verdict::Invoked(taken) => (taken.invocation, taken.replayed),
        other => panic!("{other:?}"),
    };
    let (oldest, _) = taken(stage.ask(ask()).0);
    // It ends, and its agent may still answer it by the plain name: it stays in memory.
    stage.now = stage.now + Duration::from_millis(1);
    let ended = stage.now;
    assert_eq!(taken(stage.ask(ask()).0), (oldest, true));
    stage.now = ended + idempotency_ttl - INSTANT;
    assert_eq!(taken(stage.ask(ask()).0), (oldest, true));
    stage.now = ended + idempotency_ttl;
    let (newer, replayed) = taken(stage.ask(ask()).0);
    assert!(newer != oldest && !replayed);
    // The journal was asked before it was taken, and knows the older one alone.
    let looked_up = Found::new(stage.ledger.rows().invocations.into_iter().filter(|row| row.id == oldest).collect());
    let verdict = stage.ledger.decide(&ask(), &looked_up, stage.now, &mut Step::default());
    assert_eq!(taken(verdict), (newer, true));
    stage.answer(agent, newer);
    assert!(stage.ledger.rows().invocations.iter().all(|row| row.id != newer), "the journal alone has it");
    let found = Found::new(stage.batch.changed.clone());
    let verdict = stage.ledger.decide(&ask(), &found, stage.now, &mut Step::default());
    assert_eq!(taken(verdict), (newer, true));
}

#[test]
fn whoever_asks_again_on_the_same_socket_is_answered_once_and_others_too() {
    let mut stage = Stage::new();
    let agent = stage.open(AGENT);
    stage.register(agent);
    let sockets = [stage.open(ML), stage.open(ML)];
    let mut frame = invocation();
    frame["idempotency_key"] = json!("k");
    let id: Vec<InvocationId> = [0, 1, 1, 0]
        .into_iter()
        .flat_map(|n| delivered(&stage.send(sockets[n], Version::One, frame.clone())))
        .collect();
    assert_eq!(id.len(), 1);
    let effects = stage.answer(agent, id[0]);
    assert_eq!(sockets.map(|socket| answers(&effects, socket)), [id.clone(), id]);
}

#[test]
fn what_was_withdrawn_was_not_sent_and_leaves_its_plain_name_free() {
    let mut stage = Stage::new();
    let caller = stage.open(CALLER);
    let agent = stage.open(AGENT);
    stage.register(agent);
    let id = delivered(&stage.invoke(caller))[0];
    assert!(answers(&stage.take(Command::Withdraw { invocation: id }), caller).is_empty());
    let next = delivered(&stage.invoke(caller));
    assert_eq!(next.len(), 1);
    let plain = stage.events.iter().filter_map(|event| match event.detail {
        Detail::InvocationDelivered { plain, .. } => Some(plain),
        _ => None,
    });
    assert_eq!(plain.collect::<Vec<_>>(), [true, true]);
}
