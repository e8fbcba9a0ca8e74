//! The end of the router: of its writer, and of what is done beside it.

use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::journal::JournalError;

/// The running writer.
#[derive(Debug)]
pub struct Running {
    pub(super) writer: JoinHandle<Result<(), JournalError>>,
    pub(super) finishing: CancellationToken,
    pub(super) tasks: TaskTracker,
}

impl Running {
    /// Waits for the writer to end by itself, which it does only when the journal failed for good.
    pub async fn ended(&mut self) -> Result<(), JournalError> {
        joined((&mut self.writer).await)
    }

    /// Deals with everything that was submitted, and ends. To be called when the sockets are closed.
    pub async fn finish(self) -> Result<(), JournalError> {
        self.finishing.cancel();
        let ended = joined(self.writer.await);
        self.tasks.close();
        self.tasks.wait().await;
        ended
    }
}

fn joined(ended: Result<Result<(), JournalError>, JoinError>) -> Result<(), JournalError> {
    ended.unwrap_or_else(|panic| Err(JournalError::Uncertain(format!("the writer failed: {panic}"))))
}
