//! The journal does not say for a while what became of a commit: nobody is left waiting, and what was refused does not run.

use std::sync::atomic::Ordering;
use std::time::Duration;

use agent_router::auth::Principal;
use agent_router::code::ErrorCode;
use agent_router::id::Identity;
use agent_router::journal::{EventKind, HistoryFilter, Journal, Order};
use agent_router::router::Declined;
use serde_json::json;
use tokio::time::{Instant, timeout};

use crate::support::stage::{AT_ONCE, Socket, Stage, invocation};
use crate::support::{PATIENCE, general_error, not_active};

/// How soon whoever asks is refused by a journal that has just become slow.
const SOON: Duration = Duration::from_secs(3);

const REFUSED: Declined = Declined::Refused(ErrorCode::JournalUnavailable);

/// An agent that is registered, and its caller.
async fn agent_and_caller(stage: &Stage) -> (Socket, Socket) {
    let (agent, caller) = (stage.open("agent").await.unwrap(), stage.open("caller").await.unwrap());
    agent.register().await;
    stage.history().await;
    (agent, caller)
}

async fn events(stage: &Stage, kind: EventKind) -> usize {
    stage.history().await.into_iter().filter(|other| *other == kind).count()
}

/// Returns once the router has a commit under way that does not come back.
async fn a_commit_hangs(stage: &Stage, before: usize) {
    stage.until(async || stage.commits() > before).await;
}

#[tokio::test]
async fn who_waits_for_a_slow_commit_is_refused_and_so_is_who_comes_later() {
    let stage = Stage::start().await;
    let (_agent, mut caller) = agent_and_caller(&stage).await;
    let before = stage.commits();
    stage.journal.stalled.store(true, Ordering::SeqCst);
    let began = Instant::now();
    let master = Identity::backend();
    let ask = || stage.router.invoke(master.clone(), invocation("agent", &json!({}), &json!({})));
    let first = async {
        let refused = ask().await;
        assert!(began.elapsed() < SOON, "after {:?}", began.elapsed());
        refused
    };
    let on_a_socket = async {
        a_commit_hangs(&stage, before).await;
        caller.invoke("agent").await;
        caller.recv_within(SOON).await
    };
    let (first, on_a_socket) = tokio::join!(first, on_a_socket);
    assert_eq!(first.map(drop), Err(REFUSED));
    assert_eq!(on_a_socket, general_error("Journal is unavailable"));
    assert!(matches!(stage.router.health().await, Err((ErrorCode::JournalUnavailable, _))));
    assert!(stage.router.metrics().render().contains("agent_router_journal_available 0\n"));

    let refused = timeout(AT_ONCE, ask()).await.expect("at once from now on");
    assert_eq!(refused.map(drop), Err(REFUSED));
    timeout(AT_ONCE, stage.router.workload()).await.expect("questions are answered").unwrap();
    stage.journal.stalled.store(false, Ordering::SeqCst);
    stage.until(async || stage.router.health().await.is_ok()).await;
    assert!(stage.router.metrics().render().contains("agent_router_journal_available 1\n"));
    assert_eq!(events(&stage, EventKind::JournalRecovered).await, 1);
}

#[tokio::test]
async fn an_invocation_that_was_refused_and_committed_all_the_same_does_not_run() {
    let stage = Stage::start().await;
    let (mut agent, mut caller) = agent_and_caller(&stage).await;
    stage.journal.stalled.store(true, Ordering::SeqCst);
    caller.invoke("agent").await;
    assert_eq!(caller.recv_within(SOON).await, general_error("Journal is unavailable"));
    stage.journal.stalled.store(false, Ordering::SeqCst);
    stage.until(async || stage.router.health().await.is_ok()).await;
    assert_eq!(events(&stage, EventKind::InvocationAccepted).await, 1, "it was on its way to the disk");
    assert_eq!(events(&stage, EventKind::InvocationFailed).await, 1);
    let failed = HistoryFilter { kinds: vec![EventKind::InvocationFailed], ..HistoryFilter::default() };
    let page = stage.journal.history(&failed, Order::Ascending, None, 1).await.unwrap();
    assert!(page.events[0].detail.contains("journal_unavailable"), "{}", page.events[0].detail);
    let id = page.events[0].invocation.unwrap();
    assert!(stage.journal.invocation(id).await.unwrap().unwrap().finished_at.is_some());
    agent.expect_nothing().await;
    caller.expect_nothing().await;

    caller.invoke("agent").await;
    assert_ne!(agent.delivery().await.invocation, id, "what is asked again is another");
}

