//! A live socket, as the ledger sees it.

use crate::auth::{Credential, Principal};
use crate::clock::Timestamp;
use crate::id::{Identity, Position, SessionId};
use crate::journal::SessionRow;
use crate::protocol::{Register, Version};

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) id: SessionId,
    pub(super) principal: Principal,
    pub(super) connected_at: Timestamp,
    pub(super) registration: Option<Registration>,
    pub(super) standing: Standing,
    /// When what waits is sent to it although it has not registered; `None` once that is past, or pointless.
    pub(super) drain_at: Option<Timestamp>,
}

/// What a socket registered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Registration {
    pub(super) position: Position,
    pub(super) version: Version,
    pub(super) max_in_flight: u32,
}

/// Whether a socket is sent invocations.
#[derive(Clone, Debug)]
pub(super) enum Standing {
    /// It is.
    Live,
    /// It is about to be: its registration waits for the end of the socket that it takes over from.
    Registering(Box<Register>),
    /// A newer one registered; this one is being closed.
    Evicted,
    /// It asked for no more.
    Leaving,
}

impl Session {
    /// A socket that a predecessor held, whose end is still to be journaled.
    pub(super) fn restored(row: &SessionRow) -> Self {
        let version = if row.version == 2 { Version::Two } else { Version::One };
        Self {
            id: row.session,
            principal: Principal::Own { identity: row.identity.clone(), credential: None },
            connected_at: row.connected_at,
            registration: row.registered.map(|position| Registration { position, version, max_in_flight: 0 }),
            standing: Standing::Live,
            drain_at: None,
        }
    }

    /// What goes with its registration as `agent_jwt`.
    pub(super) fn credential(&self) -> Option<&str> {
        match &self.principal {
            Principal::Own { credential, .. } => credential.as_ref().map(Credential::expose),
            Principal::Invoke { .. } => None,
        }
    }

    /// The peer's own socket, not an invoke socket.
    pub(super) const fn is_own(&self) -> bool {
        matches!(self.principal, Principal::Own { .. })
    }

    /// An invoke socket that the backend opened: it may dismiss its target.
    pub(super) fn is_backends_invoke_socket(&self) -> bool {
        !self.is_own() && self.identity().is_backend()
    }

    /// Whose it is; for an invoke socket, whom it acts for.
    pub(super) fn identity(&self) -> &Identity {
        self.principal.identity()
    }

    /// Whether it is its identity's registered socket, or will be as soon as the older one has ended.
    pub(super) fn is_registered(&self) -> bool {
        match self.standing {
            Standing::Live | Standing::Leaving => self.registration.is_some(),
            Standing::Registering(_) => true,
            Standing::Evicted => false,
        }
    }

    /// Whether it has ever said that it is its identity's own: its peer is no bare caller.
    pub(super) const fn has_registered(&self) -> bool {
        self.registration.is_some() || matches!(self.standing, Standing::Registering(_))
    }

    /// Whether it asked for what version 2 adds.
    pub(super) fn speaks_v2(&self) -> bool {
        match &self.standing {
            Standing::Registering(register) => register.version == Version::Two,
            _ => self.registration.is_some_and(|registration| registration.version == Version::Two),
        }
    }
}
