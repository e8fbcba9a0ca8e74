//! The connection that writes, and how far it has come: a batch is one transaction of it, and there is nothing in the file of
//! one that failed.

use bytes::Bytes;
use rusqlite::Connection;

use crate::id::NodeId;
use crate::journal::seal::{Salts, Sealed};
use crate::journal::sqlite::index::Tail;
use crate::journal::sqlite::{error, open, rows, upkeep};
use crate::journal::{Batch, Event, Head, JournalError};

/// `?1`, `?2`: the head; `?3`, `?4`: where this process left it.
pub(super) const MOVE_HEAD: &str = "
UPDATE journal_head SET position = ?1, hash = ?2 WHERE position = ?3 AND hash = ?4";

/// `?1`: the place of the last notification that the backend has.
pub(super) const ACKNOWLEDGE: &str = "UPDATE feed SET acknowledged = ?1";

const BEGIN: &str = "BEGIN IMMEDIATE";
const COMMIT: &str = "COMMIT";
const ROLLBACK: &str = "ROLLBACK";

/// Writes and changes nothing.
pub(super) const TOUCH: &str = "UPDATE journal_head SET position = position";

/// What a row takes of the log besides a payload, about.
const ROW: usize = 450;

/// Who writes: the name, which is hashed, and its number in `nodes`.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) code: NodeId,
    pub(super) salts: Salts,
}

/// See the module. It blocks.
#[derive(Debug)]
pub(super) struct Connected {
    connection: Connection,
    node: Node,
    head: Head,
    tail: Tail,
    /// A commit failed, and nobody has found out yet what is on the disk.
    unresolved: Option<Doubt>,
}

/// A batch that is on the disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    pub(super) head: Head,
    /// What it takes of the log, about.
    pub(super) bytes: usize,
}

/// Where the head can be once a commit has failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Doubt {
    /// Where it was: the commit is not on the disk.
    pub(super) before: Head,
    /// Where it would be if the commit is on the disk all the same.
    pub(super) after: Head,
    /// The disk failed in the middle: what is read now need not be what is on it, and nothing is written behind it.
    pub(super) is_open: bool,
}

/// A batch that was not seen to be written.
#[derive(Debug)]
pub(super) enum NotWritten {
    /// An earlier one failed: what is on the disk has to be found out before another is tried.
    Unresolved(Doubt),
    /// It cannot be written; nothing was changed.
    Refused(JournalError),
    /// SQLite failed, for this reason.
    Failed(String, Doubt),
}

/// What keeps a transaction from being committed.
#[derive(Debug)]
enum Stopped {
    Refused(JournalError),
    Failed(rusqlite::Error),
}

impl From<rusqlite::Error> for Stopped {
    fn from(error: rusqlite::Error) -> Self {
        Self::Failed(error)
    }
}

impl Connected {
    pub(super) const fn new(connection: Connection, node: Node, head: Head, tail: Tail) -> Self {
        Self { connection, node, head, tail, unresolved: None }
    }

    /// Commits the batch. The head moves on only if it is on the disk.
    pub(super) fn commit(&mut self, batch: &Batch) -> Result<Written, NotWritten> {
        if let Some(doubt) = self.unresolved {
            return Err(NotWritten::Unresolved(doubt));
        }
        let before = self.head;
        let mut after = before;
        match transact(&self.connection, || self.write(batch, &mut after)) {
            Ok(()) => {
                self.head = after;
                self.tail.committed(&batch.events);
                Ok(Written { head: after, bytes: size(batch) })
            }
            Err(Stopped::Refused(error)) => Err(NotWritten::Refused(error)),
            Err(Stopped::Failed(error)) => {
                let doubt = Doubt { before, after, is_open: error::commit::is_uncertain(&error) };
                self.unresolved = Some(doubt);
                Err(NotWritten::Failed(error::commit::describe(&error), doubt))
            }
        }
    }

    /// What is in the transaction. `head` moves on with each event.
    fn write(&self, batch: &Batch, head: &mut Head) -> Result<(), Stopped> {
        let added = self.tail.addition(&batch.events);
        let before = *head;
        let connection = &self.connection;
        let mut events = rows::Events::new(connection, self.node.code.0)?;
        for event in &batch.events {
            let sealed = Sealed::new(event, head, &self.node.name, self.node.salts).map_err(Stopped::Refused)?;
            *head = sealed.head();
            events.write(&sealed)?;
        }
        drop(events);
        rows::eras(connection, &added.eras)?;
        rows::postings(connection, &added.postings)?;
        rows::hints(connection, &added.hints)?;
        rows::agents(connection, &batch.agents)?;
        rows::sessions(connection, &batch.sessions)?;
        rows::ended(connection, &batch.ended)?;
        rows::nodes(connection, &batch.nodes)?;
        rows::accepted(connection, &batch.accepted)?;
        if rows::changed(connection, &batch.changed)? != batch.changed.len() {
            return Err(refused("an invocation that has changed is not in it"));
        }
        if let Some(position) = batch.feed_acknowledged {
            connection.prepare_cached(ACKNOWLEDGE)?.execute([position.0])?;
        }
        for erased in &batch.erased {
            upkeep::erase(connection, erased)?;
        }
        if let Some(through) = batch.pruned
            && !upkeep::prune(connection, through)?
        {
            return Err(refused("what is to be pruned is not there, or somebody waits for it"));
        }
        let moved = connection.prepare_cached(MOVE_HEAD)?.execute((
            head.position.0,
            head.hash,
            before.position.0,
            before.hash,
        ))?;
        if moved != 1 {
            return Err(Stopped::Failed(rusqlite::Error::StatementChangedRows(moved)));
        }
        Ok(())
    }

    /// Writes, commits, and changes nothing.
    pub(super) fn probe(&mut self) -> rusqlite::Result<()> {
        transact(&self.connection, || run(&self.connection, TOUCH))
    }

    /// This is what is on the disk after a commit that failed.
    pub(super) fn resolved(&mut self, head: Head, tail: Tail) {
        (self.head, self.tail, self.unresolved) = (head, tail, None);
    }

    /// Lets the file go, and the log with it if `is_whole`: all of it is in the file.
    pub(super) fn close(self, is_whole: bool) -> rusqlite::Result<()> {
        if is_whole {
            open::let_go_of_the_log(&self.connection)?;
        }
        self.connection.close().map_err(|(_, error)| error)
    }
}

fn run(connection: &Connection, statement: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(statement)?.execute(()).map(drop)
}

/// What is done in one transaction, which is taken back unless all of it succeeds.
fn transact<E: From<rusqlite::Error>>(connection: &Connection, work: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
    take_back(connection)?;
    run(connection, BEGIN)?;
    let done = work().and_then(|()| Ok(run(connection, COMMIT)?));
    if done.is_err() {
        // What cannot be taken back now is before the next one begins.
        let _ = take_back(connection);
    }
    done
}

/// Ends a transaction that is open, if there is one.
fn take_back(connection: &Connection) -> rusqlite::Result<()> {
    if connection.is_autocommit() { Ok(()) } else { run(connection, ROLLBACK) }
}

fn refused(what: &str) -> Stopped {
    Stopped::Refused(JournalError::Unavailable(what.to_owned()))
}

/// About how much of the log a batch takes, but for what is rare.
fn size(batch: &Batch) -> usize {
    let event = |event: &Event| ROW + event.payload.as_ref().map_or(0, Bytes::len);
    batch.events.iter().map(event).sum::<usize>() + (batch.accepted.len() + batch.changed.len()) * ROW
}

#[cfg(test)]
mod tests;
