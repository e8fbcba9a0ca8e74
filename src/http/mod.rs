//! HTTP: the upgrade to a WebSocket, and everything that masters, auditors and operators ask.
//!
//! Only here and in `session` is axum named. Handlers decide nothing about invocations: they check what is asked, hand it
//! to the router or the journal, and write down the outcome. May import `session`, `router`, `record` and everything
//! below.
//!
//! - [`Server`], `connection`, `patience`, `seats`: connections, accepted, bounded, tracked and ended.
//! - `routes`: every route and who it is for. `access`, `origin`, `address`, `traffic`: what every request passes.
//! - `socket`: `GET /ws`. `invoke_agent`: `POST /invoke-agent`. `invocations`, `agents`, `history`, `operators`, `nodes`: `/v1`.
//!   `health`, `openapi`, `docs`: for everybody.
//! - `parameters`, `values`, `cursor`, `body`, `negotiation`: what a request says. `reply`: what is read, as an answer.
//!   `problem`: refusals. `echo`: sockets without a router, for conformance suites.

mod access;
mod address;
mod agents;
mod body;
mod connection;
mod cursor;
mod docs;
mod echo;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod health;
mod history;
mod invocations;
mod invoke_agent;
mod negotiation;
mod nodes;
mod openapi;
mod operators;
mod origin;
mod parameters;
mod patience;
mod problem;
mod reply;
mod routes;
mod seats;
mod server;
mod socket;
mod traffic;
mod values;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::auth::Authenticator;
use crate::config::AllowedOrigins;
use crate::protocol::Redactor;
use crate::router::{Command, Router};
use crate::session::SocketSettings;
use access::Peer;
pub use openapi::openapi;
use problem::Problem;
use seats::Seats;
pub use server::Server;

/// Checks of the whole chain that may run at the same time.
const MAX_CHECKS: usize = 2;

/// What HTTP has to know of the configuration.
#[derive(Debug)]
pub struct Settings {
    /// Who is who.
    pub authenticator: Authenticator,
    /// Which web pages may open a socket or have an agent invoked.
    pub allowed_origins: AllowedOrigins,
    /// How sockets are held.
    pub socket: SocketSettings,
    /// The most sockets at the same time.
    pub max_connections: usize,
    /// The most connections that are no sockets.
    pub max_http_connections: usize,
    /// The most answers that are streamed at the same time.
    pub max_streams: usize,
    /// How long a live history is streamed.
    pub stream_lifetime: Duration,
    /// How long a connection may take to its first byte, and to the end of a request's headers.
    pub header_timeout: Duration,
    /// Fields whose values are hidden from auditors and operators.
    pub redact_keys: Vec<String>,
}

/// What the handlers share.
#[derive(Clone)]
struct Context {
    router: Router,
    settings: Arc<Settings>,
    seats: Seats,
    /// One for each answer that may be streamed.
    streams: Arc<Semaphore>,
    checks: Arc<Semaphore>,
    redactor: Arc<Redactor>,
    /// The router goes down: whoever waits is told how things stand.
    stopping: CancellationToken,
}

impl Context {
    fn new(router: Router, settings: Settings, seats: Seats, stopping: CancellationToken) -> Self {
        Self {
            router,
            streams: Arc::new(Semaphore::new(settings.max_streams)),
            redactor: Arc::new(Redactor::new(&settings.redact_keys)),
            settings: Arc::new(settings),
            seats,
            checks: Arc::new(Semaphore::new(MAX_CHECKS)),
            stopping,
        }
    }

    /// Has the journal say that somebody was turned away.
    async fn journal_refusal(&self, peer: Peer, reason: impl Into<String>) {
        let reason = reason.into();
        let bytes = reason.len();
        self.router.submit(Command::ConnectionRefused { peer: peer.0.to_string(), reason }, bytes).await;
    }

    /// Leave to stream an answer, for as long as it is held.
    fn stream_permit(&self) -> Result<OwnedSemaphorePermit, Problem> {
        Arc::clone(&self.streams).try_acquire_owned().map_err(|_| {
            Problem::too_many("as many answers are streamed as may, see MAX_STREAMS: try again when one is over")
        })
    }
}
