//! Pongs as receipts, and what is done with an invocation whose agent was lost before or after one.

use serde_json::{Value, json};

use crate::support::{BACKEND_KEY, Peer, Router, agent_id, answered, general_error, lost};

async fn started(router: &Router, agent: &str, count: usize) {
    router.wait_for_events(&format!("kind=invocation.started&agent_id={agent}"), count).await;
}

/// A registered agent that answers no Ping.
async fn without_receipts(router: &Router, id: &str) -> Peer {
    let mut agent = Peer::agent(router, id).await;
    agent.answer_pings(false);
    agent.register(router).await;
    agent
}

fn number(delivery: &Value) -> &Value {
    &delivery["request_payload"]["n"]
}

#[tokio::test]
async fn a_pong_is_the_receipt() {
    let router = Router::start().await;
    let target = agent_id();
    let mut agent = without_receipts(&router, &target).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    let id = socket.accepted(&target, json!({}), json!({})).await;
    agent.recv().await;
    let ping = agent.ping().await;
    assert_eq!(router.invocation(&id).await["state"], "delivered");
    agent.pong(&ping).await;
    router.wait_for_state(&id, "running").await;
    started(&router, &target, 1).await;
}

#[tokio::test]
async fn one_pong_stands_for_all_before_it() {
    let router = Router::start().await;
    let target = agent_id();
    let mut agent = without_receipts(&router, &target).await;
    let socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    let mut pings = Vec::new();
    for n in 0..4 {
        socket.invoke(&target, json!({"n": n})).await;
        assert_eq!(number(&agent.recv().await), n);
        pings.push(agent.ping().await);
    }
    agent.pong(&pings[2]).await;
    started(&router, &target, 3).await;
    let running = router.history(&format!("kind=invocation.started&agent_id={target}")).await;
    assert_eq!(running.len(), 3, "the fourth has no receipt yet");
    agent.pong(&pings[3]).await;
    started(&router, &target, 4).await;
}

#[tokio::test]
async fn a_pong_that_was_not_asked_for_is_no_receipt() {
    let router = Router::start().await;
    let target = agent_id();
    let mut agent = without_receipts(&router, &target).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    let id = socket.accepted(&target, json!({}), json!({})).await;
    agent.recv().await;
    for payload in [b"".as_slice(), b"99999999", b"anything", &[0xff; 8]] {
        agent.pong(payload).await;
    }
    agent.expect_nothing().await;
    assert_eq!(router.invocation(&id).await["state"], "delivered");
}

#[tokio::test]
async fn an_answer_is_a_receipt_too() {
    let router = Router::start().await;
    let target = agent_id();
    let mut agent = without_receipts(&router, &target).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    socket.invoke(&target, json!({})).await;
    let delivery = agent.recv().await;
    agent.answer(&delivery, json!(1)).await;
    assert_eq!(socket.recv().await, answered(json!(1)));
}

#[tokio::test]
async fn lost_without_a_receipt_it_is_delivered_again_at_its_old_place() {
    let router = Router::start().await;
    let target = agent_id();
    let mut agent = without_receipts(&router, &target).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    let first = socket.accepted(&target, json!({"n": 0}), json!({})).await;
    assert_eq!(number(&agent.recv().await), 0);
    agent.leave(&router).await;
    for n in 1..4 {
        socket.accepted(&target, json!({"n": n}), json!({})).await;
    }
    let mut agent = Peer::registered(&router, &target).await;
    for n in 0..4 {
        let delivery = agent.recv().await;
        assert_eq!(number(&delivery), n);
        assert!(delivery.get("redelivered").is_none() && delivery.get("attempt").is_none());
        agent.answer(&delivery, json!(n)).await;
        assert_eq!(socket.recv().await["response"], n);
    }
    assert_eq!(router.invocation(&first).await["attempt"], 2);
    assert!(router.life_of(&first).await.contains(&"invocation.requeued".to_owned()));
}

#[tokio::test]
async fn lost_without_a_receipt_by_an_agent_that_never_registered_it_fails_at_once() {
    let router = Router::start().await;
    let target = agent_id();
    let mut agent = Peer::agent(&router, &target).await;
    agent.answer_pings(false);
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    socket.invoke(&target, json!({})).await;
    agent.recv().await;
    drop(agent);
    assert_eq!(socket.recv().await, lost(&target));
}

#[tokio::test]
async fn after_three_deliveries_without_a_receipt_it_fails() {
    let router = Router::start().await;
    let target = agent_id();
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    let mut id = None;
    for attempt in 1..=3 {
        let mut agent = without_receipts(&router, &target).await;
        if id.is_none() {
            id = Some(socket.accepted(&target, json!({}), json!({})).await);
        }
        agent.recv().await;
        let event = router.wait_for_events(&format!("kind=invocation.delivered&agent_id={target}"), attempt).await;
        assert_eq!(event[attempt - 1]["detail"]["attempt"], attempt);
        agent.leave(&router).await;
    }
    let error = socket.recv().await;
    assert_eq!(error["error"]["error_message"], "Agent has been unregistered");
    assert_eq!(error["error"]["code"], "agent_lost");
    assert_eq!(router.wait_for_state(&id.unwrap(), "failed").await["error"]["code"], "agent_lost");
    Peer::registered(&router, &target).await.expect_nothing().await;
}

