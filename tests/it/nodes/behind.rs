//! What a router does not know yet that another has committed: nobody is refused, or left waiting, because of it.

use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use super::two;
use crate::support::{BACKEND_KEY, OPERATOR_KEY, Peer, SECRET, agent_id, answered};

/// How often what has just happened at one router is asked about at the other.
const ROUNDS: usize = 4;

/// After so long, a router that nobody wakes looks once a second for what others have committed, and not at each turn.
const QUIET: Duration = Duration::from_millis(700);

#[tokio::test]
async fn an_agent_that_has_just_connected_calls_by_any_router() {
    let (one, other) = two(&[("SECRET_KEY", SECRET)]).await;
    let target = agent_id();
    let mut agent = Peer::registered(&other, &target).await;
    for n in 0..ROUNDS {
        sleep(QUIET).await;
        let caller = agent_id();
        let own = Peer::agent(&other, &caller).await;
        let mut call = Peer::invoke_socket(&one, &caller, &target).await;
        call.invoke(&target, json!({"n": n})).await;
        let delivery = agent.recv().await;
        agent.answer(&delivery, json!(n)).await;
        assert_eq!(call.recv().await, answered(json!(n)));
        drop(own);
    }
}

#[tokio::test]
async fn whoever_asks_again_at_once_at_another_router_is_answered_there_too() {
    let (one, other) = two(&[]).await;
    let target = agent_id();
    let mut agent = Peer::registered(&other, &target).await;
    for n in 0..ROUNDS {
        let caller = agent_id();
        let mut first = Peer::registered(&other, &caller).await;
        let mut again = Peer::invoke_socket(&one, &caller, &target).await;
        sleep(QUIET).await;
        let options = json!({"idempotency_key": format!("{n}")});
        let id = first.accepted(&target, json!({"n": n}), options.clone()).await;
        again.invoke_with(&target, json!({"n": n}), options).await;
        let delivery = agent.recv().await;
        // Everything that was asked by then is dealt with.
        one.wait_for_event(&format!("kind=invocation.accepted&invocation_id={id}")).await;
        sleep(Duration::from_millis(100)).await;
        agent.answer(&delivery, json!(n)).await;
        assert_eq!(first.recv().await["response"], n);
        assert_eq!(again.recv().await["response"], n);
    }
}

#[tokio::test]
async fn operators_are_not_told_what_is_no_longer_so() {
    let (one, other) = two(&[]).await;
    for _ in 0..ROUNDS {
        sleep(QUIET).await;
        let target = agent_id();
        let mut agent = Peer::registered(&other, &target).await;
        let body = json!({"agent_id": target, "payload": {}});
        let made = other.post_as(BACKEND_KEY, "/v1/invocations", body).await.expect(202);
        let id = made["id"].as_str().unwrap();
        let delivery = agent.recv().await;
        agent.answer(&delivery, json!("soon gone")).await;
        other.wait_for_state(id, "completed").await;
        let path = format!("/v1/invocations/{id}/erase");
        one.post_as(OPERATOR_KEY, &path, json!({"reason": "a request"})).await.expect(200);
        let path = format!("/v1/agents/{target}/disconnect");
        assert_eq!(one.post_as(OPERATOR_KEY, &path, json!({})).await.expect(200), json!({"disconnected": 1}));
        agent.expect_close(1008).await;
    }
}
