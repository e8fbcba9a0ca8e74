//! No frame that is sent is larger than `MAX_FRAME_BYTES`, and nobody is cut off for another's large frame.

use serde_json::json;

use crate::support::{BACKEND_KEY, Peer, Router, agent_id, answered, general_error};

const LIMIT: usize = 64 * 1024;
const SETTING: (&str, &str) = ("MAX_FRAME_BYTES", "64KiB");

#[tokio::test]
async fn an_invocation_that_is_too_large_is_refused_and_the_connection_stays() {
    let router = Router::with(&[SETTING]).await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    for size in [LIMIT, LIMIT * 2, LIMIT * 3] {
        socket.invoke(&target, json!({"text": "x".repeat(size)})).await;
        assert_eq!(socket.recv().await, general_error("Frame is too large"));
    }
    socket.invoke_with(&target, json!({"text": "x".repeat(LIMIT)}), json!({"ttl_ms": 1})).await;
    assert_eq!(socket.recv().await["error"]["code"], "frame_too_large");
    agent.expect_nothing().await;
    socket.invoke(&target, json!({"text": "x".repeat(LIMIT - 1024)})).await;
    assert!(agent.recv_text().await.len() <= LIMIT);
}

#[tokio::test]
async fn beyond_four_times_the_limit_the_connection_is_closed() {
    let router = Router::with(&[SETTING]).await;
    let target = agent_id();
    let mut bystander = Peer::registered(&router, &target).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    socket.send_raw(&"x".repeat(LIMIT * 4 + 1)).await;
    socket.expect_close(1009).await;
    bystander.expect_nothing().await;
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_kept_and_its_caller_told() {
    let router = Router::with(&[SETTING]).await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    socket.invoke(&target, json!({})).await;
    let delivery = agent.recv().await;
    let large = "y".repeat(LIMIT * 2);
    agent.answer(&delivery, json!(large)).await;
    assert_eq!(socket.recv().await, general_error("Frame is too large"));
    let id = router.newest_invocation_of(&target).await;
    assert!(router.invocation(&id).await["result"].to_string().contains(&large));
    agent.expect_nothing().await;
}

#[tokio::test]
async fn a_log_line_that_is_too_large_is_cut_for_the_backend_and_whole_in_the_journal() {
    let router = Router::with(&[SETTING]).await;
    let mut backend = Peer::master_be(&router).await;
    let id = agent_id();
    let agent = Peer::agent(&router, &id).await;
    let large = "\"é\\\"".repeat(LIMIT / 4);
    agent
        .send(json!({"message_type": "agent_log", "log_message": large, "log_level": "info", "request_id": "r"}))
        .await;
    let text = backend.recv_text().await;
    assert!(text.len() <= LIMIT, "{} bytes", text.len());
    let notice: serde_json::Value = serde_json::from_str(&text).unwrap();
    let shown = notice["request_payload"]["log_message"].as_str().unwrap();
    assert!(shown.starts_with("\"é\\\"\"é") && !large.starts_with(shown), "it is cut, with a mark");
    assert_eq!(notice["request_payload"]["log_level"], "info");
    assert_eq!(notice["request_payload"]["agent_uuid"], id);

    let event = router.wait_for_event(&format!("kind=agent.logged&agent_id={id}")).await;
    let whole = serde_json::to_string(&large).unwrap();
    assert!(event["payload"].to_string().contains(&whole), "the journal has it whole");
    backend.expect_nothing().await;
}

#[tokio::test]
async fn a_registration_that_is_too_large_is_refused() {
    let router = Router::with(&[SETTING]).await;
    let mut backend = Peer::master_be(&router).await;
    let id = agent_id();
    let mut agent = Peer::agent(&router, &id).await;
    let payload = json!({"agent_name": "n".repeat(LIMIT)});
    agent.send(json!({"message_type": "agent_register", "request_payload": payload})).await;
    assert_eq!(agent.recv().await["error"]["error_message"], "Frame is too large");
    backend.expect_nothing().await;
    agent.expect_nothing().await;
}

#[tokio::test]
async fn a_message_in_fragments_is_one_message() {
    let router = Router::start().await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    let frame = json!({"message_type": "agent_invoke", "agent_uuid": target, "request_payload": {"n": 1}}).to_string();
    let (head, tail) = frame.split_at(frame.len() / 2);
    socket.send_fragments(&[head, "", tail]).await;
    let delivery = agent.recv().await;
    assert_eq!(delivery["request_payload"]["n"], 1);
    agent.answer(&delivery, json!("one")).await;
    assert_eq!(socket.recv().await, answered(json!("one")));
}

#[tokio::test]
async fn what_waited_and_fits_no_more_when_its_agent_returns_fails_and_nothing_else_does() {
    const WAITING: usize = 1000;
    let router = Router::with(&[("MAX_FRAME_BYTES", "16KiB")]).await;
    let target = agent_id();
    Peer::registered(&router, &target).await.leave(&router).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    let shell = json!({"request_payload": {"text": ""}}).to_string().len();
    // What an agent of version 1 is told besides fits behind it, what one of version 2 is told does not.
    let text = "x".repeat(16 * 1024 - 100 - shell);
    for _ in 0..WAITING {
        socket.invoke(&target, json!({"text": text})).await;
    }
    router.wait_for_events(&format!("kind=invocation.accepted&agent_id={target}"), WAITING).await;

    let (mut agent, _) = Peer::registered_v2(&router, &target, json!({})).await;
    for _ in 0..WAITING {
        assert_eq!(socket.recv().await, general_error("Frame is too large"));
    }
    let failed = router.history(&format!("kind=invocation.failed&agent_id={target}")).await;
    assert_eq!(failed.len(), WAITING);
    assert!(failed.iter().all(|event| event["detail"]["code"] == "frame_too_large"));
    socket.invoke(&target, json!({"text": "short"})).await;
    let delivery = agent.recv().await;
    agent.answer(&delivery, json!("alive")).await;
    assert_eq!(agent.recv().await["outcome"], "accepted");
    assert_eq!(socket.recv().await, answered(json!("alive")));
}

#[tokio::test]
async fn a_receipt_that_would_be_too_large_comes_without_the_metadata() {
    let router = Router::with(&[SETTING]).await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    let mut caller = Peer::agent(&router, &agent_id()).await;
    // What is added to an invocation is shorter than what is added to its receipt: the one fits, the other does not.
    let metadata = json!({"text": "m".repeat(LIMIT - 121)});
    caller.invoke_with(&target, json!({}), json!({"receipt": true, "request_metadata": metadata})).await;
    let receipt = caller.recv().await;
    assert_eq!(receipt["message_type"], "agent_receipt", "{receipt}");
    assert_eq!(receipt["request_metadata"], json!(null));
    let id = receipt["invocation_id"].clone();
    assert!(agent.recv_text().await.len() <= LIMIT);

    let large = json!({"text": "m".repeat(LIMIT * 2)});
    caller.send(json!({"message_type": "agent_cancel", "invocation_id": id, "request_metadata": large})).await;
    let (receipt, error) = caller.recv_two("agent_receipt").await;
    assert_eq!((&receipt["invocation_id"], &receipt["state"]), (&id, &json!("cancelled")));
    assert_eq!(receipt["request_metadata"], json!(null));
    assert_eq!(error["error"]["code"], "cancelled");
}
