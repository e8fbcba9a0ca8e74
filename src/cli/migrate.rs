//! `migrate` and `migrate status`.

use super::failure::Failure;
use super::say;
use crate::app;
use crate::config::Config;
use crate::journal::Migration;

/// Applies what is pending and says what that was.
pub(super) async fn migrate(config: &Config) -> Result<(), Failure> {
    let place = app::place(config);
    let applied = place.migrate().await.map_err(|error| Failure::journal(&place, &error))?;
    if applied.is_empty() {
        return say("nothing to do: the schema is up to date");
    }
    applied.iter().try_for_each(|migration| say(shown(migration)))
}

/// Lists every migration that this version knows.
pub(super) async fn migration_status(config: &Config) -> Result<(), Failure> {
    let place = app::place(config);
    let migrations = place.migrations().await.map_err(|error| Failure::journal(&place, &error))?;
    migrations.iter().try_for_each(|migration| say(shown(migration)))
}

/// What is pending, before a router starts: on standard error, because standard output is the router's.
pub(super) async fn migrate_first(config: &Config) -> Result<(), Failure> {
    let place = app::place(config);
    let applied = place.migrate().await.map_err(|error| Failure::journal(&place, &error))?;
    for migration in &applied {
        eprintln!("{}", shown(migration));
    }
    Ok(())
}

fn shown(migration: &Migration) -> String {
    let state = if migration.applied { "applied" } else { "pending" };
    format!("{state}  {:04}  {}", migration.version, migration.name)
}
