//! The one writer: a batch becomes one call to the database, and its failure one of three answers.

use std::fs::File;
use std::sync::LazyLock;

use sqlx::{AssertSqlSafe, SqliteConnection};

use crate::id::NodeId;
use crate::journal::seal::Salts;
use crate::journal::sqlite::cells::Layout;
use crate::journal::sqlite::checkpoint::Checkpoints;
use crate::journal::sqlite::encode::{AGENTS, CHANGED, ENDED, Encoded, INVOCATIONS, JOURNAL, NODES, Node, SESSIONS};
use crate::journal::sqlite::hints::HINTS;
use crate::journal::sqlite::index::{ERAS, POSTINGS, Tail};
use crate::journal::sqlite::{SqliteReader, error, migration, open, upkeep};
use crate::journal::{Batch, Head, JournalError};

/// The view that a commit inserts one row into: a batch.
const BATCH: &str = "batch";

/// The columns of a batch, in the order in which they are bound. Rows are packed as [`cells`](super::cells) says.
pub(super) const COLUMNS: [&str; 17] = [
    "position",
    "hash",
    "new_position",
    "new_hash",
    "changes",
    "heap",
    "events",
    "eras",
    "postings",
    "agents",
    "sessions",
    "ended",
    "acknowledged",
    "accepted",
    "changed",
    "nodes",
    "hints",
];

/// A commit: one statement, which is a transaction by itself. sqlx hands each statement of a text to SQLite's thread and its
/// outcome back, one by one: that cost more than the statements did.
pub(super) static COMMIT: LazyLock<&'static str> = LazyLock::new(|| insert_batch().leak());

/// The same for a batch that erases or prunes, with the further statements that this takes. Parameters are written `$n` and not
/// `?n`, for sqlx would bind the numbers that a statement leaves out to its others.
pub(super) static UPKEEP: LazyLock<&'static str> = LazyLock::new(|| {
    let mut statements = vec!["BEGIN IMMEDIATE".to_owned(), insert_batch()];
    statements.extend(upkeep::statements());
    statements.push("COMMIT".to_owned());
    statements.join(";\n").leak()
});

fn insert_batch() -> String {
    let values: Vec<_> = (1..=COLUMNS.len()).map(|number| format!("${number}")).collect();
    format!("INSERT INTO {BATCH} ({}) VALUES ({})", COLUMNS.join(", "), values.join(", "))
}

/// What a commit consists of, a statement for each table.
///
/// The last one holds the two things that must not be: it fails, by a NULL where none may be, if the head is not where this
/// process left it, or if not every changed invocation was there (`changes()` counts the update just before it).
pub(super) fn statements() -> Vec<String> {
    vec![
        insert("journal", JOURNAL, "NEW.events", ""),
        insert(
            "eras",
            ERAS,
            "NEW.eras",
            "ON CONFLICT DO UPDATE SET indexed = excluded.indexed, first_at = min(first_at, excluded.first_at),
                 last_at = max(last_at, excluded.last_at)",
        ),
        // `||` makes a text of the same bytes.
        insert(
            "postings",
            POSTINGS,
            "NEW.postings",
            "ON CONFLICT DO UPDATE SET offsets = CAST(offsets || excluded.offsets AS BLOB)",
        ),
        insert(
            "hints",
            HINTS,
            "NEW.hints",
            "ON CONFLICT DO UPDATE SET marks = CAST(marks || excluded.marks AS BLOB)",
        ),
        insert(
            "agents",
            AGENTS,
            "NEW.agents",
            "ON CONFLICT DO UPDATE SET registered = excluded.registered, last_seen = excluded.last_seen",
        ),
        insert(
            "sessions",
            SESSIONS,
            "NEW.sessions",
            "ON CONFLICT DO UPDATE SET registered = excluded.registered, version = excluded.version,
                 standing = excluded.standing, max_in_flight = excluded.max_in_flight",
        ),
        delete("sessions", ENDED, "NEW.ended"),
        "UPDATE feed SET acknowledged = NEW.acknowledged WHERE NEW.acknowledged IS NOT NULL".to_owned(),
        insert(
            "nodes",
            NODES,
            "NEW.nodes",
            "ON CONFLICT DO UPDATE SET epoch = excluded.epoch, standing = excluded.standing, version = excluded.version,
                 started_at = excluded.started_at",
        ),
        insert("invocations", INVOCATIONS, "NEW.accepted", ""),
        update("invocations", CHANGED, "NEW.changed"),
        "UPDATE journal_head SET
             position = CASE WHEN position = NEW.position AND hash = NEW.hash AND changes() = NEW.changes
                 THEN NEW.new_position END,
             hash = NEW.new_hash"
            .to_owned(),
    ]
}

