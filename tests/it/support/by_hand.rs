//! The journal of a router, looked at and changed by hand: past the router.

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

use super::postgres::Database;
use super::router::Router;

impl Router {
    /// Whether its journal is a database on Postgres.
    pub(crate) fn is_on_postgres(&self) -> bool {
        self.database.is_some()
    }

    /// Its journal, as it is to be named to people.
    pub(crate) fn shown_journal(&self) -> String {
        self.database.as_ref().map_or_else(|| "journal.db".to_owned(), |database| database.shown_url())
    }

    /// Changes its journal by hand.
    pub(crate) async fn execute(&self, statement: &str) {
        match &self.database {
            Some(database) => database.execute(statement).await,
            None => {
                self.file().await.execute(AssertSqlSafe(statement)).await.expect("the statement is executed");
            }
        }
    }

    /// Reads a number from its journal.
    pub(crate) async fn number(&self, query: &str) -> i64 {
        match &self.database {
            Some(database) => database.number(query).await,
            None => sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(&mut self.file().await).await.expect("a number"),
        }
    }

    async fn file(&self) -> SqliteConnection {
        let options = SqliteConnectOptions::new().filename(self.journal());
        SqliteConnection::connect_with(&options).await.expect("the journal is a SQLite file")
    }

    /// Its database, on Postgres.
    pub(crate) fn database(&self) -> &Database {
        self.database.as_ref().expect("it has a database")
    }
}
