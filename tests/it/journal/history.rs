//! What readers see.

use std::sync::Arc;

use agent_router::code::ErrorCode;
use agent_router::id::{InvocationId, Position};
use agent_router::invocation::{IdempotencyKey, Outcome, StateName};
use agent_router::journal::{EventKind, HistoryFilter, Journal};

use super::script::{Script, identity, second};
use super::store::Store;

/// All events that match, read a page at a time.
async fn positions(journal: &dyn Journal, filter: &HistoryFilter, page: usize) -> Vec<i64> {
    let mut positions = Vec::new();
    let mut after = Position(0);
    loop {
        let events = journal.history(filter, after, page).await.unwrap();
        let Some(last) = events.last() else { return positions };
        assert!(events.len() <= page);
        after = last.position;
        positions.extend(events.iter().map(|event| event.position.0));
    }
}

#[tokio::test]
async fn every_filter_finds_its_events_in_order() {
    let store = Store::new();
    let journal = store.open().await;
    let mut script = Script::new();
    let mut expected: Vec<(i64, Option<InvocationId>, Option<String>, EventKind)> = Vec::new();
    let mut rare = None;
    // More than three of the blocks by which events are found by agent and by kind.
    for number in 0..3300 {
        match number % 100 {
            7 => {
                let mut invocation = script.invoked(&format!("agent-{}", number % 3), b"{}");
                script.completed(&mut invocation, b"[]");
                rare = Some(invocation.id);
            }
            50 => drop(script.logged("agent-1", b"line")),
            _ => drop(script.started()),
        }
        if number % 500 == 499 {
            expected.extend(described(&script));
            journal.commit(&script.take()).await.unwrap();
        }
    }
    expected.extend(described(&script));
    journal.commit(&script.take()).await.unwrap();
    let journal = journal.as_ref();

    let invocations = [None, rare, Some(InvocationId::generate())];
    let agents = [None, Some("agent-0"), Some("agent-1"), Some("agent")];
    let kinds =
        [None, Some(EventKind::AgentLogged), Some(EventKind::InvocationCompleted), Some(EventKind::NodeStopped)];
    for invocation in invocations {
        for agent in agents {
            for kind in kinds {
                let filter = HistoryFilter { invocation, agent: agent.map(identity), kind };
                let matching = expected.iter().filter(|(_, about, who, what)| {
                    invocation.is_none_or(|id| *about == Some(id))
                        && agent.is_none_or(|agent| who.as_deref() == Some(agent))
                        && kind.is_none_or(|kind| *what == kind)
                });
                let wanted: Vec<_> = matching.map(|(position, ..)| *position).collect();
                for page in [7, 5000] {
                    assert_eq!(positions(journal, &filter, page).await, wanted, "{filter:?}, {page} at a time");
                }
            }
        }
    }
    assert!(journal.history(&HistoryFilter::default(), Position(0), 0).await.unwrap().is_empty());
}

fn described(script: &Script) -> Vec<(i64, Option<InvocationId>, Option<String>, EventKind)> {
    let events = script.batch.events.iter();
    events
        .map(|event| {
            let agent = event.agent.as_ref().map(ToString::to_string);
            (event.position.0, event.invocation, agent, event.detail.kind())
        })
        .collect()
}

#[tokio::test]
async fn an_event_is_read_as_it_was_written() {
    let store = Store::new();
    let journal = store.open().await;
    let mut script = Script::new();
    script.started();
    let invocation = script.invoked("agent \"é", b"{ }");
    let head = journal.commit(&script.take()).await.unwrap();

    let events = journal.history(&HistoryFilter::default(), Position(0), 10).await.unwrap();
    let [started, accepted] = &events[..] else { panic!("{events:?}") };
    assert_eq!((started.position, started.at, started.kind), (Position(1), second(1), EventKind::NodeStarted));
    assert_eq!((started.node.as_str(), started.detail.as_str()), ("node-1", r#"{"version":"1"}"#));
    assert_eq!((&started.invocation, &started.agent, &started.caller, &started.payload), (&None, &None, &None, &None));
    assert_eq!((accepted.position, accepted.kind), (Position(2), EventKind::InvocationAccepted));
    assert_eq!(accepted.invocation, Some(invocation.id));
    assert_eq!((&accepted.agent, &accepted.caller), (&Some(invocation.agent), &Some(invocation.caller)));
    assert_eq!(accepted.payload.as_deref(), Some(&b"{ }"[..]));
    assert_eq!(accepted.hash, head.hash);
    let detail: serde_json::Value = serde_json::from_str(&accepted.detail).unwrap();
    assert_eq!(detail["ttl_ms"], 1500);
}

#[tokio::test]
async fn an_invocation_is_read_with_its_body_and_its_answer() {
    let store = Store::new();
    let journal = store.open().await;
    let mut script = Script::new();
    let mut answered = script.accepted("agent", b"{ }");
    answered.key = Some(Box::new(IdempotencyKey { key: Arc::from("k"), digest: [7; 32] }));
    script.keep(&answered);
    let mut lost = script.invoked("agent", b"");
    journal.commit(&script.take()).await.unwrap();

    let queued = journal.invocation(answered.id).await.unwrap().unwrap();
    assert_eq!((queued.state, queued.answer, queued.finished_at), (StateName::Queued, None, None));

    let at = script.completed(&mut answered, b"[NaN]");
    script.started();
    lost.finish(Outcome::Failed(Some(ErrorCode::AgentLost)), second(9), None);
    script.batch.changed.push(lost.clone());
    journal.commit(&script.take()).await.unwrap();

    let record = journal.invocation(answered.id).await.unwrap().unwrap();
    assert_eq!((record.id, record.state, record.code), (answered.id, StateName::Completed, None));
    assert_eq!((record.agent, record.caller), (answered.agent, answered.caller));
    assert_eq!((record.body.as_deref(), record.answer.as_deref()), (Some(&b"{ }"[..]), Some(&b"[NaN]"[..])));
    assert_eq!((record.accepted_at, record.finished_at), (answered.accepted_at, Some(second(at.0))));
    assert_eq!((record.ttl_ms, record.deadline, record.max_attempts), (1500, answered.terms.deadline, 3));
    assert_eq!((record.request_id.as_deref(), record.session_id), (Some("request"), None));
    assert_eq!(record.idempotency_key.as_deref(), Some("k"));

    let record = journal.invocation(lost.id).await.unwrap().unwrap();
    assert_eq!((record.state, record.code, record.answer), (StateName::Failed, Some(ErrorCode::AgentLost), None));
    assert_eq!(record.body.as_deref(), Some(&b""[..]));
    assert!(journal.invocation(InvocationId::generate()).await.unwrap().is_none());
}
