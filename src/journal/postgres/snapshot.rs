//! What a reader reads by: one statement on its own, or several that see the same moment.
//!
//! Statements are planned once, and perhaps while the tables are empty; as far as Postgres then knows, to go through a table is
//! as good as to look into it. So a row that goes with another is looked up in a `LATERAL (… OFFSET 0)`, which cannot be
//! turned around.
//!
//! Behind a pooler that gives each transaction another connection, a statement on its own is in a transaction too: it is
//! prepared before it is executed, and both must meet the same connection.

use std::sync::LazyLock;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgPool};
use sqlx::query::Query;
use sqlx::{PgConnection, Postgres, Transaction};

use crate::journal::JournalError;
use crate::journal::postgres::{error, open};

const SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// The same, with what must hold in it, for connections on which nothing is set.
static POOLED_SNAPSHOT: LazyLock<&'static str> = LazyLock::new(|| {
    let settings = open::READING.iter().map(|(name, value)| format!("; SET LOCAL {name} = '{value}'"));
    format!("{SNAPSHOT}{}", settings.collect::<String>()).leak()
});

/// Something to read by. Its connection goes back to the pool with it.
pub(super) enum Snapshot {
    /// One statement alone is of one moment anyway.
    Statement(PoolConnection<Postgres>),
    Transaction {
        transaction: Transaction<'static, Postgres>,
        pooled: bool,
    },
}

impl Snapshot {
    /// For one statement.
    pub(super) async fn for_one(pool: &PgPool, pooled: bool) -> Result<Self, JournalError> {
        if pooled {
            return Self::of_one_moment(pool, pooled).await;
        }
        pool.acquire().await.map(Self::Statement).map_err(error::unavailable)
    }

    /// For any number of statements.
    pub(super) async fn of_one_moment(pool: &PgPool, pooled: bool) -> Result<Self, JournalError> {
        let statement = if pooled { *POOLED_SNAPSHOT } else { SNAPSHOT };
        let pool = pool.clone();
        // A task of its own, which an asker who goes away does not break off: sqlx does not end a transaction whose beginning
        // it did not see the end of, and whoever got the connection next would look at the past.
        let begun = tokio::spawn(async move { pool.begin_with(statement).await }).await;
        let transaction = begun.map_err(|_| broken_off())?.map_err(error::unavailable)?;
        Ok(Self::Transaction { transaction, pooled })
    }

    /// A statement as it is to be sent here.
    pub(super) fn query(&self, sql: &'static str) -> Query<'static, Postgres, PgArguments> {
        sqlx::query(sql).persistent(!matches!(self, Self::Transaction { pooled: true, .. }))
    }

    pub(super) fn connection(&mut self) -> &mut PgConnection {
        match self {
            Self::Statement(connection) => connection,
            Self::Transaction { transaction, .. } => transaction,
        }
    }
}

fn broken_off() -> JournalError {
    JournalError::Unavailable("reading was broken off".to_owned())
}
