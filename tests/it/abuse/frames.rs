//! Frames as no client sends them: unmasked, too large, in pieces without end, compressed, and never whole.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::serves_others;
use crate::support::{BACKEND_KEY, PATIENCE, Peer, Router, agent_id};

const TEXT: u8 = 0x81;
const BEGINNING: u8 = 0x01;
const MORE: u8 = 0x00;

/// A frame under a mask of zeroes: any first byte, and a length in as many bytes as it says.
fn frame(first: u8, length: usize, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match length {
        0..126 => bytes.push(0x80 | u8::try_from(length).unwrap()),
        126..0x1_0000 => {
            bytes.push(0x80 | 0x7e);
            bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 0x7f);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

#[tokio::test]
async fn what_breaks_the_protocol_ends_its_own_socket_with_the_reason() {
    let router = Router::start().await;
    let compressed = b"\x7a\x7b\x0a\x00";
    for (what, bytes, code) in [
        ("unmasked", vec![TEXT, 2, b'{', b'}'], 1002),
        ("compressed, which was not agreed on", frame(TEXT | 0x40, compressed.len(), compressed), 1002),
        ("another reserved bit", frame(TEXT | 0x20, 2, b"{}"), 1002),
        ("a reserved opcode", frame(0x83, 0, b""), 1002),
        ("a Ping in pieces", frame(0x09, 0, b""), 1002),
        ("a Ping that is too long", frame(0x89, 126, &[0; 126]), 1002),
        ("a continuation of nothing", frame(0x80, 2, b"{}"), 1002),
        ("a message within a message", [frame(BEGINNING, 1, b"{"), frame(TEXT, 2, b"{}")].concat(), 1002),
        ("text that is not UTF-8", frame(TEXT, 2, &[0xc3, 0x28]), 1007),
        ("a length beyond all that is read", frame(TEXT, (4 << 20) + 1, b"{"), 1009),
        ("a length of 2^62", frame(TEXT, 1 << 62, b"{"), 1009),
    ] {
        let id = agent_id();
        let mut peer = Peer::agent(&router, &id).await;
        peer.send_bytes(&bytes).await;
        assert_eq!(peer.ended().await, Some(code), "{what}");
        let end = router.wait_for_event(&format!("kind=agent.disconnected&agent_id={id}")).await;
        assert_eq!(end["detail"]["reason"], "protocol_error", "{what}");
    }
    serves_others(&router).await;
}

#[tokio::test]
async fn compression_is_never_agreed_on() {
    let router = Router::start().await;
    for offer in ["permessage-deflate", "permessage-deflate; client_max_window_bits, x-webkit-deflate-frame"] {
        let mut stream = TcpStream::connect(router.address()).await.unwrap();
        let request = format!(
            "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\napi-key: {BACKEND_KEY}\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Extensions: {offer}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        assert!(head.starts_with("http/1.1 101 ") && !head.contains("extensions"), "{head}");
    }
    // The same over HTTP: a body is read as it is.
    let gzip: &[u8] = &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    let request = router.request("POST", "/v1/invocations", BACKEND_KEY).header("content-encoding", "gzip");
    let response = request.header("content-type", "application/json").body(gzip).send().await.unwrap();
    assert_eq!(response.status(), 400);
}

#[tokio::test]
async fn a_message_in_pieces_without_end_is_cut_at_four_times_the_largest_frame() {
    const PIECE: usize = 64 << 10;
    let router = Router::start().await;
    let mut peer = Peer::agent(&router, &agent_id()).await;
    let before = router.resident_kib();
    peer.send_bytes(&frame(BEGINNING, 1, b"{")).await;
    let piece = frame(MORE, PIECE, &vec![b' '; PIECE]);
    let mut sent = 0;
    while sent < 1024 && peer.try_send_bytes(&piece).await {
        sent += 1;
    }
    assert!(sent * PIECE < 16 << 20, "{} MiB were taken", (sent * PIECE) >> 20);
    let code = peer.ended().await;
    assert!(matches!(code, Some(1009) | None), "{code:?}");
    let grown = router.resident_kib().saturating_sub(before);
    println!("a message in pieces without end: {sent} of {PIECE} bytes were sent, {grown} KiB more are resident");
    assert!(grown <= 8 << 10, "{grown} KiB more than before");
    serves_others(&router).await;
}

#[tokio::test]
async fn a_message_in_empty_pieces_without_end_takes_no_memory_and_no_time_from_others() {
    let router = Router::start().await;
    let peer = Peer::agent(&router, &agent_id()).await;
    let before = router.resident_kib();
    peer.send_bytes(&frame(BEGINNING, 0, b"")).await;
    let pieces = frame(MORE, 0, b"").repeat(10_000);
    for _ in 0..50 {
        peer.send_bytes(&pieces).await;
        serves_others(&router).await;
    }
    let grown = router.resident_kib().saturating_sub(before);
    println!("500,000 empty pieces: {grown} KiB more are resident");
    assert!(grown <= 8 << 10, "{grown} KiB more than before");
}

#[tokio::test]
async fn a_frame_that_never_becomes_whole_is_no_sign_of_life() {
    let router = Router::with(&[("PING_INTERVAL", "200ms")]).await;
    let id = agent_id();
    let mut peer = Peer::agent(&router, &id).await;
    peer.answer_pings(false);
    peer.send_bytes(&frame(TEXT, 1000, b"{")).await;
    let trickle = async {
        while peer.try_send_bytes(b" ").await {
            sleep(Duration::from_millis(20)).await;
        }
        true
    };
    assert!(timeout(PATIENCE, trickle).await.unwrap_or_default(), "it is still there");
    let end = router.wait_for_event(&format!("kind=agent.disconnected&agent_id={id}")).await;
    assert_eq!(end["detail"]["reason"], json!("dead"));
    peer.ended().await;
}
