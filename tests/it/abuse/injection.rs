//! SQL, log lines and headers where a name, an id or a text is expected: they stay what they are.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::serves_others;
use crate::support::{AUDITOR_KEY, BACKEND_KEY, OPERATOR_KEY, PATIENCE, Peer, Router, agent_id, answered};

const SQL: &str = "'; DROP TABLE journal; --\" OR \"1\"='1'/*\\";
/// A line that looks like one of the router's own, and what makes a terminal lie.
const FORGED: &str =
    "x\n2026-01-01T00:00:00.000000Z  INFO agent_router: FORGED-LINE\r\n\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31m\0end";

/// Everything that a peer may write, with this in each place that takes a text.
fn frames(text: &str, target: &str) -> Vec<Value> {
    vec![
        json!({"message_type": "agent_register", "request_payload": {
            "agent_name": text, "agent_description": text, "agent_input_schema": {text: text}, text: text}}),
        json!({"message_type": "agent_log", "log_message": text, "log_level": text, "request_id": text,
            "session_id": text, "invoked_by": text}),
        json!({"message_type": "agent_invoke", "agent_uuid": text, "request_payload": {text: text}}),
        json!({"message_type": "agent_invoke", "agent_uuid": target, "request_payload": {text: text},
            "request_metadata": {"request_id": text, "session_id": text, text: text}, text: text,
            "traceparent": text}),
        json!({"message_type": "agent_invoke", "agent_uuid": target, "request_payload": {"a": text},
            "idempotency_key": text.replace('\0', "")}),
        json!({"message_type": "agent_response", "response": text, "invoked_by": text, "execution_time": text}),
        json!({"message_type": "agent_error", "error": {"error_message": text}, "invoked_by": text}),
        json!({"message_type": "agent_cancel", "invocation_id": text}),
        json!({"message_type": text}),
        json!(text),
    ]
}

/// Everything that is asked over HTTP, with this in each place that takes a text.
async fn ask(router: &Router, text: &str) {
    for path in ["/v1/history", "/v1/invocations", "/v1/agents", "/v1/history/stream"] {
        for name in
            ["agent_id", "caller", "kind", "state", "request_id", "session_id", "invocation_id", "cursor", "from", text]
        {
            let request = router.request("GET", path, AUDITOR_KEY).query(&[(name, text)]);
            let status = timeout(PATIENCE, request.send()).await.unwrap().unwrap().status().as_u16();
            assert!(status == 200 || (400..500).contains(&status), "{path} {name}: {status}");
        }
    }
    let key = text.replace(|c: char| !c.is_ascii_graphic(), "_");
    let request = router.request("POST", "/v1/invocations", BACKEND_KEY).header("idempotency-key", &key);
    let body = json!({"agent_id": text, "payload": {text: text}, "metadata": {"request_id": text}});
    let status = request.json(&body).send().await.unwrap().status().as_u16();
    // An agent of that name may be there, and get it as it is.
    assert!(status == 202 || (400..500).contains(&status), "{status}");
    let (status, _) = router
        .post_invoke_agent(Some(BACKEND_KEY), &json!({"client_id": text, "message": {text: text}}).to_string())
        .await;
    assert!(status == 200 || status == 422, "{status}");
    let path = format!("/v1/invocations/{}/erase", agent_id());
    assert_eq!(router.post_as(OPERATOR_KEY, &path, json!({"reason": text})).await.status / 100, 4);
    let id = router.request("GET", "/health/live", "").header("x-request-id", &key).send().await.unwrap();
    assert_eq!(id.status(), 200);
}

/// Lines of the log that were not begun by the router, and bytes that a terminal would act on.
fn suspicious(log: &str, is_json: bool) -> Vec<&str> {
    let is_own = |line: &str| {
        if is_json {
            serde_json::from_str::<Value>(line).is_ok_and(|line| line["timestamp"].is_string())
        } else {
            line.split_once(' ')
                .is_some_and(|(time, _)| time.len() >= 20 && time.ends_with('Z') && time.starts_with("20"))
        }
    };
    let is_forged = |line: &str| line.trim_start().starts_with("2026-01-01T00:00:00.000000Z");
    log.lines().filter(|line| !is_own(line) || is_forged(line) || line.chars().any(char::is_control)).collect()
}

#[tokio::test]
async fn what_peers_write_is_neither_sql_nor_a_line_of_the_log() {
    for format in ["text", "json"] {
        let router = Router::with(&[("RUST_LOG", "trace"), ("LOG_FORMAT", format)]).await;
        let target = agent_id();
        let mut agent = Peer::registered(&router, &target).await;
        for text in [SQL, FORGED] {
            let peer = Peer::agent(&router, &agent_id()).await;
            for frame in frames(text, &target) {
                peer.send(frame).await;
            }
            let by_name = [("x-custom-authorization", SQL), ("x-custom-invoke-key", &format!("{SQL}:{SQL}"))];
            for header in by_name {
                Peer::connect(&router, &[header]).await;
            }
            ask(&router, text).await;
            let deliveries = agent.recv_many(2).await;
            assert_eq!(deliveries[0]["request_payload"][text], text, "it arrives as it is");
            peer.close().await;
            let logged = router.wait_for_event("kind=agent.logged").await;
            assert!(logged["payload"]["log_message"].is_string());
        }
        let log = router.log();
        assert!(log.lines().count() > 50, "there is a log: {log}");
        let suspicious = suspicious(&log, format == "json");
        assert!(suspicious.is_empty(), "{suspicious:#?}");
        let output = router.run(&["journal", "verify"]);
        assert!(output.status.success(), "{output:?}");
        serves_others(&router).await;
        let mut caller = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
        caller.invoke(&target, json!({})).await;
        let delivery = agent.recv().await;
        agent.answer(&delivery, json!("as ever")).await;
        assert_eq!(caller.recv().await, answered(json!("as ever")));
    }
}

#[tokio::test]
async fn what_comes_in_a_header_goes_out_in_none() {
    let router = Router::start().await;
    let split = "a%0d%0aSet-Cookie:%20owned=1";
    for (target, headers) in [
        ("/health/live", "X-Request-Id: a\rSet-Cookie: owned=1\r\n"),
        ("/health/live", "X-Request-Id: a\n Set-Cookie: owned=1\r\n"),
        ("/health/live", "X-Request-Id: a\u{e9}b c\r\n"),
        ("/health/live", "Origin: http://x\r\nAccess-Control-Request-Method: POST\r\n"),
        (&format!("/v1/agents/{split}"), &format!("api-key: {AUDITOR_KEY}\r\n")),
        (&format!("/v1/invocations/{split}"), &format!("api-key: {AUDITOR_KEY}\r\n")),
        (&format!("/{split}"), "X: y\r\n"),
        (&format!("/docs?{split}"), "X: y\r\n"),
    ] {
        let mut stream = TcpStream::connect(router.address()).await.unwrap();
        let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        let answer = String::from_utf8_lossy(&answer);
        let head = answer.split("\r\n\r\n").next().unwrap().to_lowercase();
        assert!(head.starts_with("http/1.1 "), "{target}: {answer}");
        assert!(!head.contains("set-cookie") && !head.contains("owned"), "{target}: {head}");
    }
    serves_others(&router).await;
}
