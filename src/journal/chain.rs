//! The hash chain: what makes a change to the past show.
//!
//! Each event's hash is `SHA-256(previous hash ‖ canonical bytes of the event)`; the first follows 32 zero bytes. The
//! canonical bytes, numbers big-endian:
//!
//! ```text
//! version      1 byte: 1
//! position     8 bytes        at     8 bytes        kind   8 bytes
//! node, invocation, agent, caller, detail, payload digest: for each
//!     absent   1 byte: 0
//!     present  1 byte: 1, its length in 8 bytes, its bytes
//! ```
//!
//! A payload enters as `SHA-256(salt ‖ payload)`, so that it can be erased and the chain still verifies; the salt, 16
//! random bytes that are erased with it, keeps anybody from guessing a short payload by its digest.

use sha2::{Digest, Sha256};

use crate::journal::Head;

/// The version of the canonical bytes.
const VERSION: u8 = 1;

/// The size of a salt, in bytes.
pub const SALT_BYTES: usize = 16;

/// What of an event is hashed, as it is stored.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "each is the column of the same name of the journal")]
pub struct Link<'a> {
    pub position: i64,
    pub at: i64,
    pub kind: i64,
    pub node: &'a str,
    pub invocation: Option<&'a [u8]>,
    pub agent: Option<&'a str>,
    pub caller: Option<&'a str>,
    pub detail: &'a str,
    pub payload_hash: Option<&'a [u8]>,
}

impl Link<'_> {
    /// The hash of this event, which follows the one with the hash `previous`.
    #[must_use]
    pub fn hash(&self, previous: &[u8; 32]) -> [u8; 32] {
        let mut hasher = Sha256::new();
        hasher.update(previous);
        hasher.update([VERSION]);
        for number in [self.position, self.at, self.kind] {
            hasher.update(number.to_be_bytes());
        }
        for field in [
            Some(self.node.as_bytes()),
            self.invocation,
            self.agent.map(str::as_bytes),
            self.caller.map(str::as_bytes),
            Some(self.detail.as_bytes()),
            self.payload_hash,
        ] {
            match field {
                None => hasher.update([0]),
                Some(bytes) => {
                    hasher.update([1]);
                    hasher.update((bytes.len() as u64).to_be_bytes());
                    hasher.update(bytes);
                }
            }
        }
        hasher.finalize().into()
    }
}

/// The digest by which a payload enters the chain.
#[must_use]
pub fn payload_hash(salt: &[u8], payload: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(salt).chain_update(payload).finalize().into()
}

impl Head {
    /// The head of an empty journal.
    pub const EMPTY: Self = Self { position: crate::id::Position(0), hash: [0; 32] };
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: Link<'static> = Link {
        position: 1,
        at: 1_767_322_985_000_006,
        kind: 14,
        node: "node-1",
        invocation: None,
        agent: Some("a"),
        caller: None,
        detail: "{}",
        payload_hash: None,
    };

    #[test]
    fn the_hash_of_a_known_event_stays_what_it_is() {
        let canonical = [
            &[0; 32][..],
            b"\x01\x00\x00\x00\x00\x00\x00\x00\x01\x00\x06\x47\x5e\xf2\xb9\x6c\x46\x00\x00\x00\x00\x00\x00\x00\x0e",
            b"\x01\x00\x00\x00\x00\x00\x00\x00\x06node-1\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01a\x00",
            b"\x01\x00\x00\x00\x00\x00\x00\x00\x02{}\x00",
        ]
        .concat();
        let expected: [u8; 32] = Sha256::digest(canonical).into();
        assert_eq!(LINK.hash(&[0; 32]), expected);
    }

    #[test]
    fn every_field_counts_and_none_runs_into_the_next() {
        let variants = [
            LINK,
            Link { position: 2, ..LINK },
            Link { at: 0, ..LINK },
            Link { kind: 13, ..LINK },
            Link { node: "node-", ..LINK },
            Link { invocation: Some(&[0; 16]), ..LINK },
            Link { agent: None, caller: Some("a"), ..LINK },
            Link { agent: Some(""), ..LINK },
            Link { agent: None, ..LINK },
            Link { detail: "{ }", ..LINK },
            Link { payload_hash: Some(&[0; 32]), ..LINK },
        ];
        let mut hashes: Vec<_> = variants.iter().map(|link| link.hash(&[0; 32])).collect();
        hashes.push(LINK.hash(&[1; 32]));
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), variants.len() + 1);
    }
}
