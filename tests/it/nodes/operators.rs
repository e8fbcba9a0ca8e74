//! What operators and the backend see of several routers, and do to them.

use serde_json::json;

use super::{one, two};
use crate::support::{AUDITOR_KEY, Answer, BACKEND_KEY, OPERATOR_KEY, Peer, SECRET, agent_id, agent_token};

#[tokio::test]
async fn the_routers_are_listed_and_each_says_which_it_is() {
    let (one, other) = two(&[]).await;
    let _agent = Peer::registered(&other, &agent_id()).await;
    for (router, name) in [(&one, "one"), (&other, "other")] {
        for key in [OPERATOR_KEY, AUDITOR_KEY] {
            let listed = router.get_as(key, "/v1/nodes").await.expect(200);
            let nodes = listed["nodes"].as_array().unwrap();
            assert_eq!(nodes.iter().map(|node| &node["node"]).collect::<Vec<_>>(), ["one", "other"]);
            for node in nodes {
                assert_eq!(node["state"], "up");
                assert_eq!(node["epoch"], 1);
                assert_eq!(node["version"], env!("CARGO_PKG_VERSION"));
                assert_eq!(node["this"], node["node"] == name);
                assert_eq!(node["sessions"], u64::from(node["node"] == "other"));
                assert!(node["started_at"].is_string() && node["renewed_at"].is_string(), "{node}");
            }
        }
        assert_eq!(router.get_as(BACKEND_KEY, "/v1/nodes").await.problem(403), "not_allowed");
        assert_eq!(router.get_as("", "/health/live").await.expect(200)["node"], name);
        assert_eq!(router.get_as("", "/health/ready").await.expect(200)["node"], name);
    }
}

#[tokio::test]
async fn each_router_shows_where_an_agent_is_connected() {
    let (one, other) = two(&[]).await;
    let (here, there, away) = (agent_id(), agent_id(), agent_id());
    let _here = Peer::registered(&one, &here).await;
    let _there = Peer::registered(&other, &there).await;
    Peer::registered(&other, &away).await.leave(&other).await;
    for router in [&one, &other] {
        for (agent, node) in [(&here, json!("one")), (&there, json!("other")), (&away, json!(null))] {
            let shown = router.get_as(BACKEND_KEY, &format!("/v1/agents/{agent}")).await.expect(200);
            assert_eq!(shown["node"], node, "{shown}");
        }
        let listed = router.get_as(BACKEND_KEY, "/v1/agents").await.expect(200);
        let nodes: Vec<_> = listed["agents"].as_array().unwrap().iter().map(|agent| &agent["node"]).collect();
        for node in [json!("one"), json!("other"), json!(null)] {
            assert!(nodes.contains(&&node), "{listed}");
        }
    }
}

#[tokio::test]
async fn an_operator_disconnects_an_agent_of_another_router() {
    let (one, other) = two(&[]).await;
    let agent = agent_id();
    let mut there = Peer::registered(&other, &agent).await;
    let mut here = Peer::agent(&one, &agent).await;
    let path = format!("/v1/agents/{agent}/disconnect");
    assert_eq!(one.post_as(OPERATOR_KEY, &path, json!({})).await.expect(200), json!({"disconnected": 2}));
    here.expect_close(1008).await;
    there.expect_close(1008).await;
    let ends = one.wait_for_events(&format!("kind=agent.disconnected&agent_id={agent}"), 2).await;
    assert!(ends.iter().all(|end| end["detail"]["reason"] == "operator"), "{ends:?}");
    Peer::registered(&other, &agent).await.expect_nothing().await;
}

