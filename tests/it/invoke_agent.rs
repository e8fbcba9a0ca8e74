//! `POST /invoke-agent`: a message to a connected client, over HTTP.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{BACKEND_KEY, ML_KEY, Peer, Router, agent_id, answer};

fn sent(client: &str) -> (u16, Value) {
    (200, json!({"detail": format!("Message sent to client {client}")}))
}

fn body(client: &str) -> String {
    json!({"client_id": client, "message": {"request_payload": {"x": 1}, "note": "n"}}).to_string()
}

#[tokio::test]
async fn the_message_is_one_frame_and_its_answer_is_read_over_http() {
    let router = Router::start().await;
    let mut backend = Peer::master_be(&router).await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    assert_eq!(backend.recv().await["request_payload"]["agent_uuid"], target);
    assert_eq!(router.post_invoke_agent(None, &body(&target)).await, sent(&target));

    let delivery = agent.recv().await;
    let invocation = delivery["invoked_by"].as_str().unwrap().strip_prefix('#').unwrap().to_owned();
    let expected = json!({"request_payload": {"x": 1}, "note": "n", "invoked_by": format!("#{invocation}")});
    assert_eq!(delivery, expected);
    agent.send(answer(&delivery, json!("read me over HTTP"))).await;
    let finished = router.wait_for_state(&invocation, "completed").await;
    assert!(finished["result"].to_string().contains("read me over HTTP"), "{finished}");
    backend.expect_nothing().await;
    agent.expect_nothing().await;
}

#[tokio::test]
async fn a_malformed_body_is_answered_with_422() {
    let router = Router::start().await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    for body in [
        String::new(),
        "{".to_owned(),
        "[]".to_owned(),
        "{}".to_owned(),
        json!({"client_id": target}).to_string(),
        json!({"message": {}}).to_string(),
        json!({"client_id": 7, "message": {}}).to_string(),
        json!({"client_id": target, "message": "text"}).to_string(),
        json!({"client_id": target, "message": null}).to_string(),
    ] {
        assert_eq!(router.post_invoke_agent(None, &body).await.0, 422, "{body}");
    }
    agent.expect_nothing().await;
}

#[tokio::test]
async fn an_absent_client_is_no_error_and_is_journaled_as_refused() {
    let router = Router::start().await;
    let (unknown, away) = (agent_id(), agent_id());
    Peer::registered(&router, &away).await.leave(&router).await;
    for client in [&unknown, &away] {
        assert_eq!(router.post_invoke_agent(None, &body(client)).await, sent(client));
        router.wait_for_event(&format!("kind=invocation.refused&agent_id={client}")).await;
    }
    let mut agent = Peer::registered(&router, &away).await;
    agent.expect_nothing().await;
}

#[tokio::test]
async fn secured_it_wants_a_masters_key() {
    let router = Router::secured(&[]).await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    for key in [None, Some("wrong"), Some(&*router.agent_credential(&target))] {
        let (status, _) = router.post_invoke_agent(key, &body(&target)).await;
        assert!(matches!(status, 401 | 403), "{key:?} is answered with {status}");
    }
    agent.expect_nothing().await;
    for key in [BACKEND_KEY, ML_KEY] {
        assert_eq!(router.post_invoke_agent(Some(key), &body(&target)).await, sent(&target));
        assert_eq!(agent.recv().await["request_payload"], json!({"x": 1}));
    }
}

#[tokio::test]
async fn python_json_in_the_message_passes_unchanged() {
    let router = Router::start().await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    let message = r#"{"request_payload": {"n":  NaN, "big": 100000000000000000000000, "s": "\udfff"}}"#;
    let (status, _) =
        router.post_invoke_agent(None, &format!(r#"{{"client_id": "{target}", "message": {message}}}"#)).await;
    assert_eq!(status, 200);
    let delivery = agent.recv_text().await;
    assert!(delivery.contains(&message[1..message.len() - 1]), "{delivery}");
}

#[tokio::test]
async fn who_may_not_is_told_so_before_a_body_is_waited_for() {
    let router = Router::secured(&[]).await;
    let mut stream = TcpStream::connect(router.address()).await.unwrap();
    let head = "POST /invoke-agent HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    timeout(Duration::from_secs(5), stream.read_exact(&mut answer)).await.expect("it does not wait").unwrap();
    assert_eq!(&answer, b"HTTP/1.1 401");
}
