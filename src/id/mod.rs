//! The names of things: who a peer is, and the ids that the router gives out.

mod map;

use std::cmp::Ordering;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::{Arc, LazyLock};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use self::map::{IdHasher, IdMap, IdSet};

/// The longest identity that is accepted, in bytes.
pub const MAX_IDENTITY_BYTES: usize = 255;

/// Who a peer is: an agent's id (`sub` of its JWT) or a master's name. Compared whole, never as a substring.
#[derive(Clone, Serialize)]
#[serde(transparent)]
pub struct Identity {
    name: Arc<str>,
    /// Of the name, with a key of this process, for peers choose their names. It is taken once: names are looked up far
    /// more often than they are made.
    #[serde(skip)]
    hash: u64,
}

/// With which names are hashed.
static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// Why a text cannot be an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an identity is 1 to {MAX_IDENTITY_BYTES} bytes without control characters")]
pub struct InvalidIdentity;

impl Identity {
    /// The name of the backend, the master with `MASTER_BE_API_KEY`.
    pub const BACKEND: &'static str = "master_server_be";
    /// The name of the master agent, the master with `MASTER_AGENT_API_KEY`.
    pub const ML: &'static str = "master_server_ml";

    /// Checks and takes a name.
    pub fn new(name: &str) -> Result<Self, InvalidIdentity> {
        if name.is_empty() || name.len() > MAX_IDENTITY_BYTES || name.chars().any(char::is_control) {
            return Err(InvalidIdentity);
        }
        Ok(Self::checked(name))
    }

    fn checked(name: &str) -> Self {
        Self { name: name.into(), hash: KEY.hash_one(name) }
    }

    /// The backend.
    #[must_use]
    pub fn backend() -> Self {
        Self::checked(Self::BACKEND)
    }

    /// The master agent.
    #[must_use]
    pub fn ml() -> Self {
        Self::checked(Self::ML)
    }

    /// The name itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// Whether this is the backend.
    #[must_use]
    pub fn is_backend(&self) -> bool {
        &*self.name == Self::BACKEND
    }

    /// Whether this is one of the two masters.
    #[must_use]
    pub fn is_master(&self) -> bool {
        matches!(&*self.name, Self::BACKEND | Self::ML)
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.name, &other.name) || (self.hash == other.hash && self.name == other.name)
    }
}

impl Eq for Identity {}

impl Hash for Identity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl PartialOrd for Identity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Identity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.name.cmp(&other.name)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.name)
    }
}

impl<'de> Deserialize<'de> for Identity {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::new(&name).map_err(serde::de::Error::custom)
    }
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }
    };
}

uuid_id! {
    /// An invocation: a version-7 UUID, given when it is accepted.
    InvocationId
}
uuid_id! {
    /// One connection of one peer: a version-7 UUID, given when its credential was accepted.
    SessionId
}

impl InvocationId {
    /// A new one; ids of one process are in order.
    #[must_use]
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }
}

impl SessionId {
    /// A new one; ids of one process are in order.
    #[must_use]
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }
}

/// A router that writes to the journal: its number there, the same after every restart under the same `NODE_ID`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct NodeId(pub i64);

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {}", self.0)
    }
}

/// The place of an event in the journal: contiguous, from 1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Position(pub i64);

impl Position {
    /// Before every place.
    pub const MIN: Self = Self(i64::MIN);
    /// After every place.
    pub const MAX: Self = Self(i64::MAX);

    /// The place after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}
