//! Folding the write-ahead log into the file, behind the commits.
//!
//! SQLite does that at the end of a commit that made the log long, and whoever waits for that commit waits for it too. Here a
//! connection of its own does, meanwhile. It cannot empty a log that goes on to grow, but what it has folded in need not be
//! done again: once the log has [`MOST_PAGES`], a commit waits until the little that is left is folded in too, and the log
//! begins anew. Only a reader that goes on for long can keep it from that.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use tokio::sync::{Mutex, Notify};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::journal::JournalError;
use crate::journal::sqlite::{error, open};

/// The length of the log, in pages, at which commits wait.
const MOST_PAGES: i64 = 8000;

/// So many bytes of events and rows are folded in at a time. They take two to three times as much of the log.
const LOT: usize = 1 << 20;

/// What a commit changes of the log besides its rows.
const EACH_COMMIT: usize = 16 << 10;

/// So often it is tried at the end to fold in everything, while readers are in the way.
const CLOSING_FOLDS: u32 = 4;

/// One row each: whether somebody was in the way, and pages in the log, and those of them that are folded in.
const FOLD: &str = "PRAGMA wal_checkpoint(PASSIVE)";
/// Waits for readers, too, for as long as the connection waits for anyone.
const FOLD_ALL: &str = "PRAGMA wal_checkpoint(FULL)";
pub(super) const TRUNCATE: &str = "PRAGMA wal_checkpoint(TRUNCATE)";

/// See the module.
#[derive(Debug)]
pub(super) struct Checkpoints {
    /// Committed since the last time, about.
    bytes: usize,
    log: Arc<Log>,
    task: JoinHandle<()>,
    until: DropGuard,
}

/// The log, as whoever folds it in has it.
#[derive(Debug)]
struct Log {
    connection: Mutex<SqliteConnection>,
    due: Notify,
    is_long: AtomicBool,
    soundness: Soundness,
}

/// Whether the disk has not failed yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Soundness {
    is_lost: Arc<AtomicBool>,
}

impl Soundness {
    /// Fails once the disk did: what is in the file then, nobody knows.
    pub(super) fn check(&self) -> Result<(), JournalError> {
        if self.is_lost.load(Ordering::Acquire) {
            return Err(JournalError::Uncertain("its log could not be folded into its file".to_owned()));
        }
        Ok(())
    }
}

impl Checkpoints {
    pub(super) async fn start(path: &Path) -> Result<Self, JournalError> {
        let log = Arc::new(Log {
            connection: Mutex::new(open::checkpointer(path).await?),
            due: Notify::new(),
            is_long: AtomicBool::new(false),
            soundness: Soundness::default(),
        });
        let until = CancellationToken::new();
        let task = tokio::spawn(run(Arc::clone(&log), until.clone()));
        Ok(Self { bytes: 0, log, task, until: until.drop_guard() })
    }

    /// Before a commit: fails once the disk did, and waits while the log is too long.
    pub(super) async fn admit(&self) -> Result<(), JournalError> {
        if self.log.is_long.swap(false, Ordering::AcqRel) {
            self.log.fold().await;
        }
        self.log.soundness.check()
    }

    /// Tells whoever has nothing to commit, too.
    pub(super) fn soundness(&self) -> Soundness {
        self.log.soundness.clone()
    }

    /// Notes that a commit of this size was made.
    pub(super) fn committed(&mut self, bytes: usize) {
        self.bytes += bytes + EACH_COMMIT;
        if self.bytes >= LOT {
            self.bytes = 0;
            self.log.due.notify_one();
        }
    }

    /// Folds in what is there, and waits for nobody.
    pub(super) async fn fold(&self) {
        self.log.fold().await;
    }

    /// Folds in all of the log and empties it, while nobody commits. Fails while a reader keeps it from that.
    pub(super) async fn truncate(&self) -> Result<(), JournalError> {
        self.log.soundness.check()?;
        let truncated = self.log.ask(TRUNCATE).await;
        self.log.soundness.check()?;
        let row = truncated.map_err(error::unavailable)?;
        let busy: bool = row.try_get(0).map_err(error::unavailable)?;
        if busy {
            return Err(JournalError::Unavailable("a reader keeps the write-ahead log from being emptied".to_owned()));
        }
        Ok(())
    }

    /// Folds in what is left, which may be in no file that anybody else can find ([`JournalError::Misplaced`]). SQLite does
    /// so by itself only if nobody else has the file open any more, and a reader may still be on its way out.
    pub(super) async fn close(self) {
        drop(self.until);
        let ended = self.task.await.is_ok();
        self.log.fold_all().await;
        if let Some(log) = Arc::into_inner(self.log).filter(|_| ended) {
            open::close(log.connection.into_inner()).await;
        } else {
            tracing::warn!("the journal's checkpoints were not closed in good order; the journal is complete");
        }
    }
}

impl Log {
    /// Folds in what is there by now.
    async fn fold(&self) {
        let folded = self.ask(FOLD).await.and_then(|row| row.try_get::<i64, _>(1));
        match folded {
            Ok(pages) => self.is_long.store(pages >= MOST_PAGES, Ordering::Release),
            Err(error) if error::is_uncertain(&error) => {}
            // A full disk: the log keeps what is in it, and the next lot tries again.
            Err(error) => tracing::warn!(error = error::describe(&error), "the journal's log grows for now"),
        }
    }

    /// Has it folded in. If the disk fails meanwhile, nobody knows what is on it: then no more is committed.
    async fn ask(&self, how: &'static str) -> sqlx::Result<SqliteRow> {
        let mut connection = self.connection.lock().await;
        sqlx::query(how).fetch_one(&mut *connection).await.inspect_err(|error| {
            if error::is_uncertain(error) {
                let error = error::describe(error);
                tracing::error!(error, "the journal's log could not be folded into its file");
                self.soundness.is_lost.store(true, Ordering::Release);
            }
        })
    }

    /// Folds in everything, when nobody commits any more; tries a few times while readers are in the way.
    async fn fold_all(&self) {
        let mut connection = self.connection.lock().await;
        for _ in 0..CLOSING_FOLDS {
            let folded = sqlx::query(FOLD_ALL).fetch_one(&mut *connection).await;
            match folded.and_then(|row| Ok((row.try_get::<i64, _>(1)?, row.try_get::<i64, _>(2)?))) {
                Ok((pages, folded)) if pages == folded => return,
                Ok(_) => {}
                Err(error) => {
                    let error = error::describe(&error);
                    tracing::warn!(
                        error,
                        "the journal's log could not be folded into its file, and is needed by the next start"
                    );
                    return;
                }
            }
        }
        tracing::warn!("readers kept a part of the journal's log from its file: the next start needs the log");
    }
}

async fn run(log: Arc<Log>, until: CancellationToken) {
    // What has begun is brought to its end: it is short.
    while until.run_until_cancelled(log.due.notified()).await.is_some() {
        log.fold().await;
    }
}
