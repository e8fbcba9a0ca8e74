//! The migrations of the schema, embedded in the binary; they only ever go forward.

use std::path::Path;

use sqlx::migrate::Migrator;
use sqlx::{Connection, SqliteConnection};

use crate::journal::JournalError;
use crate::journal::migration::{self, Migration};
use crate::journal::sqlite::{error, milestone, open};

static MIGRATOR: Migrator = sqlx::migrate!("migrations/sqlite");

pub(super) const APPLIED: &str = "SELECT version FROM _sqlx_migrations WHERE success ORDER BY version";
pub(super) const HAS_MIGRATIONS: &str = "SELECT count(*) FROM sqlite_schema WHERE name = '_sqlx_migrations'";

/// Creates the file if it is missing and applies what is pending; gives back what was applied now.
///
/// Fails with [`JournalError::InUse`] while a router has the file open.
pub async fn migrate(path: &Path) -> Result<Vec<Migration>, JournalError> {
    let _lock = open::lock(path)?;
    milestone::require_file(path)?;
    open::fold_anew(path)?;
    let mut connection = open::migrator(path).await?;
    let pending = status(&mut connection).await?.into_iter().filter(|migration| !migration.applied);
    let pending = pending.map(|migration| Migration { applied: true, ..migration }).collect();
    apply(&mut connection).await?;
    connection.close().await.map_err(error::unavailable)?;
    Ok(pending)
}

/// Every migration that this version knows, and whether the file has it. Changes nothing; a router may be running.
pub async fn migration_status(path: &Path) -> Result<Vec<Migration>, JournalError> {
    if !path.exists() {
        return Ok(migration::listed(&MIGRATOR, &[]));
    }
    let readers = open::readers(path, 1).await?;
    let mut connection = readers.acquire().await.map_err(error::unavailable)?;
    status(&mut connection).await
}

/// Brings the schema to this version's. What is there already is checked to be what it was when it was applied.
pub(super) async fn apply(connection: &mut SqliteConnection) -> Result<(), JournalError> {
    migration::refuse_newer(&MIGRATOR, &applied(connection).await?)?;
    MIGRATOR.run(connection).await.map_err(|error| migration::failed(&MIGRATOR, error, error::unavailable))
}

/// Refuses any schema but this version's.
pub(super) async fn require_current(connection: &mut SqliteConnection) -> Result<(), JournalError> {
    let applied = applied(connection).await?;
    migration::refuse_newer(&MIGRATOR, &applied)?;
    migration::refuse_older(&MIGRATOR, &applied)
}

async fn status(connection: &mut SqliteConnection) -> Result<Vec<Migration>, JournalError> {
    let applied = applied(connection).await?;
    migration::refuse_newer(&MIGRATOR, &applied)?;
    Ok(migration::listed(&MIGRATOR, &applied))
}

/// The numbers of the migrations that the file has, in order.
async fn applied(connection: &mut SqliteConnection) -> Result<Vec<i64>, JournalError> {
    let tables: i64 =
        sqlx::query_scalar(HAS_MIGRATIONS).fetch_one(&mut *connection).await.map_err(error::unavailable)?;
    if tables == 0 {
        return Ok(Vec::new());
    }
    sqlx::query_scalar(APPLIED).fetch_all(connection).await.map_err(error::unavailable)
}
