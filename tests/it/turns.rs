//! A router on a journal that others use: it takes turns with them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use agent_router::clock::{Clock, Timestamp};
use agent_router::id::{Identity, NodeId, Position, SessionId};
use agent_router::invocation::Invocation;
use agent_router::journal::{
    EventKind, HistoryFilter, Journal, JournalError, Lookup, News, NodeStanding, Order, SessionRow, SessionStanding,
};
use agent_router::router::{Body, Ending};
use futures_util::FutureExt;
use serde_json::json;
use tokio::time::timeout;

use crate::support::stage::{Socket, Stage, invocation};
use crate::support::{PATIENCE, not_active};

/// News of nothing yet.
async fn news(stage: &Stage) -> News {
    News { head: stage.journal.head().await.unwrap().position, ..News::default() }
}

#[tokio::test]
async fn what_was_decided_while_another_was_faster_is_decided_anew_and_told_once() {
    let stage = Stage::start().await;
    let (mut agent, mut caller) = (stage.open("agent").await.unwrap(), stage.open("caller").await.unwrap());
    agent.register().await;
    stage.journal.moved.store(3, Ordering::SeqCst);
    caller.invoke("agent").await;
    let delivery = agent.delivery().await;
    stage.journal.moved.store(3, Ordering::SeqCst);
    caller.invoke("nobody").await;
    assert_eq!(caller.recv().await, not_active());
    stage.journal.moved.store(3, Ordering::SeqCst);
    agent.send(json!({"message_type": "agent_response", "response": 7, "invoked_by": delivery.invoked_by})).await;
    assert_eq!(caller.recv().await["response"], 7);
    stage.journal.moved.store(1, Ordering::SeqCst);
    caller.expect_nothing().await;
    agent.expect_nothing().await;
    let kinds = stage.history().await;
    let count = |kind| kinds.iter().filter(|other| **other == kind).count();
    assert_eq!((count(EventKind::InvocationAccepted), count(EventKind::InvocationCompleted)), (1, 1), "{kinds:?}");
    assert!(stage.router.health().await.is_ok() && count(EventKind::JournalRecovered) == 0, "that is no outage");
}

#[tokio::test]
async fn a_router_that_is_never_fast_enough_says_that_the_journal_is_unavailable_and_goes_on() {
    let stage = Stage::start().await;
    stage.journal.moved.store(20, Ordering::SeqCst);
    assert!(stage.open("agent").await.is_err());
    stage.until(async || stage.router.health().await.is_ok()).await;
    stage.open("agent").await.unwrap();
}

#[tokio::test]
async fn a_lease_is_renewed_before_a_life_begins() {
    let stage = Stage::shared().await;
    assert_eq!(stage.journal.renewals.lock().unwrap()[0], (1, 0), "of the first life, before the first commit");
    stage.until(async || stage.journal.renewals.lock().unwrap().len() > 1).await;
}

#[tokio::test]
async fn a_router_whose_name_another_has_taken_ends() {
    let mut stage = Stage::shared().await;
    let mut row = stage.journal.nodes().await.unwrap().remove(0).row;
    row.epoch += 1;
    stage.journal.tell(News { nodes: vec![row], ..news(&stage).await });
    let ended = timeout(PATIENCE, stage.running.ended()).await.expect("it ends");
    assert!(matches!(&ended, Err(JournalError::Superseded(name)) if name == "node"), "{ended:?}");
}

#[tokio::test]
async fn a_clock_that_is_behind_the_journals_is_put_forward_and_none_is_put_back() {
    const HOUR: Duration = Duration::from_hours(1);
    let stage = Stage::shared().await;
    let start = Clock::start();
    let renewed = async |count| stage.until(async || stage.journal.renewals.lock().unwrap().len() >= count).await;
    renewed(2).await;
    assert!(stage.router.clock().now().since(start.now()) < HOUR);
    stage.journal.ahead.store(3600, Ordering::SeqCst);
    stage.until(async || stage.router.clock().now().since(start.now()) + Duration::from_secs(1) > HOUR).await;
    stage.journal.ahead.store(0, Ordering::SeqCst);
    let before = stage.journal.renewals.lock().unwrap().len();
    renewed(before + 1).await;
    assert!(stage.router.clock().now().since(start.now()) + Duration::from_secs(1) > HOUR);
}

