//! What needs a real socket, but no router.

use std::net::SocketAddr;

use axum::routing::any;
use futures_util::SinkExt;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message as ClientMessage;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::*;
use crate::code::ErrorCode;
use crate::router::EndReason;

type Client = WebSocketStream<MaybeTlsStream<TcpStream>>;

fn settings() -> SocketSettings {
    SocketSettings {
        ping_interval: Duration::from_secs(20),
        slow_reader_timeout: Duration::from_millis(300),
        max_frame_bytes: 16 << 10,
        feed_ack_timeout: Duration::from_secs(5),
        secured: false,
    }
}

/// Hands over one accepted socket, and the client at its other end.
async fn sockets() -> (WebSocket, Client) {
    let (address, mut accepted) = listen().await;
    let (client, _) = connect_async(format!("ws://{address}/ws")).await.unwrap();
    (accepted.recv().await.unwrap(), client)
}

async fn listen() -> (SocketAddr, mpsc::Receiver<WebSocket>) {
    let (accept, accepted) = mpsc::channel(1);
    let handler = move |upgrade: WebSocketUpgrade| {
        let accept = accept.clone();
        async move {
            configure(upgrade, &settings()).on_upgrade(|socket| async move {
                accept.send(socket).await.unwrap();
            })
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = axum::Router::new().route("/ws", any(handler));
    tokio::spawn(axum::serve(listener, app).into_future());
    (address, accepted)
}

async fn close_of(client: &mut Client) -> (u16, String) {
    loop {
        match client.next().await.unwrap().unwrap() {
            ClientMessage::Close(Some(frame)) => return (frame.code.into(), frame.reason.to_string()),
            ClientMessage::Close(None) => panic!("closed without a code"),
            _ => {}
        }
    }
}

/// What the first failed read from this socket means.
async fn read_until_stop(socket: &mut WebSocket) -> Stop {
    loop {
        if let Err(error) = socket.recv().await.unwrap() {
            return Stop::from_read_error(&error);
        }
    }
}

#[tokio::test]
async fn a_refused_peer_is_told_why() {
    let (socket, mut client) = sockets().await;
    let refusal = tokio::spawn(refuse(socket, 4000, "Missing Authorization header"));
    let told = close_of(&mut client).await;
    assert_eq!(told, (4000, "Missing Authorization header".to_owned()));
    refusal.await.unwrap();
}

#[tokio::test]
async fn a_refused_peer_that_says_nothing_holds_nothing_up() {
    let (socket, _client) = sockets().await;
    let start = std::time::Instant::now();
    refuse(socket, 4000, "Missing Authorization header").await;
    assert!(start.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn frames_up_to_four_times_the_largest_are_read_and_no_larger_ones() {
    let (mut socket, mut client) = sockets().await;
    let largest = READ_FACTOR * settings().max_frame_bytes;
    client.send(ClientMessage::text("x".repeat(largest))).await.unwrap();
    assert_eq!(socket.recv().await.unwrap().unwrap().into_data().len(), largest);

    client.send(ClientMessage::text("x".repeat(largest + 1))).await.unwrap();
    let stop = read_until_stop(&mut socket).await;
    assert_eq!(stop.reason(), EndReason::ProtocolError);
    let (mut sink, stream) = socket.split();
    let closing = tokio::spawn(async move {
        let told = closing::say(&mut sink, stop).await;
        closing::wait(stream, stop, told).await;
    });
    assert_eq!(close_of(&mut client).await, (1009, "frame too large".to_owned()));
    closing.await.unwrap();
}

#[tokio::test]
async fn breaches_of_the_protocol_are_told_apart_from_losses() {
    let unmasked = [0x81, 0x01, b'x'];
    let not_utf8 = [0x81, 0x81, 0, 0, 0, 0, 0xff];
    for (bytes, code) in [(&unmasked[..], CloseCode::Protocol), (&not_utf8[..], CloseCode::Invalid)] {
        let (mut socket, mut client) = sockets().await;
        let MaybeTlsStream::Plain(raw) = client.get_mut() else { unreachable!("no TLS here") };
        raw.write_all(bytes).await.unwrap();
        let stop = read_until_stop(&mut socket).await;
        assert!(matches!(stop, Stop::Violation(farewell) if farewell.code == u16::from(code)));
    }
    let (mut socket, client) = sockets().await;
    drop(client);
    assert_eq!(read_until_stop(&mut socket).await, Stop::Lost);
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_too_slow() {
    let (socket, _client) = sockets().await;
    let (sink, _stream) = socket.split();
    let mut wire = Wire::new(sink, settings().slow_reader_timeout);
    let text = axum::extract::ws::Utf8Bytes::from("x".repeat(settings().max_frame_bytes));
    let stop = loop {
        if let Err(stop) = wire.text(text.clone()).await {
            break stop;
        }
    };
    assert_eq!(stop, Stop::TooSlow);
}

#[tokio::test]
async fn a_peer_that_floods_pings_and_reads_no_pong_is_too_slow() {
    let (socket, mut client) = sockets().await;
    let (sink, mut stream) = socket.split();
    let mut wire = Wire::new(sink, settings().slow_reader_timeout);
    let flood = tokio::spawn(async move {
        let ping = ClientMessage::Ping(vec![b'x'; 125].into());
        while client.send(ping.clone()).await.is_ok() {}
    });
    let reading = tokio::spawn(async move { while let Some(Ok(_)) = stream.next().await {} });
    let text = axum::extract::ws::Utf8Bytes::from("x".repeat(settings().max_frame_bytes));
    let stop = loop {
        if let Err(stop) = wire.text(text.clone()).await {
            break stop;
        }
    };
    assert_eq!(stop, Stop::TooSlow);
    flood.abort();
    reading.abort();
}

#[test]
fn a_socket_that_the_router_does_not_take_is_told_whether_to_come_back() {
    let code = |why| Farewell::refused(why).code;
    assert_eq!(code(ErrorCode::NotAllowed), 4000);
    assert_eq!(code(ErrorCode::ShuttingDown), 1012);
    assert_eq!(code(ErrorCode::JournalUnavailable), 1013);
}