/// Whether there is somebody to disconnect is no older than the question.
#[tokio::test]
async fn an_agent_that_has_just_connected_elsewhere_is_there_to_be_disconnected() {
    let (one, other) = two(&[]).await;
    for _ in 0..10 {
        let agent = agent_id();
        let mut there = Peer::agent(&other, &agent).await;
        let path = format!("/v1/agents/{agent}/disconnect");
        assert_eq!(one.post_as(OPERATOR_KEY, &path, json!({})).await.expect(200), json!({"disconnected": 1}));
        there.expect_close(1008).await;
        assert_eq!(
            one.post_as(OPERATOR_KEY, &format!("/v1/agents/{}/disconnect", agent_id()), json!({})).await.status,
            404
        );
    }
}

#[tokio::test]
async fn a_router_that_drains_leaves_the_others_as_they_are() {
    let (one, other) = two(&[]).await;
    let target = agent_id();
    let mut agent = Peer::registered(&other, &target).await;
    other.post_as(OPERATOR_KEY, "/v1/drain", json!({})).await.expect(200);
    let body = json!({"agent_id": target, "payload": {}});
    assert_eq!(other.post_as(BACKEND_KEY, "/v1/invocations", body.clone()).await.problem(503), "shutting_down");
    assert_eq!(other.get_as("", "/health/ready").await.problem(503), "shutting_down");
    assert_eq!(one.get_as("", "/health/ready").await.expect(200)["status"], "ready");
    let nodes = one.get_as(OPERATOR_KEY, "/v1/nodes").await.expect(200);
    let states: Vec<_> = nodes["nodes"].as_array().unwrap().iter().map(|node| &node["state"]).collect();
    assert_eq!(states, ["up", "draining"]);

    let made = one.post_as(BACKEND_KEY, "/v1/invocations", body).await.expect(202);
    let delivery = agent.recv().await;
    agent.answer(&delivery, json!("done all the same")).await;
    one.wait_for_state(made["id"].as_str().unwrap(), "completed").await;
    Answer::to(other.request("DELETE", "/v1/drain", OPERATOR_KEY)).await.expect(200);
    let nodes = one.get_as(OPERATOR_KEY, "/v1/nodes").await.expect(200);
    assert!(nodes["nodes"].as_array().unwrap().iter().all(|node| node["state"] == "up"), "{nodes}");
}

#[tokio::test]
async fn the_backend_is_told_of_agents_of_every_router_with_their_tokens() {
    let secured = [("SECRET_KEY", SECRET), ("FEED_ACK_TIMEOUT", "1h")];
    let one = one(&secured).await;
    let other = one.another_node("other").await;
    let mut backend = Peer::master_be(&one).await;
    backend.expect_nothing().await;
    let (here, there) = (agent_id(), agent_id());
    let silent = Peer::registered(&one, &here).await;
    let told = backend.recv().await;
    assert_eq!(told["request_payload"]["agent_uuid"], here);
    let talkative = Peer::registered(&other, &there).await;
    let told = backend.recv().await;
    assert_eq!(told["request_payload"]["message_type"], "agent_register");
    assert_eq!(told["request_payload"]["agent_uuid"], there);
    assert_eq!(told["request_payload"]["agent_jwt"], agent_token(&there, SECRET));
    talkative.send(json!({"message_type": "agent_log", "log_message": "a line", "log_level": "info"})).await;
    assert_eq!(backend.recv().await["request_payload"]["log_message"], "a line");

    // A backend at the other router takes the feed over, and is told of all who are there.
    let mut newer = Peer::master_be(&other).await;
    let mut seen = Vec::new();
    while !(seen.contains(&json!([here, agent_token(&here, SECRET)]))
        && seen.contains(&json!([there, agent_token(&there, SECRET)])))
    {
        let payload = newer.recv().await["request_payload"].clone();
        seen.push(json!([payload["agent_uuid"], payload["agent_jwt"]]));
    }
    talkative.leave(&other).await;
    loop {
        let payload = newer.recv().await["request_payload"].clone();
        if payload["message_type"] == "agent_unregister" {
            assert_eq!(payload["agent_uuid"], there);
            break;
        }
    }
    backend.expect_nothing().await;
    drop(silent);
}
