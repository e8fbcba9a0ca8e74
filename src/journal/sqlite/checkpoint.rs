//! Folding the write-ahead log into the file, behind the commits.
//!
//! SQLite does that at the end of a commit that made the log long, and whoever waits for that commit waits for it too. Here a
//! connection of its own does, meanwhile. It cannot empty a log that goes on to grow, but what it has folded in need not be
//! done again: once the log has [`MOST_PAGES`], a commit waits until the little that is left is folded in too, and the log
//! begins anew. Only a reader that goes on for long can keep it from that.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use rusqlite::Connection;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::journal::JournalError;
use crate::journal::sqlite::thread::Owner;
use crate::journal::sqlite::{error, open};

/// The length of the log, in pages, at which commits wait.
const MOST_PAGES: i64 = 8000;

/// So many bytes of events and rows are folded in at a time. They take two to three times as much of the log.
const LOT: usize = 1 << 20;

/// What a commit changes of the log besides its rows.
const EACH_COMMIT: usize = 16 << 10;

/// So often it is tried at the end to fold in everything, while readers are in the way.
const CLOSING_FOLDS: u32 = 4;

const FOLD: &str = "PRAGMA wal_checkpoint(PASSIVE)";
/// Folds in everything and empties the log. Waits for readers, too, for as long as the connection waits for anyone.
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
    thread: Owner<Folder>,
    due: Notify,
    is_long: AtomicBool,
    soundness: Soundness,
}

/// The connection that folds. It blocks.
#[derive(Debug)]
struct Folder {
    connection: Connection,
    soundness: Soundness,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
struct Folded {
    /// Somebody was in the way.
    is_busy: bool,
    /// Pages in the log, folded in or not.
    pages: i64,
}

/// Whether the disk has failed behind the commits, and how. What is in the file then, nobody knows.
#[derive(Clone, Debug, Default)]
pub(super) struct Soundness {
    lost: Arc<OnceLock<String>>,
}

impl Soundness {
    /// Fails once the disk did.
    pub(super) fn check(&self) -> Result<(), JournalError> {
        self.lost.get().map_or(Ok(()), |why| Err(JournalError::Uncertain(why.clone())))
    }

    fn lose(&self, why: String) {
        tracing::error!(error = why, "the journal has failed behind its commits");
        // What failed first counts.
        let _ = self.lost.set(why);
    }
}

impl Checkpoints {
    pub(super) async fn start(path: &Path) -> Result<Self, JournalError> {
        let path = path.to_owned();
        let connection = open::blocking(move || open::checkpointer(&path)).await?;
        let soundness = Soundness::default();
        let folder = Folder { connection, soundness: soundness.clone() };
        let log = Arc::new(Log {
            thread: Owner::start("checkpoints", folder)?,
            due: Notify::new(),
            is_long: AtomicBool::new(false),
            soundness,
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

    /// For whoever has nothing to commit.
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
        if self.log.ask(TRUNCATE).await?.is_busy {
            return Err(JournalError::Unavailable("a reader keeps the write-ahead log from being emptied".to_owned()));
        }
        Ok(())
    }

    /// Folds in what is left, which may be in no file that anybody else can find ([`JournalError::Misplaced`]); unless the disk
    /// has failed, or a reader is in the way for too long. Says whether all is in the file, so that nobody needs the log.
    pub(super) async fn close(self) -> bool {
        drop(self.until);
        let ended = self.task.await.is_ok();
        let is_whole = self.log.fold_all().await;
        let closed = match Arc::into_inner(self.log).filter(|_| ended) {
            Some(log) => log.thread.end(|folder| folder.connection.close().is_ok()).await,
            None => None,
        };
        if closed != Some(true) {
            tracing::warn!("the journal's checkpoints were not closed in good order; the journal is complete");
        }
        is_whole && closed == Some(true)
    }
}

impl Log {
    /// Folds in what is there by now.
    async fn fold(&self) {
        match self.ask(FOLD).await {
            Ok(folded) => self.is_long.store(folded.pages >= MOST_PAGES, Ordering::Release),
            Err(JournalError::Uncertain(_)) => {}
            // A full disk: the log keeps what is in it, and the next lot tries again.
            Err(error) => tracing::warn!(%error, "the journal's log grows for now"),
        }
    }

    async fn ask(&self, how: &'static str) -> Result<Folded, JournalError> {
        let folded = self.thread.tell(move |folder| folder.fold(how)).await;
        folded.inspect_err(|_| self.soundness.lose("the thread that folds in its log is gone".to_owned()))?
    }

    /// Folds in everything, when nobody commits any more; tries a few times while readers are in the way.
    async fn fold_all(&self) -> bool {
        for _ in 0..CLOSING_FOLDS {
            match self.ask(TRUNCATE).await {
                Ok(Folded { is_busy: false, .. }) => return true,
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(
                        %error,
                        "the journal's log could not be folded into its file, and is needed by the next start"
                    );
                    return false;
                }
            }
        }
        tracing::warn!("readers kept the journal's log from being emptied: the next start may need it");
        false
    }
}

impl Folder {
    /// If the disk fails meanwhile, nobody knows what is in the file, and nothing is folded in any more: SQLite would go on
    /// behind what it has written and not synced, and let go of the log.
    fn fold(&self, how: &str) -> Result<Folded, JournalError> {
        self.soundness.check()?;
        let folded = self.connection.query_row(how, (), |row| Ok(Folded { is_busy: row.get(0)?, pages: row.get(1)? }));
        folded.map_err(|error| {
            let why = error::commit::describe(&error);
            if error::commit::is_uncertain(&error) {
                let why = format!("its log could not be folded into its file: {why}");
                self.soundness.lose(why.clone());
                JournalError::Uncertain(why)
            } else {
                JournalError::Unavailable(why)
            }
        })
    }
}

async fn run(log: Arc<Log>, until: CancellationToken) {
    // What has begun is brought to its end: it is short.
    while until.run_until_cancelled(log.due.notified()).await.is_some() {
        log.fold().await;
    }
}
