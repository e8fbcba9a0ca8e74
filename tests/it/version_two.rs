//! Agents that register with version 2: they are told more, say more, and keep work over a lost connection.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{BACKEND, BACKEND_KEY, Peer, Router, agent_id, lost};

fn number(delivery: &Value) -> &Value {
    &delivery["request_payload"]["n"]
}

async fn started(router: &Router, invocation: &str) {
    router.wait_for_event(&format!("kind=invocation.started&invocation_id={invocation}")).await;
}

/// An agent of version 2 whose connection was lost at work, its caller and the invocation's id.
async fn interrupted(router: &Router, options: Value) -> (String, Peer, Value) {
    let target = agent_id();
    let (mut agent, _) = Peer::registered_v2(router, &target, json!({})).await;
    let mut socket = Peer::invoke_socket(router, BACKEND_KEY, &target).await;
    let id = socket.accepted(&target, json!({"n": 1}), options).await;
    let delivery = agent.recv().await;
    started(router, &id).await;
    agent.leave(router).await;
    router.wait_for_state(&id, "interrupted").await;
    (target, socket, delivery)
}

#[tokio::test]
async fn registration_is_answered() {
    let router = Router::with(&[("PING_INTERVAL", "7s")]).await;
    let mut backend = Peer::master_be(&router).await;
    let target = agent_id();
    let (_agent, answer) = Peer::registered_v2(&router, &target, json!({})).await;
    assert!(Uuid::parse_str(answer["session_id"].as_str().unwrap()).is_ok(), "{answer}");
    assert_eq!(answer["adopted"], json!([]));
    assert_eq!(answer["ping_interval_ms"], 7000);
    let told = backend.recv().await;
    assert_eq!(told["request_payload"]["agent_uuid"], target);
    assert!(told.get("protocol_version").is_none());
}

#[tokio::test]
async fn a_delivery_says_what_it_is() {
    let router = Router::start().await;
    let target = agent_id();
    let (mut agent, _) = Peer::registered_v2(&router, &target, json!({})).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    let id = socket.accepted(&target, json!({"n": 1}), json!({"deadline_ms": 60_000})).await;
    let mut delivery = agent.recv().await;
    let left = delivery["deadline_ms"].take().as_u64().unwrap();
    assert!((1..=60_000).contains(&left), "{left} ms are left");
    let expected = json!({
        "message_type": "agent_invoke",
        "invocation_id": id,
        "attempt": 1,
        "deadline_ms": null,
        "request_payload": {"n": 1},
        "invoked_by": format!("{BACKEND}:{target}"),
    });
    assert_eq!(delivery, expected);
}

#[tokio::test]
async fn what_may_have_been_seen_before_says_so() {
    let router = Router::start().await;
    let target = agent_id();
    let (mut agent, _) = Peer::registered_v2(&router, &target, json!({})).await;
    agent.answer_pings(false);
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    socket.accepted(&target, json!({"n": 1}), json!({})).await;
    let first = agent.recv().await;
    assert!(first.get("redelivered").is_none());
    agent.leave(&router).await;
    socket.accepted(&target, json!({"n": 2}), json!({})).await;

    let (mut agent, _) = Peer::registered_v2(&router, &target, json!({})).await;
    let again = agent.recv().await;
    assert_eq!((&again["attempt"], &again["redelivered"]), (&json!(2), &json!(true)));
    assert_eq!(again["invocation_id"], first["invocation_id"]);
    let fresh = agent.recv().await;
    assert_eq!(number(&fresh), 2);
    assert!(fresh["attempt"] == 1 && fresh.get("redelivered").is_none(), "{fresh}");
}

#[tokio::test]
async fn work_still_going_on_is_adopted_and_not_delivered_again() {
    let router = Router::start().await;
    let (target, mut socket, delivery) = interrupted(&router, json!({})).await;
    let id = delivery["invocation_id"].as_str().unwrap();
    socket.expect_nothing().await;
    let (mut agent, answer) = Peer::registered_v2(&router, &target, json!({"running": [id]})).await;
    assert_eq!(answer["adopted"], json!([id]));
    agent.expect_nothing().await;
    router.wait_for_state(id, "running").await;
    agent.answer(&delivery, json!("went on")).await;
    assert_eq!(socket.recv().await["response"], "went on");
    assert_eq!(router.invocation(id).await["attempt"], 1);
}

#[tokio::test]
async fn what_is_not_among_the_running_is_lost_unless_it_has_attempts_left() {
    let router = Router::start().await;
    let (target, mut socket, _) = interrupted(&router, json!({})).await;
    let (mut agent, answer) = Peer::registered_v2(&router, &target, json!({"running": []})).await;
    assert_eq!(answer["adopted"], json!([]));
    let error = socket.recv().await;
    assert_eq!(error["error"]["error_message"], "Agent has been unregistered");
    agent.expect_nothing().await;

    let (target, mut socket, _) = interrupted(&router, json!({"max_attempts": 2})).await;
    let (mut agent, _) = Peer::registered_v2(&router, &target, json!({})).await;
    let again = agent.recv().await;
    assert_eq!((&again["attempt"], &again["redelivered"]), (&json!(2), &json!(true)));
    agent.answer(&again, json!("second time")).await;
    assert_eq!(socket.recv().await["response"], "second time");
}

