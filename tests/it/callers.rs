//! What a caller can ask for in addition, and what it is told then.

use serde_json::json;

use crate::support::{BACKEND, BACKEND_KEY, ML, ML_KEY, Peer, Router, agent_id, answered, general_error, not_active};

async fn away(router: &Router) -> String {
    let id = agent_id();
    Peer::registered(router, &id).await.leave(router).await;
    id
}

#[tokio::test]
async fn the_options_are_taken_out_before_the_frame_is_passed_on() {
    let router = Router::start().await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    let options = json!({
        "ttl_ms": 1000, "deadline_ms": 60_000, "max_attempts": 2, "receipt": true, "idempotency_key": "k",
        "request_metadata": {"request_id": "r"}, "further": true,
    });
    socket.invoke_with(&target, json!({"ttl_ms": 5}), options).await;
    let receipt = socket.recv().await;
    let expected = json!({
        "request_payload": {"ttl_ms": 5},
        "request_metadata": {"request_id": "r"},
        "further": true,
        "invoked_by": format!("{BACKEND}:{target}"),
    });
    assert_eq!(agent.recv().await, expected);
    let invocation = router.invocation(receipt["invocation_id"].as_str().unwrap()).await;
    assert_eq!(invocation["max_attempts"], 2);
    assert_eq!(invocation["ttl_ms"], 1000);
    assert_eq!(invocation["deadline_ms"], 60_000);
    assert_eq!(invocation["idempotency_key"], "k");
}

#[tokio::test]
async fn a_receipt_comes_once_the_invocation_is_durable() {
    let mut router = Router::start().await;
    let target = away(&router).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    let metadata = json!({"request_id": "r", "session_id": "s", "more": [1]});
    socket.invoke_with(&target, json!({}), json!({"receipt": true, "request_metadata": metadata})).await;
    let mut receipt = socket.recv().await;
    router.kill_and_start_again().await;
    let id = receipt["invocation_id"].take();
    let expected = json!({
        "message_type": "agent_receipt", "invocation_id": null, "state": "queued", "request_metadata": metadata,
    });
    assert_eq!(receipt, expected);
    assert_eq!(router.invocation(id.as_str().unwrap()).await["state"], "queued");
}

#[tokio::test]
async fn whoever_uses_an_option_gets_the_invocations_id_with_the_answer() {
    let router = Router::start().await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    for options in [
        json!({"ttl_ms": 1000}),
        json!({"deadline_ms": 10_000}),
        json!({"max_attempts": 1}),
        json!({"idempotency_key": "key"}),
    ] {
        socket.invoke_with(&target, json!({}), options).await;
        let delivery = agent.recv().await;
        agent.answer(&delivery, json!("yes")).await;
        let mut answer = socket.recv().await;
        let id = answer.as_object_mut().unwrap().remove("invocation_id").unwrap();
        assert_eq!(answer, answered(json!("yes")));
        assert_eq!(router.invocation(id.as_str().unwrap()).await["state"], "completed");
    }
}

#[tokio::test]
async fn errors_say_their_finer_cause_to_those_who_see_additions() {
    let router = Router::start().await;
    let target = agent_id();
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    let options = json!({"deadline_ms": 10_000});
    socket.invoke_with(&target, json!({}), options.clone()).await;
    let unknown = json!({
        "message_type": "agent_error",
        "error": {"error_message": "Agent is NOT active", "error_type": "AgentNotActive", "code": "agent_unknown"},
    });
    assert_eq!(socket.recv().await, unknown);

    let mut other = Peer::invoke_socket(&router, &agent_id(), ML).await;
    other.invoke_with(ML, json!({}), options).await;
    assert_eq!(other.recv().await["error"]["code"], "not_allowed");

    let mut agent = Peer::registered(&router, &target).await;
    let id = socket.accepted(&target, json!({}), json!({})).await;
    agent.recv().await;
    router.wait_for_event(&format!("kind=invocation.started&invocation_id={id}")).await;
    drop(agent);
    let lost = json!({
        "message_type": "agent_error",
        "invocation_id": id,
        "error": {"error_message": "Agent has been unregistered", "agent_uuid": target, "code": "agent_lost"},
    });
    assert_eq!(socket.recv().await, lost);
}