#[tokio::test]
async fn work_that_was_receipted_is_not_started_twice() {
    let router = Router::start().await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    socket.invoke(&target, json!({})).await;
    agent.recv().await;
    started(&router, &target, 1).await;
    drop(agent);
    assert_eq!(socket.recv().await, lost(&target));
    Peer::registered(&router, &target).await.expect_nothing().await;
}

#[tokio::test]
async fn with_attempts_left_it_is_started_again_and_no_more_often() {
    let router = Router::start().await;
    let target = agent_id();
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    for attempt in 1..=3 {
        let mut agent = Peer::registered(&router, &target).await;
        if attempt == 1 {
            socket.accepted(&target, json!({"n": 7}), json!({"max_attempts": 3})).await;
        }
        assert_eq!(number(&agent.recv().await), 7);
        started(&router, &target, attempt).await;
        agent.leave(&router).await;
    }
    assert_eq!(socket.recv().await["error"]["error_message"], "Agent has been unregistered");
    Peer::registered(&router, &target).await.expect_nothing().await;
}

#[tokio::test]
async fn an_answer_on_a_later_connection_finishes_one_that_is_queued_again() {
    let router = Router::with(&[("DRAIN_DELAY", "60s")]).await;
    let target = agent_id();
    let mut agent = without_receipts(&router, &target).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    let id = socket.accepted(&target, json!({}), json!({})).await;
    let delivery = agent.recv().await;
    agent.leave(&router).await;
    router.wait_for_state(&id, "queued").await;

    let mut agent = Peer::agent(&router, &target).await;
    agent.answer(&delivery, json!("kept")).await;
    assert_eq!(socket.recv().await["response"], "kept");
    agent.register(&router).await;
    agent.expect_nothing().await;
    assert_eq!(router.invocation(&id).await["attempt"], 1);
}

#[tokio::test]
async fn the_deadline_ends_work_wherever_it_stands() {
    let router = Router::start().await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    let running = socket.accepted(&target, json!({}), json!({"deadline_ms": 200})).await;
    let delivery = agent.recv().await;
    started(&router, &target, 1).await;
    let error = socket.recv().await;
    assert_eq!(error["error"]["error_message"], "Request timed out");
    assert_eq!(error["error"]["error_type"], "AgentGeneralError");
    assert_eq!(error["error"]["code"], "timed_out");
    assert_eq!(router.invocation(&running).await["state"], "timed_out");
    agent.answer(&delivery, json!("too late")).await;
    agent.expect_nothing().await;
    socket.expect_nothing().await;

    agent.leave(&router).await;
    let queued = socket.accepted(&target, json!({}), json!({"deadline_ms": 200})).await;
    assert_eq!(socket.recv().await["error"]["code"], "timed_out");
    assert_eq!(router.invocation(&queued).await["state"], "timed_out");
    Peer::registered(&router, &target).await.expect_nothing().await;
}

#[tokio::test]
async fn the_default_deadline_ends_what_a_stock_caller_asked() {
    let router = Router::with(&[("DEFAULT_DEADLINE", "200ms")]).await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    socket.invoke(&target, json!({})).await;
    agent.recv().await;
    assert_eq!(socket.recv().await, general_error("Request timed out"));
}

#[tokio::test]
async fn no_deadline_is_beyond_the_longest() {
    let router = Router::with(&[("MAX_DEADLINE", "1h"), ("DEFAULT_DEADLINE", "1m")]).await;
    let target = agent_id();
    Peer::registered(&router, &target).await.leave(&router).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    let options = json!({"deadline_ms": 999_999_999, "ttl_ms": 999_999_999});
    let id = socket.accepted(&target, json!({}), options).await;
    let invocation = router.invocation(&id).await;
    for limit in ["deadline_ms", "ttl_ms"] {
        assert!(invocation[limit].as_u64().unwrap() <= 3_600_000, "{invocation}");
    }
}

#[tokio::test]
async fn what_is_delivered_again_to_the_next_socket_comes_before_newer_work() {
    let router = Router::with(&[("MAX_IN_FLIGHT", "2"), ("DRAIN_DELAY", "10ms")]).await;
    let target = agent_id();
    let mut registered = without_receipts(&router, &target).await;
    let mut beside = Peer::agent(&router, &target).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    for n in 0..4 {
        socket.accepted(&target, json!({"n": n}), json!({})).await;
    }
    for n in 0..2 {
        assert_eq!(number(&registered.recv().await), n);
    }
    let receipt_of_first = registered.ping().await;
    registered.pong(&receipt_of_first).await;
    started(&router, &target, 1).await;
    registered.leave(&router).await;
    for n in 1..3 {
        assert_eq!(number(&beside.recv().await), n);
    }
}
