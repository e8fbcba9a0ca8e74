//! The file, its tables and indexes, and what a migration put there.

use sqlx::sqlite::SqlitePoolOptions;
use sqlx::{Row, SqlitePool};

use crate::journal::JournalError;
use crate::journal::sqlite::{error, migration};

/// `ok`, or the first thing that is wrong: each page is in one place, each index has the entries of its table and no others.
pub(in crate::journal::sqlite) const INTEGRITY: &str = "PRAGMA integrity_check(1)";

/// What every journal of this version has in common.
pub(in crate::journal::sqlite) const COMMON: &str = "
SELECT type || ' ' || name || ' of ' || tbl_name || ': ' || coalesce(sql, '') AS line FROM sqlite_schema
UNION ALL SELECT 'kind ' || code || ': ' || name FROM event_kinds
UNION ALL SELECT 'state ' || code || ': ' || name FROM states
UNION ALL SELECT 'compatible: ' || one || ' ' || oldest FROM compatibility
UNION ALL SELECT 'migration ' || version || ': ' || description || ' ' || success || ' ' || hex(checksum) FROM _sqlx_migrations
ORDER BY line";

pub(super) async fn check(pool: &SqlitePool) -> Result<(), JournalError> {
    let found: String = sqlx::query_scalar(INTEGRITY).fetch_one(pool).await.map_err(error::unavailable)?;
    if found != "ok" {
        return Err(damaged(found));
    }
    let (found, expected) = (common(pool).await?, common(&empty().await?).await?);
    let different = found.iter().find(|line| !expected.contains(line)).or_else(|| {
        let missing = expected.iter().find(|line| !found.contains(line));
        missing.or_else(|| (found != expected).then_some(&found[0]))
    });
    different.map_or(Ok(()), |line| Err(damaged(format!("a migration made it otherwise: {line}"))))
}

fn damaged(what: String) -> JournalError {
    JournalError::Damaged { table: "file", column: "structure", what }
}

async fn common(pool: &SqlitePool) -> Result<Vec<String>, JournalError> {
    let rows = sqlx::query(COMMON).fetch_all(pool).await.map_err(error::unavailable)?;
    rows.iter().map(|row| row.try_get(0).map_err(error::unavailable)).collect()
}

/// A journal in memory in which nothing has happened.
async fn empty() -> Result<SqlitePool, JournalError> {
    let options = SqlitePoolOptions::new().max_connections(1).idle_timeout(None).max_lifetime(None);
    let pool = options.connect("sqlite::memory:").await.map_err(error::unavailable)?;
    migration::apply(&mut *pool.acquire().await.map_err(error::unavailable)?).await?;
    Ok(pool)
}
