//! The journal in a Postgres database, which several routers may share.
//!
//! ```text
//! open        how the database is reached, and what is set on each connection
//! migration   which numbered migrations there are, and which are applied
//! writer      turns and commits, on the one connection that writes
//! send        how a batch is sent, and what is known of it at once
//! commit      the text of a commit: one statement for all of a batch
//! encode      a batch → the arrays that are bound to that text
//! upkeep      what a commit does besides to erase and to prune
//! doubt       what became of a commit whose answer did not come
//! news        what others have committed
//! whole       all there is
//! lease       that routers are there
//! listen      being told at once that there is something to look at
//! snapshot    what a reader reads at one moment
//! reader      what is asked of the rows; with history, invocations, agents, pages, prunable and verify, all that reads
//! matches     the index of events → the places where all that a reader wants occurs
//! index       the index of events, as it is written behind the commits
//! row         how a column is read
//! error       what Postgres' errors mean for the journal
//! ```

mod agents;
mod commit;
mod doubt;
mod encode;
mod error;
mod history;
mod index;
mod invocations;
mod lease;
mod listen;
mod matches;
mod migration;
mod news;
mod open;
mod options;
mod pages;
mod prunable;
mod reader;
mod row;
mod send;
mod snapshot;
mod upkeep;
mod verify;
mod whole;
mod writer;

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::{AssertSqlSafe, PgConnection};
use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use migration::{migrate, migration_status};
pub use options::PostgresOptions;
pub use reader::PostgresReader;

use crate::clock::Timestamp;
use crate::id::{Identity, InvocationId, NodeId, Position, SessionId};
use crate::invocation::Invocation;
use crate::journal::chain;
use crate::journal::row::Columns;
use crate::journal::{
    AgentFilter, AgentPage, AgentRecord, Batch, Beat, FeedEvent, Head, HistoryFilter, HistoryPage, InvocationFilter,
    InvocationPage, InvocationRecord, Journal, JournalError, Lookup, News, NodeRecord, Order, Restored, SessionRow,
    Verification,
};
use encode::Node;
use lease::Leases;
use open::Target;
use writer::{POLL, Writer};

/// Connections for the router's own questions besides its turns.
const OWN: u32 = 3;

/// How long the look for what is settled may take.
const LOOKING: std::time::Duration = std::time::Duration::from_secs(10);

/// How long connections may take to end.
const CLOSING: std::time::Duration = std::time::Duration::from_secs(3);

/// A journal in a Postgres database that other routers may write to as well.
#[derive(Debug)]
pub struct PostgresJournal {
    /// `None` once it is closed.
    writer: Mutex<Option<Writer>>,
    reader: PostgresReader,
    /// For what the writer's own work waits for, so that no reader holds it up.
    own_reader: PostgresReader,
    /// For what takes long.
    target: Target,
    leases: Leases,
    /// Another router has said that there is something to look at.
    told: Arc<Notify>,
    /// When it was last known that nobody else had committed.
    looked: std::sync::Mutex<Looked>,
    warnings: Vec<String>,
    tasks: TaskTracker,
    closing: CancellationToken,
}

/// What is known without asking.
#[derive(Clone, Copy, Debug)]
struct Looked {
    at: Instant,
    /// Somebody has told since.
    told: bool,
}

impl PostgresJournal {
    /// Opens the database for writing, and enters this router's name if it is new.
    ///
    /// Fails with [`JournalError::Schema`] if this version does not work with its schema, and with
    /// [`JournalError::Unavailable`] if it cannot be reached.
    pub async fn open(options: &PostgresOptions) -> Result<Self, JournalError> {
        let target = Target::new(&options.url)?;
        let listening = Target::new(options.notify_url.as_ref().unwrap_or(&options.url))?;
        let mut connection = open::writer(&target).await?;
        open::require_unicode(&mut connection).await?;
        migration::require_usable(&mut connection).await?;
        let warnings = open::dangers(&mut connection).await?;
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        let code = enter(&mut connection, &options.node).await?;
        news::prepare(&mut connection, &target).await?;
        let seen = writer::standing(&mut connection).await?;
        let own = open::readers(&target, OWN).await?;
        let reader = PostgresReader::new(open::readers(&target, open::READERS).await?, target.pooled);
        let node = Node { name: options.node.clone(), code, salts: options.salts };
        let (closing, tasks, told) = (CancellationToken::new(), TaskTracker::new(), Arc::new(Notify::new()));
        let channel = commit::channel(NodeId(code));
        tasks.spawn(listen::run(open::listener(&listening), channel, Arc::clone(&told), closing.child_token()));
        let own_reader = PostgresReader::new(own.clone(), target.pooled);
        tasks.spawn(index::run(own_reader.clone(), closing.child_token()));
        Ok(Self {
            own_reader,
            target: target.clone(),
            leases: Leases { pool: own, node: NodeId(code) },
            writer: Mutex::new(Some(Writer::new(target, connection, node, seen, closing.clone()))),
            reader,
            told,
            looked: std::sync::Mutex::new(Looked { at: Instant::now(), told: false }),
            warnings,
            tasks,
            closing,
        })
    }

