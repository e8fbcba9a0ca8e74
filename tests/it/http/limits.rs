//! What a connection may cost: bodies, headers, those who do not read, and those who stay.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::support::{AUDITOR_KEY, BACKEND_KEY, OPERATOR_KEY, PATIENCE, Peer, Router, agent_id};

#[tokio::test]
async fn a_body_is_bounded() {
    let router = Router::start().await;
    let body = json!({"agent_id": "a", "payload": {"text": "x".repeat(1 << 20)}});
    assert_eq!(router.post_as(BACKEND_KEY, "/v1/invocations", body).await.problem(413), "frame_too_large");
    let reason = json!({"reason": "x".repeat(2 << 20)});
    let path = format!("/v1/invocations/{}/erase", agent_id());
    assert_eq!(router.post_as(OPERATOR_KEY, &path, reason).await.problem(413), "frame_too_large");
}

#[tokio::test]
async fn headers_are_bounded() {
    let router = Router::start().await;
    for headers in [format!("X-Long: {}\r\n", "x".repeat(512 << 10)), "X-Many: x\r\n".repeat(200)] {
        let mut stream = TcpStream::connect(router.address()).await.unwrap();
        let request = format!("GET /health/live HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        // The router may have closed before it has read all of it.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it is hung up on");
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
    assert_eq!(router.get_as("", "/health/live").await.status, 200);
}

#[tokio::test]
async fn a_body_that_trickles_in_is_cut() {
    let router = Router::start().await;
    let mut stream = TcpStream::connect(router.address()).await.unwrap();
    let head = format!(
        "POST /v1/invocations HTTP/1.1\r\nHost: localhost\r\napi-key: {BACKEND_KEY}\r\nContent-Type: application/json\r\n\
         Content-Length: 1000\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let started = Instant::now();
    let (mut reading, mut writing) = stream.split();
    let mut answer = String::new();
    let trickle = async {
        while writing.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        read = timeout(2 * PATIENCE, reading.read_to_string(&mut answer)) => { read.expect("it is cut").unwrap(); }
        () = trickle => {}
    }
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(started.elapsed() >= Duration::from_secs(9));
}

#[tokio::test]
async fn a_reader_that_does_not_read_is_cut_and_gives_its_place_back() {
    let router = Router::with(&[("SLOW_READER_TIMEOUT", "300ms"), ("MAX_STREAMS", "1")]).await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    for _ in 0..12 {
        let body = json!({"agent_id": target, "payload": {"text": "x".repeat(900_000)}});
        router.post_as(BACKEND_KEY, "/v1/invocations", body).await.expect(202);
        agent.recv().await;
    }
    let mut stream = TcpStream::connect(router.address()).await.unwrap();
    let request = format!(
        "GET /v1/history HTTP/1.1\r\nHost: localhost\r\napi-key: {AUDITOR_KEY}\r\nAccept: application/x-ndjson\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    // Once it has begun it has the place.
    stream.read_u8().await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    let stream_status = async || {
        let request =
            router.request("GET", "/v1/history?limit=1", AUDITOR_KEY).header("accept", "application/x-ndjson");
        request.send().await.unwrap().status().as_u16()
    };
    while stream_status().await != 200 {
        assert!(Instant::now() < deadline, "its place is not given back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut rest = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("the connection is over");
    assert!(!rest.ends_with(b"0\r\n\r\n"), "an answer that is cut off has no end");
}

#[tokio::test]
async fn more_connections_than_may_be_wait_for_their_turn() {
    let router = Router::with(&[("MAX_HTTP_CONNECTIONS", "16"), ("HEADER_TIMEOUT", "1s")]).await;
    let mut idle = Vec::new();
    for _ in 0..16 {
        idle.push(TcpStream::connect(router.address()).await.unwrap());
    }
    let started = Instant::now();
    assert_eq!(router.get_as("", "/health/live").await.status, 200);
    assert!(started.elapsed() < PATIENCE);
}
