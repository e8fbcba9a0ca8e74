//! The migrations of the schema, embedded in the binary; they only ever go forward.
//!
//! Routers of two versions may run while one is replaced by the other: a schema that is ahead of a router is one it works
//! with if `compatibility.oldest` says so.

use sqlx::migrate::{Migrate, MigrateError, Migrator};
use sqlx::postgres::PgRow;
use sqlx::{Connection, PgConnection, Row};

use crate::journal::JournalError;
use crate::journal::migration::{self, Migration};
use crate::journal::postgres::{error, open};

static MIGRATOR: Migrator = sqlx::migrate!("migrations/postgres");

/// Held while migrations are applied behind a pooler, where no lock outlives its transaction.
const LOCK: &str = "SELECT pg_advisory_xact_lock(4711_2026)";

pub(super) const APPLIED: &str = "SELECT version, checksum FROM _sqlx_migrations WHERE success ORDER BY version";
pub(super) const TABLES: &str = "SELECT count(to_regclass('_sqlx_migrations')) AS migrations,
    count(to_regclass('compatibility')) AS compatibility";
pub(super) const OLDEST: &str = "SELECT oldest FROM compatibility";

/// Applies what is pending to the database at a URL; gives back what was applied now. Two at once wait for each other.
///
/// A schema that is ahead and that this version works with is left as it is.
pub async fn migrate(url: &str) -> Result<Vec<Migration>, JournalError> {
    let target = open::Target::new(url)?;
    let mut connection = open::worker(&target).await?;
    open::require_unicode(&mut connection).await?;
    let applied = if target.pooled { apply_pooled(&mut connection).await } else { apply_locked(&mut connection).await };
    open::close(connection).await;
    applied
}

/// Every migration that this version knows, and whether the database has it. Changes nothing.
pub async fn migration_status(url: &str) -> Result<Vec<Migration>, JournalError> {
    let mut connection = open::worker(&open::Target::new(url)?).await?;
    let status = status(&mut connection).await;
    open::close(connection).await;
    status
}

/// The lock is the one that the tools of sqlx take, once more than they do.
async fn apply_locked(connection: &mut PgConnection) -> Result<Vec<Migration>, JournalError> {
    connection.lock().await.map_err(failed)?;
    apply(connection, true).await
}

async fn apply_pooled(connection: &mut PgConnection) -> Result<Vec<Migration>, JournalError> {
    let mut transaction = connection.begin().await.map_err(error::unavailable)?;
    sqlx::query(LOCK).persistent(false).execute(&mut *transaction).await.map_err(error::unavailable)?;
    let applied = apply(&mut transaction, false).await?;
    transaction.commit().await.map_err(error::unavailable)?;
    Ok(applied)
}

/// What others have applied by now is not applied again.
async fn apply(connection: &mut PgConnection, locking: bool) -> Result<Vec<Migration>, JournalError> {
    let mut pending = status(connection).await?;
    pending.retain(|migration| !migration.applied);
    if !pending.is_empty() {
        let migrator = Migrator { locking, ..Migrator::with_migrations(MIGRATOR.iter().cloned().collect()) };
        migrator.run_direct(None, connection, false).await.map_err(failed)?;
    }
    Ok(pending.into_iter().map(|migration| Migration { applied: true, ..migration }).collect())
}

fn failed(error: MigrateError) -> JournalError {
    migration::failed(&MIGRATOR, error, error::unavailable)
}

/// Refuses a schema that this version cannot work with.
pub(super) async fn require_usable(connection: &mut PgConnection) -> Result<(), JournalError> {
    let listed = status(connection).await?;
    let applied: Vec<_> = listed.iter().filter(|step| step.applied).map(|step| step.version).collect();
    migration::refuse_older(&MIGRATOR, &applied)
}

async fn status(connection: &mut PgConnection) -> Result<Vec<Migration>, JournalError> {
    let tables = open::one(connection, TABLES).await?;
    let has = |table: &str| tables.try_get::<i64, _>(table).map(|count| count > 0).map_err(error::unavailable);
    let applied = if has("migrations")? { applied(connection).await? } else { Vec::new() };
    if let Err(newer) = migration::refuse_newer(&MIGRATOR, &applied) {
        // Without that table it is not this program's schema at all.
        let says_so = has("compatibility")?;
        if !says_so || oldest(connection).await? > migration::newest(&MIGRATOR) {
            return Err(newer);
        }
    }
    Ok(migration::listed(&MIGRATOR, &applied))
}

/// Refuses a schema that has become one for newer routers alone, while this one ran.
pub(super) fn require_compatible(oldest: i64) -> Result<(), JournalError> {
    let wanted = migration::newest(&MIGRATOR);
    if oldest > wanted {
        return Err(JournalError::Schema { found: oldest, wanted, advice: "use the newer version of agent-router" });
    }
    Ok(())
}

/// How old a router may be that works on the schema.
async fn oldest(connection: &mut PgConnection) -> Result<i64, JournalError> {
    open::one(connection, OLDEST).await?.try_get("oldest").map_err(error::unavailable)
}

/// The numbers of the migrations that the database has, in order. Those that this version knows are what it knows.
async fn applied(connection: &mut PgConnection) -> Result<Vec<i64>, JournalError> {
    let rows = sqlx::raw_sql(APPLIED).fetch_all(connection).await.map_err(error::unavailable)?;
    let step = |row: &PgRow| {
        let version = row.try_get("version").map_err(error::unavailable)?;
        let checksum: Vec<u8> = row.try_get("checksum").map_err(error::unavailable)?;
        let is_other = MIGRATOR.iter().any(|known| known.version == version && *known.checksum != *checksum);
        if is_other { Err(failed(MigrateError::VersionMismatch(version))) } else { Ok(version) }
    };
    rows.iter().map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::MIGRATOR;

    static OF_SQLITE: sqlx::migrate::Migrator = sqlx::migrate!("migrations/sqlite");

    #[test]
    fn both_back_ends_have_the_same_steps() {
        let steps = |migrator: &'static sqlx::migrate::Migrator| -> Vec<_> {
            migrator.iter().map(|step| (step.version, &*step.description)).collect()
        };
        assert_eq!(steps(&MIGRATOR), steps(&OF_SQLITE));
    }
}
