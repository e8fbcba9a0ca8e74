//! What `journal verify` checks in a file besides the chain of events: that the file is one that SQLite could have written, and
//! that everything else in it, which is there for going on and for finding, says what the events say.
//!
//! ```text
//! structure   the file, its tables and indexes, and what a migration put there
//! lives       the rows of invocations
//! peers       the rows of agents, sockets and routers, and how far the backend has its notifications
//! terms       the index of events
//! ```

pub(super) mod lives;
pub(super) mod peers;
pub(super) mod structure;
pub(super) mod terms;

use sqlx::SqlitePool;

use crate::journal::JournalError;
use crate::journal::audit::Damage;

/// The first thing that is not what the events say.
pub(super) async fn rows(pool: &SqlitePool) -> Result<Option<Damage>, JournalError> {
    if let Some(damage) = lives::check(pool).await? {
        return Ok(Some(damage));
    }
    if let Some(damage) = peers::check(pool).await? {
        return Ok(Some(damage));
    }
    terms::check(pool).await
}

/// Fails if the file is not what SQLite or a migration has made.
pub(super) async fn structure(pool: &SqlitePool) -> Result<(), JournalError> {
    structure::check(pool).await
}
