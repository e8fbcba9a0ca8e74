//! Many who wait at once, and those who hang up.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::support::{BACKEND_KEY, OPERATOR_KEY, PATIENCE, Peer, Router, agent_id};

/// How many wait at once, unless `AGENT_ROUTER_WAITERS` says otherwise; each takes a file on either side.
const WAITERS: usize = 2_000;

/// How many wait for an invocation now.
async fn waiters(router: &Router) -> usize {
    let metrics = router.get_as(OPERATOR_KEY, "/metrics").await.text;
    let line = metrics.lines().find_map(|line| line.strip_prefix("agent_router_waiters "));
    line.unwrap_or_else(|| panic!("no such metric in {metrics}")).parse().unwrap()
}

/// Waits until so many wait.
pub(super) async fn wait_for_waiters(router: &Router, count: usize) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = waiters(router).await;
        if now == count {
            return;
        }
        assert!(Instant::now() < deadline, "{now} wait, not {count}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// A connection whose request waits.
async fn waiting(router: &Router, invocation: &str) -> TcpStream {
    let mut stream = TcpStream::connect(router.address()).await.unwrap();
    let request = format!(
        "GET /v1/invocations/{invocation}?wait=60 HTTP/1.1\r\nHost: localhost\r\napi-key: {BACKEND_KEY}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn whoever_hangs_up_waits_no_longer() {
    let router = Router::start().await;
    let target = agent_id();
    let _agent = Peer::registered(&router, &target).await;
    let made = router.post_as(BACKEND_KEY, "/v1/invocations", json!({"agent_id": target})).await.expect(202);
    let invocation = made["id"].as_str().unwrap();
    let mut connections = Vec::new();
    for _ in 0..10 {
        connections.push(waiting(&router, invocation).await);
    }
    wait_for_waiters(&router, 10).await;
    connections.truncate(3);
    wait_for_waiters(&router, 3).await;
    drop(connections);
    wait_for_waiters(&router, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_wait_at_once_and_are_all_woken_by_one_answer() {
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let count = std::env::var("AGENT_ROUTER_WAITERS").map_or(WAITERS, |count| count.parse().unwrap());
    let router = Router::start().await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    let made = router.post_as(BACKEND_KEY, "/v1/invocations", json!({"agent_id": target})).await.expect(202);
    let invocation = made["id"].as_str().unwrap().to_owned();
    let delivery = agent.recv().await;
    let before = router.resident_kib();
    let mut connections = Vec::new();
    for _ in 0..count {
        connections.push(waiting(&router, &invocation).await);
    }
    wait_for_waiters(&router, count).await;
    println!("{count} waiters take {} KiB", router.resident_kib().saturating_sub(before));

    let answered = Instant::now();
    agent.answer(&delivery, json!("to everybody")).await;
    let mut answers = JoinSet::new();
    for mut stream in connections {
        answers.spawn(async move {
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        });
    }
    while let Some(answer) = answers.join_next().await {
        let answer = answer.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("to everybody"), "{answer}");
    }
    println!("all were answered after {:?}", answered.elapsed());
    assert_eq!(waiters(&router).await, 0);
}