    /// What of the database's settings makes a commit less than durable, in words for whoever runs it.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn looked(&self) -> std::sync::MutexGuard<'_, Looked> {
        self.looked.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The number of a name; a new one gets the next.
async fn enter(connection: &mut PgConnection, name: &str) -> Result<i64, JournalError> {
    if name.contains('\0') {
        return Err(JournalError::Unavailable("NODE_ID holds a character that Postgres does not take".to_owned()));
    }
    // The text is sent whole, which works behind any pooler; in hexadecimal, the name cannot be taken for a part of it.
    let name = format!("convert_from(decode('{}', 'hex'), 'UTF8')", chain::to_hex(name.as_bytes()));
    let text = format!(
        "INSERT INTO nodes (name) SELECT {name} WHERE NOT EXISTS (SELECT FROM nodes WHERE name = {name})
         ON CONFLICT DO NOTHING;
         SELECT code FROM nodes WHERE name = {name}"
    );
    let rows = sqlx::raw_sql(AssertSqlSafe(text)).fetch_all(connection).await.map_err(error::unavailable)?;
    match &rows[..] {
        [row] => Columns::of("nodes", row).integer("code"),
        _ => Err(JournalError::Unavailable("this router's name could not be entered".to_owned())),
    }
}

#[async_trait]
impl Journal for PostgresJournal {
    async fn restore(&self) -> Result<Restored, JournalError> {
        let mut writer = self.writer.lock().await;
        let writer = writer.as_mut().ok_or_else(closed)?;
        let restored = writer.restore().await;
        self.looked().at = writer.looked();
        restored
    }

    async fn begin(&self) -> Result<Option<News>, JournalError> {
        let mut writer = self.writer.lock().await;
        let writer = writer.as_mut().ok_or_else(closed)?;
        let told = std::mem::take(&mut self.looked().told);
        let begun = writer.begin(told).await;
        let mut looked = self.looked();
        looked.at = writer.looked();
        looked.told |= told && begun.is_err();
        begun
    }

    async fn commit(&self, batch: Arc<Batch>) -> Result<Head, JournalError> {
        let mut writer = self.writer.lock().await;
        let writer = writer.as_mut().ok_or_else(closed)?;
        let committed = writer.commit(&batch).await;
        self.looked().at = writer.looked();
        committed
    }

    async fn confirm(&self) -> Result<(), JournalError> {
        let mut writer = self.writer.lock().await;
        let writer = writer.as_mut().ok_or_else(closed)?;
        let confirmed = writer.confirm().await;
        self.looked().at = writer.looked();
        confirmed
    }

    async fn pass(&self) {
        if let Some(writer) = self.writer.lock().await.as_mut() {
            writer.pass().await;
        }
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn stirred(&self) {
        let due = tokio::time::Instant::from_std(self.looked().at + POLL);
        tokio::select! {
            () = self.told.notified() => self.looked().told = true,
            () = tokio::time::sleep_until(due) => (),
        }
    }

    async fn renew(&self, epoch: i64) -> Result<Vec<Beat>, JournalError> {
        self.leases.renew(epoch).await
    }

    async fn beats(&self) -> Result<Vec<Beat>, JournalError> {
        self.leases.beats().await
    }

    async fn time(&self) -> Result<Option<Timestamp>, JournalError> {
        self.leases.time().await.map(Some)
    }

    async fn nodes(&self) -> Result<Vec<NodeRecord>, JournalError> {
        self.reader.nodes().await
    }

    async fn session(&self, id: SessionId) -> Result<Option<SessionRow>, JournalError> {
        self.reader.session(id).await
    }

    async fn lookup(&self, lookup: &Lookup) -> Result<Vec<Invocation>, JournalError> {
        // The turn waits for it, and does not wait for a connection that is dead.
        let found = tokio::time::timeout(LOOKING, self.own_reader.lookup(lookup)).await;
        found.unwrap_or_else(|_| Err(JournalError::Unavailable("the database does not answer".to_owned())))
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

    /// Takes what was erased out of the tables' files. What the database keeps of it elsewhere, its log of changes and
    /// copies of it, goes when those do.
    async fn scrub(&self) -> Result<(), JournalError> {
        if self.writer.lock().await.is_none() {
            return Err(closed());
        }
        let mut connection = open::worker(&self.target).await?;
        let scrubbed = upkeep::scrub(&mut connection).await;
        open::close(connection).await;
        scrubbed
    }

    async fn probe(&self) -> Result<(), JournalError> {
        self.leases.probe().await?;
        let mut connection = self.leases.pool.acquire().await.map_err(error::unavailable)?;
        migration::require_usable(&mut connection).await
    }

    async fn head(&self) -> Result<Head, JournalError> {
        self.reader.head().await
    }

    /// Waits for the batch that is being committed, unless the database is away, and ends all connections. Whoever asks
    /// afterwards is told that the journal is unavailable.
    async fn close(&self) {
        self.closing.cancel();
        let writer = self.writer.lock().await.take();
        self.tasks.close();
        let ended = async {
            self.tasks.wait().await;
            self.reader.close().await;
            self.own_reader.close().await;
            if let Some(writer) = writer {
                writer.close().await;
            }
        };
        // A database that does not answer is not waited for: it finds out by itself.
        if tokio::time::timeout(CLOSING, ended).await.is_err() {
            tracing::warn!("the connections to the journal were not closed in good order; it is complete");
        }
    }
}

fn closed() -> JournalError {
    JournalError::Unavailable("it is closed".to_owned())
}

#[cfg(test)]
mod tests;
