//! The steps of a schema, as every back end tells of them.

use sqlx::migrate::{MigrateError, Migrator};

use crate::journal::JournalError;

/// One step of the schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migration {
    /// Its number; they are applied in this order.
    pub version: i64,
    /// What it is about.
    pub name: &'static str,
    /// Whether the journal has it.
    pub applied: bool,
}

/// Every step that this version knows, and which of them is applied.
pub(super) fn listed(migrator: &'static Migrator, applied: &[i64]) -> Vec<Migration> {
    let step = |migration: &'static sqlx::migrate::Migration| Migration {
        version: migration.version,
        name: &migration.description,
        applied: applied.contains(&migration.version),
    };
    migrator.iter().map(step).collect()
}

/// The newest step that this version knows.
pub(super) fn newest(migrator: &Migrator) -> i64 {
    migrator.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// Refuses a schema with steps that this version does not know.
pub(super) fn refuse_newer(migrator: &Migrator, applied: &[i64]) -> Result<(), JournalError> {
    let wanted = newest(migrator);
    match applied.last() {
        Some(&found) if found > wanted => {
            Err(JournalError::Schema { found, wanted, advice: "use the newer version of agent-router" })
        }
        _ => Ok(()),
    }
}

/// Refuses a schema that misses steps of this version.
pub(super) fn refuse_older(migrator: &Migrator, applied: &[i64]) -> Result<(), JournalError> {
    let (found, wanted) = (applied.last().copied().unwrap_or(0), newest(migrator));
    if found < wanted {
        return Err(JournalError::Schema { found, wanted, advice: "run `agent-router migrate`" });
    }
    Ok(())
}

/// Why steps were not applied; `unavailable` says what the back end's own errors mean.
pub(super) fn failed(
    migrator: &Migrator,
    error: MigrateError,
    unavailable: impl FnOnce(sqlx::Error) -> JournalError,
) -> JournalError {
    match error {
        MigrateError::VersionMismatch(found) | MigrateError::Dirty(found) => JournalError::Schema {
            found,
            wanted: newest(migrator),
            advice: "that migration is not the one that this version knows; use the version that applied it",
        },
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => unavailable(error),
        _ => JournalError::Unavailable("a migration could not be applied".to_owned()),
    }
}
