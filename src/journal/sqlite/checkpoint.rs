//! Folding the write-ahead log into the file, behind the commits.
//!
//! SQLite does that at the end of a commit that made the log long, and whoever waits for that commit waits for it too. Here a
//! connection of its own does, meanwhile. It cannot empty a log that goes on to grow, but what it has folded in need not be
//! done again: at [`MOST_PAGES`] a commit folds in the little that is left, and the next one begins the log anew.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::SqliteConnection;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::journal::JournalError;
use crate::journal::sqlite::{error, open};

/// The length of the log, in pages of 4 KiB, at which a commit folds in what is left.
pub(super) const MOST_PAGES: &str = "8000";

/// So many bytes of events and rows are folded in at a time. They take two to three times as much of the log.
const LOT: usize = 1 << 20;

/// What a commit changes of the log besides its rows.
const EACH_COMMIT: usize = 16 << 10;

const CHECKPOINT: &str = "PRAGMA wal_checkpoint(PASSIVE)";

/// See the module.
#[derive(Debug)]
pub(super) struct Checkpoints {
    /// Committed since the last time, about.
    bytes: usize,
    due: Arc<Notify>,
    failed: Arc<AtomicBool>,
    until: CancellationToken,
    task: JoinHandle<()>,
}

impl Checkpoints {
    pub(super) async fn start(path: &Path) -> Result<Self, JournalError> {
        let connection = open::checkpointer(path).await?;
        let (due, failed, until) =
            (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)), CancellationToken::new());
        let task = tokio::spawn(run(connection, Arc::clone(&due), Arc::clone(&failed), until.clone()));
        Ok(Self { bytes: 0, due, failed, until, task })
    }

    /// Notes that a commit of this size was made.
    pub(super) fn committed(&mut self, bytes: usize) {
        self.bytes += bytes + EACH_COMMIT;
        if self.bytes >= LOT {
            self.bytes = 0;
            self.due.notify_one();
        }
    }

    /// Fails once the disk did: what is in the file then, nobody knows.
    pub(super) fn check(&self) -> Result<(), JournalError> {
        if self.failed.load(Ordering::Acquire) {
            return Err(JournalError::Uncertain("its log could not be folded into its file".to_owned()));
        }
        Ok(())
    }

    pub(super) async fn close(self) {
        self.until.cancel();
        if self.task.await.is_err() {
            tracing::warn!("the journal's checkpoints were not closed in good order; the journal is complete");
        }
    }
}

async fn run(mut connection: SqliteConnection, due: Arc<Notify>, failed: Arc<AtomicBool>, until: CancellationToken) {
    // What has begun is brought to its end: it is short.
    while until.run_until_cancelled(due.notified()).await.is_some() {
        match sqlx::query(CHECKPOINT).execute(&mut connection).await {
            Ok(_) => {}
            Err(error) if error::is_uncertain(&error) => {
                tracing::error!(error = error::describe(&error), "the journal's log could not be folded into its file");
                failed.store(true, Ordering::Release);
                break;
            }
            // Whatever it is, the commits find out too.
            Err(error) => tracing::debug!(error = error::describe(&error), "the log is folded in later"),
        }
    }
    open::close(connection).await;
}
