//! Web pages over HTTP (CORS).

use serde_json::json;

use crate::support::{AUDITOR_KEY, Answer, BACKEND_KEY, Peer, Router, agent_id};

const PAGE: &str = "https://console.example";

async fn router() -> Router {
    Router::with(&[("ALLOWED_ORIGINS", PAGE)]).await
}

async fn preflight(router: &Router, origin: &str) -> Answer {
    let request = reqwest::Client::new().request(reqwest::Method::OPTIONS, router.url("/v1/invocations"));
    let asked = [("access-control-request-method", "POST"), ("access-control-request-headers", "api-key")];
    Answer::to(
        asked.iter().fold(request.header("origin", origin), |request, (name, value)| request.header(*name, *value)),
    )
    .await
}

#[tokio::test]
async fn an_allowed_page_may_do_everything_and_read_the_answers() {
    let router = router().await;
    let answer = preflight(&router, PAGE).await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (204, PAGE));
    assert!(answer.header("access-control-allow-methods").contains("POST"));
    let headers = answer.header("access-control-allow-headers");
    for header in ["api-key", "authorization", "content-type", "idempotency-key", "prefer", "last-event-id"] {
        assert!(headers.contains(header), "{header} in {headers}");
    }
    let target = agent_id();
    let _agent = Peer::registered(&router, &target).await;
    let request = router.request("POST", "/v1/invocations", BACKEND_KEY).header("origin", PAGE);
    let answer = Answer::to(request.json(&json!({"agent_id": target}))).await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (202, PAGE));
    let exposed = answer.header("access-control-expose-headers");
    for header in ["location", "idempotency-replayed", "x-request-id", "retry-after"] {
        assert!(exposed.contains(header), "{header} in {exposed}");
    }
    let refused = Answer::to(router.request("GET", "/v1/history", "wrong").header("origin", PAGE)).await;
    assert_eq!((refused.status, refused.header("access-control-allow-origin")), (401, PAGE));
}

#[tokio::test]
async fn a_page_from_elsewhere_changes_nothing_and_reads_nothing() {
    let router = router().await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    for origin in ["https://evil.example", "https://console.example.evil.example", "http://console.example", "null"] {
        let answer = preflight(&router, origin).await;
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (403, ""));
        let request = router.request("POST", "/v1/invocations", BACKEND_KEY).header("origin", origin);
        let answer = Answer::to(request.json(&json!({"agent_id": target}))).await;
        assert_eq!(answer.problem(403), "not_allowed");
        let request = router.request("POST", "/invoke-agent", BACKEND_KEY).header("origin", origin);
        assert_eq!(Answer::to(request.json(&json!({"client_id": target, "message": {}}))).await.status, 403);
        let answer = Answer::to(router.request("GET", "/v1/history", AUDITOR_KEY).header("origin", origin)).await;
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, ""), "a browser keeps it back");
    }
    agent.expect_nothing().await;
}

#[tokio::test]
async fn the_routers_own_page_may_use_it() {
    let router = Router::start().await;
    let own = format!("http://{}", router.address());
    let request = router.request("POST", "/v1/invocations", BACKEND_KEY).header("origin", own);
    assert_eq!(Answer::to(request.json(&json!({"agent_id": agent_id()}))).await.problem(404), "agent_unknown");
    let request = router.request("POST", "/v1/invocations", BACKEND_KEY).header("origin", "http://rebound.example:1");
    let request = request.header("host", "rebound.example:1").json(&json!({"agent_id": agent_id()}));
    assert_eq!(Answer::to(request).await.status, 403);
}

#[tokio::test]
async fn in_development_mode_no_name_that_leads_here_has_a_published_key_count() {
    let under = async |router: &Router, host: &str| {
        Answer::to(router.request("GET", "/v1/history/head", AUDITOR_KEY).header("host", host)).await
    };
    let router = Router::start().await;
    for host in ["rebound.example:8080", "127.0.0.1.rebound.example", "localhost.rebound.example", ""] {
        assert_eq!(under(&router, host).await.problem(403), "not_allowed", "{host}");
    }
    for host in ["localhost:8080", "LocalHost", "127.0.0.1", "[::1]:8080"] {
        assert_eq!(under(&router, host).await.status, 200, "{host}");
    }
    let secured = Router::secured(&[]).await;
    assert_eq!(under(&secured, "router.example").await.status, 200);
}
