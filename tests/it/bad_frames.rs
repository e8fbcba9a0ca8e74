//! One clear error for one bad frame, for its sender alone, and the connection stays open.

use serde_json::{Value, json};

use crate::support::{BACKEND_KEY, ML, ML_KEY, Peer, Router, agent_id, answered, lost, not_active};

fn unexpected(frame: &str) -> Value {
    let message = format!("Unexpected exception: {frame}");
    json!({"error": {"error_message": message, "error_type": "AgentGeneralError"}})
}

/// An agent, and a caller with a call to it under way; whatever the others do wrong must not touch it.
struct Bystanders {
    agent: Peer,
    caller: Peer,
    delivery: Value,
}

impl Bystanders {
    async fn new(router: &Router) -> Self {
        let id = agent_id();
        let mut agent = Peer::registered(router, &id).await;
        let caller = Peer::invoke_socket(router, BACKEND_KEY, &id).await;
        caller.invoke(&id, json!({})).await;
        let delivery = agent.recv().await;
        Self { agent, caller, delivery }
    }

    async fn are_untouched(mut self) {
        self.agent.expect_nothing().await;
        self.caller.expect_nothing().await;
        self.agent.answer(&self.delivery, json!("fine")).await;
        assert_eq!(self.caller.recv().await, answered(json!("fine")));
    }
}

#[tokio::test]
async fn what_is_not_json_is_called_so() {
    let router = Router::start().await;
    let bystanders = Bystanders::new(&router).await;
    let mut peer = Peer::agent(&router, &agent_id()).await;
    for text in ["", "{", "agent_invoke", "{'a': 1}", "{\"a\": 1,}", "{\"a\": 01}", "\u{1}", "{\"a\": \"\u{1}\"}"] {
        peer.send_raw(text).await;
        let error =
            json!({"error": {"error_message": "Invalid JSON format", "error_type": "InvalidJSONRequestFormat"}});
        assert_eq!(peer.recv().await, error, "{text:?}");
    }
    peer.expect_nothing().await;
    router.wait_for_event("kind=frame.refused").await;
    bystanders.are_untouched().await;
}

#[tokio::test]
async fn an_invocation_of_nobody_with_nothing_lacks_both() {
    let router = Router::start().await;
    let mut peer = Peer::invoke_socket(&router, BACKEND_KEY, &agent_id()).await;
    let error = json!({"error": {
        "error_message": "Missing request payload or agent UUID", "error_type": "NoRequestPayload",
    }});
    peer.send(json!({"message_type": "agent_invoke"})).await;
    assert_eq!(peer.recv().await, error);
    peer.send(json!({"message_type": "agent_invoke", "agent_uuid": "", "request_payload": {}})).await;
    assert_eq!(peer.recv().await, error);
    peer.expect_nothing().await;
}

