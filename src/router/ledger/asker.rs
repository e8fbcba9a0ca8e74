//! Who asks for an invocation, or for its end, and by which way.

use super::session::Session;
use super::tables::Waiter;
use crate::auth::Principal;
use crate::id::Identity;
use crate::invocation::Origin;

/// Who asks.
#[derive(Clone, Copy)]
pub(super) enum Asker<'a> {
    /// A peer, on a socket, and it is told there.
    Socket(&'a Session),
    /// A master, over HTTP. The answer to its request tells it what becomes of that; the rest it reads.
    Http(&'a Identity),
}

impl<'a> Asker<'a> {
    /// Whose invocation it is.
    pub(super) fn identity(self) -> &'a Identity {
        match self {
            Self::Socket(session) => session.identity(),
            Self::Http(caller) => caller,
        }
    }

    pub(super) const fn origin(self) -> Origin {
        match self {
            Self::Socket(session) => match session.principal {
                Principal::Own { .. } => Origin::Socket { session: session.id, registered: session.has_registered() },
                Principal::Invoke { .. } => Origin::InvokeSocket { session: session.id },
            },
            Self::Http(_) => Origin::Http,
        }
    }

    /// The socket that waits for the answer, if one does.
    pub(super) fn waiter(self, additions: bool) -> Option<Waiter> {
        match self {
            Self::Socket(session) => Some(Waiter { session: session.id, additions }),
            Self::Http(_) => None,
        }
    }

    /// Who may invoke whom: an invoke socket its target alone, the master agent by the backend's invoke sockets or over
    /// HTTP alone, and the backend by nobody.
    pub(super) fn may_invoke(self, agent: &Identity) -> bool {
        match self {
            _ if agent.is_backend() => false,
            Self::Http(caller) => !agent.is_master() || caller.is_backend(),
            Self::Socket(session) => match &session.principal {
                Principal::Own { .. } => !agent.is_master(),
                Principal::Invoke { caller, target } => target == agent && (!agent.is_master() || caller.is_backend()),
            },
        }
    }
}
