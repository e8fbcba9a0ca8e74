//! Connections that never become requests, requests that never become sockets, and one socket too many.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::serves_others;
use crate::support::{BACKEND_KEY, NotOpened, PATIENCE, Peer, Router, Socket, agent_id};

const REQUEST: &str = "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// What comes back until the router hangs up.
async fn answer(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it is hung up on");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_handshake_that_trickles_in_is_cut_however_steadily_it_comes() {
    let router = Router::with(&[("HEADER_TIMEOUT", "500ms")]).await;
    let mut streams = Vec::new();
    for _ in 0..50 {
        streams.push(TcpStream::connect(router.address()).await.unwrap());
    }
    let started = Instant::now();
    let mut sent = 0;
    for byte in REQUEST.bytes() {
        let mut alive = false;
        for stream in &mut streams {
            alive |= stream.write_all(&[byte]).await.is_ok();
        }
        if !alive {
            break;
        }
        sent += 1;
        sleep(Duration::from_millis(20)).await;
    }
    assert!(sent < REQUEST.len(), "all of it was taken in {:?}", started.elapsed());
    serves_others(&router).await;
}

#[tokio::test]
async fn connections_that_say_nothing_lose_their_places_to_those_who_do() {
    let router = Router::with(&[("MAX_HTTP_CONNECTIONS", "32"), ("HEADER_TIMEOUT", "500ms")]).await;
    let mut silent = Vec::new();
    for _ in 0..64 {
        silent.push(TcpStream::connect(router.address()).await.unwrap());
    }
    serves_others(&router).await;
    for mut stream in silent {
        assert_eq!(answer(&mut stream).await, "");
    }
}

#[tokio::test]
async fn what_is_no_handshake_opens_no_socket() {
    let router = Router::start().await;
    let (version, key) = ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==");
    for (wrong, status) in [
        (REQUEST.replace(version, "Sec-WebSocket-Version: 8"), "400"),
        (REQUEST.replace(&format!("{key}\r\n"), ""), "400"),
        (REQUEST.replace("Upgrade: websocket", "Upgrade: h2c"), "400"),
        (REQUEST.replace("GET", "POST"), "405"),
        (
            REQUEST.replace("Host: localhost\r\n", "Host: localhost\r\nConnection: close\r\n").replace(version, "X: y"),
            "400",
        ),
        ("\u{0}\u{1}\u{2}\r\n".to_owned(), "400"),
        ("GET /ws HTTP/1.1\nno colon\n".to_owned(), "400"),
    ] {
        let mut stream = TcpStream::connect(router.address()).await.unwrap();
        stream.write_all(format!("{wrong}Connection: close\r\n\r\n").as_bytes()).await.unwrap();
        let said = answer(&mut stream).await;
        let is_refused = said.starts_with(&format!("HTTP/1.1 {status} ")) || said.starts_with("HTTP/1.1 426 ");
        assert!(is_refused, "{wrong:?}: {said:?}");
    }
    serves_others(&router).await;
}

#[tokio::test]
async fn beyond_the_most_sockets_the_next_is_refused_clearly_and_let_in_when_one_goes() {
    const MOST: usize = 20;
    let router = Router::with(&[("MAX_CONNECTIONS", "20")]).await;
    let mut sockets = Vec::new();
    for _ in 0..MOST {
        sockets.push(Peer::agent(&router, &agent_id()).await);
    }
    for headers in [&[("api-key", BACKEND_KEY)][..], &[]] {
        let opened = Socket::open(router.address(), headers).await;
        assert!(matches!(opened, Err(NotOpened::Status(503))), "{opened:?}");
    }
    let mut stream = TcpStream::connect(router.address()).await.unwrap();
    stream.write_all(format!("{REQUEST}Connection: close\r\n\r\n").as_bytes()).await.unwrap();
    let said = answer(&mut stream).await.to_lowercase();
    for part in ["http/1.1 503 ", "retry-after: 1", "application/problem+json", "\"rate_limited\"", "max_connections"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let event = router.wait_for_event("kind=connection.refused").await;
    assert_eq!(event["detail"]["reason"], "too many connections");
    assert_eq!(router.get_as("", "/health/live").await.status, 200, "HTTP has room of its own");

    sockets.pop().unwrap().close().await;
    let deadline = Instant::now() + PATIENCE;
    while Socket::open(router.address(), &[("api-key", BACKEND_KEY)]).await.is_err() {
        assert!(Instant::now() < deadline, "the place of the one that went is not free");
        sleep(Duration::from_millis(10)).await;
    }
    for socket in &mut sockets {
        socket.expect_nothing().await;
    }
}

#[tokio::test]
async fn sockets_without_a_credential_give_their_places_back_even_if_they_stay() {
    let router = Router::with(&[("MAX_CONNECTIONS", "8")]).await;
    let mut strangers = Vec::new();
    for _ in 0..8 {
        let stranger = Peer::connect(&router, &[]).await;
        stranger.answer_closes(false);
        strangers.push(stranger);
    }
    let deadline = Instant::now() + PATIENCE;
    while Socket::open(router.address(), &[("api-key", BACKEND_KEY)]).await.is_err() {
        assert!(Instant::now() < deadline, "strangers hold the places");
        sleep(Duration::from_millis(20)).await;
    }
    for mut stranger in strangers {
        assert_eq!(stranger.ended().await, Some(4000));
    }
}
