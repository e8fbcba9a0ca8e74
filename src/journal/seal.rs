//! Events on their way into the journal: each with its place in the chain, the same on every back end.

use crate::id::{Identity, Position};
use crate::journal::chain::{self, Link, SALT_BYTES};
use crate::journal::{Event, Head, JournalError};

/// Where the salts of payloads come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Salts {
    /// From the system's random numbers.
    #[default]
    Random,
    /// From the events' positions, so that two journals can be compared. Anybody can guess a short payload then.
    OfPosition,
}

impl Salts {
    fn salt(self, position: Position) -> [u8; SALT_BYTES] {
        match self {
            Self::Random => rand::random(),
            Self::OfPosition => {
                let mut salt = [0; SALT_BYTES];
                salt[..8].copy_from_slice(&position.0.to_be_bytes());
                salt
            }
        }
    }
}

/// An event, and what it has in the chain.
#[derive(Debug)]
pub(super) struct Sealed<'a> {
    pub(super) event: &'a Event,
    /// The facts of its kind, as they are hashed.
    pub(super) detail: String,
    /// Of its payload, if it has one.
    pub(super) salt: Option<[u8; SALT_BYTES]>,
    pub(super) payload_hash: Option<[u8; 32]>,
    pub(super) hash: [u8; 32],
}

impl<'a> Sealed<'a> {
    /// Extends the chain from `newest` by an event, which must follow it. `node` is the name of the router that writes it.
    pub(super) fn new(event: &'a Event, newest: &Head, node: &str, salts: Salts) -> Result<Self, JournalError> {
        if event.position != newest.position.next() {
            let what = format!("a batch's event {} does not follow {}", event.position, newest.position);
            return Err(JournalError::Unavailable(what));
        }
        let detail = serde_json::to_string(&event.detail)
            .map_err(|_| JournalError::Unavailable("an event could not be encoded".to_owned()))?;
        let salt = event.payload.as_ref().map(|_| salts.salt(event.position));
        let payload_hash = event.payload.as_ref().zip(salt).map(|(payload, salt)| chain::payload_hash(&salt, payload));
        let link = Link {
            position: event.position.0,
            at: event.at.as_micros(),
            kind: event.detail.kind().code(),
            node,
            invocation: event.invocation.as_ref().map(|id| &id.0.as_bytes()[..]),
            agent: event.agent.as_ref().map(Identity::as_str),
            caller: event.caller.as_ref().map(Identity::as_str),
            detail: &detail,
            payload_hash: payload_hash.as_ref().map(|digest| &digest[..]),
        };
        let hash = link.hash(&newest.hash);
        Ok(Self { event, detail, salt, payload_hash, hash })
    }

    /// The head once it is there.
    pub(super) const fn head(&self) -> Head {
        Head { position: self.event.position, hash: self.hash }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::clock::Timestamp;
    use crate::id::InvocationId;
    use crate::invocation::Labels;
    use crate::journal::Detail;

    /// The event that follows [`NEWEST`], about everybody.
    fn event() -> Event {
        Event {
            position: Position(258),
            at: Timestamp::from_micros(6),
            invocation: Some(InvocationId(uuid::Uuid::from_u128(7))),
            agent: Identity::new("agent").ok(),
            caller: Identity::new("caller").ok(),
            detail: Detail::InvocationCompleted { attempt: 1 },
            payload: Some(Bytes::from_static(b"payload")),
            labels: Labels::default(),
        }
    }

    const NEWEST: Head = Head { position: Position(257), hash: [9; 32] };

    /// What is hashed of it, with this digest of its payload.
    fn link(payload_hash: Option<&[u8]>) -> Link<'_> {
        Link {
            position: 258,
            at: 6,
            kind: 26,
            node: "node",
            invocation: Some(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]),
            agent: Some("agent"),
            caller: Some("caller"),
            detail: r#"{"attempt":1}"#,
            payload_hash,
        }
    }

    #[test]
    fn an_event_is_sealed_with_all_it_has_and_the_hash_before_it() {
        let event = event();
        let sealed = Sealed::new(&event, &NEWEST, "node", Salts::OfPosition).unwrap();
        let salt = [0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0];
        let digest = chain::payload_hash(&salt, b"payload");
        let hash = link(Some(&digest)).hash(&[9; 32]);
        assert_eq!((sealed.salt, sealed.payload_hash, sealed.hash), (Some(salt), Some(digest), hash));
        assert_eq!(sealed.head(), Head { position: Position(258), hash });
    }

    #[test]
    fn an_event_without_a_payload_has_no_salt() {
        let event = Event { payload: None, ..event() };
        let sealed = Sealed::new(&event, &NEWEST, "node", Salts::Random).unwrap();
        assert_eq!((sealed.salt, sealed.payload_hash, sealed.hash), (None, None, link(None).hash(&[9; 32])));
    }

    #[test]
    fn no_two_salts_are_the_same_unless_positions_are_to_be_compared() {
        let event = event();
        let salt = |salts| Sealed::new(&event, &NEWEST, "node", salts).unwrap().salt.unwrap();
        assert_ne!(salt(Salts::Random), salt(Salts::Random));
        assert_eq!(salt(Salts::OfPosition), salt(Salts::OfPosition));
    }

    #[test]
    fn an_event_that_does_not_follow_is_not_sealed() {
        for position in [257, 259] {
            let event = Event { position: Position(position), ..event() };
            let sealed = Sealed::new(&event, &NEWEST, "node", Salts::Random);
            assert!(matches!(sealed, Err(JournalError::Unavailable(_))), "{position}");
        }
    }
}
