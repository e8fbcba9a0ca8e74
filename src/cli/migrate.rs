//! `migrate` and `migrate status`.

use super::failure::Failure;
use super::say;
use crate::config::{Config, Database};
use crate::journal::sqlite::{self, Migration};

/// Applies what is pending and says what that was.
pub(super) async fn migrate(config: &Config) -> Result<(), Failure> {
    let Database::Sqlite { path } = &config.database;
    let applied = sqlite::migrate(path).await.map_err(|error| Failure::journal(path, &error))?;
    if applied.is_empty() {
        return say("nothing to do: the schema is up to date");
    }
    applied.iter().try_for_each(show)
}

/// Lists every migration that this version knows.
pub(super) async fn migration_status(config: &Config) -> Result<(), Failure> {
    let Database::Sqlite { path } = &config.database;
    sqlite::migration_status(path).await.map_err(|error| Failure::journal(path, &error))?.iter().try_for_each(show)
}

fn show(migration: &Migration) -> Result<(), Failure> {
    let state = if migration.applied { "applied" } else { "pending" };
    say(format_args!("{state}  {:04}  {}", migration.version, migration.name))
}
