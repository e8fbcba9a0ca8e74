//! Every request by its outcome: an id, a log line, a count.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;
use uuid::Uuid;

use super::Context;
use super::access::Peer;
use crate::auth::Authenticator;

/// What ties a request to its log line, here and at whoever sent it.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const MAX_REQUEST_ID_BYTES: usize = 128;

/// How a request to no route is counted.
const NO_ROUTE: &str = "none";

/// Gives a request its id and its answer the headers that every answer has; logs and counts the outcome. Paths and
/// queries are not logged, since a peer can write anything there; the route says enough.
pub(super) async fn observe(
    State(context): State<Context>,
    peer: Peer,
    route: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let route = route.as_ref().map_or(NO_ROUTE, MatchedPath::as_str);
    let method = name(request.method());
    let id = request_id(request.headers(), &context.settings.authenticator);

    let mut response = next.run(request).await;

    let status = response.status();
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id.clone());
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if route.starts_with("/v1/") || route == "/metrics" {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    let took = started.elapsed();
    context.router.metrics().http_request(method, route, status.as_u16(), took);
    let id = id.to_str().unwrap_or_default();
    let (status, millis) = (status.as_u16(), took.as_millis());
    if status >= 500 && route != "/health/ready" {
        tracing::info!(request_id = id, peer = %peer.0, method, route, status, millis, "request failed");
    } else {
        tracing::debug!(request_id = id, peer = %peer.0, method, route, status, millis, "request answered");
    }
    response
}

/// The id that came with the request, if it can be a line's field and a header's value; otherwise a new one.
fn request_id(headers: &HeaderMap, authenticator: &Authenticator) -> HeaderValue {
    let given = headers.get(REQUEST_ID).filter(|id| {
        let is_visible = id.as_bytes().iter().all(u8::is_ascii_graphic);
        (1..=MAX_REQUEST_ID_BYTES).contains(&id.len()) && is_visible && !authenticator.finds_secret(id.as_bytes())
    });
    given.cloned().unwrap_or_else(|| {
        HeaderValue::from_str(&Uuid::now_v7().to_string()).expect("a UUID is made of visible characters")
    })
}

/// The methods that routes have; any other is counted as one, because a peer can make up as many as it likes.
fn name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
