//! Peers that ask, and do not read what they asked for.

use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;

use super::serves_others;
use crate::support::{Peer, Router, Socket, agent_id, text_frame};

/// The most by which one connection may have the process grow.
const MOST_KIB: u64 = 8 << 10;

/// An agent whose socket takes little and that reads nothing more.
async fn deaf(router: &Router, id: &str) -> Peer {
    let headers = [("x-custom-authorization", id)];
    let socket = Socket::open_with_buffer(router.address(), &headers, Some(4096)).await.unwrap();
    let mut peer = Peer::over(socket, id);
    peer.expect_nothing().await;
    peer.read(false);
    peer
}

/// Sends as much of it as is taken, up to so many MiB; returns how many were.
async fn flood(peer: &Peer, frame: &[u8], mebibytes: usize) -> usize {
    let mebibyte = frame.repeat((1 << 20) / frame.len());
    for sent in 0..mebibytes {
        if timeout(Duration::from_secs(2), peer.try_send_bytes(&mebibyte)).await != Ok(true) {
            return sent;
        }
    }
    mebibytes
}

fn ping() -> Vec<u8> {
    let mut ping = vec![0x89, 0x80 | 0x7d, 0, 0, 0, 0];
    ping.extend([b'p'; 0x7d]);
    ping
}

#[tokio::test]
async fn a_flood_of_pings_whose_pongs_are_not_read_costs_at_most_8_mib_a_connection() {
    const FLOODERS: u64 = 4;
    let router = Router::start().await;
    serves_others(&router).await;
    let mut flooders = Vec::new();
    for nth in 0..FLOODERS {
        let flooder = deaf(&router, &agent_id()).await;
        let before = router.resident_kib();
        let sent = flood(&flooder, &ping(), 64).await;
        let grown = router.resident_kib().saturating_sub(before);
        println!("flooder {nth}: {sent} MiB of Pings were taken, {grown} KiB more are resident");
        assert!(sent > 0 && grown <= MOST_KIB, "{grown} KiB more than before, after {sent} MiB");
        flooders.push(flooder);
    }
    serves_others(&router).await;
}

#[tokio::test]
async fn who_reads_no_pong_and_no_error_loses_its_socket() {
    let settings = [("PING_INTERVAL", "300ms"), ("SLOW_READER_TIMEOUT", "500ms"), ("REFUSALS_PER_SECOND", "10")];
    let router = Router::with(&settings).await;
    serves_others(&router).await;
    for frame in [ping(), text_frame("nonsense that is answered with an error")] {
        let id = agent_id();
        let flooder = deaf(&router, &id).await;
        let before = router.resident_kib();
        let flooding = async { while flood(&flooder, &frame, 64).await == 64 {} };
        let ended = async { router.wait_for_event(&format!("kind=agent.disconnected&agent_id={id}")).await };
        let (end, ()) = tokio::join!(ended, flooding);
        let grown = router.resident_kib().saturating_sub(before);
        println!("{:?}…: {grown} KiB more are resident", &frame[..1]);
        assert_eq!(end["detail"]["reason"], "too_slow");
        assert!(grown <= MOST_KIB, "{grown} KiB more than before");
    }
    serves_others(&router).await;
}

#[tokio::test]
async fn agents_that_never_read_their_work_cost_a_bounded_amount_and_their_callers_are_told() {
    const DEAF: usize = 4;
    const EACH: usize = 120;
    // What may wait for a socket (4 MiB), as much that was just taken from there, a frame and what is being written.
    const MOST_EACH_KIB: u64 = 12 << 10;
    // What sixteen at a time take on their way into the journal, its pages, and what the allocator has not given back.
    const MOST_BESIDE_KIB: u64 = 80 << 10;
    let router = Router::with(&[("SLOW_READER_TIMEOUT", "8s"), ("MAX_DELIVERIES", "1")]).await;
    let mut caller = Peer::agent(&router, &agent_id()).await;
    let mut agents = Vec::new();
    for _ in 0..DEAF {
        let id = agent_id();
        agents.push((deaf(&router, &id).await, id));
    }
    let before = router.resident_kib();
    let payload = json!({"text": "x".repeat(500_000)});
    let mut ended = 0;
    for _ in 0..EACH / 4 {
        for _ in 0..4 {
            for (_, id) in &agents {
                caller.invoke_with(id, payload.clone(), json!({"receipt": true})).await;
            }
        }
        // Each is told first whether it was taken: then it is in the journal, and no more of it in memory than may be.
        let mut told = 0;
        while told < 4 * DEAF {
            let frame = caller.recv().await;
            let is_receipt = frame["message_type"] == "agent_receipt";
            told += usize::from(is_receipt || frame.get("invocation_id").is_none());
            ended += usize::from(!is_receipt);
        }
    }
    while ended < DEAF * EACH {
        ended += usize::from(caller.recv().await["message_type"] == "agent_error");
    }
    for (_, id) in &agents {
        let end = router.wait_for_event(&format!("kind=agent.disconnected&agent_id={id}")).await;
        assert_eq!(end["detail"]["reason"], "too_slow");
        let delivered = router.history(&format!("kind=invocation.delivered&agent_id={id}")).await.len();
        assert!(delivered > 10, "{delivered} were on their way");
    }
    let grown = router.most_resident_kib() - before;
    println!("{DEAF} agents that read nothing of {EACH} invocations of 500 kB: at most {grown} KiB more were resident");
    assert!(grown <= DEAF as u64 * MOST_EACH_KIB + MOST_BESIDE_KIB, "{grown} KiB more than before");
    serves_others(&router).await;
}
