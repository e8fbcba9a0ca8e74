//! Who asks, from where, and whether they may: the roles of every route are enforced here and nowhere else.

use std::fmt;
use std::net::IpAddr;

use axum::Extension;
use axum::extract::{FromRequestParts, MatchedPath, Request};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;

use super::problem::Problem;
use super::{Context, origin};
use crate::auth::Role;
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

/// What somebody's key makes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Master,
    Auditor,
    Operator,
}

impl Kind {
    fn of(role: &Role) -> Self {
        match role {
            Role::Master(_) => Self::Master,
            Role::Auditor => Self::Auditor,
            Role::Operator => Self::Operator,
        }
    }

    /// Its name, for people and for the description of the routes.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::Auditor => "auditor",
            Self::Operator => "operator",
        }
    }
}

/// Who may use a route.
#[derive(Clone, Copy, Debug)]
pub(super) struct Access(pub(super) &'static [Kind]);

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.0.iter().map(|kind| kind.as_str()).collect();
        write!(f, "the key of {} {}", if names[0].starts_with(['a', 'o']) { "an" } else { "a" }, names.join(" or "))
    }
}

/// Whoever was let in by [`admit`].
#[derive(Clone, Debug)]
pub(super) struct Asker(pub(super) Role);

impl Asker {
    /// The master that asks; on a route that is for others too, `None` for those.
    pub(super) fn master(&self) -> Option<&Identity> {
        match &self.0 {
            Role::Master(master) => Some(master),
            Role::Auditor | Role::Operator => None,
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Asker {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(parts.extensions.get::<Self>().expect("a route that asks who it is has roles in the table").clone())
    }
}

/// Lets a request through to its handler if its key is of one of the kinds; otherwise the journal says that somebody was
/// turned away.
pub(super) async fn admit(
    access: Access,
    Extension(context): Extension<Context>,
    peer: Peer,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    // In development mode the keys are published, so that whatever page a developer visits knows them.
    if !context.settings.authenticator.is_secured() && origin::is_under_a_name(request.headers()) {
        context.journal_refusal(peer, "asked under a name, in development mode").await;
        return Err(Problem::forbidden(
            "in development mode this is answered under an IP address or localhost only, as web pages can have any \
             other name lead here: ask so, or set SECRET_KEY",
        ));
    }
    let role = role(&context, peer, request.headers(), access).await?;
    if role == Role::Operator && !request.method().is_safe() {
        let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
        tracing::info!(peer = %peer.0, method = %request.method(), route, "an operator wants a change");
    }
    request.extensions_mut().insert(Asker(role));
    Ok(next.run(request).await)
}

/// The role that a request's key gives, if it is one of these.
pub(super) async fn role(context: &Context, peer: Peer, headers: &HeaderMap, access: Access) -> Result<Role, Problem> {
    match context.settings.authenticator.role(headers) {
        Ok(role) if access.0.contains(&Kind::of(&role)) => Ok(role),
        Ok(role) => {
            let shown = Kind::of(&role).as_str();
            context.journal_refusal(peer, format!("the key of the role {shown} where {access} is needed")).await;
            Err(Problem::forbidden(format!("this is for {access}; the one that came is of the role {shown}")))
        }
        Err(refused) => {
            context.journal_refusal(peer, refused.to_string()).await;
            Err(Problem::unauthorized(format!("{access} is needed, as api-key or as Authorization: Bearer")))
        }
    }
}
