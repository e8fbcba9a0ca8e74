//! A back end to try: where its journal is, how it is opened, and a back door for those who tamper with it.

use std::path::PathBuf;
use std::sync::Arc;

use agent_router::id::Position;
use agent_router::journal::sqlite::{SqliteJournal, SqliteOptions};
use agent_router::journal::{Head, HistoryFilter, Journal, Order, Report, Verification};
use agent_router::protocol::Redactor;
use agent_router::record::event_line;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, SqliteConnection};
use tempfile::TempDir;

/// What a check says of a journal that nobody touched, erased from or pruned.
pub(super) fn intact(events: u64, head: Head) -> Verification {
    let from = Position(1);
    Verification::Intact(Report { from, events, erased: 0, unchecked: 0, pruned: Head::EMPTY, head })
}

/// All events as an export has them, nothing hidden.
pub(super) async fn exported(journal: &dyn Journal) -> Vec<u8> {
    let (mut lines, mut after) = (Vec::new(), None);
    loop {
        let events = journal.history(&HistoryFilter::default(), Order::Ascending, after, 1000).await.unwrap().events;
        let Some(last) = events.last() else { return lines };
        after = Some(last.position);
        for event in &events {
            lines.extend(event_line(event, &Redactor::default()));
            lines.push(b'\n');
        }
    }
}

/// A journal of its own, which is gone with it.
pub(super) struct Store {
    folder: TempDir,
}

impl Store {
    pub(super) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("journal.db")
    }

    pub(super) fn options(&self) -> SqliteOptions {
        SqliteOptions { path: self.path(), node: "node-1".to_owned() }
    }

    pub(super) async fn open(&self) -> Arc<dyn Journal> {
        Arc::new(SqliteJournal::open(&self.options()).await.unwrap())
    }

    /// The files of the journal that hold these bytes.
    pub(super) fn files_with(&self, bytes: &[u8]) -> Vec<PathBuf> {
        let files = std::fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let holds = |file: &PathBuf| memmem(&std::fs::read(file).unwrap(), bytes);
        files.filter(holds).collect()
    }

    /// A connection of its own, past the journal.
    pub(super) async fn back_door(&self) -> SqliteConnection {
        SqliteConnectOptions::new().filename(self.path()).connect().await.unwrap()
    }

    /// Does to the tables what no journal would; gives back how many rows that changed.
    pub(super) async fn tamper(&self, sql: &str) -> u64 {
        let mut connection = self.back_door().await;
        let done = sqlx::query(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        done.rows_affected()
    }
}

fn memmem(text: &[u8], bytes: &[u8]) -> bool {
    text.windows(bytes.len()).any(|window| window == bytes)
}
