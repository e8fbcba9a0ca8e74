//! The backend's dismissal of an agent: an invocation that is none.

use serde_json::json;

use crate::support::{BACKEND_KEY, ML_KEY, Peer, Router, agent_id, answered, not_active};

fn payload() -> serde_json::Value {
    json!({"error_message": "You were removed", "error_type": "AgentNotActive", "more": 1})
}

#[tokio::test]
async fn a_dismissal_reaches_the_agent_as_an_error_and_is_answered_by_nothing() {
    let router = Router::start().await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    socket.invoke(&target, payload()).await;
    let expected = json!({"error": {
        "error_message": "You were removed", "error_type": "AgentNotActive", "more": 1, "message_type": "agent_error",
    }});
    assert_eq!(agent.recv().await, expected);
    router.wait_for_event(&format!("kind=agent.dismissed&agent_id={target}")).await;
    socket.expect_nothing().await;
    agent.expect_nothing().await;
    assert!(router.history(&format!("kind=invocation.accepted&agent_id={target}")).await.is_empty());
}

#[tokio::test]
async fn a_dismissal_of_an_agent_that_is_away_is_refused_and_never_queued() {
    let router = Router::start().await;
    let target = agent_id();
    Peer::registered(&router, &target).await.leave(&router).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    socket.invoke(&target, payload()).await;
    assert_eq!(socket.recv().await, not_active());
    let mut agent = Peer::registered(&router, &target).await;
    agent.expect_nothing().await;
}

#[tokio::test]
async fn from_anybody_else_it_is_an_invocation_like_any_other() {
    let router = Router::start().await;
    let (target, caller) = (agent_id(), agent_id());
    let mut agent = Peer::registered(&router, &target).await;
    let mut backend = Peer::master_be(&router).await;
    assert_eq!(backend.recv().await["request_payload"]["agent_uuid"], target);
    for mut peer in [
        backend,
        Peer::invoke_socket(&router, ML_KEY, &target).await,
        Peer::invoke_socket(&router, &caller, &target).await,
    ] {
        peer.invoke(&target, payload()).await;
        let delivery = agent.recv().await;
        assert_eq!(delivery["request_payload"], payload());
        agent.answer(&delivery, json!("still here")).await;
        assert_eq!(peer.recv().await, answered(json!("still here")));
    }
}
