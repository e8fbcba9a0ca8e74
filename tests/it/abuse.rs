//! What strangers and agents gone wrong would do, from outside: each finds a limit and an answer, and nobody else notices.
//!
//! `docs/security.md` has them in a table, with these tests. Two have a long form, which `ABUSE=long` chooses.

mod absent;
mod crowd;
mod frames;
mod handshakes;
mod impostors;
mod injection;
mod pages;
mod rates;
mod readers;
mod tokens;

use crate::support::{Peer, Router, agent_id};

/// Whether the long forms are wanted.
fn is_long() -> bool {
    std::env::var("ABUSE").is_ok_and(|form| form == "long")
}

/// Whoever behaves is served as if nothing had happened.
async fn serves_others(router: &Router) {
    let mut peer = Peer::agent(router, &agent_id()).await;
    peer.expect_nothing().await;
    assert_eq!(router.get_as("", "/health/ready").await.status, 200);
}
