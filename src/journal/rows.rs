//! Agents, sockets and routers, as the journal's rows have them.

use std::sync::Arc;

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::id::{Identity, NodeId, Position, SessionId};

/// An agent, as the journal's rows have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentRow {
    /// Who.
    pub agent: Identity,
    /// Its last registration, which makes it *known*.
    pub registered: Option<Position>,
    /// When its last connection ended; `None` while it never had one that ended.
    pub last_seen: Option<Timestamp>,
}

/// A peer's own socket, as the journal's rows have it: there from its acceptance to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRow {
    /// The connection.
    pub session: SessionId,
    /// Whose.
    pub identity: Identity,
    /// The event by which it registered, if it did.
    pub registered: Option<Position>,
    /// The protocol version that it registered with; 1 before.
    pub version: u8,
    /// When it was accepted.
    pub connected_at: Timestamp,
    /// The router that holds it.
    pub node: NodeId,
    /// Whether it is sent invocations.
    pub standing: SessionStanding,
    /// How many invocations it takes at once, once it has registered; 0 before.
    pub max_in_flight: u32,
    /// The credential that it came with, sealed for the other routers alone; it goes with the row.
    pub sealed_credential: Option<Bytes>,
}

/// Whether a socket is sent invocations, as its row has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(i64)]
pub enum SessionStanding {
    /// It is.
    #[default]
    Live = 0,
    /// It is about to be: its registration waits for the end of the socket that it takes over from.
    Registering = 1,
    /// A newer one registered: the router that holds it is to close it.
    Evicted = 2,
    /// It asked for no more.
    Leaving = 3,
    /// An operator wants it gone: the router that holds it is to close it.
    Disconnected = 4,
}

impl SessionStanding {
    /// From the number in the table.
    #[must_use]
    pub const fn from_code(code: i64) -> Option<Self> {
        match code {
            0 => Some(Self::Live),
            1 => Some(Self::Registering),
            2 => Some(Self::Evicted),
            3 => Some(Self::Leaving),
            4 => Some(Self::Disconnected),
            _ => None,
        }
    }
}

/// A router on this journal, as the journal's rows have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRow {
    /// Which.
    pub node: NodeId,
    /// `NODE_ID`.
    pub name: Arc<str>,
    /// Which of its lives: each start under the same name is the next, from 1.
    pub epoch: i64,
    /// Whether it is there.
    pub standing: NodeStanding,
    /// Of the program.
    pub version: Arc<str>,
    /// When this life began.
    pub started_at: Timestamp,
}

/// Whether a router is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i64)]
pub enum NodeStanding {
    /// It is.
    Up = 1,
    /// It is, and takes nothing new, as an operator asked.
    Draining = 2,
    /// It ended in good order.
    Stopped = 3,
    /// It was not heard of for too long; its sockets are taken for ended.
    Lost = 4,
}

impl NodeStanding {
    /// From the number in the table.
    #[must_use]
    pub const fn from_code(code: i64) -> Option<Self> {
        match code {
            1 => Some(Self::Up),
            2 => Some(Self::Draining),
            3 => Some(Self::Stopped),
            4 => Some(Self::Lost),
            _ => None,
        }
    }

    /// Its name for readers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
            Self::Lost => "lost",
        }
    }

    /// Whether its sockets are there.
    #[must_use]
    pub const fn is_present(self) -> bool {
        matches!(self, Self::Up | Self::Draining)
    }
}