#[tokio::test]
async fn an_invocation_with_an_idempotency_key_is_found_by_whoever_asks_again() {
    let stage = Stage::start().await;
    let (mut agent, _) = agent_and_caller(&stage).await;
    stage.journal.stalled.store(true, Ordering::SeqCst);
    let master = Identity::backend();
    let ask = || stage.router.invoke(master.clone(), invocation("agent", &json!({}), &json!({"idempotency_key": "k"})));
    assert_eq!(timeout(SOON, ask()).await.expect("it is told").map(drop), Err(REFUSED));
    stage.journal.stalled.store(false, Ordering::SeqCst);
    let delivery = agent.delivery().await;
    stage.until(async || stage.router.health().await.is_ok()).await;
    let taken = ask().await.unwrap();
    assert_eq!((taken.invocation, taken.replayed), (delivery.invocation, true));
    agent.expect_nothing().await;
}

#[tokio::test]
async fn a_socket_that_was_turned_away_and_committed_all_the_same_has_ended() {
    let stage = Stage::start().await;
    stage.journal.stalled.store(true, Ordering::SeqCst);
    let refused = timeout(SOON, stage.open("late")).await.expect("it is told");
    assert_eq!(refused.err(), Some(ErrorCode::JournalUnavailable));
    stage.journal.stalled.store(false, Ordering::SeqCst);
    stage.until(async || stage.router.health().await.is_ok()).await;
    let kinds = stage.history().await;
    let count = |kind| kinds.iter().filter(|other| **other == kind).count();
    assert_eq!((count(EventKind::AgentConnected), count(EventKind::AgentDisconnected)), (2, 1), "{kinds:?}");
}

#[tokio::test]
async fn what_a_slow_journal_did_not_take_after_all_is_decided_anew_and_what_was_refused_is_not() {
    let stage = Stage::start().await;
    let (mut agent, mut caller) = agent_and_caller(&stage).await;
    caller.invoke("agent").await;
    let delivery = agent.delivery().await;
    let before = stage.commits();
    stage.journal.stalled.store(true, Ordering::SeqCst);
    agent.send(json!({"message_type": "agent_response", "response": "kept", "invoked_by": delivery.invoked_by})).await;
    caller.invoke("agent").await;
    a_commit_hangs(&stage, before).await;
    assert_eq!(caller.recv_within(SOON).await, general_error("Journal is unavailable"));
    stage.lose_journal();
    stage.journal.stalled.store(false, Ordering::SeqCst);
    stage.tried_again().await;
    stage.recover().await;
    assert_eq!(caller.recv().await["response"], "kept");
    caller.expect_nothing().await;
    agent.expect_nothing().await;
    assert_eq!(events(&stage, EventKind::InvocationAccepted).await, 1);
    assert_eq!(events(&stage, EventKind::JournalRecovered).await, 1);
}

#[tokio::test]
async fn a_journal_that_lets_no_turn_begin_is_not_waited_for_either() {
    let stage = Stage::start().await;
    let (mut agent, mut caller) = agent_and_caller(&stage).await;
    stage.journal.no_turns.store(true, Ordering::SeqCst);
    caller.invoke("agent").await;
    assert_eq!(caller.recv_within(SOON).await, general_error("Journal is unavailable"));
    agent.send(json!({"message_type": "agent_log", "log_message": "at work"})).await;
    let principal = Principal::Own { identity: Identity::new("late").unwrap(), credential: None };
    let refused = timeout(AT_ONCE, stage.open_as(&principal)).await.expect("at once from now on");
    assert_eq!(refused.err(), Some(ErrorCode::JournalUnavailable));
    stage.journal.no_turns.store(false, Ordering::SeqCst);
    stage.until(async || stage.router.health().await.is_ok()).await;
    let kinds = stage.history().await;
    let count = |kind| kinds.iter().filter(|other| **other == kind).count();
    assert_eq!(count(EventKind::InvocationAccepted), 0, "nothing was decided");
    assert_eq!(count(EventKind::AgentLogged), 1, "what happened is kept");
    assert_eq!(count(EventKind::JournalRecovered), 1);
    agent.expect_nothing().await;
}

