//! What all who take part in the load know: where the routers are, how far the load is, and whom to ask.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use uuid::Uuid;

use super::super::notes::Bodies;
use super::Progress;
use crate::support::{Incoming, Socket};

/// How long it takes to be sure that a router that is there does not answer.
pub(super) const UNANSWERED: Duration = Duration::from_secs(2);
/// How long a write may take: a router that stands still reads on in the end.
const WRITTEN: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Act {
    Playing,
    /// Callers ask nothing more.
    Ending,
    Over,
}

#[derive(Clone)]
pub(super) struct Stage {
    pub(super) addresses: watch::Receiver<Vec<SocketAddr>>,
    pub(super) act: watch::Receiver<Act>,
    pub(super) progress: Arc<watch::Sender<Progress>>,
    pub(super) agents: Arc<[Uuid]>,
    pub(super) bodies: Bodies,
}

impl Stage {
    pub(super) fn act(&self) -> Act {
        *self.act.borrow()
    }

    /// One of the routers.
    pub(super) fn address(&self, random: &mut StdRng) -> SocketAddr {
        let addresses = self.addresses.borrow();
        addresses[random.random_range(0..addresses.len())]
    }

    /// One of the agents.
    pub(super) fn agent(&self, random: &mut StdRng) -> Uuid {
        self.agents[random.random_range(0..self.agents.len())]
    }

    /// Connects to any of the routers, as often as it takes; `None` once that act is over.
    pub(super) async fn connect(&self, last: Act, headers: &[(&str, &str)], random: &mut StdRng) -> Option<Socket> {
        while self.act() <= last {
            // A router that is stopped takes connections and says nothing.
            if let Ok(Ok(socket)) = timeout(UNANSWERED, Socket::open(self.address(random), headers)).await {
                return Some(socket);
            }
            sleep(Duration::from_millis(20)).await;
        }
        None
    }

    pub(super) fn an_end_was_told(&self) {
        self.progress.send_modify(|progress| progress.ended += 1);
    }

    pub(super) fn was_refused(&self) {
        self.progress.send_modify(|progress| progress.refused += 1);
    }

    pub(super) fn an_agent_connected(&self) {
        self.progress.send_modify(|progress| progress.connections += 1);
    }
}

/// What came until then.
pub(super) enum Came {
    Frame(Value),
    Nothing,
    /// The connection has ended, or is about to.
    End,
}

/// The next frame, if one comes until then.
pub(super) async fn next(socket: &mut Socket, until: Instant) -> Came {
    loop {
        match timeout_at(until, socket.next()).await {
            Ok(Some(Incoming::Text(text))) => {
                return Came::Frame(serde_json::from_str(&text).expect("the router writes JSON"));
            }
            Ok(Some(Incoming::Ping(_))) => {}
            Ok(_) => return Came::End,
            Err(_) => return Came::Nothing,
        }
    }
}

/// Sends a frame; false if the connection is gone.
pub(super) async fn send(socket: &Socket, frame: &Value) -> bool {
    timeout(WRITTEN, socket.send_text(&frame.to_string())).await.unwrap_or(false)
}
