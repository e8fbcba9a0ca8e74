//! A back end to try: where its journal is, how it is opened, and a back door for those who tamper with it.

use std::path::PathBuf;
use std::sync::Arc;

use agent_router::journal::Journal;
use agent_router::journal::sqlite::{SqliteJournal, SqliteOptions};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, SqliteConnection};
use tempfile::TempDir;

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
