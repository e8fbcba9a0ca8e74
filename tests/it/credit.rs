//! How much an agent has at once, and how much may wait for it.

use serde_json::{Value, json};

use crate::support::{BACKEND_KEY, Peer, Router, agent_id, general_error};

fn number(delivery: &Value) -> &Value {
    &delivery["request_payload"]["n"]
}

#[tokio::test]
async fn an_agent_has_no_more_at_once_than_it_may() {
    let router = Router::with(&[("MAX_IN_FLIGHT", "2")]).await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    for n in 0..4 {
        socket.accepted(&target, json!({"n": n}), json!({})).await;
    }
    let deliveries = agent.recv_many(2).await;
    agent.expect_nothing().await;
    for (n, delivery) in deliveries.iter().enumerate() {
        agent.answer(delivery, json!("next")).await;
        socket.recv().await;
        assert_eq!(number(&agent.recv().await), n + 2);
    }
    agent.expect_nothing().await;
}

#[tokio::test]
async fn an_agent_of_version_2_has_no_more_at_once_than_it_asked_for() {
    let router = Router::start().await;
    let target = agent_id();
    let (mut agent, _) = Peer::registered_v2(&router, &target, json!({"max_in_flight": 1})).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    for n in 0..3 {
        socket.accepted(&target, json!({"n": n}), json!({})).await;
    }
    let mut delivery = agent.recv().await;
    for n in 0..2 {
        assert_eq!(number(&delivery), n);
        agent.expect_nothing().await;
        agent.answer(&delivery, json!(n)).await;
        assert_eq!(socket.recv().await["response"], n);
        let (receipt, next) = agent.recv_two("agent_receipt").await;
        assert_eq!(receipt["outcome"], "accepted");
        delivery = next;
    }
    assert_eq!(number(&delivery), 2);
}

#[tokio::test]
async fn no_version_2_agent_gets_more_than_the_limit() {
    let router = Router::with(&[("MAX_IN_FLIGHT", "2")]).await;
    let target = agent_id();
    let (mut agent, _) = Peer::registered_v2(&router, &target, json!({"max_in_flight": 500})).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    for n in 0..3 {
        socket.accepted(&target, json!({"n": n}), json!({})).await;
    }
    agent.recv_many(2).await;
    agent.expect_nothing().await;
}

#[tokio::test]
async fn a_full_queue_refuses_the_next_and_drops_nothing() {
    let router = Router::with(&[("MAX_QUEUED", "3")]).await;
    let target = agent_id();
    Peer::registered(&router, &target).await.leave(&router).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    for n in 0..3 {
        socket.accepted(&target, json!({"n": n}), json!({})).await;
    }
    socket.invoke(&target, json!({"n": 3})).await;
    assert_eq!(socket.recv().await, general_error("Queue is full"));
    socket.invoke_with(&target, json!({"n": 4}), json!({"receipt": true})).await;
    let full = socket.recv().await;
    assert_eq!(full["error"]["error_message"], "Queue is full");
    assert_eq!(full["error"]["code"], "queue_full");
    assert_eq!(full["error"]["queued"], 3);
    assert!(full["error"]["retry_after_ms"].is_u64(), "{full}");
    let refused = router.wait_for_event(&format!("kind=invocation.refused&agent_id={target}")).await;
    assert_eq!(refused["detail"]["code"], "queue_full");

    let mut agent = Peer::registered(&router, &target).await;
    for n in 0..3 {
        assert_eq!(number(&agent.recv().await), n);
    }
    agent.expect_nothing().await;
    socket.invoke(&target, json!({"n": 5})).await;
    assert_eq!(number(&agent.recv().await), 5);
}

#[tokio::test]
async fn a_queue_is_full_by_bytes_too() {
    let router = Router::with(&[("MAX_QUEUED_BYTES", "128KiB")]).await;
    let target = agent_id();
    Peer::registered(&router, &target).await.leave(&router).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    let large = "x".repeat(50_000);
    for _ in 0..2 {
        socket.accepted(&target, json!({"large": large}), json!({})).await;
    }
    socket.invoke(&target, json!({"large": large})).await;
    assert_eq!(socket.recv().await, general_error("Queue is full"));
    socket.accepted(&target, json!({"small": 1}), json!({})).await;
}

#[tokio::test]
async fn one_agents_full_queue_is_not_anothers() {
    let router = Router::with(&[("MAX_QUEUED", "1")]).await;
    let (full, other) = (agent_id(), agent_id());
    for id in [&full, &other] {
        Peer::registered(&router, id).await.leave(&router).await;
    }
    let mut backend = Peer::invoke_socket(&router, BACKEND_KEY, &full).await;
    backend.accepted(&full, json!({}), json!({})).await;
    backend.invoke(&full, json!({})).await;
    assert_eq!(backend.recv().await, general_error("Queue is full"));
    Peer::invoke_socket(&router, BACKEND_KEY, &other).await.accepted(&other, json!({}), json!({})).await;
}
