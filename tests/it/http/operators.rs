//! What operators do over HTTP: metrics, disconnecting, draining, erasing, and readiness.

use serde_json::json;

use crate::support::{AUDITOR_KEY, Answer, BACKEND_KEY, OPERATOR_KEY, Peer, Router, agent_id};

#[tokio::test]
async fn metrics_say_what_there_is_and_name_no_agent() {
    let router = Router::start().await;
    let agent = agent_id();
    let _peer = Peer::registered(&router, &agent).await;
    router.post_as(BACKEND_KEY, "/v1/invocations", json!({"agent_id": agent})).await.expect(202);
    let metrics = router.get_as(OPERATOR_KEY, "/metrics").await;
    assert_eq!((metrics.status, metrics.header("cache-control")), (200, "no-store"));
    assert_eq!(metrics.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    for line in [
        "agent_router_connections{role=\"agent\"} 1",
        "agent_router_invocations_total{outcome=\"accepted\"} 1",
        "agent_router_http_requests_total{method=\"POST\",route=\"/v1/invocations\",status=\"202\"} 1",
    ] {
        assert!(metrics.text.contains(line), "{line} is not in {}", metrics.text);
    }
    assert!(!metrics.text.contains(&agent));
}

#[tokio::test]
async fn an_agent_that_is_disconnected_loses_every_socket_and_may_come_back() {
    let router = Router::start().await;
    let agent = agent_id();
    let mut registered = Peer::registered(&router, &agent).await;
    let mut second = Peer::agent(&router, &agent).await;
    let mut other = Peer::registered(&router, &agent_id()).await;
    let path = format!("/v1/agents/{agent}/disconnect");
    assert_eq!(router.post_as(OPERATOR_KEY, &path, json!({})).await.expect(200), json!({"disconnected": 2}));
    registered.expect_close(1008).await;
    second.expect_close(1008).await;
    let ends = router.wait_for_events(&format!("kind=agent.disconnected&agent_id={agent}"), 2).await;
    assert!(ends.iter().all(|end| end["detail"]["reason"] == "operator"), "{ends:?}");
    assert_eq!(router.post_as(OPERATOR_KEY, &path, json!({})).await.problem(404), "not_found");
    Peer::registered(&router, &agent).await.expect_nothing().await;
    other.expect_nothing().await;
}

#[tokio::test]
async fn a_drained_router_takes_nothing_new_and_finishes_what_it_has() {
    let router = Router::start().await;
    let agent = agent_id();
    let mut peer = Peer::registered(&router, &agent).await;
    let body = json!({"agent_id": agent, "payload": {}});
    let made = router.post_as(BACKEND_KEY, "/v1/invocations", body.clone()).await.expect(202);
    let delivery = peer.recv().await;

    let work = router.post_as(OPERATOR_KEY, "/v1/drain", json!({})).await.expect(200);
    assert_eq!((&work["draining"], &work["connections"], &work["in_flight"]), (&json!(true), &json!(1), &json!(1)));
    assert_eq!((&work["queued"], &work["oldest_queued_at"]), (&json!(0), &json!(null)));
    assert_eq!(router.get_as(OPERATOR_KEY, "/v1/drain").await.expect(200), work);
    assert_eq!(router.post_as(BACKEND_KEY, "/v1/invocations", body.clone()).await.problem(503), "shutting_down");
    let ready = router.get_as("", "/health/ready").await;
    assert!(ready.problem(503) == "shutting_down" && ready.text.contains("DELETE /v1/drain"), "{}", ready.text);
    assert_eq!(router.get_as("", "/health/live").await.expect(200)["status"], "live");
    let mut late = Peer::connect(&router, &[("x-custom-authorization", &agent_id())]).await;
    assert!(late.ended().await.is_some(), "a new socket is closed");

    peer.answer(&delivery, json!("done all the same")).await;
    router.wait_for_state(made["id"].as_str().unwrap(), "completed").await;
    let request = router.request("DELETE", "/v1/drain", OPERATOR_KEY).send().await.unwrap();
    assert_eq!(request.status(), 200);
    assert_eq!(router.get_as("", "/health/ready").await.expect(200)["status"], "ready");
    router.post_as(BACKEND_KEY, "/v1/invocations", body).await.expect(202);
    let kinds = router.history("kind=node.draining,node.resumed").await;
    assert_eq!(kinds.iter().map(|event| &event["kind"]).collect::<Vec<_>>(), ["node.draining", "node.resumed"]);
}

#[tokio::test]
async fn a_router_that_has_its_journal_to_itself_is_listed_alone() {
    let router = Router::on_a_file(&[]).await;
    let agent = agent_id();
    let _peer = Peer::registered(&router, &agent).await;
    let live = router.get_as("", "/health/live").await.expect(200);
    let listed = router.get_as(AUDITOR_KEY, "/v1/nodes").await.expect(200);
    let node = &listed["nodes"][0];
    assert_eq!((&node["node"], &node["state"], &node["this"]), (&live["node"], &json!("up"), &json!(true)), "{listed}");
    assert_eq!((&node["epoch"], &node["sessions"], &node["renewed_at"]), (&json!(1), &json!(1), &json!(null)));
    assert_eq!(node["version"], env!("CARGO_PKG_VERSION"));
    router.post_as(OPERATOR_KEY, "/v1/drain", json!({})).await.expect(200);
    let listed = router.get_as(OPERATOR_KEY, "/v1/nodes").await.expect(200);
    assert_eq!(listed["nodes"][0]["state"], "draining", "{listed}");
    assert_eq!(listed["nodes"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn what_is_erased_is_gone_and_the_chain_still_verifies() {
    let router = Router::start().await;
    let agent = agent_id();
    let mut peer = Peer::registered(&router, &agent).await;
    let body = json!({"agent_id": agent, "payload": {"name": "Ada Lovelace"}});
    let made = router.post_as(BACKEND_KEY, "/v1/invocations", body).await.expect(202);
    let path = format!("/v1/invocations/{}/erase", made["id"].as_str().unwrap());
    let reason = json!({"reason": "asked for"});
    assert_eq!(router.post_as(OPERATOR_KEY, &path, reason.clone()).await.problem(409), "still_open");
    let delivery = peer.recv().await;
    peer.answer(&delivery, json!("Hello, Ada Lovelace!")).await;
    router.wait_for_state(made["id"].as_str().unwrap(), "completed").await;
    for bad in [
        json!({}),
        json!({"reason": ""}),
        json!({"reason": 7}),
        json!({"reason": "x".repeat(1025)}),
        json!({"why": "x"}),
    ] {
        assert_eq!(router.post_as(OPERATOR_KEY, &path, bad).await.problem(400), "malformed");
    }
    let erased = router.post_as(OPERATOR_KEY, &path, reason.clone()).await.expect(200);
    assert_eq!(erased, json!({"invocation_id": made["id"], "erased": true}));
    let left = router.invocation(made["id"].as_str().unwrap()).await;
    assert_eq!((&left["state"], &left["payload"], &left["result"]), (&json!("completed"), &json!(null), &json!(null)));
    assert!(!json!(router.history("").await).to_string().contains("Lovelace"));
    let event = router.wait_for_event("kind=payload.erased").await;
    assert_eq!(event["detail"]["reason"], "asked for");
    let found = router.get_as(AUDITOR_KEY, "/v1/history/verify").await.expect(200);
    assert_eq!((&found["status"], found["erased"].as_u64().unwrap() > 0), (&json!("intact"), true), "{found}");
    let unknown = format!("/v1/invocations/{}/erase", agent_id());
    assert_eq!(router.post_as(OPERATOR_KEY, &unknown, reason).await.problem(404), "not_found");
}

#[tokio::test]
async fn the_log_names_changes_that_operators_want_and_no_looking() {
    let router = Router::start().await;
    for (method, path) in [("HEAD", "/metrics"), ("HEAD", "/v1/drain"), ("GET", "/v1/drain")] {
        assert_eq!(Answer::to(router.request(method, path, OPERATOR_KEY)).await.status, 200);
    }
    assert!(!router.log().contains("wants a change"), "{}", router.log());
    Answer::to(router.request("DELETE", "/v1/drain", OPERATOR_KEY)).await.expect(200);
    assert!(router.log().contains("wants a change"), "{}", router.log());
}
