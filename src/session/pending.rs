//! What was sent and waits for the Pong that proves that the peer's library has read it.
//!
//! Frames are ordered and a Pong echoes its Ping's payload, so the Pong with a number proves the reading of everything
//! that was sent before the Ping with that number; one Pong may stand for all before it.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::feed_window::FeedWindow;
use crate::id::{InvocationId, Position};
use crate::router::AnswerRead;

/// How many deliveries, and how many answers, are kept track of. A peer that reads but sends no Pong gets no further;
/// beyond, the oldest stay unconfirmed.
const MAX_PENDING: usize = 10_000;

/// What one socket was sent and has not confirmed.
#[derive(Debug)]
pub(super) struct Pending {
    last_ping: u64,
    /// Something was sent after the last Ping.
    owes_ping: bool,
    deliveries: VecDeque<(u64, Delivered)>,
    answers: VecDeque<(u64, AnswerRead)>,
    notices: FeedWindow,
}

/// An invocation, and which delivery of it.
pub(super) type Delivered = (InvocationId, u32);

/// What a Pong confirmed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Confirmed {
    /// The agent has these.
    pub(super) deliveries: Vec<Delivered>,
    /// The caller has these.
    pub(super) answers: Vec<AnswerRead>,
    /// The backend has its notifications up to this place.
    pub(super) feed: Option<Position>,
}

impl Pending {
    /// `feed_patience`: see [`FeedWindow::new`].
    pub(super) fn new(feed_patience: Duration) -> Self {
        Self {
            last_ping: 0,
            owes_ping: false,
            deliveries: VecDeque::new(),
            answers: VecDeque::new(),
            notices: FeedWindow::new(feed_patience),
        }
    }

    /// A delivery goes out before the next Ping.
    pub(super) fn deliver(&mut self, delivery: Delivered) {
        let ping = self.before_next_ping();
        push_bounded(&mut self.deliveries, (ping, delivery));
    }

    /// An answer goes out before the next Ping.
    pub(super) fn answer(&mut self, answer: AnswerRead) {
        let ping = self.before_next_ping();
        push_bounded(&mut self.answers, (ping, answer));
    }

    /// A notification goes out before the next Ping.
    pub(super) fn notify(&mut self, position: Option<Position>, window: OwnedSemaphorePermit, now: Instant) {
        let ping = self.before_next_ping();
        self.notices.sent(position, window, ping, now);
    }

    /// Whether something was sent after the last Ping.
    pub(super) fn owes_ping(&self) -> bool {
        self.owes_ping
    }

    /// The payload of the next Ping, which must be sent.
    pub(super) fn next_ping(&mut self) -> Bytes {
        self.last_ping += 1;
        self.owes_ping = false;
        self.last_ping.to_string().into()
    }

    /// A Pong came. One that answers no Ping of ours confirms nothing.
    pub(super) fn ponged(&mut self, payload: &[u8]) -> Confirmed {
        let number = std::str::from_utf8(payload).ok().and_then(|text| text.parse().ok());
        match number {
            Some(ping) if ping <= self.last_ping => Confirmed {
                deliveries: take_through(&mut self.deliveries, ping),
                answers: take_through(&mut self.answers, ping),
                feed: self.notices.ponged(ping),
            },
            _ => Confirmed::default(),
        }
    }

    /// See [`FeedWindow`].
    pub(super) fn notices(&mut self) -> &mut FeedWindow {
        &mut self.notices
    }

    fn before_next_ping(&mut self) -> u64 {
        self.owes_ping = true;
        self.last_ping + 1
    }
}

fn push_bounded<T>(queue: &mut VecDeque<T>, item: T) {
    if queue.len() == MAX_PENDING {
        queue.pop_front();
    }
    queue.push_back(item);
}

fn take_through<T>(queue: &mut VecDeque<(u64, T)>, ping: u64) -> Vec<T> {
    let end = queue.partition_point(|&(number, _)| number <= ping);
    queue.drain(..end).map(|(_, item)| item).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Identity;

    #[expect(clippy::default_trait_access, reason = "the type is not a session's to name")]
    fn answer(invocation: InvocationId) -> AnswerRead {
        AnswerRead { invocation, agent: Identity::ml(), labels: Default::default() }
    }

    fn pending() -> Pending {
        Pending::new(Duration::from_secs(5))
    }

    #[test]
    fn one_pong_stands_for_all_before_it() {
        let mut pending = pending();
        let invocations: Vec<_> = (0..3).map(|_| InvocationId::generate()).collect();
        for &invocation in &invocations {
            pending.deliver((invocation, 1));
            pending.next_ping();
        }
        let confirmed = pending.ponged(b"2");
        assert_eq!(confirmed.deliveries, [(invocations[0], 1), (invocations[1], 1)]);
        assert_eq!(pending.ponged(b"1"), Confirmed::default());
        assert_eq!(pending.ponged(b"3").deliveries, [(invocations[2], 1)]);
    }

    #[test]
    fn one_ping_covers_all_answers_of_a_write() {
        let mut pending = pending();
        assert!(!pending.owes_ping());
        let answers: Vec<_> = (0..2).map(|_| answer(InvocationId::generate())).collect();
        for answer in &answers {
            pending.answer(answer.clone());
        }
        assert!(pending.owes_ping());
        assert_eq!(pending.next_ping(), "1");
        assert!(!pending.owes_ping());
        assert_eq!(pending.ponged(b"1").answers, answers);
    }

    #[test]
    fn a_pong_for_a_ping_that_was_not_sent_confirms_nothing() {
        let mut pending = pending();
        pending.deliver((InvocationId::generate(), 1));
        for payload in [&b"1"[..], b"99999", b"", b"x", b"-1", b"\xff"] {
            assert_eq!(pending.ponged(payload), Confirmed::default());
        }
        pending.next_ping();
        assert_eq!(pending.ponged(b"1").deliveries.len(), 1);
    }

    #[test]
    fn a_peer_without_pongs_costs_a_bounded_amount() {
        let mut pending = pending();
        let newest = InvocationId::generate();
        for _ in 0..MAX_PENDING {
            pending.answer(answer(InvocationId::generate()));
        }
        pending.answer(answer(newest));
        pending.next_ping();
        let confirmed = pending.ponged(b"1").answers;
        assert_eq!(confirmed.len(), MAX_PENDING);
        assert_eq!(confirmed.last(), Some(&answer(newest)));
    }
}
