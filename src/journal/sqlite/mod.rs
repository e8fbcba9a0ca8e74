//! The journal in a SQLite file: one writer, readers that never wait for it, and a lock against a second router.
//!
//! ```text
//! open        options, lock, migrations → SqliteJournal
//! migration   which numbered migrations there are, and which are applied
//! commit      a batch → the new head, or which kind of failure it was
//! thread      a thread that owns what blocks: the connection that writes
//! write       a batch → one transaction
//! rows        the rows of a batch → the statements that write them
//! index       what the events of a batch add to the index of events
//! hints       which eras may have a term
//! files       the files that it is in, and whether they are still there
//! milestone   how far it had come, noted beside it
//! checkpoint  the write-ahead log into the file, behind the commits
//! check       what else is checked of a file than the chain
//! upkeep      what a commit does besides to erase and to prune, and how far to prune
//! reader      what is asked of the rows; with history, invocations, agents, pages and verify, all that reads
//! matches     the index of events → the places where all that a reader wants occurs
//! backup      a copy of a journal that may be written to meanwhile
//! row         how the columns of a row are read
//! ```

mod agents;
mod backup;
mod check;
mod checkpoint;
mod commit;
mod error;
mod files;
mod hints;
mod history;
mod index;
mod invocations;
mod matches;
mod migration;
mod milestone;
mod open;
mod pages;
mod reader;
mod row;
mod rows;
mod thread;
mod upkeep;
mod verify;
mod write;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Mutex;
use tokio::time::sleep;

pub use crate::journal::migration::Migration;
pub use backup::backup;
pub use migration::{migrate, migration_status};
pub use reader::SqliteReader;

use crate::clock::Timestamp;
use crate::id::{Identity, InvocationId, Position, SessionId};
use crate::invocation::Invocation;
use crate::journal::seal::Salts;
use crate::journal::{
    AgentFilter, AgentPage, AgentRecord, Batch, FeedEvent, Head, HistoryFilter, HistoryPage, InvocationFilter,
    InvocationPage, InvocationRecord, Journal, JournalError, Lookup, News, NodeRecord, Order, Restored, SessionRow,
    Verification,
};
use checkpoint::{Checkpoints, Soundness};
use commit::Writer;
use files::Files;
use milestone::Milestone;
use open::Notes;
use write::Node;

/// How often to look whether all is well while nothing is committed.
const CHECKED: Duration = Duration::from_secs(1);

/// Where the journal is, and who writes to it.
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    /// The file; created, with an empty journal, if it is missing. Its folder must be there.
    pub path: PathBuf,
    /// The name of this router, which each of its events carries.
    pub node: String,
    /// Where the salts of payloads come from.
    pub salts: Salts,
}

impl SqliteOptions {
    /// With salts that nobody can guess.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, node: impl Into<String>) -> Self {
        Self { path: path.into(), node: node.into(), salts: Salts::Random }
    }
}

/// A journal in a SQLite file that this process alone writes to.
#[derive(Debug)]
pub struct SqliteJournal {
    files: Files,
    soundness: Soundness,
    milestone: Milestone,
    /// `None` once it is closed.
    writer: Mutex<Option<Writer>>,
    reader: SqliteReader,
    /// One connection for what the writer's own work waits for, so that no reader holds it up.
    own_reader: SqliteReader,
}

impl SqliteJournal {
    /// Opens the file for writing, creates it if it is missing, and applies the migrations that are pending.
    ///
    /// Fails with [`JournalError::InUse`] while another process has it open so, with [`JournalError::Schema`] if a newer
    /// version has migrated it, with [`JournalError::Lost`] if it ends before what was committed, and with
    /// [`JournalError::Unavailable`] if it cannot be opened.
    pub async fn open(options: &SqliteOptions) -> Result<Self, JournalError> {
        let lock = open::lock(&options.path)?;
        milestone::require_file(&options.path)?;
        open::fold_anew(&options.path)?;
        let mut migrator = open::migrator(&options.path).await?;
        migration::apply(&mut migrator).await?;
        // Before the other is closed: it would be the last, and fold in a log that may be long.
        let (connection, code) = commit::connect(&options.path, &options.node).await?;
        let notes = Notes::open(&options.path)?;
        notes.reserve();
        open::close(migrator).await;
        let reader = SqliteReader::open(&options.path).await?;
        let own_reader = SqliteReader::with_connections(&options.path, 1).await?;
        milestone::require(&options.path, &own_reader).await?;
        let milestone = Milestone::open(&options.path)?;
        let checkpoints = Checkpoints::start(&options.path).await?;
        // What the last life left in the log may be in the system's memory alone, if its last sync failed. (A reader in the way
        // holds this up, and the emptying of the log that follows every start.)
        checkpoints.fold().await;
        let soundness = checkpoints.soundness();
        soundness.check()?;
        let node = Node { name: options.node.clone(), code, salts: options.salts };
        let writer = Writer::new(connection, node, (lock, notes), own_reader.clone(), checkpoints).await?;
        let files = Files::of(&options.path)?;
        let writer = Mutex::new(Some(writer));
        Ok(Self { files, soundness, milestone, writer, reader, own_reader })
    }

