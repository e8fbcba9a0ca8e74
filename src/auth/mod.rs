//! Who a peer is: the headers of its request become a principal, or a refusal.
//!
//! A pure function of headers, configuration and time. Whether an agent is connected at the moment is not known here; the
//! router checks it for the caller of an invoke socket. Depends on `config`, `id` and `clock`.

mod refused;
#[cfg(test)]
mod tests;
mod token;

use std::fmt;
use std::sync::Arc;

use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, AsHeaderName};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::config::{Config, MasterKeys, Mode};
use crate::id::Identity;

pub use refused::Refused;
pub use token::mint_agent_token;

use token::Verifier;

const API_KEY: &str = "api-key";
const CUSTOM_AUTHORIZATION: &str = "x-custom-authorization";
const INVOKE_KEY: &str = "x-custom-invoke-key";

/// Who opened a socket, and what the socket is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// A peer's own socket.
    Own {
        /// Who it is.
        identity: Identity,
        /// An agent's header, which the backend is told as `agent_jwt`; a master has none.
        credential: Option<Credential>,
    },
    /// An invoke socket: one call of one target.
    Invoke {
        /// In whose name. In secured mode a master that has shown its key, or an agent that **must be connected now**,
        /// which is left to the router to check. In development mode anything but a master that has not.
        caller: Identity,
        /// Whom it calls.
        target: Identity,
    },
}

impl Principal {
    /// The peer itself; for an invoke socket the caller.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        match self {
            Self::Own { identity, .. } => identity,
            Self::Invoke { caller, .. } => caller,
        }
    }

    /// The plain `invoked_by` of an invocation from this socket. A master is in it by name, never by key.
    #[must_use]
    pub fn invoked_by(&self) -> String {
        match self {
            Self::Own { identity, .. } => identity.to_string(),
            Self::Invoke { caller, target } => format!("{caller}:{target}"),
        }
    }
}

/// The header that made an agent: a secret that lives with its connection and is told to the backend alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential(Arc<str>);

impl Credential {
    /// The header's value, for the backend's `agent_register`.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(redacted)")
    }
}

/// Tells who a peer is, by the rules of the mode.
#[derive(Debug, Clone)]
pub struct Authenticator {
    keys: MasterKeys,
    /// None in development mode.
    verifier: Option<Verifier>,
}

impl Authenticator {
    /// With the keys and the mode of this configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let verifier = match &config.mode {
            Mode::Development => None,
            Mode::Secured(secret) => Some(Verifier::new(secret)),
        };
        Self { keys: config.keys.clone(), verifier }
    }

    /// Whether agents' tokens are verified; in development mode they are not.
    #[must_use]
    pub fn is_secured(&self) -> bool {
        self.verifier.is_some()
    }

    /// An id as agents are known by: in secured mode a UUID in lower case, however it was written.
    #[must_use]
    pub fn canonical(&self, id: Identity) -> Identity {
        let canonical = |id: &Identity| Identity::new(&Uuid::try_parse(id.as_str()).ok()?.to_string()).ok();
        if self.is_secured() { canonical(&id).unwrap_or(id) } else { id }
    }

    /// Who opens this socket. The first of the three headers that is not empty counts, whatever the others say.
    pub fn socket(&self, headers: &HeaderMap, now: Timestamp) -> Result<Principal, Refused> {
        if let Some(key) = first(headers, API_KEY) {
            let identity = self.keys.master(key).ok_or(Refused::UnknownApiKey)?;
            return Ok(Principal::Own { identity, credential: None });
        }
        if let Some(value) = first(headers, CUSTOM_AUTHORIZATION) {
            return self.agent(text(value)?, now);
        }
        if let Some(value) = first(headers, INVOKE_KEY) {
            return self.invoke_socket(text(value)?);
        }
        Err(Refused::NoCredential)
    }

    /// Which master makes this HTTP request: by `api-key`, or else by `Authorization: Bearer`.
    pub fn master(&self, headers: &HeaderMap) -> Result<Identity, Refused> {
        let key = first(headers, API_KEY).or_else(|| bearer(headers)).ok_or(Refused::NoCredential)?;
        self.keys.master(key).ok_or(Refused::UnknownApiKey)
    }

    fn agent(&self, value: &str, now: Timestamp) -> Result<Principal, Refused> {
        let identity = match &self.verifier {
            Some(verifier) => agent_id(&verifier.subject(value, now)?).ok_or(Refused::SubjectNotUuid)?,
            None => match token::unverified_subject(value)? {
                Some(subject) => self.claimed(&subject)?,
                None => self.claimed(value)?,
            },
        };
        Ok(Principal::Own { identity, credential: Some(Credential(value.into())) })
    }

    fn invoke_socket(&self, value: &str) -> Result<Principal, Refused> {
        let (caller, target) = value.rsplit_once(':').ok_or(Refused::InvokeKeyShape)?;
        if self.keys.master(value.as_bytes()).is_some() {
            // Without a target, the key itself would be taken apart, and its first part for a caller's name.
            return Err(Refused::InvokeKeyShape);
        }
        let master = self.keys.master(caller.as_bytes());
        if !self.is_secured() {
            let caller = master.map_or_else(|| self.claimed(caller), Ok)?;
            let target = self.named(target)?;
            return Ok(Principal::Invoke { caller, target });
        }
        let caller = master.or_else(|| agent_id(caller)).ok_or(Refused::InvokeKeyCaller)?;
        let target = match target {
            Identity::ML => Identity::ml(),
            target => agent_id(target).ok_or(Refused::InvokeKeyTarget)?,
        };
        Ok(Principal::Invoke { caller, target })
    }

    /// Whom a peer says it is, without proof: never a master.
    fn claimed(&self, name: &str) -> Result<Identity, Refused> {
        let identity = self.named(name)?;
        if identity.is_master() { Err(Refused::MasterName) } else { Ok(identity) }
    }

    /// A name that will be journaled, so it cannot be a key that came in the wrong place.
    fn named(&self, name: &str) -> Result<Identity, Refused> {
        if self.keys.master(name.as_bytes()).is_some() {
            return Err(Refused::KeyAsName);
        }
        Identity::new(name).map_err(|_| Refused::InvalidIdentity)
    }
}

/// An agent's id in secured mode: a UUID with hyphens in either case, told apart by its lower-case form.
fn agent_id(text: &str) -> Option<Identity> {
    const HYPHENATED: usize = uuid::fmt::Hyphenated::LENGTH;

    let uuid = Uuid::try_parse(text).ok().filter(|_| text.len() == HYPHENATED)?;
    Identity::new(uuid.as_hyphenated().encode_lower(&mut [0; HYPHENATED])).ok()
}

/// The first value of the header that is not empty.
fn first(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&[u8]> {
    headers.get_all(name).iter().map(|value| value.as_bytes().trim_ascii()).find(|value| !value.is_empty())
}

fn text(value: &[u8]) -> Result<&str, Refused> {
    std::str::from_utf8(value).map_err(|_| Refused::NotText)
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let (scheme, key) = first(headers, AUTHORIZATION)?.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| key.trim_ascii())
}
