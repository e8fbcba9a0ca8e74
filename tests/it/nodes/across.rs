//! Callers at one router, agents at the other.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::two;
use crate::support::{Answer, BACKEND_KEY, ML_KEY, Peer, agent_id, answered, not_active};

#[tokio::test]
async fn an_invocation_goes_to_the_router_of_the_agent_and_its_answer_comes_back() {
    let (one, other) = two(&[]).await;
    let target = agent_id();
    let mut agent = Peer::registered(&other, &target).await;
    let callers = [
        Peer::master_ml(&one).await,
        Peer::invoke_socket(&one, BACKEND_KEY, &target).await,
        Peer::agent(&one, &agent_id()).await,
        Peer::registered(&one, &agent_id()).await,
    ];
    for (n, mut caller) in callers.into_iter().enumerate() {
        caller.invoke(&target, json!({"n": n})).await;
        let delivery = agent.recv().await;
        assert_eq!(delivery["request_payload"]["n"], n);
        agent.answer(&delivery, json!(["answer", n])).await;
        assert_eq!(caller.recv().await, answered(json!(["answer", n])));
    }
    let accepted = one.history(&format!("kind=invocation.accepted&agent_id={target}")).await;
    assert!(accepted.iter().all(|event| event["node_id"] == "one"), "{accepted:?}");
    let completed = one.history(&format!("kind=invocation.completed&agent_id={target}")).await;
    assert_eq!(completed.len(), 4);
    assert!(completed.iter().all(|event| event["node_id"] == "other"), "{completed:?}");
}

#[tokio::test]
async fn many_at_once_arrive_in_the_order_in_which_they_were_accepted() {
    let (one, other) = two(&[]).await;
    let target = agent_id();
    let mut agent = Peer::registered(&other, &target).await;
    let mut callers = [Peer::master_ml(&one).await, Peer::agent(&one, &agent_id()).await];
    for n in 0..200 {
        for (index, caller) in callers.iter().enumerate() {
            caller.invoke(&target, json!({"caller": index, "n": n})).await;
        }
    }
    let mut next = [0; 2];
    for delivery in agent.recv_many(400).await {
        let caller = usize::try_from(delivery["request_payload"]["caller"].as_u64().unwrap()).unwrap();
        assert_eq!(delivery["request_payload"]["n"], next[caller], "from {caller}");
        next[caller] += 1;
        agent.answer(&delivery, delivery["request_payload"].clone()).await;
    }
    for (index, caller) in callers.iter_mut().enumerate() {
        for n in 0..200 {
            assert_eq!(caller.recv().await["response"], json!({"caller": index, "n": n}));
        }
    }
}

#[tokio::test]
async fn whoever_waits_over_http_is_answered_from_the_other_router() {
    let (one, other) = two(&[]).await;
    let target = agent_id();
    let mut agent = Peer::registered(&other, &target).await;
    let request = one.request("POST", "/v1/invocations", BACKEND_KEY).header("Prefer", "wait=20");
    let started = Instant::now();
    let (answer, ()) =
        tokio::join!(Answer::to(request.json(&json!({"agent_id": target, "payload": {"name": "Ada"}}))), async {
            let delivery = agent.recv().await;
            agent.answer(&delivery, json!("Hello, Ada!")).await;
        });
    let made = answer.expect(200);
    assert_eq!(made["result"], "Hello, Ada!");
    assert!(started.elapsed() < Duration::from_secs(5), "it took {:?}", started.elapsed());

    let made = one.post_as(BACKEND_KEY, "/v1/invocations", json!({"agent_id": target})).await.expect(202);
    let path = format!("/v1/invocations/{}?wait=20", made["id"].as_str().unwrap());
    let (read, read_elsewhere, ()) =
        tokio::join!(one.get_as(BACKEND_KEY, &path), other.get_as(BACKEND_KEY, &path), async {
            let delivery = agent.recv().await;
            agent.answer(&delivery, json!("again")).await;
        });
    assert_eq!(read.expect(200)["result"], "again");
    assert_eq!(read_elsewhere.expect(200)["result"], "again");
}

#[tokio::test]
async fn a_key_against_doing_it_twice_counts_at_every_router() {
    let (one, other) = two(&[]).await;
    let target = agent_id();
    let mut agent = Peer::registered(&other, &target).await;
    let body = json!({"agent_id": target, "payload": {"n": 1}});
    let invoke = async |router: &crate::support::Router| {
        let request = router.request("POST", "/v1/invocations", BACKEND_KEY).header("Idempotency-Key", "once");
        Answer::to(request.json(&body)).await
    };
    let (first, second) = tokio::join!(invoke(&one), invoke(&other));
    assert_eq!(first.json()["id"], second.json()["id"]);
    let delivery = agent.recv().await;
    agent.expect_nothing().await;
    agent.answer(&delivery, json!(1)).await;
    one.wait_for_state(first.json()["id"].as_str().unwrap(), "completed").await;
    assert_eq!(invoke(&one).await.json()["result"], 1);
}

