//! [`Pending`], as the halves of one session share it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::pending::Pending;
use crate::router::{Command, Router};

/// What the writer has sent and the reader has not seen confirmed. Both halves run in one task, so the lock is always
/// free; it is never held across an await.
#[derive(Debug)]
pub(super) struct Unconfirmed {
    pending: Mutex<Pending>,
    notified: Notify,
}

impl Unconfirmed {
    /// `feed_patience`: how long the backend may answer nothing before its Pongs count.
    pub(super) fn new(feed_patience: Duration) -> Self {
        Self { pending: Mutex::new(Pending::new(feed_patience)), notified: Notify::new() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A notification has been sent, so the backend's silence may begin.
    pub(super) fn notified(&self) {
        self.notified.notify_one();
    }

    /// Waits for silences of the backend, and tells the router what it has nevertheless read.
    pub(super) async fn watch_silence(&self, router: &Router) -> ! {
        loop {
            let due = self.lock().notices().silence_due();
            match due {
                None => self.notified.notified().await,
                Some(due) => sleep_until(due).await,
            }
            let acknowledged = self.lock().notices().check_silence(Instant::now());
            if let Some(position) = acknowledged {
                router.submit(Command::FeedAcknowledged { position }, 0).await;
            }
        }
    }
}
