//! A back end to try: where its journal is, how it is opened, and a back door for those who tamper with it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent_router::id::Position;
use agent_router::journal::postgres::{PostgresJournal, PostgresOptions};
use agent_router::journal::sqlite::{SqliteJournal, SqliteOptions};
use agent_router::journal::{Head, HistoryFilter, Journal, JournalError, Order, Report, Salts, Verification};
use agent_router::protocol::Redactor;
use agent_router::record::event_line;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, Row, SqliteConnection};
use tempfile::TempDir;

use crate::support::postgres::Database;

/// Makes a test of each of these functions on each back end.
macro_rules! on_each_back_end {
    ($($test:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test($crate::journal::store::BackEnd::Sqlite).await;
            })+
        }

        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test($crate::journal::store::BackEnd::Postgres).await;
            })+
        }
    };
}
pub(crate) use on_each_back_end;

/// What keeps a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BackEnd {
    Sqlite,
    Postgres,
}

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
#[derive(Debug)]
pub(crate) enum Store {
    Sqlite(TempDir),
    Postgres(Database),
}

impl Store {
    pub(crate) fn on(back_end: BackEnd) -> Self {
        match back_end {
            BackEnd::Sqlite => Self::Sqlite(tempfile::tempdir().unwrap()),
            BackEnd::Postgres => Self::Postgres(Database::create()),
        }
    }

    /// In a SQLite file.
    pub(super) fn new() -> Self {
        Self::on(BackEnd::Sqlite)
    }

    /// Of a journal in a SQLite file.
    pub(crate) fn path(&self) -> PathBuf {
        match self {
            Self::Sqlite(folder) => folder.path().join("journal.db"),
            Self::Postgres(_) => panic!("it is not in a file"),
        }
    }

    /// Of a journal in a SQLite file.
    pub(super) fn options(&self) -> SqliteOptions {
        SqliteOptions::new(self.path(), "node-1")
    }

    pub(crate) async fn open(&self) -> Arc<dyn Journal> {
        self.open_as("node-1", Salts::Random).await
    }

    /// Opens it for this router.
    pub(crate) async fn open_as(&self, node: &str, salts: Salts) -> Arc<dyn Journal> {
        match self {
            Self::Sqlite(_) => {
                let options = SqliteOptions { salts, ..SqliteOptions::new(self.path(), node) };
                let until = Instant::now() + Duration::from_secs(20);
                loop {
                    match SqliteJournal::open(&options).await {
                        // A process that another test is just starting has the lock until it is another program.
                        Err(JournalError::InUse(_)) if Instant::now() < until => {
                            tokio::time::sleep(Duration::from_millis(20)).await;
                        }
                        opened => break Arc::new(opened.unwrap()),
                    }
                }
            }
            Self::Postgres(database) => {
                let options = PostgresOptions { salts, ..PostgresOptions::new(database.url(), node) };
                Arc::new(PostgresJournal::open(&options).await.unwrap())
            }
        }
    }