    /// Fails if its files are not where they were, or the disk has failed behind a commit.
    fn check(&self) -> Result<(), JournalError> {
        self.files.check_database()?;
        self.soundness.check()?;
        self.files.check_others()
    }
}

#[async_trait]
impl Journal for SqliteJournal {
    async fn restore(&self) -> Result<Restored, JournalError> {
        let node = self.writer.lock().await.as_ref().map(Writer::node).ok_or_else(closed)?;
        self.reader.restore(node).await
    }

    async fn nodes(&self) -> Result<Vec<NodeRecord>, JournalError> {
        self.reader.nodes().await
    }

    async fn session(&self, id: SessionId) -> Result<Option<SessionRow>, JournalError> {
        self.reader.session(id).await
    }

    /// Nobody else commits; but all must be well with the files.
    async fn begin(&self) -> Result<Option<News>, JournalError> {
        self.check()?;
        Ok(None)
    }

    async fn commit(&self, batch: Arc<Batch>) -> Result<Head, JournalError> {
        let mut writer = self.writer.lock().await;
        let head = writer.as_mut().ok_or_else(closed)?.commit(batch).await?;
        self.milestone.note(head);
        Ok(head)
    }

    async fn stirred(&self) {
        loop {
            sleep(CHECKED).await;
            if self.check().is_err() {
                return;
            }
        }
    }

    async fn lookup(&self, lookup: &Lookup) -> Result<Vec<Invocation>, JournalError> {
        self.own_reader.lookup(lookup).await
    }

    async fn payloads(&self, positions: &[Position]) -> Result<Vec<(Position, Bytes)>, JournalError> {
        self.reader.payloads(positions).await
    }

    async fn feed(
        &self,
        after: Position,
        since: Timestamp,
        limit: usize,
    ) -> Result<(Vec<FeedEvent>, Position), JournalError> {
        self.reader.feed(after, since, limit).await
    }

    async fn invocation(&self, id: InvocationId) -> Result<Option<InvocationRecord>, JournalError> {
        self.reader.invocation(id).await
    }

    async fn history(
        &self,
        filter: &HistoryFilter,
        order: Order,
        beyond: Option<Position>,
        limit: usize,
    ) -> Result<HistoryPage, JournalError> {
        self.reader.history(filter, order, beyond, limit).await
    }

    async fn invocations(
        &self,
        filter: &InvocationFilter,
        order: Order,
        beyond: Option<Position>,
        limit: usize,
    ) -> Result<InvocationPage, JournalError> {
        self.reader.invocations(filter, order, beyond, limit).await
    }

    async fn agents(
        &self,
        filter: AgentFilter,
        after: Option<&Identity>,
        limit: usize,
    ) -> Result<AgentPage, JournalError> {
        self.reader.agents(filter, after, limit).await
    }

    async fn agent(&self, agent: &Identity) -> Result<Option<AgentRecord>, JournalError> {
        self.reader.agent(agent).await
    }

    async fn verify(&self, from: Option<Position>, to: Option<Position>) -> Result<Verification, JournalError> {
        self.reader.verify(from, to).await
    }

    async fn hash_at(&self, position: Position) -> Result<Option<[u8; 32]>, JournalError> {
        self.reader.hash_at(position).await
    }

    async fn prunable(&self, before: Timestamp, limit: usize) -> Result<Option<Head>, JournalError> {
        self.reader.prunable(before, limit).await
    }

    async fn scrub(&self) -> Result<(), JournalError> {
        // The writer stands aside: two that wait for each other's locks would wait longer.
        let mut writer = self.writer.lock().await;
        let writer = writer.as_mut().ok_or_else(closed)?;
        self.check()?;
        writer.scrub().await
    }

    async fn probe(&self) -> Result<(), JournalError> {
        let mut writer = self.writer.lock().await;
        let writer = writer.as_mut().ok_or_else(closed)?;
        self.check()?;
        writer.probe().await
    }

    async fn head(&self) -> Result<Head, JournalError> {
        self.reader.head().await
    }

    /// Waits for the batch that is being committed, folds the write-ahead log into the file, unless the disk has failed, ends the
    /// readers, folds in what they kept from it and lets the lock go. Whoever asks afterwards is told that the journal is
    /// unavailable.
    async fn close(&self) {
        let writer = self.writer.lock().await.take();
        if let Some(writer) = &writer {
            // First: whoever ends the process does not wait for readers for long.
            writer.fold().await;
        }
        self.reader.close().await;
        self.own_reader.close().await;
        if let Some(writer) = writer {
            writer.close().await;
        }
    }

    fn soundness(&self) -> Result<(), JournalError> {
        self.soundness.check()
    }
}

fn closed() -> JournalError {
    JournalError::Unavailable("it is closed".to_owned())
}

#[cfg(test)]
mod tests;
