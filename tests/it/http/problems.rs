//! Refusals look the same everywhere, and answers say who asked for them.

use serde_json::json;

use crate::support::{AUDITOR_KEY, Answer, BACKEND_KEY, Router};

#[tokio::test]
async fn what_is_not_there_and_what_is_not_for_this_method_are_problems() {
    let router = Router::start().await;
    for path in ["/v1/nowhere", "/docs/nowhere"] {
        assert_eq!(router.get_as(BACKEND_KEY, path).await.problem(404), "not_found", "{path}");
    }
    for (method, path, allow) in [
        ("PUT", "/v1/invocations", "POST,GET,HEAD"),
        ("DELETE", "/v1/history", "GET,HEAD"),
        ("POST", "/health/live", "GET,HEAD"),
        ("PATCH", "/v1/drain", "GET,HEAD,POST,DELETE"),
        ("GET", "/invoke-agent", "POST"),
    ] {
        let answer = Answer::to(router.request(method, path, "no key needed")).await;
        assert_eq!(answer.problem(405), "malformed", "{method} {path}");
        let listed = |text: &str| {
            text.split(',').map(|method| method.trim().to_owned()).collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(listed(answer.header("allow")), listed(allow), "{method} {path}");
    }
}

#[tokio::test]
async fn a_parameter_that_makes_no_sense_is_refused_by_name() {
    let router = Router::start().await;
    for (path, says) in [
        ("/v1/history?limit=0", "limit"),
        ("/v1/history?limit=%2B5", "limit"),
        ("/v1/history?limit=1001", "limit"),
        ("/v1/history?limit=1&limit=1", "twice"),
        ("/v1/history?kind=agent.flew", "kind"),
        ("/v1/history?kind=", "kind"),
        ("/v1/history?from=yesterday", "RFC 3339"),
        ("/v1/history?order=up", "asc, desc"),
        ("/v1/history?wait=61", "wait"),
        ("/v1/history?agent_id=", "agent_id"),
        ("/v1/history?request_id=%00", "request_id"),
        ("/v1/history?invocation_id=0af7651916cd43dd8448eb211c80319c", "a UUID"),
        ("/v1/history?colour=red", "colour"),
        ("/v1/invocations?state=lost", "state"),
        ("/v1/invocations?wait=1", "wait"),
        ("/v1/invocations/7", "a UUID"),
        ("/v1/invocations/%FF", "UTF-8"),
        ("/v1/agents?connected=yes", "true, false"),
        ("/v1/history/verify?to=-1", "to"),
        ("/v1/history/head?x=1", "x"),
    ] {
        let refused = router.get_as(AUDITOR_KEY, path).await;
        assert_eq!(refused.problem(400), "malformed", "{path}");
        assert!(refused.text.contains(says), "{path}: {}", refused.text);
    }
}

#[tokio::test]
async fn an_answer_has_the_id_of_its_request_and_is_not_stored_anywhere() {
    let router = Router::with(&[("RUST_LOG", "debug")]).await;
    let answer = Answer::to(router.request("GET", "/v1/agents", AUDITOR_KEY).header("x-request-id", "order-7/3")).await;
    assert_eq!((answer.header("x-request-id"), answer.header("cache-control")), ("order-7/3", "no-store"));
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert!(
        router.log().lines().any(|line| line.contains("order-7/3") && line.contains("/v1/agents")),
        "{}",
        router.log()
    );
    for unusable in ["", "a b", &"x".repeat(129)] {
        let answer =
            Answer::to(router.request("GET", "/v1/nowhere", AUDITOR_KEY).header("x-request-id", unusable)).await;
        let made = answer.header("x-request-id");
        assert!(made.len() == 36 && made != unusable, "{made}");
    }
    let secret = Answer::to(router.request("GET", "/v1/history?agent_id=who-is-this", AUDITOR_KEY)).await;
    assert_eq!(secret.status, 200);
    assert!(!router.log().contains("who-is-this"), "queries are not logged");
}

#[tokio::test]
async fn the_originals_request_keeps_the_originals_answers() {
    let router = Router::secured(&[]).await;
    let answer = router.post_as("wrong", "/invoke-agent", json!({"client_id": "a", "message": {}})).await;
    assert!(answer.expect(401)["detail"].is_string());
    let answer = router.post_as(AUDITOR_KEY, "/invoke-agent", json!({"client_id": "a", "message": {}})).await;
    assert!(answer.expect(403)["detail"].is_string());
    let answer = router.post_as(BACKEND_KEY, "/invoke-agent", json!({"client_id": "a"})).await;
    assert_eq!(answer.expect(422)["detail"][0]["type"], "missing");
}
