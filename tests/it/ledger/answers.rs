//! To which invocation an answer is, and what becomes of it.

use agent_router::id::{InvocationId, SessionId};
use agent_router::invocation::{Labels, Policy, Reply};
use agent_router::journal::EventKind;
use agent_router::protocol::Version;
use agent_router::router::{AnswerRead, Command, Effect, EndReason, Found, Outbound, Step};
use serde_json::{Value, json};

use super::{AGENT, CALLER, Stage, delivered, identity, invocation};
use crate::support::{ML, command};

impl Stage {
    /// Answers as an agent that knows no ids does.
    fn answer_by_name(&mut self, agent: SessionId, invoked_by: &str) -> Vec<Effect> {
        let frame = json!({"message_type": "agent_response", "invoked_by": invoked_by, "response": 1});
        self.send(agent, Version::One, frame)
    }

    /// What the agent is told of its answer.
    fn fate(&mut self, agent: SessionId, invocation: InvocationId) -> String {
        let effects = self.answer(agent, invocation);
        let [Effect::Send { message: Outbound::Frame(frame), .. }, ..] = &effects[..] else { panic!("{effects:?}") };
        let frame: Value = serde_json::from_slice(frame).unwrap();
        frame["outcome"].as_str().unwrap().to_owned()
    }
}

/// The names by which deliveries say who asks.
fn names(effects: &[Effect]) -> Vec<&str> {
    let names = effects.iter().filter_map(|effect| match effect {
        Effect::Send { message: Outbound::Delivery(delivery), .. } => Some(delivery.invoked_by.as_str()),
        _ => None,
    });
    names.collect()
}

#[test]
fn an_agent_is_told_whether_its_answer_counts() {
    let mut stage = Stage::new();
    let master = stage.open(ML);
    let agent = stage.open(AGENT);
    stage.register_v2(agent, 10);
    let answered = delivered(&stage.invoke(master))[0];
    assert_eq!(stage.fate(agent, answered), "accepted");
    assert_eq!(stage.fate(agent, answered), "duplicate");
    let cancelled = delivered(&stage.invoke(master))[0];
    let cancel = json!({"message_type": "agent_cancel", "invocation_id": cancelled.to_string()});
    stage.send(master, Version::One, cancel);
    assert_eq!(stage.fate(agent, cancelled), "late");
    assert_eq!(stage.fate(agent, InvocationId::generate()), "unknown");
}

#[test]
fn a_plain_name_is_taken_until_the_delivery_that_carried_it_is_answered() {
    let mut stage = Stage::new();
    let caller = stage.open(CALLER);
    let agent = stage.open(AGENT);
    stage.register(agent);
    let mut frame = invocation();
    frame["max_attempts"] = json!(2);
    let effects = stage.send(caller, Version::One, frame);
    assert_eq!(names(&effects), [CALLER]);
    let id = delivered(&effects)[0];
    stage.receipt(agent, id);
    stage.end(agent, EndReason::Closed);

    let agent = stage.open(AGENT);
    let again = format!("{CALLER}#{id}");
    assert_eq!(names(&stage.register(agent)), [&again]);
    stage.answer_by_name(agent, &again);
    assert!(names(&stage.invoke(caller))[0].contains('#'), "the first may still be answered by the plain name");
    stage.answer_by_name(agent, CALLER);
    assert_eq!(stage.events.last().unwrap().invocation, Some(id));
    assert_eq!(names(&stage.invoke(caller)), [CALLER]);
}

#[test]
fn an_answer_that_names_its_invocation_leaves_the_plain_name_to_a_delivery_that_did_not() {
    let mut stage = Stage::new();
    let caller = stage.open(CALLER);
    let agent = stage.open(AGENT);
    stage.register_v2(agent, 10);
    let first = delivered(&stage.invoke(caller))[0];
    let effects = stage.invoke(caller);
    let id = delivered(&effects)[0];
    let with_id = format!("{CALLER}#{id}");
    assert_eq!(names(&effects), [&with_id], "the first is at work");
    stage.answer(agent, first);
    stage.end(agent, EndReason::Closed);

    // It is sent the other again before it has registered: without an id, as to an agent of version 1.
    let agent = stage.open(AGENT);
    stage.now = stage.now + Policy::default().drain_delay;
    assert_eq!(delivered(&stage.take(Command::AnswersDelivered { session: agent, answers: vec![] })), [id]);
    let register =
        json!({"message_type": "agent_register", "protocol_version": 2, "request_payload": {}, "running": [id]});
    stage.send(agent, Version::One, register);
    // It goes on with the first delivery, and answers both.
    let answer = json!({"message_type": "agent_response", "invocation_id": id, "invoked_by": with_id, "response": 1});
    stage.send(agent, Version::Two, answer);
    assert_eq!(stage.events.last().unwrap().detail.kind(), EventKind::InvocationCompleted);
    assert!(
        names(&stage.invoke(caller))[0].contains('#'),
        "the second delivery may still be answered by the plain name"
    );
    let response = json!({"message_type": "agent_response", "invoked_by": CALLER, "response": 2});
    stage.send(agent, Version::Two, response);
    let duplicate = stage.events.last().unwrap();
    assert_eq!((duplicate.detail.kind(), duplicate.invocation), (EventKind::AnswerDuplicate, Some(id)));
    assert_eq!(names(&stage.invoke(caller)), [CALLER]);
}

#[test]
fn that_an_answer_was_read_is_written_although_it_came_while_the_answer_was_being_committed() {
    let mut stage = Stage::new();
    let agent = stage.open(AGENT);
    stage.register(agent);
    let master = stage.open(ML);
    let id = delivered(&stage.invoke(master))[0];
    let mut step = Step::default();
    let response = json!({"message_type": "agent_response", "invoked_by": ML, "response": 1});
    let answer = command(agent, Version::One, &response);
    stage.ledger.decide(&answer, &Found::default(), stage.now, &mut step);
    let _ = stage.ledger.batch(&mut step);
    stage.ledger.launch();
    let read = AnswerRead { invocation: id, agent: identity(AGENT), labels: Labels::default() };
    let delivered = Command::AnswersDelivered { session: master, answers: vec![read] };
    let mut next = Step::default();
    stage.ledger.decide(&delivered, &Found::default(), stage.now, &mut next);
    stage.ledger.seal();
    let batch = stage.ledger.batch(&mut next);
    assert_eq!(batch.changed.iter().map(|row| (row.id, row.reply)).collect::<Vec<_>>(), [(id, Reply::None)]);
    stage.ledger.seal();
    assert!(stage.ledger.rows().invocations.is_empty(), "nothing can come of it any more");
}