#[tokio::test]
async fn a_refusal_is_told_once_however_slow_the_journal_is() {
    let stage = Stage::start().await;
    let (_agent, mut caller) = agent_and_caller(&stage).await;
    let before = stage.commits();
    stage.journal.stalled.store(true, Ordering::SeqCst);
    caller.invoke("nobody").await;
    a_commit_hangs(&stage, before).await;
    let told = caller.recv_within(SOON).await;
    assert!(told == not_active() || told == general_error("Journal is unavailable"), "{told}");
    stage.journal.stalled.store(false, Ordering::SeqCst);
    stage.until(async || stage.router.health().await.is_ok()).await;
    caller.expect_nothing().await;
}

#[tokio::test]
async fn what_was_refused_does_not_run_after_a_restart_either() {
    let stage = Stage::start().await;
    let (agent, mut caller) = agent_and_caller(&stage).await;
    let before = stage.commits();
    stage.journal.stalled.store(true, Ordering::SeqCst);
    agent.send(json!({"message_type": "agent_log", "log_message": "at work"})).await;
    a_commit_hangs(&stage, before).await;
    // In one batch with the last that the router journals.
    caller.invoke("agent").await;
    let router = stage.router.clone();
    let going_down = tokio::spawn(async move { router.shutdown().await });
    while !matches!(stage.router.health().await, Err((ErrorCode::ShuttingDown, _))) {
        tokio::task::yield_now().await;
    }
    let before = stage.journal.turns.load(Ordering::SeqCst);
    stage.journal.no_turns.store(true, Ordering::SeqCst);
    stage.journal.stalled.store(false, Ordering::SeqCst);
    while stage.journal.turns.load(Ordering::SeqCst) == before {
        tokio::task::yield_now().await;
    }
    stage.journal.stalled.store(true, Ordering::SeqCst);
    stage.journal.no_turns.store(false, Ordering::SeqCst);
    assert_eq!(caller.recv_within(SOON).await, general_error("Journal is unavailable"));
    going_down.await.unwrap();
    let (journal, finishing) = (stage.journal.clone(), tokio::spawn(stage.running.finish()));
    journal.stalled.store(false, Ordering::SeqCst);
    timeout(PATIENCE, finishing).await.expect("it ends").unwrap().unwrap();
    let failed = HistoryFilter { kinds: vec![EventKind::InvocationFailed], ..HistoryFilter::default() };
    assert_eq!(journal.history(&failed, Order::Ascending, None, 9).await.unwrap().events.len(), 1);
}

#[tokio::test]
async fn a_router_that_goes_down_while_the_journal_is_slow_tells_its_sockets_and_ends_when_it_can() {
    let stage = Stage::start().await;
    let (agent, caller) = agent_and_caller(&stage).await;
    stage.journal.stalled.store(true, Ordering::SeqCst);
    caller.invoke("agent").await;
    timeout(SOON, stage.router.shutdown()).await.expect("it does not wait for the journal");
    assert!(agent.outlet.ending().borrow().is_some());
    stage.journal.stalled.store(false, Ordering::SeqCst);
    timeout(PATIENCE, stage.running.finish()).await.expect("it ends").unwrap();
}

#[tokio::test]
async fn what_the_journal_has_to_be_asked_about_does_not_keep_a_router_from_its_end() {
    let stage = Stage::start().await;
    let (agent, caller) = agent_and_caller(&stage).await;
    let before = stage.commits();
    stage.journal.stalled.store(true, Ordering::SeqCst);
    agent.send(json!({"message_type": "agent_log", "log_message": "at work"})).await;
    a_commit_hangs(&stage, before).await;
    // Whether the key was used before, only the journal knows: it waits for the commit.
    let keyed =
        json!({"message_type": "agent_invoke", "agent_uuid": "agent", "request_payload": {}, "idempotency_key": "k"});
    caller.send(keyed).await;
    let (journal, finishing) = (stage.journal.clone(), tokio::spawn(stage.running.finish()));
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    journal.stalled.store(false, Ordering::SeqCst);
    timeout(SOON, finishing).await.expect("it ends").unwrap().unwrap();
    let accepted = HistoryFilter { kinds: vec![EventKind::InvocationAccepted], ..HistoryFilter::default() };
    assert_eq!(journal.history(&accepted, Order::Ascending, None, 9).await.unwrap().events.len(), 1);
}
