//! The journal takes no commits for a while: requests are refused, what happened is kept, and nothing else is promised.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use agent_router::auth::Principal;
use agent_router::code::ErrorCode;
use agent_router::id::Identity;
use agent_router::journal::{EventKind, HistoryFilter, Journal, JournalError, Order, Verification};
use agent_router::router::{Declined, Ending, Taken};
use bytes::Bytes;
use serde_json::json;
use tokio::time::timeout;

use crate::support::stage::{AT_ONCE, Stage, invocation};
use crate::support::{PATIENCE, general_error, not_active};

fn count(history: &[EventKind], kind: EventKind) -> usize {
    history.iter().filter(|other| **other == kind).count()
}

#[tokio::test]
async fn a_peer_with_many_large_log_lines_does_not_keep_others_from_being_refused() {
    const LINES: usize = 80;
    let stage = Stage::start().await;
    let (chatty, mut other) = (stage.open("chatty").await.unwrap(), stage.open("other").await.unwrap());
    stage.lose_journal();
    let submitted = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&submitted);
    let talking = tokio::spawn(async move {
        let line = json!({"message_type": "agent_log", "log_message": "x".repeat(1 << 20)});
        for _ in 0..LINES {
            chatty.send(line.clone()).await;
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    let mut read = usize::MAX;
    while read != submitted.load(Ordering::SeqCst) {
        read = submitted.load(Ordering::SeqCst);
        stage.tried_again().await;
    }
    assert!(!talking.is_finished(), "it is not read any more");

    assert!(matches!(stage.router.health().await, Err((ErrorCode::JournalUnavailable, _))));
    let refused = timeout(AT_ONCE, stage.open("newcomer")).await.expect("it is told at once");
    assert_eq!(refused.err(), Some(ErrorCode::JournalUnavailable));
    let [caller, client] = ["master_server_be", "other"].map(|name| Identity::new(name).unwrap());
    let message = stage.router.client_message(caller, client, Bytes::from_static(b"{}"));
    let refused = timeout(AT_ONCE, message).await.expect("it is told at once");
    assert_eq!(refused, Err(Declined::Refused(ErrorCode::JournalUnavailable)));
    for _ in 0..3 {
        other.invoke("other").await;
        assert_eq!(other.recv().await, general_error("Journal is unavailable"));
    }

    stage.recover().await;
    timeout(PATIENCE, talking).await.expect("it is read again").unwrap();
    let history = stage.history().await;
    assert_eq!(count(&history, EventKind::AgentLogged), LINES, "what happened is kept");
    assert!(count(&history, EventKind::JournalRecovered) >= 1, "more often if such a commit takes this machine 2 s");
    assert_eq!(count(&history, EventKind::AgentConnected), 3, "who was refused was never there");
    assert_eq!(count(&history, EventKind::InvocationAccepted), 0);
    other.invoke("chatty").await;
    assert_eq!(count(&stage.history().await, EventKind::InvocationAccepted), 1);
}

#[tokio::test]
async fn what_was_accepted_before_an_outage_goes_on_behind_it() {
    let stage = Stage::start().await;
    let (mut agent, mut caller) = (stage.open("agent").await.unwrap(), stage.open("caller").await.unwrap());
    agent.register().await;
    caller.invoke("agent").await;
    let delivery = agent.delivery().await;
    stage.lose_journal();
    let answer = json!({"message_type": "agent_response", "response": "kept", "invoked_by": delivery.invoked_by});
    agent.send(answer).await;
    let late = stage.open("late");
    assert_eq!(late.await.err(), Some(ErrorCode::JournalUnavailable));
    stage.tried_again().await;
    caller.expect_nothing().await;

    stage.recover().await;
    assert_eq!(caller.recv().await["response"], "kept");
    caller.expect_nothing().await;
    let history = stage.history().await;
    assert_eq!(count(&history, EventKind::InvocationCompleted), 1);
    assert_eq!(count(&history, EventKind::JournalRecovered), 1);
    assert!(matches!(stage.journal.verify(None, None).await, Ok(Verification::Intact(_))));
}

#[tokio::test]
async fn a_registration_that_is_too_large_gets_one_error_also_in_an_outage() {
    let stage = Stage::start().await;
    let mut agent = stage.open("agent").await.unwrap();
    stage.lose_journal();
    let name = "n".repeat(1 << 20);
    agent.send(json!({"message_type": "agent_register", "request_payload": {"agent_name": name}})).await;
    stage.tried_again().await;
    let error = agent.recv().await;
    assert_eq!(error["error"]["error_message"], "Frame is too large");
    stage.recover().await;
    agent.expect_nothing().await;
    assert_eq!(count(&stage.history().await, EventKind::AgentRegistered), 0);
}

#[tokio::test]
async fn a_router_that_goes_down_in_an_outage_tells_its_sockets_all_the_same() {
    let stage = Stage::start().await;
    let agent = stage.open("agent").await.unwrap();
    stage.lose_journal();
    assert_eq!(stage.open("newcomer").await.err(), Some(ErrorCode::JournalUnavailable));
    timeout(AT_ONCE, stage.router.shutdown()).await.expect("it does not wait for the journal");
    assert_eq!(*agent.outlet.ending().borrow(), Some(Ending::Restarting));

    stage.journal.away.store(false, Ordering::SeqCst);
    stage.running.finish().await.unwrap();
    let stopped = HistoryFilter { kinds: vec![EventKind::NodeStopped], ..HistoryFilter::default() };
    assert_eq!(stage.journal.history(&stopped, Order::Ascending, None, 10).await.unwrap().events.len(), 1);
}

#[tokio::test]
async fn an_invoke_socket_that_comes_and_goes_costs_no_commit() {
    let stage = Stage::start().await;
    let [caller, target] = ["caller", "agent"].map(|name| Identity::new(name).unwrap());
    let principal = Principal::Invoke { caller, target };
    let before = stage.commits();
    for _ in 0..20 {
        stage.open_as(&principal).await.unwrap().end().await;
    }
    stage.open("agent").await.unwrap();
    assert_eq!(stage.commits(), before + 1, "that of the agent's own socket");
}

#[tokio::test]
async fn a_router_that_cannot_tell_whether_a_commit_is_durable_says_neither_and_ends() {
    let mut stage = Stage::start().await;
    let mut agent = stage.open("agent").await.unwrap();
    agent.register().await;
    stage.history().await;

    stage.journal.uncertain.store(true, Ordering::SeqCst);
    agent.invoke("nobody's").await;
    let [caller, client] = ["master_server_be", "agent"].map(|name| Identity::new(name).unwrap());
    let message = stage.router.client_message(caller, client, Bytes::from_static(b"{}"));
    assert_eq!(timeout(PATIENCE, message).await.expect("it is answered"), Err(Declined::Unknown));
    let ended = timeout(PATIENCE, stage.running.ended()).await.expect("the writer ends");
    assert!(matches!(ended, Err(JournalError::Uncertain(_))), "{ended:?}");

    assert_eq!(agent.recv().await, not_active(), "a refusal needs no journal");
    let after = stage.journal.history(&HistoryFilter::default(), Order::Ascending, None, 100).await.unwrap().events;
    assert!(after.iter().any(|event| event.kind == EventKind::InvocationAccepted), "it was durable after all");
    let mut sent = Vec::new();
    let more = timeout(AT_ONCE, agent.outlet.recv_many(&mut sent, 1)).await;
    assert!(more.is_err() || sent.is_empty(), "sent before anybody knew: {sent:?}");
}

#[tokio::test]
async fn what_is_asked_over_http_in_an_outage_is_refused_and_nothing_comes_of_it() {
    let stage = Stage::start().await;
    let master = Identity::backend();
    let mut agent = stage.open("agent").await.unwrap();
    agent.register().await;
    let ask = || stage.router.invoke(master.clone(), invocation("agent", &json!({}), &json!({"idempotency_key": "k"})));
    let taken = ask().await.unwrap();
    let invoked_by = agent.delivery().await.invoked_by;
    let mut newest = stage.router.newest();
    newest.mark_unchanged();
    let mut waiter = stage.router.waiter(taken.invocation);

    stage.lose_journal();
    let refused = Err(Declined::Refused(ErrorCode::JournalUnavailable));
    for _ in 0..2 {
        let other = invocation("agent", &json!({}), &json!({}));
        assert_eq!(stage.router.invoke(master.clone(), other).await.map(drop), refused);
        assert_eq!(stage.router.cancel(master.clone(), taken.invocation).await, refused);
        assert_eq!(stage.router.disconnect(Identity::new("agent").unwrap()).await.map(drop), refused);
        assert_eq!(stage.router.drain(true).await, refused);
        assert_eq!(stage.router.erase(taken.invocation, "why".to_owned()).await, refused);
        stage.tried_again().await;
    }
    agent.send(json!({"message_type": "agent_response", "response": 1, "invoked_by": invoked_by})).await;
    stage.tried_again().await;
    assert!(timeout(Duration::ZERO, waiter.ended()).await.is_err(), "nothing has ended");
    assert!(!newest.has_changed().unwrap(), "nothing is new");
    assert_eq!(*agent.outlet.ending().borrow(), None, "nobody is disconnected");
    let workload = stage.router.workload().await.unwrap();
    assert_eq!((workload.draining, workload.open, workload.in_flight), (false, 1, 1), "as it was before");
    assert!(stage.router.metrics().render().contains("agent_router_journal_available 0\n"));

    stage.recover().await;
    timeout(PATIENCE, waiter.ended()).await.expect("the answer was kept");
    assert_eq!(ask().await.unwrap(), Taken { invocation: taken.invocation, replayed: true });
    let history = stage.history().await;
    assert_eq!(count(&history, EventKind::InvocationAccepted), 1);
    for kind in [EventKind::InvocationCancelled, EventKind::NodeDraining, EventKind::PayloadErased] {
        assert_eq!(count(&history, kind), 0, "{kind:?}");
    }
    assert!(stage.router.metrics().render().contains("agent_router_journal_available 1\n"));
}
