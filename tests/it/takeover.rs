//! Several sockets of one identity.

use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use crate::support::{BACKEND_KEY, Peer, Router, agent_id, answer, answered, lost, text_frame};

#[tokio::test]
async fn a_socket_that_registers_takes_over_from_the_older_one() {
    let router = Router::start().await;
    let target = agent_id();
    let mut old = Peer::registered(&router, &target).await;
    let mut new = Peer::registered(&router, &target).await;
    old.expect_close(4409).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    socket.invoke(&target, json!({"n": 1})).await;
    let delivery = new.recv().await;
    new.answer(&delivery, json!(1)).await;
    assert_eq!(socket.recv().await, answered(json!(1)));
}

#[tokio::test]
async fn the_end_of_the_old_socket_does_not_remove_the_new_one() {
    let router = Router::start().await;
    let mut backend = Peer::master_be(&router).await;
    let target = agent_id();
    let mut old = Peer::registered(&router, &target).await;
    let mut new = Peer::registered(&router, &target).await;
    old.expect_close(4409).await;
    old.close().await;
    for _ in 0..2 {
        assert_eq!(backend.recv().await["request_payload"]["message_type"], "agent_register");
    }
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    socket.invoke(&target, json!({})).await;
    let delivery = new.recv().await;
    new.answer(&delivery, json!("here")).await;
    assert_eq!(socket.recv().await, answered(json!("here")));
    backend.expect_nothing().await;

    new.close().await;
    let end = json!({"request_payload": {"agent_uuid": target, "message_type": "agent_unregister"}});
    assert_eq!(backend.recv().await, end);
    backend.expect_nothing().await;
}

#[tokio::test]
async fn whole_frames_that_the_old_socket_had_sent_are_counted() {
    let router = Router::start().await;
    let target = agent_id();
    let mut old = Peer::registered(&router, &target).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    for n in 0..50 {
        socket.invoke(&target, json!({"n": n})).await;
    }
    let deliveries = old.recv_many(50).await;
    let new = Peer::agent(&router, &target).await;
    for delivery in &deliveries {
        old.answer(delivery, delivery["request_payload"]["n"].clone()).await;
    }
    new.send(json!({"message_type": "agent_register", "request_payload": new.registration()})).await;
    old.expect_close(4409).await;
    for n in 0..50 {
        assert_eq!(socket.recv().await, answered(json!(n)));
    }
}

#[tokio::test]
async fn work_on_a_socket_that_was_taken_over_is_work_on_a_lost_connection() {
    let router = Router::start().await;
    let target = agent_id();
    let mut old = Peer::registered(&router, &target).await;
    let mut started = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    started.invoke(&target, json!({"n": 1})).await;
    old.recv().await;
    router.wait_for_event(&format!("kind=invocation.started&agent_id={target}")).await;
    old.answer_pings(false);
    let mut unseen = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    unseen.invoke(&target, json!({"n": 2})).await;
    old.recv().await;

    let mut new = Peer::registered(&router, &target).await;
    old.expect_close(4409).await;
    assert_eq!(started.recv().await, lost(&target));
    let delivery = new.recv().await;
    assert_eq!(delivery["request_payload"]["n"], 2);
    new.answer(&delivery, json!("again")).await;
    assert_eq!(unseen.recv().await, answered(json!("again")));
    new.expect_nothing().await;
}

#[tokio::test]
async fn a_socket_that_has_not_registered_lives_beside_a_registered_one() {
    let router = Router::start().await;
    let (target, other) = (agent_id(), agent_id());
    let mut registered = Peer::registered(&router, &target).await;
    let mut beside = Peer::agent(&router, &target).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    for n in 0..3 {
        socket.invoke(&target, json!({"n": n})).await;
        let delivery = registered.recv().await;
        registered.answer(&delivery, json!(n)).await;
        assert_eq!(socket.recv().await, answered(json!(n)));
    }
    beside.expect_nothing().await;

    let mut callee = Peer::registered(&router, &other).await;
    beside.invoke(&other, json!({})).await;
    let delivery = callee.recv().await;
    assert_eq!(delivery["invoked_by"], target);
    callee.answer(&delivery, json!("to the socket that asked")).await;
    assert_eq!(beside.recv().await, answered(json!("to the socket that asked")));
    registered.expect_nothing().await;
}

#[tokio::test]
async fn without_a_registered_socket_the_newest_is_sent_invocations() {
    let router = Router::start().await;
    let target = agent_id();
    let mut oldest = Peer::agent(&router, &target).await;
    let mut newest = Peer::agent(&router, &target).await;
    let socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    socket.invoke(&target, json!({"n": 1})).await;
    assert_eq!(newest.recv().await["request_payload"]["n"], 1);
    oldest.expect_nothing().await;

    oldest.register(&router).await;
    socket.invoke(&target, json!({"n": 2})).await;
    assert_eq!(oldest.recv().await["request_payload"]["n"], 2);
    newest.expect_nothing().await;
}

