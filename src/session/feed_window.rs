//! Which notifications the backend has acknowledged.
//!
//! Its library answers each notification, in order, and an answer means that it was processed. A backend that answers
//! none for a while is taken for one that never does; from then on its Pongs, which mean that it was read, have to do,
//! until it answers again.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::id::Position;

/// The notifications that were sent to one backend socket and are not acknowledged.
#[derive(Debug)]
pub(super) struct FeedWindow {
    patience: Duration,
    unacknowledged: VecDeque<Sent>,
    /// The last answer, or the notification that found none before it unacknowledged, whichever is later.
    silent_since: Instant,
    answers: bool,
    /// How many answers may still come for what a Pong has acknowledged; they say nothing of later notifications.
    answers_owed: usize,
    last_pong: u64,
}

#[derive(Debug)]
struct Sent {
    ping: u64,
    position: Option<Position>,
    /// Given back when this is dropped.
    _window: OwnedSemaphorePermit,
}

impl FeedWindow {
    /// `patience`: how long a backend may answer nothing before its Pongs count.
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            patience,
            unacknowledged: VecDeque::new(),
            silent_since: Instant::now(),
            answers: true,
            answers_owed: 0,
            last_pong: 0,
        }
    }

    /// A notification is being sent, followed by this Ping.
    pub(super) fn sent(&mut self, position: Option<Position>, window: OwnedSemaphorePermit, ping: u64, now: Instant) {
        if self.unacknowledged.is_empty() {
            self.silent_since = now;
        }
        self.unacknowledged.push_back(Sent { ping, position, _window: window });
    }

    /// The backend answered a notification. Returns the place up to which it has them now, if that is another one.
    pub(super) fn answered(&mut self, now: Instant) -> Option<Position> {
        self.silent_since = now;
        self.answers = true;
        if self.answers_owed > 0 {
            self.answers_owed -= 1;
            return None;
        }
        self.unacknowledged.pop_front()?.position
    }

    /// The backend has read everything up to this Ping.
    pub(super) fn ponged(&mut self, ping: u64) -> Option<Position> {
        self.last_pong = self.last_pong.max(ping);
        if self.answers {
            return None;
        }
        self.acknowledge_read()
    }

    /// When the backend will have been silent for too long, unless it answers before.
    pub(super) fn silence_due(&self) -> Option<Instant> {
        (self.answers && !self.unacknowledged.is_empty()).then(|| self.silent_since + self.patience)
    }

    /// From [`Self::silence_due`] on, makes what was read count as acknowledged.
    pub(super) fn check_silence(&mut self, now: Instant) -> Option<Position> {
        if self.silence_due().is_none_or(|due| now < due) {
            return None;
        }
        self.answers = false;
        // What it has not answered all this while it never will.
        self.answers_owed = 0;
        self.acknowledge_read()
    }

    fn acknowledge_read(&mut self) -> Option<Position> {
        let mut last = None;
        while let Some(sent) = self.unacknowledged.pop_front_if(|sent| sent.ping <= self.last_pong) {
            self.answers_owed += 1;
            last = sent.position.or(last);
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    struct Feed {
        window: FeedWindow,
        permits: Arc<Semaphore>,
        start: Instant,
    }

    impl Feed {
        fn new() -> Self {
            Self { window: FeedWindow::new(PATIENCE), permits: Arc::new(Semaphore::new(100)), start: Instant::now() }
        }

        fn at(&self, seconds: u64) -> Instant {
            self.start + Duration::from_secs(seconds)
        }

        fn send(&mut self, position: impl Into<Option<i64>>, ping: u64, seconds: u64) {
            let permit = Arc::clone(&self.permits).try_acquire_owned().unwrap();
            let position = position.into().map(Position);
            self.window.sent(position, permit, ping, self.at(seconds));
        }

        fn answer(&mut self, seconds: u64) -> Option<Position> {
            let now = self.at(seconds);
            self.window.answered(now)
        }

        fn pass(&mut self, seconds: u64) -> Option<Position> {
            let now = self.at(seconds);
            self.window.check_silence(now)
        }

        fn unacknowledged(&self) -> usize {
            100 - self.permits.available_permits()
        }
    }

    #[test]
    fn each_answer_acknowledges_the_oldest_and_gives_its_window_back() {
        let mut feed = Feed::new();
        feed.send(7, 1, 0);
        feed.send(9, 1, 0);
        assert_eq!(feed.answer(1), Some(Position(7)));
        assert_eq!(feed.unacknowledged(), 1);
        assert_eq!(feed.answer(1), Some(Position(9)));
        assert_eq!(feed.unacknowledged(), 0);
    }

    #[test]
    fn a_backend_that_answers_is_not_taken_at_its_pongs() {
        let mut feed = Feed::new();
        feed.send(1, 1, 0);
        feed.send(2, 2, 0);
        assert_eq!(feed.window.ponged(2), None);
        assert_eq!(feed.answer(4), Some(Position(1)));
        assert_eq!(feed.pass(8), None);
        assert_eq!(feed.unacknowledged(), 1);
        assert_eq!(feed.window.silence_due(), Some(feed.at(9)));
    }

    #[test]
    fn after_its_silence_what_it_has_read_counts_at_once_and_from_then_on() {
        let mut feed = Feed::new();
        feed.send(1, 1, 0);
        feed.send(2, 2, 1);
        feed.send(3, 3, 1);
        assert_eq!(feed.window.ponged(2), None);
        assert_eq!(feed.pass(5), Some(Position(2)));
        assert_eq!(feed.window.silence_due(), None);
        assert_eq!(feed.window.ponged(3), Some(Position(3)));
        feed.send(4, 4, 60);
        assert_eq!(feed.window.ponged(4), Some(Position(4)));
        assert_eq!(feed.unacknowledged(), 0);
    }

    #[test]
    fn an_idle_feed_is_no_silence() {
        let mut feed = Feed::new();
        assert_eq!(feed.window.silence_due(), None);
        feed.send(1, 1, 100);
        assert_eq!(feed.window.silence_due(), Some(feed.at(105)));
        feed.answer(101);
        feed.send(2, 2, 200);
        assert_eq!(feed.window.silence_due(), Some(feed.at(205)));
    }

    #[test]
    fn late_answers_do_not_acknowledge_what_came_after() {
        let mut feed = Feed::new();
        feed.send(1, 1, 0);
        feed.send(2, 2, 0);
        feed.window.ponged(2);
        assert_eq!(feed.pass(5), Some(Position(2)));
        assert_eq!(feed.answer(6), None);
        feed.send(3, 3, 7);
        assert_eq!(feed.window.ponged(3), None);
        assert_eq!(feed.answer(8), None);
        assert_eq!(feed.answer(9), Some(Position(3)));
    }

    #[test]
    fn an_answer_too_many_is_ignored() {
        let mut feed = Feed::new();
        assert_eq!(feed.answer(0), None);
        feed.send(1, 1, 1);
        assert_eq!(feed.answer(2), Some(Position(1)));
    }

    #[test]
    fn what_has_no_place_only_gives_its_window_back() {
        let mut feed = Feed::new();
        feed.send(1, 1, 0);
        feed.send(None, 1, 0);
        assert_eq!(feed.window.ponged(1), None);
        assert_eq!(feed.pass(5), Some(Position(1)));
        assert_eq!(feed.unacknowledged(), 0);
        feed.send(None, 2, 6);
        assert_eq!(feed.window.ponged(2), None);
        assert_eq!(feed.unacknowledged(), 0);
    }
}