/// What makes a row of `batch` a commit, for the connection that writes alone: the program that goes through the tables, which
/// SQLite prepares with the statement, and what goes through packed rows.
pub(super) async fn prepare(connection: &mut SqliteConnection) -> Result<(), JournalError> {
    for statement in program() {
        sqlx::query(AssertSqlSafe(statement)).execute(&mut *connection).await.map_err(error::unavailable)?;
    }
    Ok(())
}

fn program() -> Vec<String> {
    let layouts =
        [JOURNAL, ERAS, POSTINGS, HINTS, AGENTS, SESSIONS, ENDED, NODES, INVOCATIONS, CHANGED, upkeep::LAYOUT];
    let columns: Vec<_> = COLUMNS.iter().map(|column| format!("NULL AS {column}")).collect();
    let rows = layouts.into_iter().map(Layout::view);
    rows.chain([
        format!("CREATE TEMP VIEW {BATCH} AS SELECT {}", columns.join(", ")),
        format!(
            "CREATE TEMP TRIGGER commit_{BATCH} INSTEAD OF INSERT ON {BATCH} BEGIN {}; END",
            statements().join(";\n")
        ),
    ])
    .collect()
}

/// Where the heap of the rows is, in the program.
const HEAP: &str = "NEW.heap";

/// The statement that puts rows in a table.
fn insert(table: &str, layout: Layout, rows: &str, on_conflict: &str) -> String {
    let values: Vec<_> = layout.values(rows, HEAP).into_iter().map(|(_, value)| value).collect();
    let (each, columns, values) = (layout.each(rows), layout.columns(), values.join(", "));
    format!("INSERT INTO {table} ({columns}) SELECT {values} FROM {each} WHERE true {on_conflict}")
}

/// The statement that changes the rows which the first column names.
fn update(table: &str, layout: Layout, rows: &str) -> String {
    let mut values = layout.values(rows, HEAP).into_iter();
    let key = values.next().map(|(column, value)| format!("{table}.{column} = {value}")).unwrap_or_default();
    let set: Vec<_> = values.map(|(column, value)| format!("{column} = {value}")).collect();
    format!("UPDATE {table} SET {} FROM {} WHERE {key}", set.join(", "), layout.each(rows))
}

/// The statement that removes the rows with these values.
fn delete(table: &str, layout: Layout, rows: &str) -> String {
    let values: Vec<_> = layout.values(rows, HEAP).into_iter().map(|(_, value)| value).collect();
    let (each, columns, values) = (layout.each(rows), layout.columns(), values.join(", "));
    format!("DELETE FROM {table} WHERE ({columns}) IN (SELECT {values} FROM {each})")
}

pub(super) const ADD_NODE: &str = "INSERT INTO nodes (name) VALUES ($1) ON CONFLICT DO NOTHING";
pub(super) const NODE: &str = "SELECT code FROM nodes WHERE name = $1";
pub(super) const PROBE: &str = "BEGIN IMMEDIATE; UPDATE journal_head SET position = position; COMMIT";
const ROLLBACK: &str = "ROLLBACK";

/// The connection that writes, and how far it has come.
#[derive(Debug)]
pub(super) struct Writer {
    connection: SqliteConnection,
    /// Reads what really is on the disk, after a failure.
    reader: SqliteReader,
    node: Node,
    head: Head,
    tail: Tail,
    checkpoints: Checkpoints,
    /// A commit was begun and its outcome not seen: it failed, or whoever waited for it went away.
    unresolved: bool,
    _lock: File,
}

impl Writer {
    pub(super) async fn new(
        mut connection: SqliteConnection,
        lock: File,
        node: &str,
        salts: Salts,
        reader: SqliteReader,
        checkpoints: Checkpoints,
    ) -> Result<Self, JournalError> {
        sqlx::query(ADD_NODE).bind(node).execute(&mut connection).await.map_err(error::unavailable)?;
        let code = sqlx::query_scalar(NODE).bind(node).fetch_one(&mut connection).await;
        let head = reader.head().await?;
        let tail = reader.tail().await?;
        Ok(Self {
            connection,
            reader,
            node: Node { name: node.to_owned(), code: code.map_err(error::unavailable)?, salts },
            head,
            tail,
            checkpoints,
            unresolved: false,
            _lock: lock,
        })
    }