/// An invocation over HTTP that waits for its agent, as the journal has it.
async fn queued(stage: &Stage) -> Invocation {
    let agent = stage.open("agent").await.unwrap();
    agent.register().await;
    agent.end().await;
    let invoke = invocation("agent", &json!({}), &json!({"ttl_ms": 60_000}));
    let taken = stage.router.invoke(Identity::backend(), invoke).await.unwrap();
    let lookup = Lookup { ids: vec![taken.invocation], keys: Vec::new() };
    stage.journal.lookup(&lookup).await.unwrap().remove(0)
}

#[tokio::test]
async fn who_waits_here_is_woken_by_what_ended_elsewhere() {
    let stage = Stage::shared().await;
    let mut invocation = queued(&stage).await;
    let mut waiter = stage.router.waiter(invocation.id);
    invocation.finish(agent_router::invocation::Outcome::Cancelled, stage.router.clock().now(), None);
    assert!(waiter.ended().now_or_never().is_none());
    stage.journal.tell(News { invocations: vec![invocation], ..news(&stage).await });
    timeout(PATIENCE, waiter.ended()).await.expect("it is woken");
}

#[tokio::test]
async fn whoever_waits_looks_when_too_much_has_happened_elsewhere() {
    let stage = Stage::shared().await;
    let mut waiter = stage.router.waiter(agent_router::id::InvocationId::generate());
    let nodes = stage.journal.nodes().await.unwrap().into_iter().map(|node| node.row).collect();
    stage.journal.tell(News { whole: true, nodes, ..news(&stage).await });
    timeout(PATIENCE, waiter.ended()).await.expect("it is woken");
}

#[tokio::test]
async fn nobody_is_refused_because_of_what_a_router_does_not_know_yet() {
    let stage = Stage::shared().await;
    let agent = stage.open("agent").await.unwrap();
    agent.register().await;
    stage.history().await;
    let identity = Identity::new("elsewhere").unwrap();
    stage.journal.hide(News { sessions: vec![elsewhere(&identity)], ..news(&stage).await });
    assert_eq!(stage.router.disconnect(identity).await, Ok(1));
}

#[tokio::test]
async fn whoever_asks_again_for_what_a_router_does_not_know_yet_waits_for_the_answer() {
    let stage = Stage::shared().await;
    let (mut agent, caller) = (stage.open("agent").await.unwrap(), stage.open("caller").await.unwrap());
    agent.register().await;
    let keyed = json!({"message_type": "agent_invoke", "agent_uuid": "agent", "idempotency_key": "k"});
    caller.send(keyed.clone()).await;
    let delivery = agent.delivery().await;
    // As if another router had accepted it: this one forgets it, and finds it in the journal.
    let lookup = Lookup { ids: vec![delivery.invocation], keys: Vec::new() };
    let invocation = stage.journal.lookup(&lookup).await.unwrap().remove(0);
    let (nodes, sessions) = (stage.journal.nodes().await.unwrap(), rows(&stage, [&agent, &caller]).await);
    let nodes = nodes.into_iter().map(|node| node.row).collect();
    stage.journal.tell(News { whole: true, nodes, sessions, ..news(&stage).await });
    let mut again = stage.open("caller").await.unwrap();
    stage.history().await;
    stage.journal.hide(News { invocations: vec![invocation], ..news(&stage).await });
    again.send(keyed).await;
    agent.send(json!({"message_type": "agent_response", "response": 7, "invoked_by": delivery.invoked_by})).await;
    assert_eq!(again.recv().await["response"], 7);
}

/// An agent's socket that another router holds.
fn elsewhere(identity: &Identity) -> SessionRow {
    SessionRow {
        session: SessionId::generate(),
        identity: identity.clone(),
        registered: None,
        version: 1,
        connected_at: Timestamp::from_micros(0),
        node: NodeId(99),
        standing: SessionStanding::Live,
        max_in_flight: 0,
        sealed_credential: None,
    }
}

/// The rows of sockets that are open.
async fn rows(stage: &Stage, sockets: [&Socket; 2]) -> Vec<SessionRow> {
    let mut rows = Vec::new();
    for socket in sockets {
        rows.push(stage.journal.session(socket.session).await.unwrap().expect("it is open"));
    }
    rows
}

