//! Credentials of agents, sealed so that they can lie in a journal that several routers share: whoever tells the backend
//! `agent_jwt` need not be the router that holds the agent's socket. They lie there as long as the socket is open.
//!
//! ChaCha20-Poly1305 under a key that is derived from `SECRET_KEY` and good for nothing else. What is sealed for one socket
//! opens for no other. Without `SECRET_KEY`, nothing is sealed.

use std::fmt;

use bytes::Bytes;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{ChaCha20Poly1305, KeyInit, Nonce};
use hkdf::Hkdf;
use sha2::Sha256;

use super::Credential;
use crate::config::SecretKey;
use crate::id::SessionId;

/// What the derived key is for.
const PURPOSE: &[u8] = b"agent-router sessions.sealed_credential 1";

/// In front of what is sealed: random, for each anew.
const NONCE_BYTES: usize = 12;

/// Seals credentials, and opens those that routers with the same `SECRET_KEY` have sealed.
#[derive(Clone)]
pub struct Sealer(ChaCha20Poly1305);

impl Sealer {
    /// With a key of its own, which follows from this one.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "the length is a constant")]
    pub fn new(secret: &SecretKey) -> Self {
        let mut key = [0; 32];
        Hkdf::<Sha256>::new(None, secret.as_bytes())
            .expand(PURPOSE, &mut key)
            .expect("32 bytes are no more than can be derived");
        Self(ChaCha20Poly1305::new(&key.into()))
    }

    /// What can lie in the journal beside the socket that came with this credential. `None`: there is
    /// too much to seal.
    #[must_use]
    pub fn seal(&self, session: SessionId, credential: &Credential) -> Option<Bytes> {
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let payload = Payload { msg: credential.expose().as_bytes(), aad: session.0.as_bytes() };
        let sealed = self.0.encrypt(&Nonce::from(nonce), payload).ok()?;
        Some([&nonce[..], &sealed].concat().into())
    }

    /// The credential that was sealed for this socket; `None` if it was not, or with another key.
    #[must_use]
    pub fn open(&self, session: SessionId, sealed: &[u8]) -> Option<Credential> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        let payload = Payload { msg: sealed, aad: session.0.as_bytes() };
        let opened = self.0.decrypt(&Nonce::from(*nonce), payload).ok()?;
        Some(Credential(String::from_utf8(opened).ok()?.into()))
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(secret: &str) -> Sealer {
        Sealer::new(&SecretKey::new(secret))
    }

    #[test]
    fn what_one_router_seals_another_with_the_same_key_opens_for_the_same_socket_alone() {
        let (session, token) = (SessionId::generate(), Credential("Bearer a.b.c".into()));
        let lies_there = sealer("the same").seal(session, &token).unwrap();
        let shows = |part: &[u8]| lies_there.windows(part.len()).any(|bytes| bytes == part);
        assert!(!token.expose().as_bytes().windows(5).any(shows));
        assert_eq!(sealer("the same").open(session, &lies_there), Some(token.clone()));
        assert_eq!(sealer("another").open(session, &lies_there), None);
        assert_eq!(sealer("the same").open(SessionId::generate(), &lies_there), None);
        let again = sealer("the same").seal(session, &token).unwrap();
        assert_ne!(again, lies_there, "each is sealed with a nonce of its own");
    }

    #[test]
    fn what_was_changed_does_not_open() {
        let (session, router) = (SessionId::generate(), sealer("key"));
        let lies_there = router.seal(session, &Credential("token".into())).unwrap();
        for index in 0..lies_there.len() {
            let mut changed = lies_there.to_vec();
            changed[index] ^= 1;
            assert_eq!(router.open(session, &changed), None, "byte {index}");
        }
        for short in 0..lies_there.len() {
            assert_eq!(router.open(session, &lies_there[..short]), None, "{short} bytes");
        }
    }

    #[test]
    fn it_prints_nothing_of_its_key() {
        assert_eq!(format!("{:?}", sealer("hush")), "Sealer(redacted)");
    }
}
