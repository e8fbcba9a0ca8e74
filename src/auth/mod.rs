//! Who a peer is: the headers of its request become a principal, or a refusal.
//!
//! A pure function of headers, configuration and time. Whether an agent is connected at the moment is not known here; the
//! router checks it for the caller of an invoke socket. Depends on `config`, `id` and `clock`.

mod misplaced;
mod refused;
mod seal;
#[cfg(test)]
mod tests;
mod token;

use std::fmt;
use std::sync::Arc;

use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, AsHeaderName};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::config::{Config, Keys, Mode};
use crate::id::Identity;

pub use refused::Refused;
pub use seal::Sealer;
pub use token::mint_agent_token;

use token::Verifier;

const API_KEY: &str = "api-key";
const CUSTOM_AUTHORIZATION: &str = "x-custom-authorization";
const INVOKE_KEY: &str = "x-custom-invoke-key";

/// What stands in the place of a key that came as part of an `invoked_by`.
const KEY_IN_INVOKED_BY: &str = "[a key]";

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

/// Whose key an HTTP request shows, and so what it may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// A master: it invokes, and reads what it invoked.
    Master(Identity),
    /// Reads everything, changes nothing.
    Auditor,
    /// Looks after the router, and sees no payloads.
    Operator,
}

/// Tells who a peer is, by the rules of the mode.
#[derive(Debug, Clone)]
pub struct Authenticator {
    keys: Keys,
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
            let identity = self.keys.masters.master(key).ok_or(Refused::UnknownApiKey)?;
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

    /// Who makes this HTTP request: by `api-key`, or else by `Authorization: Bearer`.
    pub fn role(&self, headers: &HeaderMap) -> Result<Role, Refused> {
        let key = first(headers, API_KEY).or_else(|| bearer(headers)).ok_or(Refused::NoCredential)?;
        self.holder(key).ok_or(Refused::UnknownApiKey)
    }

    /// Whether these bytes are anybody's key, which then came in the wrong place.
    #[must_use]
    pub fn is_key(&self, bytes: &[u8]) -> bool {
        self.keys.is_any(bytes)
    }

    /// What a peer sent back as `invoked_by`, without a key or a token. No delivery of this router has one in it; those of the
    /// original have a master's, and its agents may bring one along.
    #[must_use]
    pub fn without_key(&self, invoked_by: String) -> String {
        let (caller, rest) = match invoked_by.rfind(':') {
            Some(colon) => invoked_by.split_at(colon),
            None => (&*invoked_by, ""),
        };
        if [Identity::BACKEND, Identity::ML].contains(&caller) {
            return invoked_by;
        }
        if self.is_key(caller.as_bytes()) || token::is_token(caller) {
            return format!("{KEY_IN_INVOKED_BY}{rest}");
        }
        if !rest.is_empty() && self.is_key(invoked_by.as_bytes()) { KEY_IN_INVOKED_BY.to_owned() } else { invoked_by }
    }

    /// Whose key this is. Every key is always compared.
    fn holder(&self, key: &[u8]) -> Option<Role> {
        let master = self.keys.masters.master(key);
        let [auditor, operator] = [self.keys.is_auditor(key), self.keys.is_operator(key)];
        master
            .map(Role::Master)
            .or_else(|| auditor.then_some(Role::Auditor))
            .or_else(|| operator.then_some(Role::Operator))
    }

    fn agent(&self, value: &str, now: Timestamp) -> Result<Principal, Refused> {
        let identity = match &self.verifier {
            Some(verifier) => self.agent_id(&verifier.subject(value, now)?, Refused::SubjectNotUuid)?,
            None => match token::unverified_subject(value)? {
                Some(subject) => self.claimed(&subject)?,
                None => self.claimed(value)?,
            },
        };
        Ok(Principal::Own { identity, credential: Some(Credential(value.into())) })
    }

    fn invoke_socket(&self, value: &str) -> Result<Principal, Refused> {
        let (caller, target) = value.rsplit_once(':').ok_or(Refused::InvokeKeyShape)?;
        if self.is_key(value.as_bytes()) {
            // Without a target, the key itself would be taken apart, and its first part for a caller's name.
            return Err(Refused::InvokeKeyShape);
        }
        let master = self.keys.masters.master(caller.as_bytes());
        if !self.is_secured() {
            let caller = master.map_or_else(|| self.claimed(caller), Ok)?;
            let target = self.named(target)?;
            return Ok(Principal::Invoke { caller, target });
        }
        let caller = master.map_or_else(|| self.agent_id(caller, Refused::InvokeKeyCaller), Ok)?;
        let target = match target {
            Identity::ML => Identity::ml(),
            target => self.agent_id(target, Refused::InvokeKeyTarget)?,
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
        if self.is_key(name.as_bytes()) {
            return Err(Refused::KeyAsName);
        }
        Identity::new(name).map_err(|_| Refused::InvalidIdentity)
    }

    /// An agent's id in secured mode: a UUID with hyphens in either case, told apart by its lower-case form. It can be
    /// mistaken for a key, as a key may be a UUID.
    fn agent_id(&self, text: &str, otherwise: Refused) -> Result<Identity, Refused> {
        const HYPHENATED: usize = uuid::fmt::Hyphenated::LENGTH;

        let uuid = Uuid::try_parse(text).ok().filter(|_| text.len() == HYPHENATED).ok_or(otherwise)?;
        if self.is_key(text.as_bytes()) {
            return Err(Refused::KeyAsName);
        }
        self.named(uuid.as_hyphenated().encode_lower(&mut [0; HYPHENATED]))
    }
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
