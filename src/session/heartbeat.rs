//! Whether the peer is still there.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::sleep;

use super::closing::Stop;
use super::unconfirmed::Unconfirmed;
use super::wire::Wire;

/// How many Pings in a row a peer may leave without any sign of life.
const MAX_MISSES: u32 = 2;

/// The peer's signs of life.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    misses: AtomicU32,
    listening: AtomicBool,
}

impl Pulse {
    /// From now on the peer's silence is its own.
    pub(super) fn listen(&self) {
        self.listening.store(true, Ordering::Relaxed);
    }

    /// Something came. While the router is busy with it nobody listens, so that a router that is slow takes no peer for
    /// dead.
    pub(super) fn heard(&self) {
        self.misses.store(0, Ordering::Relaxed);
        self.listening.store(false, Ordering::Relaxed);
    }

    /// It is time for the next Ping; false: the peer has missed too many.
    fn beat(&self) -> bool {
        if !self.listening.load(Ordering::Relaxed) {
            self.misses.store(0, Ordering::Relaxed);
            return true;
        }
        self.misses.fetch_add(1, Ordering::Relaxed) < MAX_MISSES
    }
}

/// Pings the peer until it is dead.
pub(super) async fn beat(every: Duration, pulse: &Pulse, wire: &Mutex<Wire>, unconfirmed: &Unconfirmed) -> Stop {
    loop {
        sleep(every).await;
        if !pulse.beat() {
            return Stop::Dead;
        }
        // In a box of its own: between two Pings nobody needs the room.
        let pinged = Box::pin(async {
            let mut wire = wire.lock().await;
            let ping = unconfirmed.lock().next_ping();
            wire.ping(ping).await
        });
        if let Err(stop) = pinged.await {
            return stop;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_dead_after_two_pings_without_a_sign_of_life() {
        let pulse = Pulse::default();
        pulse.listen();
        assert!(pulse.beat());
        assert!(pulse.beat());
        assert!(!pulse.beat());
    }

    #[test]
    fn any_sign_of_life_counts() {
        let pulse = Pulse::default();
        for _ in 0..5 {
            pulse.listen();
            assert!(pulse.beat());
            assert!(pulse.beat());
            pulse.heard();
        }
    }

    #[test]
    fn a_peer_that_nobody_listens_to_is_not_dead() {
        let pulse = Pulse::default();
        pulse.listen();
        pulse.heard();
        for _ in 0..5 {
            assert!(pulse.beat());
        }
    }
}
