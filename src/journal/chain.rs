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

use std::fmt::{self, Write};
use std::str::FromStr;

use sha2::{Digest, Sha256};

use crate::id::Position;
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
        let mut hasher = Sha256::new_with_prefix(previous);
        self.canonical(|bytes| hasher.update(bytes));
        hasher.finalize().into()
    }

    /// Hands over the canonical bytes, piece by piece.
    pub(super) fn canonical(&self, mut write: impl FnMut(&[u8])) {
        write(&[VERSION]);
        for number in [self.position, self.at, self.kind] {
            write(&number.to_be_bytes());
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
                None => write(&[0]),
                Some(bytes) => {
                    write(&[1]);
                    write(&(bytes.len() as u64).to_be_bytes());
                    write(bytes);
                }
            }
        }
    }
}

/// The digest by which a payload enters the chain.
#[must_use]
pub fn payload_hash(salt: &[u8], payload: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(salt).chain_update(payload).finalize().into()
}

/// Bytes as text: two lower-case digits each.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        text
    })
}

/// The bytes that [`to_hex`] made this text of, if there are exactly `N`.
#[must_use]
pub fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    let pairs = text.as_bytes().chunks_exact(2);
    if text.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(pairs) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

impl Head {
    /// The head of an empty journal.
    pub const EMPTY: Self = Self { position: Position(0), hash: [0; 32] };
}

/// As it is noted: the position, a colon, and the hash in 64 hexadecimal digits.
impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.position, to_hex(&self.hash))
    }
}

/// Why a text is no head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a head is a position, a colon and 64 hexadecimal digits, such as 14:a255df…")]
pub struct InvalidHead;

impl FromStr for Head {
    type Err = InvalidHead;

    fn from_str(text: &str) -> Result<Self, InvalidHead> {
        let (position, hash) = text.split_once(':').ok_or(InvalidHead)?;
        let position = position.parse().ok().filter(|position| *position >= 0).ok_or(InvalidHead)?;
        let hash = from_hex(&hash.to_ascii_lowercase()).ok_or(InvalidHead)?;
        Ok(Self { position: Position(position), hash })
    }
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
    fn a_head_is_read_as_it_is_written() {
        let head = Head { position: Position(14), hash: LINK.hash(&[0; 32]) };
        assert_eq!(head.to_string().parse(), Ok(head));
        assert_eq!(head.to_string().to_uppercase().parse(), Ok(head));
        let hash = to_hex(&head.hash);
        for wrong in ["", "14", &hash, &format!("14:{}", &hash[2..]), &format!("-1:{hash}"), &format!("14:é{hash}")] {
            assert_eq!(wrong.parse::<Head>(), Err(InvalidHead), "{wrong}");
        }
    }

    #[test]
    fn a_payload_enters_by_the_digest_of_its_salt_and_itself() {
        let expected: [u8; 32] = Sha256::digest(b"saltpayload").into();
        assert_eq!(payload_hash(b"salt", b"payload"), expected);
    }

    #[test]
    fn bytes_are_two_digits_each_and_no_other_text_is_read() {
        let bytes: [u8; 256] = std::array::from_fn(|byte| u8::try_from(byte).unwrap());
        let text = to_hex(&bytes);
        assert_eq!((&text[..6], &text[250..262], &text[506..]), ("000102", "7d7e7f808182", "fdfeff"));
        assert_eq!(from_hex(&text), Some(bytes));
        for wrong in ["", "0", "012", "01234", "0g", "g0", "0/", ":0", "0`", "0A", "é", " 1"] {
            assert_eq!(from_hex::<1>(wrong), None, "{wrong}");
        }
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
