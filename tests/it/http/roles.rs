//! Who may do what: every role on every route that is described.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{AUDITOR_KEY, Answer, BACKEND_KEY, ML_KEY, OPERATOR_KEY, Peer, Router, agent_id};

const MASTER: u8 = 1;
const AUDITOR: u8 = 2;
const OPERATOR: u8 = 4;
const ALL: u8 = MASTER | AUDITOR | OPERATOR;

/// Every route, and for whom it is; without anyone: for everybody, with a key or without.
const ROUTES: [(&str, &str, u8); 23] = [
    ("POST", "/v1/invocations", MASTER),
    ("GET", "/v1/invocations", MASTER | AUDITOR),
    ("GET", "/v1/invocations/{id}", MASTER | AUDITOR),
    ("POST", "/v1/invocations/{id}/cancel", MASTER),
    ("POST", "/v1/invocations/{id}/erase", OPERATOR),
    ("GET", "/v1/invocations/{id}/history", AUDITOR),
    ("GET", "/v1/agents", ALL),
    ("GET", "/v1/agents/{id}", ALL),
    ("POST", "/v1/agents/{id}/disconnect", OPERATOR),
    ("GET", "/v1/history", AUDITOR),
    ("GET", "/v1/history/stream", AUDITOR),
    ("GET", "/v1/history/head", AUDITOR),
    ("GET", "/v1/history/verify", AUDITOR),
    ("GET", "/v1/nodes", AUDITOR | OPERATOR),
    ("GET", "/v1/drain", OPERATOR),
    ("POST", "/v1/drain", OPERATOR),
    ("DELETE", "/v1/drain", OPERATOR),
    ("GET", "/metrics", OPERATOR),
    ("GET", "/health/live", 0),
    ("GET", "/health/ready", 0),
    ("GET", "/openapi.json", 0),
    ("GET", "/asyncapi.json", 0),
    // Its own rule, tried below.
    ("POST", "/invoke-agent", 0),
];

const ROLES: [(&str, &str, u8); 4] = [
    ("the backend", BACKEND_KEY, MASTER),
    ("the master agent", ML_KEY, MASTER),
    ("an auditor", AUDITOR_KEY, AUDITOR),
    ("an operator", OPERATOR_KEY, OPERATOR),
];

#[test]
fn the_table_has_every_route_that_is_described_and_no_other() {
    let document: Value = serde_json::from_str(agent_router::http::openapi()).unwrap();
    let mut described = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let role = |name| match name {
                "master" => MASTER,
                "auditor" => AUDITOR,
                "operator" => OPERATOR,
                other => panic!("{other} is no role"),
            };
            let roles = operation["x-roles"].as_array().into_iter().flatten();
            let roles = roles.map(|name| role(name.as_str().unwrap())).fold(0, |all, role| all | role);
            described.insert((method.to_uppercase(), path.clone(), roles));
        }
    }
    let table = ROUTES.map(|(method, path, roles)| (method.to_owned(), path.to_owned(), roles));
    assert_eq!(described, BTreeSet::from(table));
}

#[tokio::test]
async fn each_role_gets_the_right_answer_or_is_turned_away() {
    let router = Router::secured(&[("STREAM_LIFETIME", "100ms")]).await;
    let agent = agent_id();
    let mut peer = Peer::registered(&router, &agent).await;
    let body = json!({"agent_id": agent, "payload": {}});
    let done = router.post_as(BACKEND_KEY, "/v1/invocations", body.clone()).await.expect(202);
    let id = done["id"].as_str().unwrap().to_owned();
    let delivery = peer.recv().await;
    peer.answer(&delivery, json!("done")).await;
    router.wait_for_state(&id, "completed").await;

    for (method, pattern, allowed) in ROUTES {
        if pattern == "/invoke-agent" {
            continue;
        }
        let which = if pattern.contains("agents") { &agent } else { &id };
        let path = pattern.replace("{id}", which);
        let asked = |key: Option<&str>| {
            let mut request = router.request(method, &path, key.unwrap_or("wrong"));
            if pattern == "/v1/invocations" && method == "POST" {
                request = request.json(&body);
            } else if pattern.ends_with("erase") {
                request = request.json(&json!({"reason": "a test"}));
            }
            Answer::to(request)
        };
        for (who, key, role) in ROLES {
            let answer = asked(Some(key)).await;
            let case = format!("{who}: {method} {path}: {}", answer.text);
            // The invocation is the backend's, so to the master agent there is none.
            let is_anothers = key == ML_KEY && pattern.contains("invocations/{id}");
            if allowed == 0 || allowed & role > 0 && !is_anothers {
                assert!((200..300).contains(&answer.status), "{} for {case}", answer.status);
            } else if allowed & role > 0 {
                assert_eq!(answer.status, 404, "{case}");
            } else {
                assert_eq!(answer.problem(403), "not_allowed", "{case}");
            }
        }
        let answer = asked(None).await;
        if allowed == 0 {
            assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text);
        } else {
            assert_eq!(answer.problem(401), "not_allowed", "{method} {path}");
            assert_eq!(answer.header("www-authenticate"), "Bearer");
        }
    }
}

#[tokio::test]
async fn a_key_counts_as_api_key_or_as_bearer_and_every_rotated_one_does() {
    let router = Router::with(&[("AUDITOR_API_KEY", "first-auditors-key,second-auditors-key")]).await;
    let asked = async |name: &str, value: &str| {
        let request = reqwest::Client::new().get(router.url("/v1/history/head")).header(name, value);
        Answer::to(request).await.status
    };
    for key in ["first-auditors-key", "second-auditors-key"] {
        assert_eq!(asked("api-key", key).await, 200);
        assert_eq!(asked("Authorization", &format!("Bearer {key}")).await, 200);
    }
    assert_eq!(asked("Authorization", "Basic first-auditors-key").await, 401);
    assert_eq!(asked("api-key", "first-auditors-key,second-auditors-key").await, 401);
    assert_eq!(asked("x-api-key", "first-auditors-key").await, 401);
}

#[tokio::test]
async fn who_is_turned_away_is_in_the_journal_and_the_key_is_not() {
    let router = Router::start().await;
    router.get_as("a-key-that-nobody-has", "/v1/history").await.problem(401);
    router.get_as(OPERATOR_KEY, "/v1/history").await.problem(403);
    let refused = router.wait_for_events("kind=connection.refused", 2).await;
    let reasons: Vec<_> = refused.iter().map(|event| event["detail"]["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["unknown API key", "the key of the role operator where the key of an auditor is needed"]);
    assert!(!json!(refused).to_string().contains("a-key-that-nobody-has"));
}