    /// The number of this router.
    pub(super) const fn node(&self) -> NodeId {
        NodeId(self.node.code)
    }

    /// Commits the batch. The head moves on only if it is on the disk.
    pub(super) async fn commit(&mut self, batch: &Batch) -> Result<Head, JournalError> {
        self.checkpoints.admit().await?;
        if self.unresolved {
            self.head = self.resolve().await?;
        }
        let encoded = Encoded::new(batch, self.head, &self.node, &self.tail)?;
        let (new, bytes) = (encoded.head, encoded.bytes());
        self.unresolved = true;
        match self.execute(encoded, batch).await {
            Ok(()) => {
                self.unresolved = false;
                self.head = new;
                self.tail.committed(&batch.events);
                self.checkpoints.committed(bytes);
                Ok(new)
            }
            Err(error) => self.after_failure(&error, new).await,
        }
    }

    async fn execute(&mut self, encoded: Encoded, batch: &Batch) -> Result<(), sqlx::Error> {
        let upkeep = !batch.erased.is_empty() || batch.pruned.is_some();
        let query = sqlx::query(if upkeep { *UPKEEP } else { *COMMIT })
            .bind(self.head.position.0)
            .bind(self.head.hash.to_vec())
            .bind(encoded.head.position.0)
            .bind(encoded.head.hash.to_vec())
            .bind(i64::try_from(batch.changed.len()).unwrap_or(i64::MAX))
            .bind(encoded.heap)
            .bind(encoded.events)
            .bind(encoded.index.eras)
            .bind(encoded.index.postings)
            .bind(encoded.agents)
            .bind(encoded.sessions)
            .bind(encoded.ended)
            .bind(batch.feed_acknowledged.map(|position| position.0))
            .bind(encoded.accepted)
            .bind(encoded.changed)
            .bind(encoded.nodes)
            .bind(encoded.index.hints);
        let query = if upkeep {
            let through = batch.pruned.map(|pruned| pruned.position.0);
            query.bind(encoded.erased).bind(through).bind(batch.pruned.map(|pruned| pruned.hash.to_vec()))
        } else {
            query
        };
        query.execute(&mut self.connection).await.map(drop)
    }

    /// Looks at what a failed commit left behind.
    async fn after_failure(&mut self, error: &sqlx::Error, new: Head) -> Result<Head, JournalError> {
        if error::is_uncertain(error) {
            return Err(JournalError::Uncertain(error::describe(error)));
        }
        let found = self.resolve().await?;
        if found == self.head {
            // A batch without events leaves the head where it is; as far as anyone can see it is not there.
            return Err(JournalError::Unavailable(error::describe(error)));
        }
        if found == new {
            self.head = new;
            return Ok(new);
        }
        let what = format!("it is {found:?} and this router left it at {:?}", self.head);
        Err(JournalError::Damaged { table: "journal_head", column: "position", what })
    }

    /// Ends a transaction that may still be open, and finds out where the journal and its index stand. A second connection is asked:
    /// it cannot see what is not committed.
    async fn resolve(&mut self) -> Result<Head, JournalError> {
        self.roll_back().await;
        let uncertain = |error: JournalError| JournalError::Uncertain(error.to_string());
        let found = self.reader.head().await.map_err(uncertain)?;
        self.tail = self.reader.tail().await.map_err(uncertain)?;
        self.unresolved = false;
        Ok(found)
    }

    async fn roll_back(&mut self) {
        // Fails if no transaction is open, which is as good.
        let _ = sqlx::query(ROLLBACK).execute(&mut self.connection).await;
    }

    /// Writes, commits, and changes nothing. Whatever becomes of it, the next commit finds the connection as it should be; if
    /// it fails, no transaction stays open that would lock the file until then, and fail the next probe.
    pub(super) async fn probe(&mut self) -> Result<(), JournalError> {
        self.checkpoints.check()?;
        let unresolved = std::mem::replace(&mut self.unresolved, true);
        if let Err(error) = sqlx::query(PROBE).execute(&mut self.connection).await {
            self.roll_back().await;
            return Err(error::unavailable(error));
        }
        self.unresolved = unresolved;
        migration::require_current(&mut self.connection).await
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
        open::close(self.connection).await;
    }
}
