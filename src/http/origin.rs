//! Web pages: which may ask, and what their browsers are told (CORS).
//!
//! A browser says where a page is from, and a page cannot keep it from doing so. Programs send no origin, and nothing
//! here concerns them.

use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, HOST, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Context;
use super::access::Peer;
use super::problem::Problem;
use crate::config::AllowedOrigins;

const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, DELETE");
const REQUEST_HEADERS: HeaderValue = HeaderValue::from_static(
    "accept, api-key, authorization, content-type, idempotency-key, last-event-id, prefer, traceparent, x-request-id",
);
const RESPONSE_HEADERS: HeaderValue = HeaderValue::from_static(
    "content-disposition, idempotency-replayed, location, preference-applied, retry-after, www-authenticate, x-request-id",
);
/// For how long, in seconds, a browser need not ask again.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// Answers what browsers ask beforehand, refuses what a page from elsewhere would change, and tells a browser that an
/// allowed page may read the answer.
pub(super) async fn guard(
    State(context): State<Context>,
    peer: Peer,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let Some(origin) = request.headers().get(ORIGIN).cloned() else { return Ok(next.run(request).await) };
    let asks_beforehand =
        request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let changes_nothing = [Method::GET, Method::HEAD].contains(request.method());
    let allowed = is_allowed(request.headers(), &context.settings.allowed_origins);
    let mut response = match allowed {
        true if asks_beforehand => {
            let headers = [
                (ACCESS_CONTROL_ALLOW_METHODS, METHODS),
                (ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS),
                (ACCESS_CONTROL_MAX_AGE, MAX_AGE),
            ];
            (StatusCode::NO_CONTENT, headers).into_response()
        }
        false if !changes_nothing => {
            context.journal_refusal(peer, "origin not allowed").await;
            return Err(Problem::forbidden("web pages from this origin may not do this; see ALLOWED_ORIGINS"));
        }
        _ => next.run(request).await,
    };
    let headers = response.headers_mut();
    headers.append(VARY, HeaderValue::from_static("origin"));
    if allowed {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, RESPONSE_HEADERS);
    }
    Ok(response)
}

/// Whether a request is from a program, or from a web page that may send it. Without this check any page that a developer
/// visits could reach a router on the developer's own machine.
pub(super) fn is_allowed(headers: &HeaderMap, allowed: &AllowedOrigins) -> bool {
    headers
        .get_all(ORIGIN)
        .iter()
        .all(|origin| origin.to_str().is_ok_and(|origin| allowed.allows(origin) || is_own(origin, headers)))
}

/// Whether a page came from this router itself, at an address that is no name. A name proves nothing: whoever owns one
/// can have it lead here after the page was loaded from elsewhere.
fn is_own(origin: &str, headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let authority = origin.split_once("://").filter(|(scheme, _)| ["http", "https"].contains(scheme));
    match (authority, host) {
        (Some((_, authority)), Some(host)) => authority == host && is_address(host),
        _ => false,
    }
}

/// Whether the router is asked under a name that could lead anywhere. A page that was loaded under the same name sends no
/// origin when it only reads.
pub(super) fn is_under_a_name(headers: &HeaderMap) -> bool {
    headers.get(HOST).is_some_and(|host| !host.to_str().is_ok_and(is_address))
}

fn is_address(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::Ipv4Addr>().is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(origin: &'static str, host: &'static str) -> bool {
        let headers = [(ORIGIN, origin), (HOST, host)].map(|(name, value)| (name, HeaderValue::from_static(value)));
        is_allowed(&headers.into_iter().collect(), &AllowedOrigins::default())
    }

    #[test]
    fn a_page_of_the_routers_own_may_ask_it_unless_its_name_could_lead_anywhere() {
        for host in ["127.0.0.1:8080", "[::1]:8080", "localhost:8080", "10.0.0.7"] {
            let origin: &'static str = format!("http://{host}").leak();
            assert!(allowed(origin, host), "{host}");
        }
        assert!(!allowed("http://router.example:8080", "router.example:8080"));
        assert!(!allowed("http://127.0.0.1:3000", "127.0.0.1:8080"));
        assert!(!allowed("null", "127.0.0.1:8080"));
        assert!(!allowed("ftp://127.0.0.1", "127.0.0.1"));
    }
}
