//! The one writer: a batch goes to the thread that has the connection, and what comes of it is one of three answers.

use std::fs::File;
use std::sync::Arc;

use rusqlite::Connection;

use crate::id::NodeId;
use crate::journal::seal::Salts;
use crate::journal::sqlite::SqliteReader;
use crate::journal::sqlite::checkpoint::Checkpoints;
use crate::journal::sqlite::error::commit as error;
use crate::journal::sqlite::thread::Owner;
use crate::journal::sqlite::write::{Connected, Node, NotWritten, Written};
use crate::journal::{Batch, Head, JournalError};

pub(super) const ADD_NODE: &str = "INSERT INTO nodes (name) VALUES (?1) ON CONFLICT DO NOTHING";
pub(super) const NODE: &str = "SELECT code FROM nodes WHERE name = ?1";

/// See the module.
#[derive(Debug)]
pub(super) struct Writer {
    thread: Owner<Connected>,
    /// Reads what really is on the disk, after a failure.
    reader: SqliteReader,
    node: NodeId,
    checkpoints: Checkpoints,
    _lock: File,
}

impl Writer {
    pub(super) async fn new(
        connection: Connection,
        lock: File,
        node: &str,
        salts: Salts,
        reader: SqliteReader,
        checkpoints: Checkpoints,
    ) -> Result<Self, JournalError> {
        let added = connection.execute(ADD_NODE, [node]);
        let code = added.and_then(|_| connection.query_row(NODE, [node], |row| row.get(0)));
        let code = code.map_err(|error| JournalError::Unavailable(error::describe(&error)))?;
        let node = Node { name: node.to_owned(), code, salts };
        let connected = Connected::new(connection, node, reader.head().await?, reader.tail().await?);
        Ok(Self { thread: Owner::start("journal", connected)?, reader, node: NodeId(code), checkpoints, _lock: lock })
    }

    /// The number of this router.
    pub(super) const fn node(&self) -> NodeId {
        self.node
    }

    /// Commits the batch. The head moves on only if it is on the disk.
    pub(super) async fn commit(&mut self, batch: Arc<Batch>) -> Result<Head, JournalError> {
        self.checkpoints.admit().await?;
        let mut outcome = self.try_commit(&batch).await?;
        if matches!(outcome, Err(NotWritten::Unresolved)) {
            self.resolve().await?;
            outcome = self.try_commit(&batch).await?;
        }
        match outcome {
            Ok(Written { head, bytes }) => {
                self.checkpoints.committed(bytes);
                Ok(head)
            }
            Err(NotWritten::Unresolved) => {
                Err(JournalError::Uncertain("nobody knows what became of an earlier commit".to_owned()))
            }
            Err(NotWritten::Refused(error)) => Err(error),
            Err(NotWritten::Failed { error, before, after }) => self.after_failure(&error, before, after).await,
        }
    }

    async fn try_commit(&self, batch: &Arc<Batch>) -> Result<Result<Written, NotWritten>, JournalError> {
        let batch = Arc::clone(batch);
        self.thread.tell(move |connected| connected.commit(&batch)).await
    }

    /// Looks at what a failed commit left behind.
    async fn after_failure(&self, error: &rusqlite::Error, before: Head, after: Head) -> Result<Head, JournalError> {
        if error::is_uncertain(error) {
            return Err(JournalError::Uncertain(error::describe(error)));
        }
        let found = self.resolve().await?;
        if found == before {
            // A batch without events leaves the head where it is; as far as anyone can see it is not there.
            return Err(JournalError::Unavailable(error::describe(error)));
        }
        if found == after {
            return Ok(after);
        }
        let what = format!("it is {found:?} and this router left it at {before:?}");
        Err(JournalError::Damaged { table: "journal_head", column: "position", what })
    }

    /// Finds out where the journal and its index stand. Another connection is asked: it cannot see what is not committed.
    async fn resolve(&self) -> Result<Head, JournalError> {
        let uncertain = |error: JournalError| JournalError::Uncertain(error.to_string());
        let head = self.reader.head().await.map_err(uncertain)?;
        let tail = self.reader.tail().await.map_err(uncertain)?;
        self.thread.tell(move |connected| connected.resolved(head, tail)).await?;
        Ok(head)
    }

    /// Writes, commits, and changes nothing. Whatever becomes of it, the next commit finds the connection as it should be.
    pub(super) async fn probe(&mut self) -> Result<(), JournalError> {
        self.checkpoints.check()?;
        let probed = self.thread.tell(Connected::probe).await?;
        probed.map_err(|error| JournalError::Unavailable(error::describe(&error)))?;
        self.reader.require_current().await
    }

    /// Empties the write-ahead log. What was deleted is overwritten in the file already (`secure_delete`); the log is the only
    /// other place where it can be.
    pub(super) async fn scrub(&mut self) -> Result<(), JournalError> {
        self.checkpoints.truncate().await
    }

    /// Folds the log into the file as far as readers let it.
    pub(super) async fn fold(&self) {
        self.checkpoints.fold().await;
    }

    pub(super) async fn close(self) {
        self.checkpoints.close().await;
        let closed = self.thread.end().await.map(Connected::close);
        if let Some(Err(error)) = &closed {
            tracing::warn!(error = error::describe(error), "the journal was not closed in good order; it is complete");
        }
    }
}
