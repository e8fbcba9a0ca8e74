//! Room for sockets: how many there may be, and that none is forgotten.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// The seats that there are.
#[derive(Clone, Debug)]
pub(super) struct Seats {
    free: Arc<Semaphore>,
    taken: TaskTracker,
    cut_off: CancellationToken,
}

/// One seat, from the request for a socket to the socket's end. axum runs an upgraded socket in a task that nobody can
/// wait for, so the seat goes with it and is waited for instead.
#[derive(Debug)]
pub(super) struct Seat {
    _permit: OwnedSemaphorePermit,
    _token: TaskTrackerToken,
    cut_off: CancellationToken,
}

impl Seats {
    /// `taken` waits for each seat; `cut_off` ends whoever still has one.
    pub(super) fn new(count: usize, taken: TaskTracker, cut_off: CancellationToken) -> Self {
        Self { free: Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS))), taken, cut_off }
    }

    /// A seat, if one is free.
    pub(super) fn take(&self) -> Option<Seat> {
        let permit = Arc::clone(&self.free).try_acquire_owned().ok()?;
        Some(Seat { _permit: permit, _token: self.taken.token(), cut_off: self.cut_off.clone() })
    }
}

impl Seat {
    /// Runs a socket to its end, or until it is cut off.
    pub(super) async fn held_by(self, socket: impl Future<Output = ()>) {
        self.cut_off.run_until_cancelled(socket).await;
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn a_seat_is_free_again_when_its_socket_ends() {
        let seats = Seats::new(1, TaskTracker::new(), CancellationToken::new());
        let seat = seats.take().unwrap();
        assert!(seats.take().is_none());
        seat.held_by(async {}).await;
        assert!(seats.take().is_some());
    }

    #[tokio::test]
    async fn a_socket_is_waited_for_and_can_be_cut_off() {
        let (tasks, cut_off) = (TaskTracker::new(), CancellationToken::new());
        let seat = Seats::new(1, tasks.clone(), cut_off.clone()).take().unwrap();
        tasks.close();
        let socket = tokio::spawn(seat.held_by(pending()));
        assert_eq!(tasks.len(), 1);
        cut_off.cancel();
        tasks.wait().await;
        socket.await.unwrap();
    }
}
