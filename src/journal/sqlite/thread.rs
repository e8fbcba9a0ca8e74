//! A thread that owns what blocks, and does with it what it is told to, one thing after the other.

use std::thread::{Builder, JoinHandle};

use tokio::sync::{mpsc, oneshot};

use crate::journal::JournalError;

/// What it is told while it is at work waits, up to this; whoever tells it more waits too.
const WAITING: usize = 1;

type Work<T> = Box<dyn FnOnce(&mut T) + Send>;

/// See the module.
#[derive(Debug)]
pub(super) struct Owner<T> {
    work: mpsc::Sender<Work<T>>,
    thread: JoinHandle<T>,
}

impl<T: Send + 'static> Owner<T> {
    pub(super) fn start(name: &str, mut owned: T) -> Result<Self, JournalError> {
        let (work, mut told) = mpsc::channel::<Work<T>>(WAITING);
        let run = move || {
            while let Some(work) = told.blocking_recv() {
                work(&mut owned);
            }
            owned
        };
        let thread = Builder::new().name(name.to_owned()).spawn(run);
        let unavailable = |error: std::io::Error| JournalError::Unavailable(format!("its thread: {}", error.kind()));
        Ok(Self { work, thread: thread.map_err(unavailable)? })
    }

    /// What comes of the work. It is done even if nobody waits for it any more.
    ///
    /// Fails with [`JournalError::Uncertain`] if the thread is gone, in whatever it was doing.
    pub(super) async fn tell<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut T) -> R + Send + 'static,
    ) -> Result<R, JournalError> {
        let (done, result) = oneshot::channel();
        let work: Work<T> = Box::new(move |owned| {
            // Nobody waits any more.
            let _ = done.send(work(owned));
        });
        let gone = || JournalError::Uncertain("a thread of its own is gone".to_owned());
        self.work.send(work).await.map_err(|_| gone())?;
        result.await.map_err(|_| gone())
    }

    /// Waits for what it is at, and ends with this, which may block. Nothing comes of it if the thread is gone.
    pub(super) async fn end<R: Send + 'static>(self, last: impl FnOnce(T) -> R + Send + 'static) -> Option<R> {
        let Self { work, thread } = self;
        drop(work);
        tokio::task::spawn_blocking(move || thread.join().ok().map(last)).await.ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_done_in_order_and_what_is_owned_comes_back() {
        let owner = Owner::start("counts", Vec::new()).unwrap();
        for number in 0..100 {
            let seen = owner.tell(move |owned| {
                owned.push(number);
                owned.len()
            });
            assert_eq!(seen.await.unwrap(), number + 1);
        }
        assert_eq!(owner.end(|owned| owned.len()).await, Some(100));
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_any_more_is_done() {
        let owner = Owner::start("goes on", 0).unwrap();
        let (go_on, held) = std::sync::mpsc::channel::<()>();
        let work = owner.tell(move |owned| {
            let _ = held.recv();
            *owned += 1;
        });
        assert!(tokio::time::timeout(std::time::Duration::from_millis(1), work).await.is_err());
        drop(go_on);
        assert_eq!(owner.end(|owned| owned).await, Some(1));
    }

    #[tokio::test]
    async fn whoever_waits_for_a_thread_that_is_gone_is_told_so() {
        let owner = Owner::start("ends", ()).unwrap();
        let told = owner.tell(|()| panic!("as it is to"));
        assert!(matches!(told.await, Err(JournalError::Uncertain(_))));
        assert!(matches!(owner.tell(|()| ()).await, Err(JournalError::Uncertain(_))));
        assert!(owner.end(|()| ()).await.is_none());
    }
}
