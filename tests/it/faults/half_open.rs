//! Connections of which one side is gone and never said so: the router's side stays, and whatever it sends is swallowed, or
//! is not even taken. The peers come back on new connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use super::checker::check_all;
use super::load::{Load, Pace, SETTINGS};
use super::record::Record;
use super::{Length, seeded};
use crate::support::Router;

/// The way between peers and a router, on which connections can be cut on one side.
struct Way {
    address: SocketAddr,
    cuts: Arc<watch::Sender<usize>>,
    task: JoinHandle<()>,
}

impl Way {
    async fn to(router: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let cuts = Arc::new(watch::Sender::new(0));
        let cut = Arc::clone(&cuts);
        let task = tokio::spawn(async move {
            // All of them end with this task.
            let mut connections = JoinSet::new();
            while let Ok((peer, _)) = listener.accept().await {
                let mut cut = cut.subscribe();
                connections.spawn(async move {
                    let Ok(router) = TcpStream::connect(router).await else { return };
                    join(peer, router, &mut cut).await;
                });
            }
        });
        Self { address, cuts, task }
    }

    /// The peers' sides of all connections are gone, and the router is not told.
    fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Carries bytes both ways until an end; or until the cut, from which on the router speaks to nobody.
async fn join(mut peer: TcpStream, mut router: TcpStream, cut: &mut watch::Receiver<usize>) {
    cut.borrow_and_update();
    let carried = tokio::select! {
        carried = tokio::io::copy_bidirectional(&mut peer, &mut router) => Some(carried),
        _ = cut.changed() => None,
    };
    if carried.is_some() {
        return;
    }
    let is_read = port_of(&peer).is_multiple_of(2);
    drop(peer);
    if is_read {
        let mut swallowed = vec![0; 64 * 1024];
        while router.read(&mut swallowed).await.is_ok_and(|read| read > 0) {}
        let _ = router.shutdown().await;
    } else {
        // Until the router gives it up, which nobody here sees: it goes with the way.
        std::future::pending::<()>().await;
    }
}

/// Tells connections apart.
fn port_of(peer: &TcpStream) -> u16 {
    peer.peer_addr().map_or(0, |address| address.port() / 2)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_open_connections_are_given_up_and_hold_nobody() {
    let mut random = seeded();
    let length = Length::chosen(3);
    let mut settings = SETTINGS.to_vec();
    settings.extend([("PING_INTERVAL", "500ms"), ("SLOW_READER_TIMEOUT", "2s")]);
    let router = Router::with(&settings).await;
    let way = Way::to(router.address()).await;
    let mut record = Record::default();
    let mut load = Load::start(vec![way.address], length.scale, &Pace::default(), &mut random);
    for _ in 0..length.cycles {
        load.goes_on(20).await;
        sleep(Duration::from_millis(random.random_range(0..500))).await;
        way.cut();
    }
    load.goes_on(50).await;
    let progress = load.progress();
    let notes = load.stop().await;
    let findings = check_all(&router, &mut record, &notes).await;
    let taken_over = router.history("kind=agent.disconnected").await;
    let count = |reason: &str| taken_over.iter().filter(|event| event["detail"]["reason"] == reason).count();
    let [over, dead, slow] = ["taken_over", "dead", "too_slow"].map(count);
    eprintln!(
        "{} cuts, {progress:?}; {}; {over} taken over, {dead} dead, {slow} too slow",
        length.cycles, findings.seen
    );
    findings.expect_none();
    assert!(over > 0 && dead > 0, "the router did not notice: {over} taken over, {dead} dead, {slow} too slow");
}
