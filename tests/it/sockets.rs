//! Sockets that hold: browsers, slow readers, dead peers, and those who never say what they want.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{BACKEND_KEY, NotOpened, PATIENCE, Peer, Router, Socket, agent_id, answered};

#[tokio::test]
async fn a_browser_is_let_in_only_from_an_origin_that_is_allowed() {
    let router = Router::with(&[("ALLOWED_ORIGINS", "https://console.example, http://localhost:3000")]).await;
    let key = ("api-key", BACKEND_KEY);
    for origin in ["https://console.example", "http://localhost:3000"] {
        Peer::connect(&router, &[key, ("Origin", origin)]).await.expect_nothing().await;
    }
    Peer::connect(&router, &[key]).await.expect_nothing().await;
    for origin in ["https://evil.example", "http://console.example", "https://console.example.evil.example", "null"] {
        let opened = Socket::open(router.address(), &[key, ("Origin", origin)]).await;
        assert!(matches!(opened, Err(NotOpened::Status(403))), "{origin}: {opened:?}");
    }

    let router = Router::start().await;
    let opened = Socket::open(router.address(), &[key, ("Origin", "http://localhost:3000")]).await;
    assert!(matches!(opened, Err(NotOpened::Status(403))), "{opened:?}");
}

#[tokio::test]
async fn a_caller_that_does_not_read_is_closed_and_holds_up_nobody() {
    let router = Router::with(&[("SLOW_READER_TIMEOUT", "1s")]).await;
    let (caller, target) = (agent_id(), agent_id());
    let mut agent = Peer::registered(&router, &target).await;
    let headers = [("x-custom-authorization", &*caller)];
    let socket = Socket::open_with_buffer(router.address(), &headers, Some(4096)).await.unwrap();
    let mut slow = Peer::over(socket, &caller);
    slow.expect_nothing().await;
    slow.read(false);
    let mut other = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    for _ in 0..20 {
        slow.invoke(&target, json!({})).await;
    }
    for delivery in agent.recv_many(20).await {
        agent.answer(&delivery, json!("z".repeat(900_000))).await;
    }
    for n in 0..20 {
        other.invoke(&target, json!({})).await;
        let delivery = agent.recv().await;
        agent.answer(&delivery, json!(n)).await;
        assert_eq!(other.recv().await, answered(json!(n)));
    }
    router.wait_for_event(&format!("kind=agent.disconnected&agent_id={caller}")).await;
    slow.read(true);
    let code = slow.ended().await;
    assert!(matches!(code, Some(4408) | None), "{code:?}");
    agent.expect_nothing().await;
}

#[tokio::test]
async fn a_peer_that_answers_no_pings_is_dead_after_two_misses() {
    let router = Router::with(&[("PING_INTERVAL", "200ms")]).await;
    let mut backend = Peer::master_be(&router).await;
    let (alive, dead) = (agent_id(), agent_id());
    let mut answering = Peer::agent(&router, &alive).await;
    let mut silent = Peer::connecting_agent(&router, &dead).await;
    silent.answer_pings(false);
    silent.ended().await;
    let end = json!({"request_payload": {"agent_uuid": dead, "message_type": "agent_unregister"}});
    assert_eq!(backend.recv().await, end);
    for _ in 0..4 {
        answering.ping().await;
    }
    answering.expect_nothing().await;
    backend.expect_nothing().await;
}

#[tokio::test]
async fn who_does_not_say_what_it_wants_in_time_is_hung_up_on() {
    let router = Router::with(&[("HEADER_TIMEOUT", "300ms")]).await;
    for start in ["", "GET /ws HTTP/1.1\r\nHost: x\r\nX-Half"] {
        let mut stream = TcpStream::connect(router.address()).await.unwrap();
        stream.write_all(start.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let ended = timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        assert!(ended.is_ok(), "the router still waits for the rest of {start:?}");
    }
    Peer::master_be(&router).await.expect_nothing().await;
}

#[tokio::test]
async fn a_flood_of_pings_whose_pongs_are_not_read_takes_no_memory() {
    const FLOOD: usize = 64;
    let router = Router::start().await;
    let flooder = Peer::agent(&router, &agent_id()).await;
    flooder.read(false);
    let before = router.resident_kib();
    let mut ping = vec![0x89, 0x80 | 0x7d, 0, 0, 0, 0];
    ping.extend([b'p'; 0x7d]);
    let mebibyte = ping.repeat(1024 * 1024 / ping.len());
    for _ in 0..FLOOD {
        if timeout(Duration::from_secs(1), flooder.try_send_bytes(&mebibyte)).await != Ok(true) {
            break;
        }
    }
    let grown = router.resident_kib().saturating_sub(before);
    assert!(grown < 24 * 1024, "{grown} KiB more than before");
    Peer::master_be(&router).await.send_raw("still here").await;
}
