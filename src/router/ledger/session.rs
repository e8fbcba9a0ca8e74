//! A live socket, as the ledger sees it.

use crate::auth::Principal;
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
    /// A registration that waits for the end of the socket it takes over from.
    pub(super) taking_over: Option<Box<Register>>,
}

/// What a socket registered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Registration {
    pub(super) position: Position,
    pub(super) version: Version,
    pub(super) max_in_flight: u32,
}

/// Whether a socket is sent invocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is.
    Live,
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
            taking_over: None,
        }
    }

    /// How long the credential is that goes with its registration.
    pub(super) fn credential_bytes(&self) -> usize {
        match &self.principal {
            Principal::Own { credential: Some(credential), .. } => credential.expose().len(),
            _ => 0,
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

    /// Whether it asked for what version 2 adds.
    pub(super) fn speaks_v2(&self) -> bool {
        self.registration.is_some_and(|registration| registration.version == Version::Two)
    }
}
