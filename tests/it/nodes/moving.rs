//! Agents that come back to another router.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::two;
use crate::support::{BACKEND_KEY, Incoming, ML_KEY, Peer, Socket, agent_id, answered, lost, registration};

#[tokio::test]
async fn an_agent_that_was_away_gets_what_waited_for_it_at_another_router() {
    let (one, other) = two(&[]).await;
    let target = agent_id();
    Peer::registered(&one, &target).await.leave(&one).await;
    let mut caller = Peer::invoke_socket(&one, BACKEND_KEY, &target).await;
    for n in 0..50 {
        caller.accepted(&target, json!({"n": n}), json!({})).await;
    }
    let mut agent = Peer::registered(&other, &target).await;
    for n in 0..50 {
        let delivery = agent.recv().await;
        assert_eq!(delivery["request_payload"]["n"], n);
        agent.answer(&delivery, json!(n)).await;
        assert_eq!(caller.recv().await["response"], n);
    }
}

#[tokio::test]
async fn an_agent_that_moves_takes_its_queue_along_and_its_old_socket_is_closed() {
    let (one, other) = two(&[]).await;
    let target = agent_id();
    let (mut old, _) = Peer::registered_v2(&one, &target, json!({"max_in_flight": 1})).await;
    let mut caller = Peer::invoke_socket(&one, BACKEND_KEY, &target).await;
    for n in 0..5 {
        caller.accepted(&target, json!({"n": n}), json!({})).await;
    }
    let at_work = old.recv().await;
    assert_eq!(at_work["request_payload"]["n"], 0);

    let more = json!({"running": [at_work["invocation_id"]], "max_in_flight": 2});
    let (mut new, registered) = Peer::registered_v2(&other, &target, more).await;
    old.expect_close(4409).await;
    assert_eq!(registered["adopted"], json!([at_work["invocation_id"]]));
    for n in 1..5 {
        let delivery = new.recv().await;
        assert_eq!(delivery["request_payload"]["n"], n);
        new.answer(&delivery, json!(n)).await;
        assert_eq!(new.recv().await["outcome"], "accepted");
        assert_eq!(caller.recv().await["response"], n);
    }
    new.answer(&at_work, json!("from the other side")).await;
    assert_eq!(caller.recv().await["response"], "from the other side");
    let shown = one.get_as(BACKEND_KEY, &format!("/v1/agents/{target}")).await.expect(200);
    assert_eq!((&shown["connected"], &shown["node"]), (&json!(true), &json!("other")));
    let end = one.wait_for_event(&format!("kind=agent.disconnected&agent_id={target}")).await;
    assert_eq!((&end["node_id"], &end["detail"]["reason"]), (&json!("one"), &json!("taken_over")), "{end}");
}

#[tokio::test]
async fn whole_frames_that_the_old_socket_had_sent_are_counted() {
    let (one, other) = two(&[]).await;
    let target = agent_id();
    let mut old = Peer::registered(&one, &target).await;
    let mut caller = Peer::invoke_socket(&other, BACKEND_KEY, &target).await;
    for n in 0..50 {
        caller.invoke(&target, json!({"n": n})).await;
    }
    let deliveries = old.recv_many(50).await;
    let new = Peer::agent(&other, &target).await;
    for delivery in &deliveries {
        old.answer(delivery, delivery["request_payload"]["n"].clone()).await;
    }
    new.send(json!({"message_type": "agent_register", "request_payload": new.registration()})).await;
    for n in 0..50 {
        assert_eq!(caller.recv().await, answered(json!(n)));
    }
    old.expect_close(4409).await;
}

#[tokio::test]
async fn an_agent_moves_as_often_as_it_likes() {
    let (one, other) = two(&[]).await;
    let target = agent_id();
    let mut caller = Peer::invoke_socket(&one, BACKEND_KEY, &target).await;
    let mut old: Option<Peer> = None;
    for round in 0..10 {
        let router = if round % 2 == 0 { &one } else { &other };
        let mut new = Peer::registered(router, &target).await;
        if let Some(mut old) = old.take() {
            old.expect_close(4409).await;
        }
        caller.invoke(&target, json!({"round": round})).await;
        let delivery = new.recv().await;
        assert_eq!(delivery["request_payload"]["round"], round);
        new.answer(&delivery, json!(round)).await;
        assert_eq!(caller.recv().await, answered(json!(round)));
        old = Some(new);
    }
}

/// The router that holds the old socket does not move: the new one does not wait for it for ever.
#[tokio::test]
async fn a_router_that_does_not_let_go_is_not_waited_for() {
    let (one, other) = two(&[]).await;
    let target = agent_id();
    let mut old = Peer::registered(&one, &target).await;
    let mut caller = Peer::invoke_socket(&other, ML_KEY, &target).await;
    caller.invoke(&target, json!({"n": 1})).await;
    let delivery = old.recv().await;
    one.pause();
    // What it says now is read when its router goes on, and not lost.
    old.answer(&delivery, json!("late, but in time")).await;

    let started = Instant::now();
    let mut new = Socket::open(other.address(), &[("x-custom-authorization", &target)]).await.unwrap();
    let frame =
        json!({"message_type": "agent_register", "protocol_version": 2, "request_payload": registration(&target)});
    assert!(new.send_text(&frame.to_string()).await);
    loop {
        match tokio::time::timeout(Duration::from_secs(10), new.next()).await.expect("it is registered") {
            Some(Incoming::Text(text)) if text.contains("agent_registered") => break,
            Some(Incoming::Ping(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(started.elapsed() < Duration::from_secs(8), "it took {:?}", started.elapsed());
    one.resume();
    old.ended().await;
    let told = caller.recv().await;
    assert!(told == answered(json!("late, but in time")) || told == lost(&target), "{told}");
}