#[tokio::test]
async fn what_ends_an_invocation_at_one_router_is_told_at_the_other() {
    let (one, other) = two(&[("RESUME_GRACE", "300ms")]).await;
    let target = agent_id();
    let (mut agent, _) = Peer::registered_v2(&other, &target, json!({})).await;
    let mut caller = Peer::invoke_socket(&one, BACKEND_KEY, &target).await;

    let id = caller.accepted(&target, json!({}), json!({})).await;
    agent.recv().await;
    caller.send(json!({"message_type": "agent_cancel", "invocation_id": id})).await;
    assert_eq!(agent.recv().await, json!({"message_type": "agent_cancel", "invocation_id": id}));
    let (receipt, told) = caller.recv_two("agent_receipt").await;
    assert_eq!((&receipt["state"], &told["error"]["code"]), (&json!("cancelled"), &json!("cancelled")));

    caller.accepted(&target, json!({}), json!({"deadline_ms": 200})).await;
    agent.recv().await;
    assert_eq!(caller.recv().await["error"]["code"], "timed_out");
    assert_eq!(agent.recv().await["message_type"], "agent_cancel");

    let id = caller.accepted(&target, json!({}), json!({})).await;
    agent.recv().await;
    let path = format!("/v1/invocations/{id}/cancel");
    one.post_as(BACKEND_KEY, &path, json!({})).await.expect(200);
    assert_eq!(agent.recv().await["message_type"], "agent_cancel");
    assert_eq!(caller.recv().await["error"]["code"], "cancelled");

    caller.accepted(&target, json!({}), json!({})).await;
    agent.recv().await;
    drop(agent);
    assert_eq!(caller.recv().await["error"]["code"], "agent_lost");
}

#[tokio::test]
async fn a_master_that_was_away_gets_its_answers_wherever_it_connects() {
    let (one, other) = two(&[]).await;
    let target = agent_id();
    let mut agent = Peer::registered(&other, &target).await;
    let master = Peer::master_ml(&one).await;
    master.invoke(&target, json!({})).await;
    let delivery = agent.recv().await;
    master.leave(&one).await;
    agent.answer(&delivery, json!("kept")).await;
    other.wait_for_event("kind=invocation.completed").await;
    let mut master = Peer::master_ml(&other).await;
    assert_eq!(master.recv().await, answered(json!("kept")));
    // While it is there, only the router that it is connected to tells it.
    let delivered = format!("kind=answer.delivered&agent_id={target}");
    other.wait_for_event(&delivered).await;
    let mut elsewhere = Peer::connect(&one, &[("API-KEY", ML_KEY)]).await;
    elsewhere.expect_nothing().await;
}

#[tokio::test]
async fn the_backend_dismisses_an_agent_of_the_other_router() {
    let (one, other) = two(&[]).await;
    let target = agent_id();
    let mut agent = Peer::registered(&other, &target).await;
    let mut socket = Peer::invoke_socket(&one, BACKEND_KEY, &target).await;
    let words = json!({"error_message": "You were removed", "error_type": "AgentNotActive", "more": 1});
    socket.invoke(&target, words).await;
    let expected = json!({"error": {
        "error_message": "You were removed", "error_type": "AgentNotActive", "more": 1, "message_type": "agent_error",
    }});
    assert_eq!(agent.recv().await, expected);
    socket.expect_nothing().await;
    agent.leave(&other).await;
    socket.invoke(&target, json!({"error_message": "again", "error_type": "AgentNotActive"})).await;
    assert_eq!(socket.recv().await, not_active());
}

#[tokio::test]
async fn the_history_is_followed_at_every_router() {
    let (one, other) = two(&[]).await;
    let head = one.get("/v1/history/head").await.1["position"].clone();
    let before = one.history("").await.len();
    assert_eq!(json!(before), head);
    let page = one.get("/v1/history?limit=1000").await.1;
    let path = format!("/v1/history?wait=20&cursor={}", page["next"].as_str().unwrap());
    let (followed, peer) = tokio::join!(one.get(&path), Peer::connecting_agent(&other, "an agent of the other"));
    assert_eq!(followed.1["events"][0]["agent_id"], "an agent of the other", "{followed:?}");
    drop(peer);
}
