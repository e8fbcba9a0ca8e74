//! All connections: accepted, bounded, and ended.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::patience::PatientStream;
use super::seats::Seats;
use super::{Context, Settings, connection, echo, routes};
use crate::router::Router;

/// How long to wait when no connection can be accepted, for lack of file descriptors as a rule.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Serves HTTP and sockets. Every connection is a task of its own, and every task is waited for.
#[derive(Debug)]
pub struct Server {
    http: http1::Builder,
    routes: axum::Router,
    /// For connections that are no sockets, yet or ever. More wait until one of these is done, which takes no longer
    /// than their timeouts.
    plain: Arc<Semaphore>,
    slow_reader_timeout: Duration,
    tasks: TaskTracker,
    stopping: CancellationToken,
    cut_off: CancellationToken,
}

impl Server {
    /// One that serves nobody yet.
    #[must_use]
    pub fn new(router: Router, settings: Settings) -> Self {
        Self::with(settings, |settings, seats, stopping| {
            routes::routes(Context::new(router, settings, seats, stopping))
        })
    }

    /// One that has no router: its sockets say back what they are told.
    #[must_use]
    pub fn echo(settings: Settings) -> Self {
        Self::with(settings, |settings, seats, _| echo::routes((settings.socket, seats)))
    }

    fn with(settings: Settings, routes: impl FnOnce(Settings, Seats, CancellationToken) -> axum::Router) -> Self {
        let (tasks, cut_off, stopping) = (TaskTracker::new(), CancellationToken::new(), CancellationToken::new());
        let seats = Seats::new(settings.max_connections, tasks.clone(), cut_off.clone());
        Self {
            http: connection::protocol(settings.header_timeout),
            plain: Arc::new(Semaphore::new(settings.max_http_connections)),
            slow_reader_timeout: settings.socket.slow_reader_timeout,
            routes: routes(settings, seats, stopping.clone()),
            tasks,
            stopping,
            cut_off,
        }
    }

    /// Accepts connections, for as long as this is awaited.
    pub async fn accept(&self, listener: &TcpListener) -> Infallible {
        loop {
            // The semaphore is never closed, so there is always a permit in it.
            let plain = Arc::clone(&self.plain).acquire_owned().await;
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) if is_of_one_connection(&error) => continue,
                Err(error) => {
                    tracing::warn!(%error, "connections cannot be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "connection ended early");
                continue;
            }
            let stream = PatientStream::new(stream, self.slow_reader_timeout);
            let connection =
                connection::serve(stream, peer, self.http.clone(), self.routes.clone(), self.stopping.clone());
            let cut_off = self.cut_off.clone();
            self.tasks.spawn(async move {
                cut_off.run_until_cancelled(connection).await;
                drop(plain);
            });
        }
    }

    /// Has every connection end after the request that it is at. Sockets are ended by the router.
    pub fn stop(&self) {
        self.stopping.cancel();
        self.tasks.close();
    }

    /// Waits until there is no connection and no socket any more. To be called after [`Self::stop`].
    pub async fn stopped(&self) {
        self.tasks.wait().await;
    }

    /// Ends every connection and every socket without another word.
    pub fn cut_off(&self) {
        self.stop();
        self.cut_off.cancel();
    }
}

/// Whether an error of `accept` is about the connection that was to be accepted, and not about accepting.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset
    )
}