#[tokio::test]
async fn mistyped_options_are_refused_and_nothing_is_passed_on() {
    let router = Router::start().await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    for options in [
        json!({"ttl_ms": "1000"}),
        json!({"ttl_ms": -1}),
        json!({"deadline_ms": 1.5}),
        json!({"deadline_ms": true}),
        json!({"max_attempts": 0}),
        json!({"receipt": "yes"}),
        json!({"idempotency_key": ""}),
        json!({"idempotency_key": "k".repeat(256)}),
        json!({"idempotency_key": 7}),
    ] {
        socket.invoke_with(&target, json!({}), options.clone()).await;
        let error = socket.recv().await;
        assert_eq!(error["error"]["error_type"], "AgentGeneralError", "{options}: {error}");
    }
    agent.expect_nothing().await;
    socket.accepted(&target, json!({}), json!({"idempotency_key": "ä".repeat(255)})).await;
}

#[tokio::test]
async fn the_same_key_and_payload_is_the_same_invocation() {
    let router = Router::start().await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    let key = json!({"idempotency_key": "once"});
    let mut first = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    let mut second = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    let id = first.accepted(&target, json!({"n": 1}), key.clone()).await;
    assert_eq!(second.accepted(&target, json!({"n": 1}), key.clone()).await, id);
    let delivery = agent.recv().await;
    agent.expect_nothing().await;
    agent.answer(&delivery, json!("once")).await;
    for socket in [&mut first, &mut second] {
        let answer = socket.recv().await;
        assert_eq!((&answer["response"], &answer["invocation_id"]), (&json!("once"), &json!(id)));
    }

    let mut third = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    third.invoke_with(&target, json!({"n": 1}), key).await;
    let answer = third.recv().await;
    assert_eq!((&answer["response"], &answer["invocation_id"]), (&json!("once"), &json!(id)));
    agent.expect_nothing().await;
    first.expect_nothing().await;
}

#[tokio::test]
async fn a_key_outlives_its_socket_and_the_router() {
    let mut router = Router::with(&[("RESUME_GRACE", "1h")]).await;
    let target = agent_id();
    let key = json!({"idempotency_key": "once"});
    let mut agent = Peer::registered(&router, &target).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    let id = socket.accepted(&target, json!({}), key.clone()).await;
    let delivery = agent.recv().await;
    agent.answer(&delivery, json!("kept")).await;
    socket.recv().await;
    router.kill_and_start_again().await;

    let mut agent = Peer::registered(&router, &target).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    socket.invoke_with(&target, json!({}), key).await;
    let answer = socket.recv().await;
    assert_eq!((&answer["response"], &answer["invocation_id"]), (&json!("kept"), &json!(id)));
    agent.expect_nothing().await;
}

#[tokio::test]
async fn the_same_key_with_another_payload_is_refused() {
    let router = Router::start().await;
    let target = away(&router).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    let key = json!({"idempotency_key": "k"});
    socket.accepted(&target, json!({"n": 1}), key.clone()).await;
    socket.invoke_with(&target, json!({"n": 2}), key).await;
    let error = socket.recv().await;
    assert_eq!(error["message_type"], "agent_error");
    assert_eq!(error["error"]["error_message"], "Idempotency key was used for another request");
    assert_eq!(error["error"]["error_type"], "AgentGeneralError");
    assert_eq!(error["error"]["code"], "idempotency_key_reused");
}

#[tokio::test]
async fn a_key_is_unique_per_caller_and_target() {
    let router = Router::start().await;
    let (one, two) = (away(&router).await, away(&router).await);
    let key = json!({"idempotency_key": "k"});
    let mut ids = Vec::new();
    for (caller, target) in [(BACKEND_KEY, &one), (ML_KEY, &one), (BACKEND_KEY, &two)] {
        let mut socket = Peer::invoke_socket(&router, caller, target).await;
        ids.push(socket.accepted(target, json!({"n": ids.len()}), key.clone()).await);
    }
    assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2], "{ids:?}");
    let mut own_socket = Peer::master_ml(&router).await;
    assert_eq!(own_socket.accepted(&one, json!({"n": 1}), key).await, ids[1], "the master behind the invoke key");
}

