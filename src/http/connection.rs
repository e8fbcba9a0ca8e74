//! One TCP connection, from its first byte to its end, or until it is a socket.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower_service::Service;

use super::access::Peer;

/// The most that a request's headers may be, in bytes; tokens are the largest of them.
const MAX_HEADER_BYTES: usize = 64 << 10;
const MAX_HEADERS: usize = 100;

/// How long a connection may stay plain HTTP. Programs just connect again; a peer that reads or writes by the byte does
/// not hold on to its place.
const MAX_AGE: Duration = Duration::from_mins(2);

/// How long the last request of a connection may then take.
const LAST_REQUEST: Duration = Duration::from_secs(10);

/// How connections speak HTTP. The header timeout runs from the moment that a connection has nothing to do, so it is the
/// deadline of the first byte, and of an idle connection, too.
pub(super) fn protocol(header_timeout: Duration) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEADER_BYTES);
    http
}

/// Answers the requests of one connection. Once `stopping`, it answers the one that it is at, and no more.
pub(super) async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    http: http1::Builder,
    routes: axum::Router,
    stopping: CancellationToken,
) {
    let peer = Peer(peer.ip().to_canonical());
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        routes.clone().call(request)
    });
    let leave = timeout(MAX_AGE, stopping.cancelled());
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service).with_upgrades());
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = leave => {
            connection.as_mut().graceful_shutdown();
            timeout(LAST_REQUEST, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(peer = %peer.0, %error, "connection ended early");
    }
}