#[tokio::test]
async fn a_frame_in_transit_on_a_socket_that_is_taken_over_is_counted() {
    let router = Router::start().await;
    let target = agent_id();
    let mut old = Peer::registered(&router, &target).await;
    old.answer_closes(false);
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    socket.invoke(&target, json!({})).await;
    let delivery = old.recv().await;
    router.wait_for_event(&format!("kind=invocation.started&agent_id={target}")).await;
    let large = "y".repeat(200_000);
    let frame = text_frame(&answer(&delivery, json!(large)).to_string());
    let (head, tail) = frame.split_at(frame.len() / 2);
    old.send_bytes(head).await;

    let mut new = Peer::agent(&router, &target).await;
    new.send(json!({"message_type": "agent_register", "request_payload": new.registration()})).await;
    old.expect_close(4409).await;
    sleep(Duration::from_millis(100)).await;
    old.send_bytes(tail).await;
    assert_eq!(socket.recv().await, answered(json!(large)));
    router.wait_for_events(&format!("kind=agent.registered&agent_id={target}"), 2).await;
    new.expect_nothing().await;
}

#[tokio::test]
async fn the_backend_is_told_once_of_the_end_of_an_agent_whose_new_socket_died_first() {
    let router = Router::start().await;
    let mut backend = Peer::master_be(&router).await;
    let target = agent_id();
    let mut old = Peer::registered(&router, &target).await;
    assert_eq!(backend.recv().await["request_payload"]["message_type"], "agent_register");
    old.answer_closes(false);
    let new = Peer::agent(&router, &target).await;
    new.send(json!({"message_type": "agent_register", "request_payload": new.registration()})).await;
    old.expect_close(4409).await;
    new.leave(&router).await;
    drop(old);

    router.wait_for_events(&format!("kind=agent.disconnected&agent_id={target}"), 2).await;
    let end = json!({"request_payload": {"agent_uuid": target, "message_type": "agent_unregister"}});
    assert_eq!(backend.recv().await, end);
    backend.expect_nothing().await;
}

#[tokio::test]
async fn a_socket_that_is_taken_over_and_registers_again_does_not_end_its_successor() {
    let router = Router::start().await;
    let target = agent_id();
    let mut old = Peer::registered(&router, &target).await;
    old.answer_closes(false);
    let mut new = Peer::agent(&router, &target).await;
    new.send(json!({"message_type": "agent_register", "request_payload": new.registration()})).await;
    old.expect_close(4409).await;
    old.send(json!({"message_type": "agent_register", "request_payload": old.registration()})).await;
    old.send(json!({"message_type": "agent_log", "log_message": "the registration was read"})).await;
    router.wait_for_event(&format!("kind=agent.logged&agent_id={target}")).await;
    drop(old);

    router.wait_for_events(&format!("kind=agent.registered&agent_id={target}"), 2).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    socket.invoke(&target, json!({})).await;
    let delivery = new.recv().await;
    new.answer(&delivery, json!("still here")).await;
    assert_eq!(socket.recv().await, answered(json!("still here")));
    new.expect_nothing().await;
}

#[tokio::test]
async fn kept_answers_right_behind_a_registration_that_takes_over_get_a_receipt_each() {
    const KEPT: usize = 5;
    let router = Router::start().await;
    let target = agent_id();
    let (mut old, _) = Peer::registered_v2(&router, &target, json!({})).await;
    old.answer_closes(false);
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    for n in 0..KEPT {
        socket.invoke(&target, json!({"n": n})).await;
    }
    let deliveries = old.recv_many(KEPT).await;

    let mut new = Peer::agent(&router, &target).await;
    let registration = json!({
        "message_type": "agent_register", "protocol_version": 2, "request_payload": new.registration(),
    });
    new.send(registration).await;
    for delivery in &deliveries {
        new.answer(delivery, delivery["request_payload"]["n"].clone()).await;
    }
    old.expect_close(4409).await;
    let mut receipts = Vec::new();
    for frame in new.recv_many(KEPT + 1).await {
        if frame["message_type"] != "agent_registered" {
            assert_eq!(frame["message_type"], "agent_receipt", "{frame}");
            assert_eq!(frame["outcome"], "accepted", "{frame}");
            receipts.push(frame["invocation_id"].clone());
        }
    }
    let kept: Vec<_> = deliveries.iter().map(|delivery| delivery["invocation_id"].clone()).collect();
    assert_eq!(receipts, kept);
    for n in 0..KEPT {
        assert_eq!(socket.recv().await, answered(json!(n)));
    }
}