#[tokio::test]
async fn ids_that_are_not_this_agents_are_not_adopted() {
    let router = Router::start().await;
    let (target, _socket, delivery) = interrupted(&router, json!({})).await;
    let running = json!({"running": [delivery["invocation_id"], Uuid::now_v7().to_string()]});
    let (_other, answer) = Peer::registered_v2(&router, &agent_id(), running.clone()).await;
    assert_eq!(answer["adopted"], json!([]));
    let (_agent, answer) = Peer::registered_v2(&router, &target, running).await;
    assert_eq!(answer["adopted"], json!([delivery["invocation_id"]]));
}

#[tokio::test]
async fn interrupted_work_is_waited_for_as_long_as_the_grace() {
    let router = Router::with(&[("RESUME_GRACE", "200ms")]).await;
    let (target, mut socket, delivery) = interrupted(&router, json!({})).await;
    assert_eq!(socket.recv().await["error"]["error_message"], "Agent has been unregistered");
    let (mut agent, answer) =
        Peer::registered_v2(&router, &target, json!({"running": [delivery["invocation_id"]]})).await;
    assert_eq!(answer["adopted"], json!([]));
    agent.answer(&delivery, json!("too late")).await;
    assert_eq!(agent.recv().await["outcome"], "late");
    socket.expect_nothing().await;
}

#[tokio::test]
async fn an_agent_with_interrupted_work_is_sent_nothing_until_it_registers() {
    let router = Router::with(&[("DRAIN_DELAY", "1ms")]).await;
    let (target, mut socket, delivery) = interrupted(&router, json!({})).await;
    socket.accepted(&target, json!({"n": 2}), json!({})).await;
    let mut agent = Peer::agent(&router, &target).await;
    socket.accepted(&target, json!({"n": 3}), json!({})).await;
    agent.expect_nothing().await;
    let answer = agent.register_v2(json!({"running": [delivery["invocation_id"]]})).await;
    assert_eq!(answer["adopted"], json!([delivery["invocation_id"]]));
    for n in 2..4 {
        assert_eq!(number(&agent.recv().await), n);
    }
}

#[tokio::test]
async fn an_agent_with_interrupted_work_is_sent_what_waits_when_the_grace_is_over() {
    let router = Router::with(&[("RESUME_GRACE", "500ms"), ("DRAIN_DELAY", "1ms")]).await;
    let (target, mut socket, _) = interrupted(&router, json!({})).await;
    socket.accepted(&target, json!({"n": 2}), json!({})).await;
    let mut agent = Peer::agent(&router, &target).await;
    assert_eq!(number(&agent.recv().await), 2);
}

#[tokio::test]
async fn for_agents_of_version_1_lost_work_ends_at_once() {
    let router = Router::start().await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    socket.invoke(&target, json!({})).await;
    agent.recv().await;
    let id = router.newest_invocation_of(&target).await;
    started(&router, &id).await;
    agent.leave(&router).await;
    assert_eq!(socket.recv().await, lost(&target));
    assert!(!router.life_of(&id).await.contains(&"invocation.interrupted".to_owned()));
}

#[tokio::test]
async fn each_answer_is_receipted_with_what_became_of_it() {
    let router = Router::start().await;
    let target = agent_id();
    let (mut agent, _) = Peer::registered_v2(&router, &target, json!({})).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    socket.accepted(&target, json!({}), json!({})).await;
    let delivery = agent.recv().await;
    for outcome in ["accepted", "duplicate"] {
        agent.answer(&delivery, json!(outcome)).await;
        let receipt = json!({
            "message_type": "agent_receipt", "invocation_id": delivery["invocation_id"], "outcome": outcome,
        });
        assert_eq!(agent.recv().await, receipt);
    }
    assert_eq!(socket.recv().await["response"], "accepted");

    socket.accepted(&target, json!({}), json!({"deadline_ms": 50})).await;
    let delivery = agent.recv().await;
    assert_eq!(socket.recv().await["error"]["code"], "timed_out");
    assert_eq!(agent.recv().await["message_type"], "agent_cancel");
    agent.answer(&delivery, json!("late")).await;
    assert_eq!(agent.recv().await["outcome"], "late");

    let nobodys = json!({"invocation_id": Uuid::now_v7().to_string(), "invoked_by": delivery["invoked_by"]});
    agent.answer(&nobodys, json!("?")).await;
    let receipt = agent.recv().await;
    assert_eq!((&receipt["outcome"], &receipt["invocation_id"]), (&json!("unknown"), &nobodys["invocation_id"]));
    socket.expect_nothing().await;
}

