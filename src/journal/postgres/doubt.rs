//! What became of a commit whose answer did not come.

use std::time::Duration;

use sqlx::{AssertSqlSafe, PgConnection, Row};
use tokio_util::sync::CancellationToken;

use crate::journal::postgres::commit::RING;
use crate::journal::postgres::error;
use crate::journal::postgres::news::Seen;
use crate::journal::postgres::open::{self, Target};
use crate::journal::row::Columns;
use crate::journal::{Head, JournalError};

/// Between two attempts to find out.
const AGAIN: Duration = Duration::from_millis(250);

/// An attempt takes no longer.
const PATIENCE: Duration = Duration::from_secs(15);

/// A commit that was tried.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    /// What it follows.
    pub(super) after: Seen,
    /// The head with it.
    pub(super) head: Head,
    /// Who tried.
    pub(super) node: i64,
}

impl Attempt {
    /// A batch without events leaves no hash of its own. If others have committed too often since to tell, it is taken for
    /// lost: all rows are read again then, and nothing is lost but what is decided anew.
    fn is_there(&self, found: &Columns<'_>) -> Result<bool, JournalError> {
        if self.head == self.after.head {
            return Ok(found.optional_integer("node")? == Some(self.node));
        }
        Ok(found.optional_digest("hash")? == Some(self.head.hash))
    }
}

/// Finds out whether it is there, however long the database is away; `None` if the router closes first. If it is not, it
/// never will be: what is still on its way finds the head moved on.
pub(super) async fn resolve(target: &Target, attempt: Attempt, closing: &CancellationToken) -> Option<bool> {
    loop {
        let looking = tokio::time::timeout(PATIENCE, look(target, attempt));
        tokio::select! {
            found = looking => match found {
                Ok(Ok(there)) => return Some(there),
                Ok(Err(error)) => tracing::debug!(%error, "it is not known yet what became of a commit"),
                Err(_) => tracing::debug!("it is not known yet what became of a commit: the database does not answer"),
            },
            () = closing.cancelled() => return None,
        }
        tokio::select! {
            () = tokio::time::sleep(AGAIN) => (),
            () = closing.cancelled() => return None,
        }
    }
}

/// Waits for the lock on the head, which a commit that is still going on holds.
async fn look(target: &Target, attempt: Attempt) -> Result<bool, JournalError> {
    let mut connection = open::writer(target).await?;
    let revision = attempt.after.revision + 1;
    let text = format!(
        "{} SELECT revision FROM journal_head FOR UPDATE;
         SELECT (SELECT hash FROM journal WHERE position = {}) AS hash,
             (SELECT node FROM changes WHERE slot = {revision} % {RING} AND revision = {revision}) AS node",
        target.begin(""),
        attempt.head.position.0,
    );
    let rows = sqlx::raw_sql(AssertSqlSafe(text)).fetch_all(&mut connection).await.map_err(error::unavailable)?;
    let [at, found] = &rows[..] else {
        return Err(JournalError::Unavailable("the head could not be read".to_owned()));
    };
    let is_there = attempt.is_there(&Columns::of("changes", found))?;
    let at: i64 = at.try_get("revision").map_err(error::unavailable)?;
    if !is_there && at == attempt.after.revision {
        call_off(&mut connection, revision).await?;
    }
    sqlx::raw_sql("COMMIT").execute(&mut connection).await.map_err(error::unavailable)?;
    open::close(connection).await;
    Ok(is_there)
}

/// Takes the revision that the commit would have had.
async fn call_off(connection: &mut PgConnection, revision: i64) -> Result<(), JournalError> {
    let text = format!(
        "UPDATE journal_head SET revision = {revision};
         INSERT INTO changes (slot, revision, node, invocations, agents, sessions, nodes,
             dismissed_sessions, dismissed_positions)
         VALUES ({revision} % {RING}, {revision}, 0, '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}')
         ON CONFLICT (slot) DO UPDATE SET revision = excluded.revision, node = excluded.node,
             invocations = excluded.invocations, agents = excluded.agents, sessions = excluded.sessions,
             nodes = excluded.nodes, dismissed_sessions = excluded.dismissed_sessions,
             dismissed_positions = excluded.dismissed_positions"
    );
    sqlx::raw_sql(AssertSqlSafe(text)).execute(connection).await.map(drop).map_err(error::unavailable)
}
