//! `migrate`, `migrate status` and `journal verify`.

use super::failure::Failure;
use super::say;
use crate::config::{Config, Database};
use crate::journal::Verification;
use crate::journal::sqlite::{self, Migration, SqliteReader};

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

/// Checks the chain; broken is a failure that names the place.
pub(super) async fn verify(config: &Config) -> Result<(), Failure> {
    let Database::Sqlite { path } = &config.database;
    let reader = SqliteReader::open(path).await.map_err(|error| Failure::journal(path, &error))?;
    match reader.verify().await.map_err(|error| Failure::journal(path, &error))? {
        Verification::Intact { events, head } => say(format_args!("intact: {events} events\nhead: {head:?}")),
        Verification::Broken { position, what } => {
            Err(Failure::operation(format_args!("the journal is broken at position {position}: {what}")))
        }
    }
}
