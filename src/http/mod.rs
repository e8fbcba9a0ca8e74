//! HTTP: the upgrade to a WebSocket, the original's one request, reading the journal back, health.
//!
//! Only here and in `session` is axum named. Handlers decide nothing about invocations: they check who asks and what is
//! asked, hand it to the router or the journal, and write down the outcome. May import `session`, `router` and everything
//! below.
//!
//! - [`Server`], `connection`, `seats`: connections, accepted, bounded, tracked and ended.
//! - `socket`: `GET /ws`. `invoke_agent`: `POST /invoke-agent`. `invocations`, `history`: `/v1`. `health`: `/health`.
//! - `access`, `parameters`, `cursor`: what a request says. `record`: what is stored, as JSON. `problem`: refusals.

mod access;
mod connection;
mod cursor;
mod health;
mod history;
mod invocations;
mod invoke_agent;
mod parameters;
mod problem;
mod record;
mod seats;
mod server;
mod socket;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};

use crate::auth::Authenticator;
use crate::config::AllowedOrigins;
use crate::router::{Command, Router};
use crate::session::SocketSettings;
use access::Peer;
use problem::Problem;
use seats::Seats;
pub use server::Server;

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
    /// How long a connection may take to its first byte, and to the end of a request's headers.
    pub header_timeout: Duration,
}

/// What the handlers share.
#[derive(Clone)]
struct Context {
    router: Router,
    settings: Arc<Settings>,
    seats: Seats,
}

impl Context {
    /// Has the journal say that somebody was turned away.
    async fn journal_refusal(&self, peer: Peer, reason: impl Into<String>) {
        let reason = reason.into();
        let bytes = reason.len();
        self.router.submit(Command::ConnectionRefused { peer: peer.0.to_string(), reason }, bytes).await;
    }
}

fn routes(context: Context) -> axum::Router {
    axum::Router::new()
        .route("/ws", get(socket::open))
        .route("/invoke-agent", post(invoke_agent::send))
        .route("/v1/invocations/{id}", get(invocations::read))
        .route("/v1/history", get(history::read))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .fallback(async || Problem::no_such_page())
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .layer(DefaultBodyLimit::max(context.settings.socket.max_frame_bytes))
        .with_state(context)
}
