//! The one writer: a batch goes to the thread that has the connection, and what comes of it is one of three answers.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;

use crate::id::NodeId;
use crate::journal::sqlite::checkpoint::Checkpoints;
use crate::journal::sqlite::error::commit as error;
use crate::journal::sqlite::open::Notes;
use crate::journal::sqlite::thread::Owner;
use crate::journal::sqlite::write::{Connected, Doubt, Node, NotWritten, Written};
use crate::journal::sqlite::{SqliteReader, open};
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
    notes: Notes,
    _lock: File,
}

/// Opens the connection that writes, and adds the router to those that did; gives back its number.
pub(super) async fn connect(path: &Path, node: &str) -> Result<(Connection, NodeId), JournalError> {
    let (path, node) = (path.to_owned(), node.to_owned());
    let connect = move || {
        let connection = open::writer(&path)?;
        connection.execute(ADD_NODE, [&node])?;
        let code = connection.query_row(NODE, [&node], |row| row.get(0))?;
        Ok((connection, NodeId(code)))
    };
    open::blocking(connect).await
}

impl Writer {
    /// The connection and the number of `node` are those of [`connect`].
    pub(super) async fn new(
        connection: Connection,
        node: Node,
        (lock, notes): (File, Notes),
        reader: SqliteReader,
        checkpoints: Checkpoints,
    ) -> Result<Self, JournalError> {
        let code = node.code;
        let connected = Connected::new(connection, node, reader.head().await?, reader.tail().await?);
        let thread = Owner::start("journal", connected)?;
        Ok(Self { thread, reader, node: code, checkpoints, notes, _lock: lock })
    }

    /// The number of this router.
    pub(super) const fn node(&self) -> NodeId {
        self.node
    }

    /// Commits the batch. The head moves on only if it is on the disk.
    pub(super) async fn commit(&mut self, batch: Arc<Batch>) -> Result<Head, JournalError> {
        self.checkpoints.admit().await?;
        let mut outcome = self.try_commit(&batch).await?;
        if let Err(NotWritten::Unresolved(doubt)) = outcome {
            self.resolve(doubt).await?;
            outcome = self.try_commit(&batch).await?;
        }
        match outcome {
            Ok(Written { head, bytes }) => {
                self.checkpoints.committed(bytes);
                Ok(head)
            }
            Err(NotWritten::Refused(error)) => Err(error),
            Err(NotWritten::Failed(why, doubt)) if doubt.is_open => Err(JournalError::Uncertain(why)),
            Err(NotWritten::Failed(why, doubt)) => {
                let found = self.resolve(doubt).await?;
                if found == doubt.before {
                    // A batch without events leaves the head where it is; as far as anyone can see it is not there.
                    return Err(JournalError::Unavailable(why));
                }
                Ok(found)
            }
            Err(NotWritten::Unresolved(_)) => {
                Err(JournalError::Uncertain("nobody knows what became of an earlier commit".to_owned()))
            }
        }
    }

    async fn try_commit(&self, batch: &Arc<Batch>) -> Result<Result<Written, NotWritten>, JournalError> {
        let batch = Arc::clone(batch);
        self.thread.tell(move |connected| connected.commit(&batch)).await
    }

    /// Finds out where a commit that failed has left the journal and its index. Another connection is asked: it cannot see what is
    /// not committed. A head that this process has not put there stays in doubt, and nothing is written behind it.
    async fn resolve(&self, doubt: Doubt) -> Result<Head, JournalError> {
        if doubt.is_open {
            return Err(JournalError::Uncertain("the disk failed in an earlier commit".to_owned()));
        }
        let uncertain = |error: JournalError| JournalError::Uncertain(error.to_string());
        let head = self.reader.head().await.map_err(uncertain)?;
        if head != doubt.before && head != doubt.after {
            let what = format!("it is {head:?} and this router left it at {:?}", doubt.before);
            return Err(JournalError::Damaged { table: "journal_head", column: "position", what });
        }
        let tail = self.reader.tail().await.map_err(uncertain)?;
        self.thread.tell(move |connected| connected.resolved(head, tail)).await?;
        Ok(head)
    }

    /// Writes, commits, and changes nothing. Whatever becomes of it, the next commit finds the connection as it should be.
    pub(super) async fn probe(&mut self) -> Result<(), JournalError> {
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

    /// A commit that nobody waits for any more is waited for.
    pub(super) async fn close(self) {
        // A thread that is gone is at nothing.
        let _ = self.thread.tell(|_| ()).await;
        let is_whole = self.checkpoints.close().await;
        if !is_whole {
            self.notes.fold_anew();
        }
        let closed = self.thread.end(move |connected| connected.close(is_whole)).await;
        match closed {
            Some(Ok(())) if is_whole => self.notes.let_go(),
            Some(Ok(())) => {}
            Some(Err(error)) => {
                let error = error::describe(&error);
                tracing::warn!(error, "the journal was not closed in good order; it is complete");
            }
            None => tracing::warn!("the journal was not closed in good order: its thread is gone; it is complete"),
        }
    }
}
