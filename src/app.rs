//! Puts the parts together: opens the journal, starts the router on it, serves, and ends in good order.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::{Instant, timeout, timeout_at};

use crate::auth::{Authenticator, Sealer};
use crate::clock::Clock;
use crate::config::{self, Config, Database, Mode};
use crate::http::{self, Server};
use crate::invocation::Policy;
use crate::journal::{HistoryFilter, Journal, JournalError, Opened, Order, Place};
use crate::router::{self, RateLimit, RateLimits, Router, Running};
use crate::session::SocketSettings;

/// How long to wait, once sockets are cut off and the router is done, for what takes no time as a rule.
const LAST_MOMENT: Duration = Duration::from_secs(1);

/// How far the clocks of routers that work on one journal may be from each other without anybody noticing.
const CLOCKS_DIFFER: Duration = Duration::from_secs(1);

/// Files that are open besides connections: the journal's, and what the system needs itself.
const OTHER_FILES: usize = 64;

/// A router on a journal, ready to serve.
#[derive(Debug)]
pub struct App {
    listener: TcpListener,
    server: Server,
    router: Router,
    running: Running,
    journal: Arc<dyn Journal>,
    shutdown_grace: Duration,
    warnings: Vec<String>,
}

/// Why a router that served did not end in good order. Nothing that anybody was told is lost.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// It could not go on; the next start looks at what the journal has.
    #[error("the router had to stop: {0}")]
    Stopped(#[from] JournalError),
    /// The journal took longer than `SHUTDOWN_GRACE`. Whatever it has not taken was not acknowledged to anyone either.
    #[error(
        "the journal did not take everything within SHUTDOWN_GRACE; what it did not take was acknowledged to nobody"
    )]
    Overdue,
}

impl App {
    /// Opens the journal, goes on where it stands, and has the router run. Connections that come in at the listener
    /// wait until [`Self::run`].
    pub async fn start(config: &Config, listener: TcpListener) -> Result<Self, JournalError> {
        raise_open_files(config);
        let bound = listener.local_addr().unwrap_or(config.listen_addr);
        let Opened { journal, warnings } = place(config).open(&config.node_id_at(bound)).await?;
        let settings = router::Settings {
            ping_interval: config.socket.ping_interval,
            feed_ttl: config.limits.feed_ttl,
            retention: config.retention,
            rate_limits: rate_limits(config),
            sealer: match &config.mode {
                Mode::Secured(secret) => Some(Sealer::new(secret)),
                Mode::Development => None,
            },
        };
        let clock = clock(journal.as_ref()).await?;
        let (router, running) = Router::start(Arc::clone(&journal), policy(config), clock, settings).await?;
        let server = Server::new(router.clone(), http_settings(config));
        Ok(Self { listener, server, router, running, journal, shutdown_grace: config.shutdown_grace, warnings })
    }

    /// Where it listens; the real port, when any was asked for.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// What whoever runs the journal's database should know, one sentence each.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Serves until `shutdown` is over, then ends in good order within the grace: accepts nothing more, has sockets closed
    /// with 1012, commits what they had sent, and lets the journal go.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), AppError> {
        let Self { listener, server, router, mut running, journal, shutdown_grace, warnings: _ } = self;
        let outcome = tokio::select! {
            never = server.accept(&listener) => match never {},
            ended = running.ended() => ended.map_err(AppError::from),
            () = shutdown => {
                tracing::info!("shutting down");
                drop(listener);
                drain(&server, &router, running, shutdown_grace).await
            }
        };
        server.cut_off();
        let closed = async {
            server.stopped().await;
            journal.close().await;
        };
        if timeout(LAST_MOMENT, closed).await.is_err() {
            tracing::warn!("the journal was not closed in time; its next start repairs that");
        }
        outcome.and_then(|()| Ok(journal.soundness()?))
    }
}

/// Goes on from the time that the journal's database has, or the machine; but never from before what was journaled last. If
/// the wall clock was put back meanwhile, what is open would wait for its deadline that much longer.
async fn clock(journal: &dyn Journal) -> Result<Clock, JournalError> {
    let now = journal.time().await?.unwrap_or_else(|| Clock::start().now());
    let newest = journal.history(&HistoryFilter::default(), Order::Descending, None, 1).await?;
    let newest = newest.events.first().map_or(now, |event| event.at);
    if newest > now + CLOCKS_DIFFER {
        tracing::warn!(
            now = now.to_rfc3339(),
            newest = newest.to_rfc3339(),
            "the clock is behind the newest event; until it has caught up, times in the journal go on from there"
        );
    }
    Ok(Clock::start_at(now.max(newest)))
}

