//! What the backend is told about agents: registrations, ends, log lines.

use serde_json::{Value, json};

use crate::support::{BACKEND, BACKEND_KEY, ML, Peer, Router, agent_id, answered, registration};

fn unregistered(identity: &str) -> Value {
    json!({"request_payload": {"agent_uuid": identity, "message_type": "agent_unregister"}})
}

#[tokio::test]
async fn a_registration_and_its_end_are_announced_to_the_backend() {
    let router = Router::start().await;
    let mut backend = Peer::master_be(&router).await;
    let id = agent_id();
    let agent = Peer::agent(&router, &id).await;
    let mut payload = registration(&id);
    payload["version"] = json!("3.1");
    agent.send(json!({"message_type": "agent_register", "request_payload": payload})).await;

    payload["agent_uuid"] = json!(id);
    payload["agent_jwt"] = json!(id);
    payload["message_type"] = json!("agent_register");
    assert_eq!(backend.recv().await, json!({"request_payload": payload}));
    agent.close().await;
    assert_eq!(backend.recv().await, unregistered(&id));
}

#[tokio::test]
async fn what_an_agent_says_of_itself_does_not_replace_its_identity() {
    let router = Router::start().await;
    let mut backend = Peer::master_be(&router).await;
    let id = agent_id();
    let agent = Peer::agent(&router, &id).await;
    let mut payload = registration(&id);
    payload["agent_uuid"] = json!(ML);
    payload["agent_jwt"] = json!("another's");
    payload["message_type"] = json!("agent_unregister");
    agent.send(json!({"message_type": "agent_register", "agent_uuid": BACKEND, "request_payload": payload})).await;
    let told = backend.recv().await;
    assert_eq!(told["request_payload"]["agent_uuid"], id);
    assert_eq!(told["request_payload"]["agent_jwt"], id);
    assert_eq!(told["request_payload"]["message_type"], "agent_register");
}

#[tokio::test]
async fn a_connection_that_breaks_is_announced_like_one_that_closes() {
    let router = Router::start().await;
    let mut backend = Peer::master_be(&router).await;
    let id = agent_id();
    drop(Peer::registered(&router, &id).await);
    assert_eq!(backend.recv().await["request_payload"]["message_type"], "agent_register");
    assert_eq!(backend.recv().await, unregistered(&id));
}

#[tokio::test]
async fn the_end_of_a_caller_that_never_registered_is_announced() {
    let router = Router::start().await;
    let mut backend = Peer::master_be(&router).await;
    let id = agent_id();
    Peer::agent(&router, &id).await.close().await;
    assert_eq!(backend.recv().await, unregistered(&id));
}

#[tokio::test]
async fn a_masters_registration_is_announced_to_nobody_and_the_master_agents_end_is() {
    let router = Router::start().await;
    let mut backend = Peer::master_be(&router).await;
    let mut ml = Peer::master_ml(&router).await;
    for (master, name) in [(&mut backend, BACKEND), (&mut ml, ML)] {
        master.send(json!({"message_type": "agent_register", "request_payload": registration(name)})).await;
        master.expect_nothing().await;
    }
    let id = agent_id();
    let _agent = Peer::registered(&router, &id).await;
    assert_eq!(backend.recv().await["request_payload"]["agent_uuid"], id);
    ml.close().await;
    assert_eq!(backend.recv().await, unregistered(ML));
}

#[tokio::test]
async fn the_end_of_an_invoke_socket_is_announced_to_nobody() {
    let router = Router::start().await;
    let mut backend = Peer::master_be(&router).await;
    let id = agent_id();
    let mut agent = Peer::registered(&router, &id).await;
    assert_eq!(backend.recv().await["request_payload"]["message_type"], "agent_register");
    for caller in [BACKEND_KEY, &agent_id()] {
        let mut socket = Peer::invoke_socket(&router, caller, &id).await;
        socket.invoke(&id, json!({})).await;
        let delivery = agent.recv().await;
        agent.answer(&delivery, json!(1)).await;
        assert_eq!(socket.recv().await, answered(json!(1)));
        socket.close().await;
    }
    agent.close().await;
    assert_eq!(backend.recv().await, unregistered(&id));
    backend.expect_nothing().await;
}

#[tokio::test]
async fn the_backend_is_not_told_of_its_own_end() {
    let router = Router::start().await;
    Peer::master_be(&router).await.close().await;
    router.wait_for_event(&format!("kind=agent.disconnected&agent_id={BACKEND}")).await;
    Peer::master_be(&router).await.expect_nothing().await;
}

#[tokio::test]
async fn a_log_line_reaches_the_backend_without_invoked_by_and_under_its_senders_name() {
    let router = Router::start().await;
    let mut backend = Peer::master_be(&router).await;
    let id = agent_id();
    let agent = Peer::agent(&router, &id).await;
    agent
        .send(json!({
            "message_type": "agent_log",
            "log_message": {"half": 0.5},
            "log_level": "info",
            "request_id": "r-1",
            "session_id": "s-1",
            "agent_uuid": ML,
            "invoked_by": "x:y",
            "extra": [1, 2],
        }))
        .await;
    let line = json!({"request_payload": {
        "message_type": "agent_log",
        "agent_uuid": id,
        "log_message": {"half": 0.5},
        "log_level": "info",
        "request_id": "r-1",
        "session_id": "s-1",
        "extra": [1, 2],
    }});
    assert_eq!(backend.recv().await, line);
    router.wait_for_event(&format!("kind=agent.logged&agent_id={id}")).await;
}

#[tokio::test]
async fn log_lines_arrive_in_order() {
    let router = Router::start().await;
    let mut backend = Peer::master_be(&router).await;
    let agent = Peer::agent(&router, &agent_id()).await;
    for number in 0..100 {
        agent.send(json!({"message_type": "agent_log", "log_message": number, "log_level": "debug"})).await;
    }
    for number in 0..100 {
        assert_eq!(backend.recv().await["request_payload"]["log_message"], number);
    }
}

#[tokio::test]
async fn the_backends_answers_to_notifications_are_swallowed() {
    let router = Router::start().await;
    let mut backend = Peer::master_be(&router).await;
    let id = agent_id();
    let mut agent = Peer::registered(&router, &id).await;
    let notice = backend.recv().await;
    assert!(notice.get("invoked_by").is_none());
    backend
        .send(json!({"message_type": "agent_response", "response": null, "execution_time": 0, "invoked_by": ""}))
        .await;
    backend
        .send(json!({"message_type": "agent_error", "error": {"error_message": "no"}, "execution_time": 0, "invoked_by": ""}))
        .await;
    backend.expect_nothing().await;
    agent.expect_nothing().await;
}

#[tokio::test]
async fn the_backends_own_log_lines_are_kept_and_not_fed_back() {
    let router = Router::start().await;
    let mut backend = Peer::master_be(&router).await;
    backend.send(json!({"message_type": "agent_log", "log_message": "mine", "log_level": "info"})).await;
    router.wait_for_event(&format!("kind=agent.logged&agent_id={BACKEND}")).await;
    backend.expect_nothing().await;
}

#[tokio::test]
async fn the_master_agents_log_lines_reach_the_backend() {
    let router = Router::start().await;
    let mut backend = Peer::master_be(&router).await;
    let ml = Peer::master_ml(&router).await;
    ml.send(json!({"message_type": "agent_log", "log_message": "thinking", "log_level": "info"})).await;
    let line = backend.recv().await;
    assert_eq!(line["request_payload"]["agent_uuid"], ML);
    assert_eq!(line["request_payload"]["log_message"], "thinking");
}
