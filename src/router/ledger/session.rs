//! A live socket, as the ledger sees it: of this router or of another.

use bytes::Bytes;

use crate::auth::{Credential, Principal};
use crate::clock::Timestamp;
use crate::id::{Identity, NodeId, Position, SessionId};
use crate::journal::{SessionRow, SessionStanding};
use crate::protocol::{Register, Version};

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) id: SessionId,
    pub(super) principal: Principal,
    /// The router that holds it.
    pub(super) node: NodeId,
    pub(super) connected_at: Timestamp,
    pub(super) registration: Option<Registration>,
    pub(super) standing: Standing,
    /// When what waits is sent to it although it has not registered; `None` once that is past, or pointless.
    pub(super) drain_at: Option<Timestamp>,
    /// When it no longer waits for the sockets of other routers that it takes over from.
    pub(super) fence_at: Option<Timestamp>,
    /// The credential that it came with, for other routers alone.
    pub(super) sealed_credential: Option<Bytes>,
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
    Registering {
        version: Version,
        /// The frame; only the router that holds the socket has it.
        register: Option<Box<Register>>,
    },
    /// A newer one registered; this one is being closed.
    Evicted,
    /// It asked for no more.
    Leaving,
    /// An operator wants it gone; it is being closed.
    Disconnected,
    /// Another router took it for ended, and so has the journal. It is being closed; what it had sent still counts.
    Fenced,
}

impl Session {
    /// As its row has it: a socket of another router, or one that a predecessor held.
    pub(super) fn of_row(row: SessionRow) -> Self {
        let version = if row.version == 2 { Version::Two } else { Version::One };
        let max_in_flight = row.max_in_flight;
        Self {
            id: row.session,
            node: row.node,
            principal: Principal::Own { identity: row.identity, credential: None },
            connected_at: row.connected_at,
            registration: row.registered.map(|position| Registration { position, version, max_in_flight }),
            standing: match row.standing {
                SessionStanding::Live => Standing::Live,
                SessionStanding::Registering => Standing::Registering { version, register: None },
                SessionStanding::Evicted => Standing::Evicted,
                SessionStanding::Leaving => Standing::Leaving,
                SessionStanding::Disconnected => Standing::Disconnected,
            },
            drain_at: None,
            fence_at: None,
            sealed_credential: row.sealed_credential,
        }
    }

    /// Its row, if it has one: an invoke socket's calls are journaled, not the socket.
    pub(super) fn row(&self) -> Option<SessionRow> {
        let standing = match self.standing {
            Standing::Live => SessionStanding::Live,
            Standing::Registering { .. } => SessionStanding::Registering,
            Standing::Evicted => SessionStanding::Evicted,
            Standing::Leaving => SessionStanding::Leaving,
            Standing::Disconnected => SessionStanding::Disconnected,
            Standing::Fenced => return None,
        };
        self.is_own().then(|| SessionRow {
            session: self.id,
            identity: self.identity().clone(),
            registered: self.registration.map(|registration| registration.position),
            version: self.version().number(),
            connected_at: self.connected_at,
            node: self.node,
            standing,
            max_in_flight: self.registration.map_or(0, |registration| registration.max_in_flight),
            sealed_credential: self.sealed_credential.clone(),
        })
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

    /// Whether the journal has it as its identity's own.
    pub(super) const fn counts(&self) -> bool {
        self.is_own() && !matches!(self.standing, Standing::Fenced)
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
    pub(super) const fn is_registered(&self) -> bool {
        match self.standing {
            Standing::Live | Standing::Leaving => self.registration.is_some(),
            Standing::Registering { .. } => true,
            Standing::Evicted | Standing::Disconnected | Standing::Fenced => false,
        }
    }

    /// Whether it is being closed, and its identity's next socket waits for its end.
    pub(super) const fn is_outgoing(&self) -> bool {
        matches!(self.standing, Standing::Evicted | Standing::Disconnected)
    }

    /// Whether it has ever said that it is its identity's own: its peer is no bare caller.
    pub(super) const fn has_registered(&self) -> bool {
        self.registration.is_some() || matches!(self.standing, Standing::Registering { .. })
    }

    /// Whether it asked for what version 2 adds.
    pub(super) fn speaks_v2(&self) -> bool {
        self.version() == Version::Two
    }

    fn version(&self) -> Version {
        match self.standing {
            Standing::Registering { version, .. } => version,
            _ => self.registration.map_or(Version::One, |registration| registration.version),
        }
    }
}
