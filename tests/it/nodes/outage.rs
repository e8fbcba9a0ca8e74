//! The database goes away and comes back: its routers refuse what they cannot journal, keep their sockets, and go on.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::support::postgres::Cluster;
use crate::support::{BACKEND_KEY, ML_KEY, PATIENCE, Peer, Router, agent_id, general_error, printed};

/// How soon it is known that the database is away.
const REFUSED_WITHIN: Duration = Duration::from_secs(3);
/// How soon a router is back after its database.
const BACK_WITHIN: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug)]
enum Outage {
    /// The server is gone: it takes no connections.
    Crash,
    /// The server stands still: connections stay, and nothing answers.
    Pause,
}

async fn survives(outage: Outage) {
    let cluster = Cluster::start();
    let mut router = Router::on(Arc::new(cluster.database()), "one", &[]).await;
    let target = agent_id();
    let (mut agent, _) = Peer::registered_v2(&router, &target, json!({})).await;
    let mut caller = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    let mut master = Peer::connect(&router, &[("API-KEY", ML_KEY)]).await;
    let id = caller.accepted(&target, json!({"n": 1}), json!({})).await;
    let delivery = agent.recv().await;
    router.wait_for_event("kind=invocation.started").await;

    match outage {
        Outage::Crash => cluster.crash().await,
        Outage::Pause => cluster.pause().await,
    }
    let started = Instant::now();
    master.invoke(&target, json!({"n": 2})).await;
    let over_http = router.post_as(BACKEND_KEY, "/v1/invocations", json!({"agent_id": target, "payload": {"n": 3}}));
    assert_eq!(over_http.await.problem(503), "journal_unavailable");
    assert_eq!(master.recv().await, general_error("Journal is unavailable"));
    assert!(started.elapsed() < REFUSED_WITHIN, "refused after {:?}", started.elapsed());
    assert_eq!(router.get_as("", "/health/ready").await.problem(503), "journal_unavailable");
    assert!(started.elapsed() < REFUSED_WITHIN, "not ready after {:?}", started.elapsed());
    assert_eq!(router.get_as("", "/health/live").await.expect(200)["status"], "live");
    agent.answer(&delivery, json!("meanwhile")).await;
    for n in 0..20 {
        let asked = Instant::now();
        master.invoke(&target, json!({"n": n})).await;
        assert_eq!(master.recv().await, general_error("Journal is unavailable"));
        assert!(asked.elapsed() < REFUSED_WITHIN, "refused after {:?}", asked.elapsed());
        sleep(Duration::from_millis(100)).await;
    }

    match outage {
        Outage::Crash => cluster.start_again().await,
        Outage::Pause => cluster.resume().await,
    }
    let back = Instant::now();
    while router.get_as("", "/health/ready").await.status != 200 {
        assert!(back.elapsed() < BACK_WITHIN, "not back after {:?}", back.elapsed());
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(caller.recv().await["response"], "meanwhile");
    let receipt = agent.recv().await;
    assert_eq!(receipt["outcome"], "accepted", "{receipt}");
    assert_eq!(router.invocation(&id).await["state"], "completed");
    // What was refused is not done: the next that the agent is sent is the next that is accepted.
    caller.accepted(&target, json!({"n": "next"}), json!({})).await;
    let delivery = agent.recv().await;
    assert_eq!(delivery["request_payload"]["n"], "next");
    agent.answer(&delivery, json!("as before")).await;
    assert_eq!(agent.recv().await["outcome"], "accepted");
    assert_eq!(caller.recv().await["response"], "as before");
    master.expect_nothing().await;
    assert!(router.history("kind=agent.disconnected").await.is_empty(), "every socket stays");
    assert!(router.history("kind=node.lost").await.is_empty());
    router.stop().await;
    let verified = router.run(&["journal", "verify"]);
    assert!(verified.status.success(), "{}", printed(&verified));
}

#[tokio::test]
async fn a_database_that_crashes_and_comes_back_costs_no_socket_and_no_answer() {
    survives(Outage::Crash).await;
}

#[tokio::test]
async fn a_database_that_stands_still_is_not_waited_for() {
    survives(Outage::Pause).await;
}

#[tokio::test]
async fn broken_connections_are_made_again() {
    let cluster = Cluster::start();
    let router = Router::on(Arc::new(cluster.database()), "one", &[]).await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    for round in 0..5 {
        assert!(router.database().terminate_all().await > 0);
        let deadline = Instant::now() + PATIENCE;
        let made = loop {
            let body = json!({"agent_id": target, "payload": {"round": round}});
            let answer = router.post_as(BACKEND_KEY, "/v1/invocations", body).await;
            if answer.status == 202 {
                break answer.json();
            }
            assert_eq!(answer.problem(503), "journal_unavailable");
            assert!(Instant::now() < deadline, "{}", router.log());
            sleep(Duration::from_millis(50)).await;
        };
        let delivery = agent.recv().await;
        assert_eq!(delivery["request_payload"]["round"], round);
        agent.answer(&delivery, json!(round)).await;
        router.wait_for_state(made["id"].as_str().unwrap(), "completed").await;
    }
    let accepted = router.history(&format!("kind=invocation.accepted&agent_id={target}")).await;
    assert_eq!(accepted.len(), 5, "what was refused was not accepted");
}
