//! One TCP connection, from its first byte to its end, or until it is a socket.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use axum::extract::Request;
use axum::http::StatusCode;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower_service::Service;

use super::access::Peer;
use super::patience::PatientStream;

/// The most that a request's headers may be, in bytes; tokens are the largest of them.
const MAX_HEADER_BYTES: usize = 64 << 10;
const MAX_HEADERS: usize = 100;

/// How long a connection takes new requests. Programs just connect again, and a peer that does nothing but hold on to
/// its place loses it. The request that it is at is answered first: a wait ends by itself, and so does a stream.
const MAX_AGE: Duration = Duration::from_mins(2);

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

/// Answers the requests of one connection. Once it is old, or `stopping`, it answers the one that it is at, and no more.
/// How long that takes is bounded by what a request may take: its headers, its body, its wait, and a reader who reads.
pub(super) async fn serve(
    stream: PatientStream,
    peer: SocketAddr,
    http: http1::Builder,
    routes: axum::Router,
    stopping: CancellationToken,
) {
    let peer = Peer(peer.ip().to_canonical());
    let patience = stream.patience();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        let (mut routes, patience) = (routes.clone(), patience.clone());
        async move {
            let response = routes.call(request).await;
            if response.as_ref().is_ok_and(|response| response.status() == StatusCode::SWITCHING_PROTOCOLS) {
                // A session looks after its own peer.
                patience.be_endless();
            }
            response
        }
    });
    let leave = timeout(MAX_AGE, stopping.cancelled());
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service).with_upgrades());
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = leave => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(peer = %peer.0, %error, "connection ended early");
    }
}