#[tokio::test]
async fn an_answer_that_was_kept_over_a_lost_connection_is_accepted_on_the_next() {
    let router = Router::start().await;
    let (target, mut socket, delivery) = interrupted(&router, json!({})).await;
    let running = json!({"running": [delivery["invocation_id"]]});
    let (mut agent, _) = Peer::registered_v2(&router, &target, running).await;
    agent.answer(&delivery, json!("kept")).await;
    assert_eq!(agent.recv().await["outcome"], "accepted");
    assert_eq!(socket.recv().await["response"], "kept");
    agent.leave(&router).await;
    let (mut agent, _) = Peer::registered_v2(&router, &target, json!({})).await;
    agent.answer(&delivery, json!("kept")).await;
    assert_eq!(agent.recv().await["outcome"], "duplicate");
}

#[tokio::test]
async fn an_agent_is_told_that_its_work_is_cancelled() {
    let router = Router::start().await;
    let target = agent_id();
    let (mut agent, _) = Peer::registered_v2(&router, &target, json!({})).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    let id = socket.accepted(&target, json!({}), json!({})).await;
    let delivery = agent.recv().await;
    socket.send(json!({"message_type": "agent_cancel", "invocation_id": id})).await;
    assert_eq!(agent.recv().await, json!({"message_type": "agent_cancel", "invocation_id": id}));
    agent.answer(&delivery, json!("anyway")).await;
    assert_eq!(agent.recv().await["outcome"], "late");
}

#[tokio::test]
async fn an_agent_that_unregisters_is_sent_no_more_and_leaves_when_its_work_is_done() {
    let router = Router::start().await;
    let mut backend = Peer::master_be(&router).await;
    let target = agent_id();
    let (mut agent, _) = Peer::registered_v2(&router, &target, json!({})).await;
    assert_eq!(backend.recv().await["request_payload"]["message_type"], "agent_register");
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    socket.accepted(&target, json!({"n": 1}), json!({})).await;
    let delivery = agent.recv().await;
    agent.send(json!({"message_type": "agent_unregister"})).await;
    agent.expect_nothing().await;
    socket.accepted(&target, json!({"n": 2}), json!({})).await;
    agent.expect_nothing().await;
    agent.answer(&delivery, json!("last")).await;
    assert_eq!(agent.recv().await["outcome"], "accepted");
    assert_eq!(socket.recv().await["response"], "last");
    agent.ended().await;
    let end = json!({"request_payload": {"agent_uuid": target, "message_type": "agent_unregister"}});
    assert_eq!(backend.recv().await, end);

    let (mut agent, _) = Peer::registered_v2(&router, &target, json!({})).await;
    assert_eq!(number(&agent.recv().await), 2);
}

#[tokio::test]
async fn an_agent_of_version_1_is_sent_nothing_of_this() {
    let router = Router::start().await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    let id = socket.accepted(&target, json!({}), json!({})).await;
    let delivery = agent.recv().await;
    assert_eq!(delivery, json!({"request_payload": {}, "invoked_by": format!("{BACKEND}:{target}")}));
    socket.send(json!({"message_type": "agent_cancel", "invocation_id": id})).await;
    router.wait_for_state(&id, "cancelled").await;
    agent.expect_nothing().await;
    agent.answer(&delivery, json!("late")).await;
    router.wait_for_event("kind=answer.late").await;
    agent.expect_nothing().await;
}

#[tokio::test]
async fn work_that_is_adopted_has_started_once() {
    let router = Router::with(&[("RESUME_GRACE", "1s")]).await;
    let (target, mut socket, delivery) = interrupted(&router, json!({"max_attempts": 2, "ttl_ms": 600_000})).await;
    let id = delivery["invocation_id"].as_str().unwrap();
    router.wait_for_state(id, "queued").await;
    let (agent, answer) = Peer::registered_v2(&router, &target, json!({"running": [id]})).await;
    assert_eq!(answer["adopted"], json!([id]));
    agent.leave(&router).await;

    let (mut agent, _) = Peer::registered_v2(&router, &target, json!({})).await;
    let again = agent.recv().await;
    assert_eq!((&again["invocation_id"], &again["attempt"]), (&json!(id), &json!(2)));
    started(&router, id).await;
    agent.leave(&router).await;
    Peer::registered_v2(&router, &target, json!({})).await.0.expect_nothing().await;
    assert_eq!(socket.recv().await["error"]["code"], "agent_lost");
}

#[tokio::test]
async fn what_is_in_flight_on_a_socket_is_adopted_when_it_registers_again() {
    let router = Router::start().await;
    let target = agent_id();
    let (mut agent, _) = Peer::registered_v2(&router, &target, json!({})).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    let id = socket.accepted(&target, json!({}), json!({})).await;
    let delivery = agent.recv().await;
    started(&router, &id).await;
    let answer = agent.register_v2(json!({"running": [id]})).await;
    assert_eq!(answer["adopted"], json!([id]));
    agent.answer(&delivery, json!("undisturbed")).await;
    assert_eq!(agent.recv().await["outcome"], "accepted");
    assert_eq!(socket.recv().await["response"], "undisturbed");
    assert_eq!(router.invocation(&id).await["attempt"], 1);
}
