//! Keys do not belong in a URL: proxies, browsers and logs keep those. A request that has one there is refused, whatever
//! it asks for, so that a client which does so is noticed on the first day.

use axum::extract::{Request, State};
use axum::http::Uri;
use axum::middleware::Next;
use axum::response::Response;

use super::Context;
use super::access::Peer;
use super::problem::Problem;
use crate::auth::Authenticator;

/// How names of query parameters that ask for a secret end, in lower case and without `-`, `_` and `.`.
const ENDS_OF_SECRET_NAMES: [&str; 12] = [
    "apikey",
    "auth",
    "authorization",
    "bearer",
    "credential",
    "credentials",
    "invokekey",
    "jwt",
    "passwd",
    "password",
    "secret",
    "token",
];

/// Names that ask for one as a whole: with something before them they are other names.
const SECRET_NAMES: [&str; 2] = ["key", "secretkey"];

/// How often a text may have been escaped. Programs that build a URL from parts of another escape it once more.
const MAX_ESCAPES: usize = 3;

/// Refuses a request with a key in its URL, and never repeats it.
pub(super) async fn without_keys(
    State(context): State<Context>,
    peer: Peer,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    if has_key(request.uri(), &context.settings.authenticator) {
        context.journal_refusal(peer, "a key in the URL").await;
        return Err(Problem::malformed(
            "there is a key in the URL, or a parameter for one: send it in a header, and replace it, since URLs end up \
             in logs",
        ));
    }
    Ok(next.run(request).await)
}

fn has_key(uri: &Uri, authenticator: &Authenticator) -> bool {
    let in_path = uri.path().split('/').any(|segment| holds_secret(segment, false, authenticator));
    let in_query = || {
        uri.query().unwrap_or_default().split('&').any(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            asks_for_secret(&decoded(name.as_bytes(), true))
                || [name, value].into_iter().any(|text| holds_secret(text, true, authenticator))
        })
    };
    in_path || in_query()
}

fn asks_for_secret(name: &[u8]) -> bool {
    let plain: Vec<u8> = name.iter().filter(|byte| !b"-_.".contains(byte)).map(u8::to_ascii_lowercase).collect();
    SECRET_NAMES.iter().any(|name| name.as_bytes() == plain)
        || ENDS_OF_SECRET_NAMES.iter().any(|end| plain.ends_with(end.as_bytes()))
}

/// Whether a part of a URL holds a secret, however often it was escaped.
fn holds_secret(part: &str, plus_is_space: bool, authenticator: &Authenticator) -> bool {
    let mut text = part.as_bytes().to_vec();
    for _ in 0..MAX_ESCAPES {
        let plain = decoded(&text, plus_is_space);
        if authenticator.finds_secret(&plain) {
            return true;
        }
        if plain == text {
            break;
        }
        text = plain;
    }
    false
}

/// The bytes that a part of a URL stands for.
fn decoded(text: &[u8], plus_is_space: bool) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, others)) = rest.split_first() {
        let escaped = others.get(..2).filter(|_| *first == b'%').and_then(|digits| {
            let digits = str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
            u8::from_str_radix(digits, 16).ok()
        });
        bytes.push(match escaped {
            Some(byte) => byte,
            None if *first == b'+' && plus_is_space => b' ',
            None => *first,
        });
        rest = if escaped.is_some() { &others[2..] } else { others };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const BACKEND: &str = "7a3fd399-3e48-46a0-ab7c-0eaf38020283::master_server_be";

    #[track_caller]
    fn refused(uri: &str) -> bool {
        let authenticator = Authenticator::new(&Config::from_lookup(|_| None).unwrap());
        has_key(&uri.parse().unwrap(), &authenticator)
    }

    #[test]
    fn a_parameter_for_a_key_is_found_however_it_is_written() {
        for name in [
            "api_key",
            "api-key",
            "apiKey",
            "API.KEY",
            "X-API-Key",
            "key",
            "token",
            "access_token",
            "client_secret",
            "Authorization",
            "jwt",
        ] {
            assert!(refused(&format!("/v1/history?limit=1&{name}=")), "{name}");
        }
        assert!(refused("/nowhere?%61pi%5Fkey"));
    }

    #[test]
    fn a_key_is_found_wherever_it_is() {
        let escaped = BACKEND.replace(':', "%3A");
        let twice = escaped.replace('%', "%25");
        for uri in [
            format!("/v1/history?agent_id={BACKEND}"),
            format!("/v1/history?agent_id={escaped}"),
            format!("/v1/history?cursor=Bearer+{escaped}"),
            format!("/v1/history?{BACKEND}"),
            format!("/v1/agents/{escaped}"),
            format!("/{escaped}:target/x"),
            format!("/v1/agents/{twice}"),
            format!("/v1/history?agent_id={}", twice.replace('%', "%25")),
            format!("/v1/history?agent_id=a,{escaped}"),
            format!("/v1/history?agent_id=%22{escaped}%22"),
            format!("/v1/history?agent_id=api-key:{escaped}"),
            format!("/v1/history?agent_id=1;x={escaped}"),
            format!("/v1/history?agent_id=https://h/?k%3D{escaped}%26x"),
            format!("/x/{escaped}%2Fy"),
            "/ws?who=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln".to_owned(),
            "/eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.".to_owned(),
        ] {
            assert!(refused(&uri), "{uri}");
        }
    }

    #[test]
    fn what_is_no_key_passes() {
        for uri in [
            "/",
            "/v1/history?kind=agent.registered&agent_id=5f0c1bd2-6f1c-4b8e-9d7e-0c8a3f1e2d4b&limit=5",
            "/v1/agents/master_server_be",
            "/v1/history?monkey=1&author=a&state=tokens&cursor=a:b:c",
            "/v1/agents/eyJ.not.jwt?session_id=key",
            "/%zz?%=%4&%+5=1",
        ] {
            assert!(!refused(uri), "{uri}");
        }
    }
}
