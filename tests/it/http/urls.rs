//! Keys do not belong in a URL.

use serde_json::json;

use crate::support::{AUDITOR_KEY, Answer, BACKEND_KEY, OPERATOR_KEY, Peer, Router, agent_id, agent_token};

#[tokio::test]
async fn a_key_in_the_url_is_refused_on_every_route_and_not_repeated() {
    let router = Router::start().await;
    let token = agent_token("a", "a secret of 32 bytes, for a test.");
    for secret in [BACKEND_KEY, AUDITOR_KEY, OPERATOR_KEY, &*token] {
        let escaped = secret.replace(':', "%3A");
        let twice = escaped.replace('%', "%25");
        for path in [
            format!("/v1/history?agent_id={escaped}"),
            format!("/v1/agents/{escaped}"),
            format!("/v1/invocations/{escaped}"),
            format!("/health/live?x={escaped}"),
            format!("/nowhere/{escaped}"),
            format!("/ws?api_key={escaped}"),
            format!("/docs/?q={escaped}"),
            format!("/v1/history?limit=%2522{twice}"),
            format!("/v1/history?limit=1,{escaped}"),
        ] {
            let refused = Answer::to(router.request("GET", &path, BACKEND_KEY)).await;
            assert_eq!(refused.problem(400), "malformed", "{path}");
            assert!(refused.text.contains("send it in a header, and replace it") && !refused.text.contains(secret));
        }
    }
    let named = Answer::to(router.request("GET", "/health/live?x-api-key=whatever", AUDITOR_KEY)).await;
    assert_eq!(named.problem(400), "malformed");
    let journal = router.history("").await;
    let refused = router.wait_for_events("kind=connection.refused", 37).await;
    assert!(refused.iter().all(|event| event["detail"]["reason"] == "a key in the URL"), "{refused:?}");
    for secret in [BACKEND_KEY, AUDITOR_KEY, OPERATOR_KEY, &*token] {
        assert!(!format!("{journal:?}").contains(secret) && !router.log().contains(secret));
    }
}

#[tokio::test]
async fn a_key_among_other_words_is_not_repeated_and_not_kept() {
    let router = Router::start().await;
    let agent = agent_id();
    let _peer = Peer::registered(&router, &agent).await;
    for hidden in [
        BACKEND_KEY.to_owned(),
        format!("{BACKEND_KEY}."),
        format!("x,{BACKEND_KEY}"),
        format!("key:{BACKEND_KEY}"),
        format!("\"{OPERATOR_KEY}\""),
    ] {
        let answer = Answer::to(router.request("GET", "/health/live", "").header("x-request-id", &hidden)).await;
        assert!(answer.status == 200 && answer.header("x-request-id") != hidden);
        for header in ["idempotency-key", "traceparent"] {
            let request = router.request("POST", "/v1/invocations", BACKEND_KEY).header(header, &hidden);
            let refused = Answer::to(request.json(&json!({"agent_id": agent}))).await;
            assert_eq!(refused.problem(400), "malformed", "{header}: {hidden}");
            assert!(!refused.text.contains(&hidden));
        }
    }
    let journal = json!(router.history("").await).to_string();
    assert!(!journal.contains(BACKEND_KEY) && !journal.contains(OPERATOR_KEY));
}
