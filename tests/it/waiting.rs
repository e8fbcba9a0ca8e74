//! Invocations for agents that are away: who is waited for, how long, and in which order they follow.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::support::{BACKEND_KEY, Peer, Router, agent_id, answered, not_active};

fn number(delivery: &Value) -> &Value {
    &delivery["request_payload"]["n"]
}

/// Registers an agent and takes it away again, so that the router knows it.
async fn known(router: &Router) -> String {
    let id = agent_id();
    Peer::registered(router, &id).await.leave(router).await;
    id
}

#[tokio::test]
async fn what_is_asked_of_an_agent_that_is_briefly_away_waits_for_it() {
    let router = Router::start().await;
    let target = known(&router).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    socket.invoke(&target, json!({"n": 1})).await;
    router.newest_invocation_of(&target).await;
    let mut agent = Peer::registered(&router, &target).await;
    let delivery = agent.recv().await;
    assert_eq!(number(&delivery), 1);
    agent.answer(&delivery, json!("back")).await;
    assert_eq!(socket.recv().await, answered(json!("back")));
}

#[tokio::test]
async fn it_waits_as_long_as_its_ttl() {
    let router = Router::with(&[("DEFAULT_TTL", "200ms")]).await;
    let target = known(&router).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    socket.invoke(&target, json!({})).await;
    let by_default = router.newest_invocation_of(&target).await;
    assert_eq!(socket.recv().await, not_active());
    assert_eq!(router.wait_for_state(&by_default, "expired").await["error"]["code"], "expired");

    let id = socket.accepted(&target, json!({}), json!({"ttl_ms": 100})).await;
    assert_eq!(socket.recv().await["error"]["code"], "expired");
    assert_eq!(router.life_of(&id).await[..2], ["invocation.accepted", "invocation.expired"]);
    Peer::registered(&router, &target).await.expect_nothing().await;
}

#[tokio::test]
async fn the_ttl_counts_only_while_its_agent_is_away_and_starts_anew_with_each_wait() {
    let router = Router::start().await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    agent.answer_pings(false);
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    socket.accepted(&target, json!({"n": 1}), json!({"ttl_ms": 2000})).await;
    agent.recv().await;
    sleep(Duration::from_millis(2200)).await;
    agent.leave(&router).await;
    let mut agent = Peer::registered(&router, &target).await;
    assert_eq!(number(&agent.recv().await), 1);
}

#[tokio::test]
async fn while_its_agent_is_connected_and_busy_an_invocation_does_not_expire() {
    let router = Router::with(&[("MAX_IN_FLIGHT", "1")]).await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    socket.accepted(&target, json!({"n": 1}), json!({})).await;
    socket.accepted(&target, json!({"n": 2}), json!({"ttl_ms": 100})).await;
    let first = agent.recv().await;
    sleep(Duration::from_millis(400)).await;
    agent.answer(&first, json!(1)).await;
    assert_eq!(number(&agent.recv().await), 2);
}

#[tokio::test]
async fn a_ttl_of_zero_never_waits() {
    let router = Router::start().await;
    let target = known(&router).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    socket.invoke_with(&target, json!({}), json!({"ttl_ms": 0})).await;
    let error = socket.recv().await;
    assert_eq!(error["error"]["error_type"], "AgentNotActive");
    assert_eq!(error["error"]["code"], "agent_away");
    let mut agent = Peer::registered(&router, &target).await;
    agent.expect_nothing().await;
    socket.invoke_with(&target, json!({"n": 1}), json!({"ttl_ms": 0})).await;
    assert_eq!(number(&agent.recv().await), 1);
}

#[tokio::test]
async fn an_agent_that_is_away_longer_than_its_grace_is_waited_for_only_on_request() {
    let router = Router::with(&[("AGENT_GRACE", "100ms")]).await;
    let target = known(&router).await;
    sleep(Duration::from_millis(200)).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    socket.invoke(&target, json!({})).await;
    assert_eq!(socket.recv().await, not_active());
    let refused = router.wait_for_event(&format!("kind=invocation.refused&agent_id={target}")).await;
    assert_eq!(refused["detail"]["code"], "agent_away");

    socket.accepted(&target, json!({"n": 2}), json!({"ttl_ms": 60_000})).await;
    let mut agent = Peer::registered(&router, &target).await;
    assert_eq!(number(&agent.recv().await), 2);
    agent.expect_nothing().await;
}

#[tokio::test]
async fn an_unknown_agent_is_not_waited_for_even_on_request() {
    let router = Router::start().await;
    let (unknown, unregistered) = (agent_id(), agent_id());
    Peer::agent(&router, &unregistered).await.leave(&router).await;
    for target in [&unknown, &unregistered] {
        let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, target).await;
        socket.invoke_with(target, json!({}), json!({"ttl_ms": 60_000})).await;
        let error = socket.recv().await;
        assert_eq!(error["error"]["error_type"], "AgentNotActive");
        assert_eq!(error["error"]["code"], "agent_unknown");
        socket.invoke(target, json!({})).await;
        assert_eq!(socket.recv().await, not_active());
    }
}

#[tokio::test]
async fn first_deliveries_are_in_the_order_of_acceptance() {
    let router = Router::start().await;
    let target = known(&router).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    for n in 0..100 {
        socket.invoke_with(&target, json!({"n": n}), json!({"receipt": true})).await;
    }
    socket.recv_many(100).await;
    let mut agent = Peer::registered(&router, &target).await;
    for n in 100..200 {
        socket.invoke(&target, json!({"n": n})).await;
    }
    for n in 0..200 {
        assert_eq!(number(&agent.recv().await), n);
    }
}

#[tokio::test]
async fn what_waits_is_sent_to_a_socket_that_does_not_register_after_a_delay() {
    let router = Router::with(&[("DRAIN_DELAY", "100ms")]).await;
    let target = known(&router).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    socket.accepted(&target, json!({"n": 1}), json!({})).await;
    let mut agent = Peer::agent(&router, &target).await;
    assert_eq!(number(&agent.recv().await), 1);
}

#[tokio::test]
async fn what_waits_is_sent_at_once_when_the_agent_registers_and_nothing_overtakes_it() {
    let router = Router::with(&[("DRAIN_DELAY", "60s")]).await;
    let target = known(&router).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    socket.accepted(&target, json!({"n": 1}), json!({})).await;
    let mut agent = Peer::agent(&router, &target).await;
    socket.accepted(&target, json!({"n": 2}), json!({})).await;
    agent.expect_nothing().await;
    agent.register(&router).await;
    assert_eq!(number(&agent.recv().await), 1);
    assert_eq!(number(&agent.recv().await), 2);
}

#[tokio::test]
async fn to_a_socket_for_which_nothing_waits_an_invocation_goes_at_once() {
    let router = Router::with(&[("DRAIN_DELAY", "60s")]).await;
    let target = known(&router).await;
    let mut agent = Peer::agent(&router, &target).await;
    let socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    socket.invoke(&target, json!({"n": 1})).await;
    assert_eq!(number(&agent.recv().await), 1);
}