#[tokio::test]
async fn a_refused_invocation_does_not_take_the_key() {
    let router = Router::start().await;
    let target = agent_id();
    let key = json!({"idempotency_key": "k"});
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    socket.invoke_with(&target, json!({"n": 1}), key.clone()).await;
    assert_eq!(socket.recv().await["error"]["code"], "agent_unknown");
    let mut agent = Peer::registered(&router, &target).await;
    socket.accepted(&target, json!({"n": 2}), key).await;
    assert_eq!(agent.recv().await["request_payload"]["n"], 2);
}

#[tokio::test]
async fn a_queued_invocation_that_is_cancelled_never_runs() {
    let router = Router::start().await;
    let target = away(&router).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    let id = socket.accepted(&target, json!({"n": 1}), json!({})).await;
    socket.accepted(&target, json!({"n": 2}), json!({})).await;
    socket.send(json!({"message_type": "agent_cancel", "invocation_id": id})).await;
    let (receipt, error) = socket.recv_two("agent_receipt").await;
    assert_eq!((&receipt["invocation_id"], &receipt["state"]), (&json!(id), &json!("cancelled")));
    assert_eq!((&error["error"]["error_message"], &error["error"]["code"]), (&json!("Cancelled"), &json!("cancelled")));
    let mut agent = Peer::registered(&router, &target).await;
    assert_eq!(agent.recv().await["request_payload"]["n"], 2);
    agent.expect_nothing().await;
    assert!(!router.life_of(&id).await.contains(&"invocation.delivered".to_owned()));
}

#[tokio::test]
async fn a_running_invocation_ends_as_cancelled_from_whichever_socket_of_its_caller() {
    let router = Router::start().await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    let mut socket = Peer::invoke_socket(&router, ML_KEY, &target).await;
    socket.invoke(&target, json!({})).await;
    let delivery = agent.recv().await;
    let id = router.newest_invocation_of(&target).await;
    let mut ml = Peer::master_ml(&router).await;
    ml.send(json!({"message_type": "agent_cancel", "invocation_id": id})).await;
    let receipt = ml.recv().await;
    assert_eq!(receipt["message_type"], "agent_receipt");
    assert_eq!((&receipt["invocation_id"], &receipt["state"]), (&json!(id), &json!("cancelled")));
    assert_eq!(socket.recv().await, general_error("Cancelled"));
    agent.answer(&delivery, json!("too late")).await;
    router.wait_for_event(&format!("kind=answer.late&invocation_id={id}")).await;
    socket.expect_nothing().await;
}

#[tokio::test]
async fn what_has_ended_is_not_cancelled_any_more() {
    let router = Router::start().await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    let id = socket.accepted(&target, json!({}), json!({})).await;
    let delivery = agent.recv().await;
    agent.answer(&delivery, json!("done")).await;
    socket.recv().await;
    socket.send(json!({"message_type": "agent_cancel", "invocation_id": id})).await;
    assert_eq!(socket.recv().await["state"], "completed");
}

#[tokio::test]
async fn nobody_cancels_for_another() {
    let router = Router::start().await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    let id = socket.accepted(&target, json!({}), json!({})).await;
    let delivery = agent.recv().await;
    for mut other in [Peer::master_ml(&router).await, Peer::agent(&router, &agent_id()).await] {
        other.send(json!({"message_type": "agent_cancel", "invocation_id": id})).await;
        assert_eq!(other.recv().await["error"]["error_type"], not_active()["error"]["error_type"]);
    }
    agent.answer(&delivery, json!("undisturbed")).await;
    assert_eq!(socket.recv().await["response"], "undisturbed");
}
