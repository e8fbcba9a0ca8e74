//! Thousands of sockets that say nothing: 1,000, or 10,000 with `ABUSE=long`.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::{is_long, serves_others};
use crate::support::{NotOpened, PATIENCE, Peer, Router, Socket, agent_id};

/// The most that one may cost, in KiB.
const MOST_KIB: u64 = 32;

/// An idle agent, which costs this process no more than its end of the connection.
async fn idle(router: &Router) -> TcpStream {
    let mut stream = TcpStream::connect(router.address()).await.expect("there is a file for it: raise ulimit -n");
    let request = format!(
        "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nx-custom-authorization: {}\r\n\r\n",
        agent_id()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = [0; 12];
    timeout(PATIENCE, stream.read_exact(&mut head)).await.unwrap().unwrap();
    assert_eq!(&head, b"HTTP/1.1 101");
    stream
}

#[tokio::test]
async fn thousands_of_idle_sockets_cost_little_each_and_the_next_is_refused() {
    let count = if is_long() { 10_000 } else { 1_000 };
    rlimit::increase_nofile_limit(u64::MAX).unwrap();
    let most = (count + 10).to_string();
    let router = Router::with(&[("MAX_CONNECTIONS", &most), ("PING_INTERVAL", "1h")]).await;
    serves_others(&router).await;
    let (before, started) = (router.resident_kib(), Instant::now());
    let mut sockets = Vec::with_capacity(count);
    while sockets.len() < count {
        let lot = (0..100).map(|_| idle(&router));
        sockets.extend(futures_util::future::join_all(lot).await);
    }
    let mut last = Peer::agent(&router, &agent_id()).await;
    let grown = router.resident_kib().saturating_sub(before);
    let each = grown * 1024 / count as u64;
    println!("{count} idle sockets in {:.1?}: {grown} KiB more are resident, {each} bytes each", started.elapsed());
    assert!(each <= MOST_KIB * 1024, "{each} bytes each");

    let mut more = Vec::new();
    let refused = loop {
        assert!(more.len() < 20, "more are let in than may be");
        match Socket::open(router.address(), &[("x-custom-authorization", &agent_id())]).await {
            Ok(socket) => more.push(socket),
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, NotOpened::Status(503)), "{refused:?}");
    last.expect_nothing().await;
}