    /// Waits until the index has all that it is to have: on Postgres that comes behind the commits.
    pub(super) async fn indexed(&self) {
        let until = Instant::now() + Duration::from_secs(20);
        let due = "SELECT position - (SELECT max(i) FROM (SELECT max(indexed) AS i FROM eras
                       UNION ALL SELECT position FROM pruned) AS reaches) FROM journal_head";
        while self.integer(due).await >= 2048 {
            assert!(Instant::now() < until, "the index is not written");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Where the journal still has these bytes: files, or columns of tables.
    pub(super) async fn places_of(&self, bytes: &[u8]) -> Vec<String> {
        match self {
            Self::Sqlite(folder) => {
                let files = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
                let holds = |file: &PathBuf| memmem(&std::fs::read(file).unwrap(), bytes);
                files.filter(holds).map(|file| file.display().to_string()).collect()
            }
            Self::Postgres(database) => columns_with(database, bytes).await,
        }
    }

    /// A connection of its own, past the journal, to a SQLite file.
    pub(super) async fn back_door(&self) -> SqliteConnection {
        SqliteConnectOptions::new().filename(self.path()).connect().await.unwrap()
    }

    /// Does to the tables what no journal would, and takes away the note beside them; gives back how many rows that changed. In
    /// the words of SQLite; where they differ, Postgres is taught them.
    pub(super) async fn tamper(&self, sql: &str) -> u64 {
        match self {
            Self::Sqlite(_) => {
                let mut connection = self.back_door().await;
                let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.unwrap();
                connection.close().await.unwrap();
                let _ = std::fs::remove_file(self.path().with_extension("db.head"));
                done.rows_affected()
            }
            Self::Postgres(database) => {
                let mut connection = PgConnection::connect(database.url()).await.unwrap();
                sqlx::raw_sql(WORDS_OF_SQLITE).execute(&mut connection).await.unwrap();
                let sql = sql.replace("invocation_id = randomblob(16)", "invocation_id = gen_random_uuid()");
                let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
                connection.close().await.unwrap();
                done.rows_affected()
            }
        }
    }

    /// The number that a query gives.
    pub(super) async fn integer(&self, sql: &str) -> i64 {
        let sql = AssertSqlSafe(sql.to_owned());
        let number: Option<i64> = match self {
            Self::Sqlite(_) => sqlx::query_scalar(sql).fetch_one(&mut self.back_door().await).await.unwrap(),
            Self::Postgres(database) => {
                let mut connection = PgConnection::connect(database.url()).await.unwrap();
                sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap()
            }
        };
        number.unwrap_or(0)
    }

    /// The bytes that a query gives.
    pub(super) async fn bytes(&self, sql: &str) -> Option<Vec<u8>> {
        let sql = AssertSqlSafe(sql.to_owned());
        match self {
            Self::Sqlite(_) => sqlx::query_scalar(sql).fetch_one(&mut self.back_door().await).await.unwrap(),
            Self::Postgres(database) => {
                let mut connection = PgConnection::connect(database.url()).await.unwrap();
                sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap()
            }
        }
    }
}

const WORDS_OF_SQLITE: &str = "
CREATE OR REPLACE FUNCTION randomblob(bytes INT) RETURNS BYTEA LANGUAGE SQL AS $$
    SELECT substring(sha256(uuid_send(gen_random_uuid())) FOR bytes)
$$;
CREATE OR REPLACE FUNCTION zeroblob(bytes INT) RETURNS BYTEA LANGUAGE SQL AS $$
    SELECT decode(repeat('00', bytes), 'hex')
$$;
DO $$ BEGIN CREATE DOMAIN BLOB AS BYTEA; EXCEPTION WHEN duplicate_object THEN NULL; END $$";

/// The columns of tables that hold these bytes.
async fn columns_with(database: &Database, bytes: &[u8]) -> Vec<String> {
    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    let columns = "SELECT table_name::TEXT, column_name::TEXT, data_type::TEXT FROM information_schema.columns
        JOIN information_schema.tables USING (table_schema, table_name)
        WHERE table_schema = 'public' AND table_type = 'BASE TABLE' AND data_type IN ('text', 'bytea')";
    let mut found = Vec::new();
    for column in sqlx::query(columns).fetch_all(&mut connection).await.unwrap() {
        let (table, column, kind): (String, String, String) = (column.get(0), column.get(1), column.get(2));
        let value = if kind == "text" { format!("convert_to({column}, 'UTF8')") } else { column.clone() };
        let sql = format!("SELECT count(*) FROM {table} WHERE position($1 IN {value}) > 0");
        let rows: i64 = sqlx::query_scalar(AssertSqlSafe(sql)).bind(bytes).fetch_one(&mut connection).await.unwrap();
        if rows > 0 {
            found.push(format!("{table}.{column}"));
        }
    }
    found
}

fn memmem(text: &[u8], bytes: &[u8]) -> bool {
    text.windows(bytes.len()).any(|window| window == bytes)
}