#[tokio::test]
async fn what_cannot_be_understood_is_shown_to_its_sender() {
    let router = Router::start().await;
    let bystanders = Bystanders::new(&router).await;
    let target = &bystanders.delivery["invoked_by"].as_str().unwrap().rsplit(':').next().unwrap().to_owned();
    let mut agent = Peer::agent(&router, &agent_id()).await;
    let mut caller = Peer::invoke_socket(&router, ML_KEY, target).await;
    let frames = [
        "[]".to_owned(),
        "\"agent_register\"".to_owned(),
        "17".to_owned(),
        "null".to_owned(),
        "NaN".to_owned(),
        "{}".to_owned(),
        r#"{"message_type": "agent_dance"}"#.to_owned(),
        r#"{"message_type": null, "agent_uuid": "x"}"#.to_owned(),
        r#"{"message_type": ["agent_invoke"], "request_payload": {}}"#.to_owned(),
        r#"{"message_type": "ml_invoke", "request_payload": {"a": 1}}"#.to_owned(),
        r#"{"message_type": "agent_unregister"}"#.to_owned(),
        r#"{"message_type": "agent_register"}"#.to_owned(),
        r#"{"message_type": "agent_register", "request_payload": "x"}"#.to_owned(),
        format!(r#"{{"message_type": "agent_invoke", "agent_uuid": "{target}", "request_payload": "x"}}"#),
        format!(
            r#"{{"message_type": "agent_invoke", "agent_uuid": "{target}", "request_payload": {{}}, "request_metadata": [1]}}"#
        ),
    ];
    for frame in &frames {
        for peer in [&mut agent, &mut caller] {
            peer.send_raw(frame).await;
            assert_eq!(peer.recv().await, unexpected(frame));
        }
    }
    agent.expect_nothing().await;
    caller.expect_nothing().await;
    bystanders.are_untouched().await;
}

#[tokio::test]
async fn the_frame_that_is_shown_is_cut_at_4_kib() {
    let router = Router::start().await;
    let mut peer = Peer::agent(&router, &agent_id()).await;
    let frame = format!(r#"{{"message_type": "{}"}}"#, "x".repeat(10_000));
    peer.send_raw(&frame).await;
    let error = peer.recv().await;
    assert_eq!(error["error"]["error_type"], "AgentGeneralError");
    let message = error["error"]["error_message"].as_str().unwrap();
    let shown = message.strip_prefix("Unexpected exception: ").unwrap();
    assert!(shown.starts_with(&frame[..4000]) && shown.len() <= 4200, "{} bytes are shown", shown.len());
}

#[tokio::test]
async fn a_binary_frame_is_not_understood() {
    let router = Router::start().await;
    let mut peer = Peer::agent(&router, &agent_id()).await;
    for bytes in [br#"{"message_type": "agent_register", "request_payload": {}}"#.as_slice(), &[0, 159, 146, 150]] {
        peer.send_binary(bytes).await;
        let error = peer.recv().await;
        assert_eq!(error["error"]["error_type"], "AgentGeneralError", "{error}");
        assert!(error["error"]["error_message"].as_str().unwrap().starts_with("Unexpected exception: "), "{error}");
        assert!(error.get("message_type").is_none());
    }
    peer.expect_nothing().await;
}

#[tokio::test]
async fn deep_nesting_is_no_way_to_end_the_router_or_an_agent() {
    let router = Router::start().await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    let mut peer = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    peer.send_raw(&"[".repeat(200_000)).await;
    assert!(peer.recv().await["error"]["error_message"].is_string());
    let nested = |depth| {
        let deep = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        format!(
            r#"{{"message_type": "agent_invoke", "agent_uuid": "{target}", "request_payload": {{"deep": {deep}}}}}"#
        )
    };
    peer.send_raw(&nested(100_000)).await;
    assert!(peer.recv().await["error"]["error_message"].is_string());
    agent.expect_nothing().await;
    peer.send_raw(&nested(100)).await;
    assert!(agent.recv_text().await.contains(&"[".repeat(100)));
}

#[tokio::test]
async fn an_agents_id_must_be_a_string_and_in_secured_mode_an_id() {
    let invalid = json!({
        "message_type": "agent_error",
        "error": {"error_message": "Invalid agent UUID", "error_type": "AgentUUIDError"},
    });
    let router = Router::start().await;
    let mut peer = Peer::invoke_socket(&router, BACKEND_KEY, &agent_id()).await;
    for id in [json!(7), json!(["a"]), json!({}), json!(true)] {
        peer.send(json!({"message_type": "agent_invoke", "agent_uuid": id, "request_payload": {"a": 1}})).await;
        assert_eq!(peer.recv().await, invalid, "{id}");
    }
    peer.invoke("weather", json!({})).await;
    assert_eq!(peer.recv().await, not_active());

    let router = Router::secured(&[]).await;
    let mut peer = Peer::invoke_socket(&router, BACKEND_KEY, &agent_id()).await;
    for id in ["weather", "not-a-uuid-at-all", "123"] {
        peer.invoke(id, json!({"a": 1})).await;
        assert_eq!(peer.recv().await, invalid, "{id}");
    }
    peer.invoke(&agent_id(), json!({})).await;
    assert_eq!(peer.recv().await, not_active());
    peer.invoke(ML, json!({})).await;
    assert_eq!(peer.recv().await, not_active());
    peer.expect_nothing().await;
}

#[tokio::test]
async fn an_unknown_agent_is_not_active_and_the_refusal_is_journaled() {
    let router = Router::start().await;
    let target = agent_id();
    let mut peer = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    peer.invoke(&target, json!({})).await;
    assert_eq!(peer.recv().await, not_active());
    let event = router.wait_for_event(&format!("kind=invocation.refused&agent_id={target}")).await;
    assert_eq!(event["detail"]["code"], "agent_unknown");
    peer.expect_nothing().await;
}

#[tokio::test]
async fn every_caller_is_told_when_its_agent_is_lost_at_work() {
    let router = Router::start().await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    let mut callers = [
        Peer::invoke_socket(&router, BACKEND_KEY, &target).await,
        Peer::invoke_socket(&router, &agent_id(), &target).await,
        Peer::agent(&router, &agent_id()).await,
    ];
    for caller in &callers {
        caller.invoke(&target, json!({})).await;
        agent.recv().await;
    }
    router.wait_for_events(&format!("kind=invocation.started&agent_id={target}"), 3).await;
    drop(agent);
    for caller in &mut callers {
        assert_eq!(caller.recv().await, lost(&target));
        caller.expect_nothing().await;
    }
}

#[tokio::test]
async fn a_peer_that_leaves_or_breaks_the_rules_of_websockets_ends_nobody_elses_connection() {
    let router = Router::start().await;
    let bystanders = Bystanders::new(&router).await;
    let (caller, target) = (agent_id(), agent_id());
    let mut agent = Peer::registered(&router, &target).await;
    let socket = Peer::invoke_socket(&router, &caller, &target).await;
    socket.invoke(&target, json!({})).await;
    let delivery = agent.recv().await;
    drop(socket);
    agent.answer(&delivery, json!("to nobody")).await;
    router.wait_for_event(&format!("kind=invocation.completed&agent_id={target}")).await;
    agent.expect_nothing().await;

    let mut rude = Peer::agent(&router, &agent_id()).await;
    let unmasked = [0x81, 0x02, b'{', b'}'];
    rude.send_bytes(&unmasked).await;
    rude.ended().await;
    let mut rude = Peer::agent(&router, &agent_id()).await;
    rude.send_bytes(&[0xff; 64]).await;
    rude.ended().await;
    bystanders.are_untouched().await;
}

#[tokio::test]
async fn a_flood_of_bad_frames_is_answered_in_full_and_journaled_in_part() {
    let router = Router::with(&[("REFUSALS_PER_SECOND", "10")]).await;
    let mut peer = Peer::agent(&router, &agent_id()).await;
    for _ in 0..500 {
        peer.send_raw("nonsense").await;
    }
    for error in peer.recv_many(500).await {
        assert_eq!(error["error"]["error_type"], "InvalidJSONRequestFormat");
    }
    let journaled = router.wait_for_events("kind=frame.refused", 1).await.len();
    assert!(journaled <= 250, "{journaled} events for 500 bad frames");
}