/// Serves sockets that say back what they are told, held as these settings say, and nothing else; for suites that test how
/// WebSockets are spoken (`examples/echo.rs`).
pub async fn echo(config: &Config, listener: &TcpListener) -> Infallible {
    raise_open_files(config);
    Server::echo(http_settings(config)).accept(listener).await
}

/// Has everything that was taken in come to its end in the journal.
async fn drain(server: &Server, router: &Router, running: Running, grace: Duration) -> Result<(), AppError> {
    let end = Instant::now() + grace;
    let sockets_closed = async {
        server.stop();
        router.shutdown().await;
        server.stopped().await;
    };
    // A tenth is left for what comes after, so that peers that will not go do not cost the journal its time.
    if timeout_at(end - grace / 10, sockets_closed).await.is_err() {
        tracing::warn!("not every connection ended in time; the rest is cut off");
        server.cut_off();
    }
    let end = end.max(Instant::now() + LAST_MOMENT);
    match timeout_at(end, running.finish()).await {
        Ok(finished) => Ok(finished?),
        Err(_) => Err(AppError::Overdue),
    }
}

/// Where the journal is that the settings name.
#[must_use]
pub fn place(config: &Config) -> Place {
    match &config.database {
        Database::Sqlite { path } => Place::Sqlite { path: path.clone() },
        Database::Postgres { url, notify_url } => Place::Postgres {
            url: url.expose().to_owned(),
            direct_url: notify_url.as_ref().map(|url| url.expose().to_owned()),
            shown: url.to_string(),
        },
    }
}

fn policy(config: &Config) -> Policy {
    let limits = &config.limits;
    // Not for operators to choose.
    let Policy { late_answer_ttl, max_plain, .. } = Policy::default();
    Policy {
        default_ttl: limits.default_ttl,
        default_deadline: limits.default_deadline,
        max_deadline: limits.max_deadline,
        default_max_attempts: limits.default_max_attempts,
        max_max_attempts: limits.max_attempts,
        max_deliveries: limits.max_deliveries,
        agent_grace: limits.agent_grace,
        resume_grace: limits.resume_grace,
        answer_ttl: limits.answer_ttl,
        idempotency_ttl: limits.idempotency_ttl,
        drain_delay: limits.drain_delay,
        max_in_flight: limits.max_in_flight,
        max_queued: usize::try_from(limits.max_queued).unwrap_or(usize::MAX),
        max_queued_bytes: u64::try_from(limits.max_queued_bytes).unwrap_or(u64::MAX),
        max_open: usize::try_from(limits.max_open_invocations).unwrap_or(usize::MAX),
        max_frame_bytes: config.socket.max_frame_bytes,
        refusals_per_second: limits.refusals_per_second,
        secured: config.mode.is_secured(),
        late_answer_ttl,
        max_plain,
    }
}

fn rate_limits(config: &Config) -> RateLimits {
    let of = |limit: config::RateLimit| RateLimit { per_second: limit.per_second, burst: limit.burst };
    RateLimits { masters: config.rate_limits.masters.map(of), others: config.rate_limits.others.map(of) }
}

fn http_settings(config: &Config) -> http::Settings {
    http::Settings {
        authenticator: Authenticator::new(config),
        allowed_origins: config.allowed_origins.clone(),
        socket: SocketSettings {
            ping_interval: config.socket.ping_interval,
            slow_reader_timeout: config.socket.slow_reader_timeout,
            max_frame_bytes: config.socket.max_frame_bytes,
            feed_ack_timeout: config.limits.feed_ack_timeout,
            secured: config.mode.is_secured(),
        },
        max_connections: config.socket.max_connections,
        max_http_connections: config.socket.max_http_connections,
        max_streams: config.socket.max_streams,
        stream_lifetime: config.socket.stream_lifetime,
        header_timeout: config.socket.header_timeout,
        redact_keys: config.redact_keys.clone(),
    }
}

/// Has the system let the process open as many files as it may, and says so if that is less than the settings need.
fn raise_open_files(config: &Config) {
    let needed = config.socket.max_connections + config.socket.max_http_connections + OTHER_FILES;
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) if limit >= needed as u64 => {}
        Ok(limit) => tracing::warn!(
            limit,
            needed,
            "the system lets this process open fewer files than MAX_CONNECTIONS and MAX_HTTP_CONNECTIONS may need: \
             raise the hard limit (ulimit -Hn), or lower those"
        ),
        Err(error) => tracing::warn!(%error, "the limit of open files cannot be raised"),
    }
}