#[tokio::test]
async fn what_is_committed_too_late_is_not_sent_on_a_socket_that_others_have_ended_meanwhile() {
    let stage = Stage::shared().await;
    let mut invocation = queued(&stage).await;
    let mut agent = stage.open("agent").await.unwrap();
    let before = stage.commits();
    stage.journal.stalled.store(true, Ordering::SeqCst);
    agent.register().await;
    stage.until(async || stage.commits() > before).await;
    // It is on the disk that the agent is sent what waits for it; and then that its router is lost.
    let now = stage.router.clock().now();
    invocation.deliver(agent.session, now, true);
    invocation.interrupt(now + Duration::from_mins(1));
    let mut row = stage.journal.nodes().await.unwrap().remove(0).row;
    row.standing = NodeStanding::Lost;
    let (invocations, ended) = (vec![invocation], vec![agent.session]);
    stage.journal.tell(News { invocations, ended, nodes: vec![row], ..news(&stage).await });
    stage.until(async || stage.router.health().await.is_err()).await;
    stage.journal.stalled.store(false, Ordering::SeqCst);
    stage.until(async || stage.router.health().await.is_ok()).await;
    agent.expect_nothing().await;
    assert_eq!(*agent.outlet.ending().borrow(), Some(Ending::Restarting));
}

#[tokio::test]
async fn a_router_that_ends_in_good_order_leaves_nothing_to_its_next_start() {
    let stage = Stage::shared().await;
    let agent = stage.open("agent").await.unwrap();
    agent.register().await;
    stage.history().await;
    let journal = Arc::clone(&stage.journal);
    stage.router.shutdown().await;
    assert_eq!(*agent.outlet.ending().borrow(), Some(Ending::Restarting));
    agent.end().await;
    stage.running.finish().await.unwrap();
    let nodes = journal.nodes().await.unwrap();
    assert_eq!((nodes[0].row.standing, nodes[0].sessions), (NodeStanding::Stopped, 0));
    let ended = HistoryFilter { kinds: vec![EventKind::AgentDisconnected], ..HistoryFilter::default() };
    let ended = journal.history(&ended, Order::Ascending, None, 10).await.unwrap().events;
    assert_eq!(ended.len(), 2, "the agent's, and that of whoever asked for the history");
}

#[tokio::test]
async fn a_router_that_leaves_in_an_outage_does_so_when_the_journal_is_back() {
    let stage = Stage::shared().await;
    let journal = Arc::clone(&stage.journal);
    stage.lose_journal();
    stage.router.shutdown().await;
    let finishing = tokio::spawn(stage.running.finish());
    let before = journal.turns.load(Ordering::SeqCst);
    while journal.turns.load(Ordering::SeqCst) < before + 3 {
        tokio::task::yield_now().await;
    }
    assert!(!finishing.is_finished(), "it tries again");
    journal.away.store(false, Ordering::SeqCst);
    timeout(PATIENCE, finishing).await.expect("it ends").unwrap().unwrap();
    assert_eq!(journal.nodes().await.unwrap()[0].row.standing, NodeStanding::Stopped);
}

/// What an agent is delivered that registers while others commit: its body came with a look at that, and `erased` meanwhile or
/// not.
async fn delivered_body(erased: bool) -> (Body, Position) {
    let stage = Stage::shared().await;
    let invocation = queued(&stage).await;
    let at = invocation.accepted;
    let mut agent = stage.open("agent").await.unwrap();
    stage.journal.no_turns.store(true, Ordering::SeqCst);
    agent.register().await;
    let came = News { invocations: vec![invocation], ..news(&stage).await };
    if erased {
        // The turn that began with the body is begun again, with another look.
        stage.journal.hide(came.clone());
    }
    stage.journal.tell(News { bodies: vec![(at, "{\"came\":\"with the look\"}".into())], ..came });
    stage.journal.no_turns.store(false, Ordering::SeqCst);
    (agent.delivery().await.body, at)
}

#[tokio::test]
async fn a_body_that_came_with_a_look_is_sent_unless_it_was_erased_meanwhile() {
    let (kept, _) = delivered_body(false).await;
    assert!(matches!(&kept, Body::Inline(body) if body.starts_with(b"{\"came\"")), "{kept:?}");
    let (erased, at) = delivered_body(true).await;
    assert!(matches!(erased, Body::Stored(stored) if stored == at), "it is read from the journal: {erased:?}");
}
