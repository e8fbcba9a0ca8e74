//! Routers that end: in good order, at once, or unnoticed.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{one, two};
use crate::support::{BACKEND_KEY, OPERATOR_KEY, Peer, Router, agent_id, answered};

/// A router that was not heard of for so long is taken for lost; and a little more, for the machine may be busy.
const LEASE: Duration = Duration::from_secs(15 + 15);

async fn wait_for_within(router: &Router, query: &str, within: Duration) -> Value {
    let deadline = Instant::now() + within;
    loop {
        if let Some(event) = router.history(query).await.into_iter().next() {
            return event;
        }
        assert!(Instant::now() < deadline, "no {query} within {within:?}\n{}", router.log());
        sleep(Duration::from_millis(100)).await;
    }
}

async fn state_of(router: &Router, node: &str) -> Value {
    let nodes = router.get_as(OPERATOR_KEY, "/v1/nodes").await.expect(200);
    let all = nodes["nodes"].as_array().expect("a list").clone();
    all.into_iter().find(|entry| entry["node"] == node).expect("it is listed")
}

#[tokio::test]
async fn what_the_agents_of_a_router_that_died_were_doing_lives_on() {
    let (one, mut other) = two(&[]).await;
    let target = agent_id();
    let (mut agent, _) = Peer::registered_v2(&other, &target, json!({})).await;
    let bystander = Peer::registered(&one, &agent_id()).await;
    let mut master = Peer::master_ml(&one).await;
    let running = master.accepted(&target, json!({"n": 1}), json!({})).await;
    let delivery = agent.recv().await;
    one.wait_for_event(&format!("kind=invocation.started&invocation_id={running}")).await;
    let of_the_other = other
        .post_as(BACKEND_KEY, "/v1/invocations", json!({"agent_id": target, "payload": {"n": 2}}))
        .await
        .expect(202)["id"]
        .clone();
    agent.recv().await;

    other.kill();
    let waits = master.accepted(&target, json!({"n": 3}), json!({"ttl_ms": 120_000})).await;
    let lost = wait_for_within(&one, "kind=node.lost", LEASE).await;
    assert_eq!(lost["node_id"], "one");
    assert_eq!(lost["detail"]["node"], "other", "{lost}");
    assert_eq!(state_of(&one, "other").await["state"], "lost");
    let end = one.wait_for_event(&format!("kind=agent.disconnected&agent_id={target}")).await;
    assert_eq!(end["detail"]["reason"], "node_lost");
    one.wait_for_state(&running, "interrupted").await;

    let adopt = json!({"running": [running]});
    let (mut agent, registered) = Peer::registered_v2(&one, &target, adopt).await;
    assert_eq!(registered["adopted"], json!([running]));
    agent.answer(&delivery, json!("done meanwhile")).await;
    assert_eq!(master.recv().await["response"], "done meanwhile");
    loop {
        let delivery = agent.recv().await;
        if delivery["request_payload"]["n"] == 3 {
            agent.answer(&delivery, json!("at last")).await;
            break;
        }
    }
    assert_eq!(master.recv().await["response"], "at last");
    one.wait_for_state(&waits, "completed").await;
    // Its caller asked a router that is gone; how it stands is read at any other.
    let read = one.get_as(BACKEND_KEY, &format!("/v1/invocations/{}", of_the_other.as_str().unwrap())).await;
    assert!(["interrupted", "failed"].contains(&read.expect(200)["state"].as_str().unwrap()));
    drop(bystander);
}

#[tokio::test]
async fn the_answers_for_callers_of_a_router_that_died_stay_readable() {
    let (one, mut other) = two(&[]).await;
    let target = agent_id();
    let mut agent = Peer::registered(&one, &target).await;
    let body = json!({"agent_id": target, "payload": {}});
    let made = other.post_as(BACKEND_KEY, "/v1/invocations", body).await.expect(202);
    let mut master = Peer::master_ml(&other).await;
    master.accepted(&target, json!({}), json!({})).await;
    let deliveries = agent.recv_many(2).await;
    other.kill();
    for delivery in &deliveries {
        agent.answer(delivery, json!("for later")).await;
    }
    let read = one.wait_for_state(made["id"].as_str().unwrap(), "completed").await;
    assert_eq!(read["result"], "for later");
    wait_for_within(&one, "kind=node.lost", LEASE).await;
    let mut master = Peer::master_ml(&one).await;
    assert_eq!(master.recv().await["response"], "for later");
    agent.expect_nothing().await;
}

#[tokio::test]
async fn a_router_that_starts_again_ends_its_predecessors_sockets_at_once() {
    let (one, mut other) = two(&[]).await;
    let target = agent_id();
    let _agent = Peer::registered(&other, &target).await;
    let caller = Peer::invoke_socket(&one, BACKEND_KEY, &target).await;
    let started = Instant::now();
    other.kill_and_start_again().await;
    one.wait_for_event(&format!("kind=agent.disconnected&agent_id={target}")).await;
    assert!(started.elapsed() < Duration::from_secs(10), "nobody waited for a lease: {:?}", started.elapsed());
    let mut caller = caller;
    caller.invoke(&target, json!({})).await;
    let mut agent = Peer::registered(&other, &target).await;
    let delivery = agent.recv().await;
    agent.answer(&delivery, json!("here again")).await;
    assert_eq!(caller.recv().await, answered(json!("here again")));
    assert_eq!(state_of(&one, "other").await["epoch"], 2);
    assert!(one.history("kind=node.lost").await.is_empty());
}

#[tokio::test]
async fn a_second_process_of_the_same_name_takes_the_place_of_the_first() {
    let mut first = one(&[]).await;
    let target = agent_id();
    let mut agent = Peer::registered(&first, &target).await;
    let second = first.another_node("one").await;
    first.failed().await;
    assert!(first.log().contains("NODE_ID"), "{}", first.log());
    agent.ended().await;
    let mut agent = Peer::registered(&second, &target).await;
    let mut caller = Peer::invoke_socket(&second, BACKEND_KEY, &target).await;
    caller.invoke(&target, json!({})).await;
    let delivery = agent.recv().await;
    agent.answer(&delivery, json!(1)).await;
    assert_eq!(caller.recv().await, answered(json!(1)));
}

#[tokio::test]
async fn a_router_that_ends_in_good_order_lets_go_of_its_agents_at_once() {
    let (one, mut other) = two(&[]).await;
    let target = agent_id();
    let mut agent = Peer::registered(&other, &target).await;
    let mut caller = Peer::invoke_socket(&one, BACKEND_KEY, &target).await;
    let started = Instant::now();
    other.stop().await;
    agent.expect_close(1012).await;
    let shown = one.get_as(BACKEND_KEY, &format!("/v1/agents/{target}")).await.expect(200);
    assert_eq!((&shown["connected"], &shown["node"]), (&json!(false), &json!(null)), "{shown}");
    assert_eq!(state_of(&one, "other").await["state"], "stopped");

    caller.invoke(&target, json!({})).await;
    let mut agent = Peer::registered(&one, &target).await;
    let delivery = agent.recv().await;
    agent.answer(&delivery, json!("moved")).await;
    assert_eq!(caller.recv().await, answered(json!("moved")));
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    assert!(one.history("kind=node.lost").await.is_empty());
}
