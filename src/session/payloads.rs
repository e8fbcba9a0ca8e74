//! Bodies that were left in the journal until their turn.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::sleep;

use crate::id::Position;
use crate::journal::Journal;
use crate::router::{Body, Outbound};

/// How many bytes are loaded at once.
const MAX_LOADED_BYTES: usize = 8 << 20;

/// How long to wait before the journal is asked again, at first; twice as long each time after.
const FIRST_RETRY_AFTER: Duration = Duration::from_millis(50);

/// How long to wait at most.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(2);

/// The stored bodies of a lot of messages.
#[derive(Debug, Default)]
pub(super) struct Payloads(HashMap<Position, Bytes>);

impl Payloads {
    /// Loads what these messages need. A journal that cannot be read is asked until it can: nothing may be left out or
    /// overtaken.
    pub(super) async fn load(lot: &[Outbound], journal: &dyn Journal) -> Self {
        let positions: Vec<Position> = lot.iter().filter_map(Outbound::stored).collect();
        if positions.is_empty() {
            return Self::default();
        }
        let mut delay = FIRST_RETRY_AFTER;
        loop {
            match journal.payloads(&positions).await {
                Ok(payloads) => return Self(payloads.into_iter().collect()),
                Err(error) if delay == FIRST_RETRY_AFTER => {
                    tracing::warn!(%error, "payloads cannot be read from the journal; trying until they can");
                }
                Err(_) => {}
            }
            sleep(delay).await;
            delay = MAX_RETRY_AFTER.min(delay * 2);
        }
    }

    /// The bytes of a body; none if they were erased from the journal.
    pub(super) fn resolve(&self, body: Body) -> Option<Bytes> {
        match body {
            Body::Inline(bytes) => Some(bytes),
            Body::Stored(position) => self.0.get(&position).cloned(),
        }
    }
}

/// How many of these messages may be loaded at once, if no body is larger than `largest`. At least one.
pub(super) fn lot(messages: &[Outbound], largest: usize) -> usize {
    let most = (MAX_LOADED_BYTES / largest.max(1)).max(1);
    messages
        .iter()
        .enumerate()
        .filter(|(_, message)| message.stored().is_some())
        .nth(most)
        .map_or(messages.len(), |(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::InvocationId;
    use crate::router::Delivery;

    const MIB: usize = 1 << 20;

    fn delivery(body: Body) -> Outbound {
        Outbound::Delivery(Box::new(Delivery {
            invocation: InvocationId::generate(),
            attempt: 1,
            invoked_by: "caller".to_owned(),
            addition: None,
            body,
        }))
    }

    #[test]
    fn messages_at_hand_are_one_lot() {
        let messages: Vec<_> = (0..64).map(|_| delivery(Body::Inline(Bytes::from_static(b"{}")))).collect();
        assert_eq!(lot(&messages, MIB), 64);
    }

    #[test]
    fn a_lot_loads_no_more_than_its_bytes() {
        let messages: Vec<_> = (0..20)
            .flat_map(|n| [delivery(Body::Stored(Position(n))), Outbound::Frame(Bytes::from_static(b"{}"))])
            .collect();
        assert_eq!(lot(&messages, MIB), 16);
        assert_eq!(lot(&messages, 100 * MIB), 2);
        assert_eq!(lot(&messages[38..], 100 * MIB), 2);
    }
}
