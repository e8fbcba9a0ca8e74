//! Postgres for tests: one server for a run, and a database of its own for each test that asks.
//!
//! The server is the one at `TEST_POSTGRES_URL` (as somebody who may create databases), or a throw-away one that
//! `scripts/postgres` runs until this process is gone. Without either the test fails.

mod cluster;
mod server;

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

pub(crate) use cluster::Cluster;
use server::{Server, shared};

/// A database with the journal's schema, empty; it goes when this does.
#[derive(Debug)]
pub(crate) struct Database {
    url: String,
    name: String,
    server: Server,
}

/// A new database on the server that all tests of this run share.
pub(crate) async fn database() -> Database {
    Database::create()
}

impl Database {
    /// The same, for those who cannot wait otherwise.
    pub(crate) fn create() -> Self {
        shared().database()
    }

    /// One without the schema.
    pub(crate) fn empty() -> Self {
        shared().empty()
    }

    /// Where it is, and who may use it.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The same without the password, for people.
    pub(crate) fn shown_url(&self) -> String {
        self.url.replace(&format!(":{}@", self.password()), "@")
    }

    /// The password of whoever may use it.
    pub(crate) fn password(&self) -> &str {
        let (user, _) = self.url.split_once("://").and_then(|(_, rest)| rest.split_once('@')).expect("it names a user");
        user.split_once(':').map_or("a server without one", |(_, password)| password)
    }

    /// Reads a number.
    pub(crate) async fn number(&self, query: &str) -> i64 {
        let mut connection = PgConnection::connect(&self.url).await.expect("the database takes connections");
        sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(&mut connection).await.expect("a number")
    }

    /// All that is in it, as text.
    pub(crate) async fn contents(&self) -> String {
        let mut connection = PgConnection::connect(&self.url).await.expect("the database takes connections");
        let tables = "SELECT relname::text FROM pg_stat_user_tables ORDER BY relname";
        let tables: Vec<String> =
            sqlx::query_scalar(tables).fetch_all(&mut connection).await.expect("there are tables");
        let mut queries: Vec<_> = tables.iter().map(|table| format!("SELECT t::text FROM {table} t")).collect();
        // Above, bytes are in hexadecimal digits.
        for (column, table) in [("payload", "journal"), ("registration", "agents"), ("sealed_credential", "sessions")] {
            queries.push(format!("SELECT encode({column}, 'escape') FROM {table} WHERE {column} IS NOT NULL"));
        }
        let mut contents = String::new();
        for query in queries {
            let rows = sqlx::query_scalar(AssertSqlSafe(query)).fetch_all(&mut connection).await;
            let rows: Vec<String> = rows.expect("it can be read");
            contents += &rows.join("\n");
        }
        contents
    }

    /// Has the server execute statements, as its administrator, but in this database.
    pub(crate) async fn execute(&self, statements: &str) {
        let mut connection = PgConnection::connect(&self.url).await.expect("the database takes connections");
        connection.execute(AssertSqlSafe(statements)).await.expect("the statements are executed");
        connection.close().await.expect("the connection can be closed");
    }

    /// Breaks all connections to it; returns how many there were.
    pub(crate) async fn terminate_all(&self) -> i64 {
        self.terminate("true").await
    }

    /// Breaks the connections to it that this condition on `pg_stat_activity` selects; returns how many there were.
    pub(crate) async fn terminate(&self, condition: &str) -> i64 {
        let mut connection = PgConnection::connect(&self.url).await.expect("the database takes connections");
        let statement = format!(
            "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid() AND {condition}"
        );
        sqlx::query_scalar(AssertSqlSafe(statement)).fetch_one(&mut connection).await.expect("they can be broken")
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.server.execute(&format!(r#"DROP DATABASE IF EXISTS "{}" WITH (FORCE)"#, self.name));
    }
}
