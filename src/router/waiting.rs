//! Who waits for the end of an invocation, over HTTP.
//!
//! An invocation that somebody waits for has an entry; its end removes the entry, and that wakes all who wait. So the writer
//! looks up what has ended and nothing else, and ten thousand waiters cost it no more than one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::id::InvocationId;
use crate::metrics::Metrics;

/// Everybody who waits.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    entries: Arc<Mutex<Entries>>,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct Entries {
    /// Nothing is ever sent: that the sender is gone is the news.
    ends: HashMap<InvocationId, watch::Sender<()>>,
    /// The router goes down, so there is nothing to wait for any more.
    over: bool,
}

impl Waiting {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { entries: Arc::default(), metrics }
    }

    /// One more who waits.
    pub(super) fn join(&self, invocation: InvocationId) -> Waiter {
        let mut entries = self.entries();
        let ended = if entries.over {
            watch::channel(()).1
        } else {
            entries.ends.entry(invocation).or_insert_with(|| watch::channel(()).0).subscribe()
        };
        self.metrics.waiter_came();
        Waiter { invocation, ended, waiting: self.clone() }
    }

    /// Wakes all who wait for this invocation.
    pub(super) fn ended(&self, invocation: InvocationId) {
        self.entries().ends.remove(&invocation);
    }

    /// Wakes everybody, to look for themselves.
    pub(super) fn wake_all(&self) {
        self.entries().ends = HashMap::new();
    }

    /// Wakes everybody, now and from now on.
    pub(super) fn close(&self) {
        let mut entries = self.entries();
        entries.over = true;
        entries.ends = HashMap::new();
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        // Every change is one call: the map is whole whoever panicked.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for the end of one invocation. Dropping it stops waiting.
#[derive(Debug)]
pub struct Waiter {
    invocation: InvocationId,
    ended: watch::Receiver<()>,
    waiting: Waiting,
}

impl Waiter {
    /// Returns once the invocation has ended and that is durable, or the router goes down. Cancel safe.
    pub async fn ended(&mut self) {
        while self.ended.changed().await.is_ok() {}
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut entries = self.waiting.entries();
        // An entry that is gone already may have a successor, which is for others.
        let is_in_entry = self.ended.has_changed().is_ok();
        let is_last = entries.ends.get(&self.invocation).is_some_and(|end| end.receiver_count() == 1);
        if is_in_entry && is_last {
            entries.ends.remove(&self.invocation);
        }
        drop(entries);
        self.waiting.metrics.waiter_went();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn waiting() -> Waiting {
        Waiting::new(Arc::new(Metrics::new()))
    }

    fn entries(waiting: &Waiting) -> usize {
        waiting.entries().ends.len()
    }

    #[tokio::test]
    async fn the_end_of_an_invocation_wakes_all_who_wait_for_it_and_nobody_else() {
        let waiting = waiting();
        let [this, other] = [InvocationId::generate(), InvocationId::generate()];
        let mut waiters: Vec<Waiter> = (0..10_000).map(|_| waiting.join(this)).collect();
        let mut bystander = waiting.join(other);
        assert!(waiters[0].ended().now_or_never().is_none());
        waiting.ended(this);
        for waiter in &mut waiters {
            waiter.ended().await;
        }
        assert!(bystander.ended().now_or_never().is_none());
        assert_eq!(entries(&waiting), 1);
    }

    #[test]
    fn whoever_stops_waiting_leaves_nothing_behind() {
        let waiting = waiting();
        let id = InvocationId::generate();
        let (first, second) = (waiting.join(id), waiting.join(id));
        drop(first);
        assert_eq!(entries(&waiting), 1, "somebody still waits");
        drop(second);
        assert_eq!(entries(&waiting), 0);
        assert!(waiting.metrics.render().contains("agent_router_waiters 0\n"));
    }

    #[test]
    fn a_waiter_that_was_woken_does_not_take_the_entry_of_a_later_one() {
        let waiting = waiting();
        let id = InvocationId::generate();
        let woken = waiting.join(id);
        waiting.ended(id);
        let mut later = waiting.join(id);
        drop(woken);
        assert!(later.ended().now_or_never().is_none());
        waiting.ended(id);
        assert!(later.ended().now_or_never().is_some());
    }

    #[test]
    fn when_the_router_goes_down_nobody_is_left_waiting() {
        let waiting = waiting();
        let mut early = waiting.join(InvocationId::generate());
        waiting.close();
        let mut late = waiting.join(InvocationId::generate());
        assert!(early.ended().now_or_never().is_some());
        assert!(late.ended().now_or_never().is_some());
        assert_eq!(entries(&waiting), 0);
    }
}
