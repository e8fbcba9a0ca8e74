//! Who asks, and from where.

use std::net::IpAddr;

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::ORIGIN;
use axum::http::request::Parts;

use super::Context;
use super::problem::Problem;
use crate::config::AllowedOrigins;
use crate::id::Identity;

/// Where a request came from; [`super::connection`] puts it into every request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) IpAddr);

impl<S: Send + Sync> FromRequestParts<S> for Peer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(*parts.extensions.get().expect("every request has its peer in it"))
    }
}

/// The master whose key a request shows: `api-key`, or `Authorization: Bearer`.
pub(super) struct Master(pub(super) Identity);

impl Master {
    /// Has the journal say so if there is none.
    pub(super) async fn of(context: &Context, peer: Peer, headers: &HeaderMap) -> Result<Self, Problem> {
        match context.settings.authenticator.master(headers) {
            Ok(master) => Ok(Self(master)),
            Err(refused) => {
                context.journal_refusal(peer, refused.to_string()).await;
                Err(Problem::unauthorized("a master's key is needed, as api-key or as Authorization: Bearer"))
            }
        }
    }
}

impl FromRequestParts<Context> for Master {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, context: &Context) -> Result<Self, Problem> {
        let peer = Peer::from_request_parts(parts, context).await?;
        Self::of(context, peer, &parts.headers).await
    }
}

/// Whether a request is from a program, or from a web page that may send it. A browser tells where a page is from, and a
/// page cannot keep it from doing so; without this check any page that a developer visits could reach a router on the
/// developer's own machine.
pub(super) fn origin_is_allowed(headers: &HeaderMap, allowed: &AllowedOrigins) -> bool {
    headers.get_all(ORIGIN).iter().all(|origin| origin.to_str().is_ok_and(|origin| allowed.allows(origin)))
}
