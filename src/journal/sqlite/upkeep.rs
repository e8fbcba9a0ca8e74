//! Erasing and pruning: what a commit does besides, and how far to prune next.

use std::sync::LazyLock;

use rusqlite::{Connection, params};

use crate::clock::Timestamp;
use crate::journal::row::Columns;
use crate::journal::sqlite::hints::BUCKETS;
use crate::journal::sqlite::{SqliteReader, error};
use crate::journal::{Erased, Head, JournalError};

/// Whether a `line` is one of an agent's log about a request. The kinds are those of the index that leads to it.
const IS_WANTED: &str = "(line.kind = 11 OR line.kind = 13 OR line.kind = 14) AND line.kind = 14 AND line.agent_id = ?2
             AND CASE WHEN json_valid(line.detail) THEN line.detail ->> 'request_id' END = ?3";

/// The first place that is not in the index.
const TAIL: &str = "coalesce((SELECT indexed + 1 FROM eras WHERE era = (SELECT max(era) FROM eras)), 0)";

/// `?1`: an invocation.
pub(super) const ERASE: &str = "
UPDATE journal SET payload = NULL, salt = NULL
WHERE payload IS NOT NULL AND invocation_id = ?1 AND position < (
    SELECT max(erased.position) FROM journal AS erased WHERE erased.invocation_id = ?1 AND erased.kind = 80
)";

/// `?1`: an invocation; `?2`, `?3`: the agent and the request whose log lines go, from behind `?4` on.
pub(super) static ERASE_LOGS: LazyLock<String> = LazyLock::new(|| {
    format!(
        "WITH wanted(first, last) AS MATERIALIZED (
             SELECT ?4 + 1, (SELECT max(position) - 1 FROM journal WHERE invocation_id = ?1 AND kind = 80)
         )
         UPDATE journal SET payload = NULL, salt = NULL
         WHERE payload IS NOT NULL AND position IN (
             SELECT line.position FROM wanted
             CROSS JOIN eras ON eras.era BETWEEN first / 4096 AND last / 4096
             CROSS JOIN postings AS of_request ON of_request.era = eras.era AND of_request.term = 'r' || ?3
             CROSS JOIN postings AS of_agent ON of_agent.era = eras.era AND of_agent.term = 'a' || ?2
             CROSS JOIN journal AS line INDEXED BY journal_for_feed
                 ON line.position BETWEEN max(first, eras.era * 4096) AND min(last, eras.era * 4096 + 4095)
             WHERE {IS_WANTED}
             UNION ALL SELECT line.position FROM wanted
             CROSS JOIN journal AS line INDEXED BY journal_for_feed
                 ON line.position BETWEEN max(first, {TAIL}) AND last
             WHERE {IS_WANTED}
         )"
    )
});

/// `?1`: an invocation.
pub(super) const ERASE_KEY: &str = "
UPDATE invocations SET key_digest = randomblob(32) WHERE key_digest IS NOT NULL AND id = ?1";

/// Removes the payloads of an invocation.
///
/// This comes after the batch's own events are there: those before the `payload.erased` count too, and those behind it, a
/// late answer in the same batch, do not. A key's digest is replaced, not removed, so that whoever uses the key again is
/// told that it was used for something else.
///
/// The agent's log lines about the request are looked for from the acceptance on: by the index of events, which costs a probe
/// for each era since and a look at the log lines of those eras in which both occur, and in the tail, which is short. The
/// batch's own events are in either by then.
pub(super) fn erase(connection: &Connection, erased: &Erased) -> rusqlite::Result<()> {
    let invocation = &erased.invocation.0.as_bytes()[..];
    connection.prepare_cached(ERASE)?.execute([invocation])?;
    if let Some(logs) = &erased.logs {
        connection.prepare_cached(&ERASE_LOGS)?.execute(params![
            invocation,
            logs.agent.as_str(),
            &*logs.request_id,
            logs.after.0
        ])?;
    }
    connection.prepare_cached(ERASE_KEY)?.execute([invocation])?;
    Ok(())
}

/// `?1`: up to where events go.
pub(super) const KEEP_REGISTRATIONS: &str = "
UPDATE agents SET registration = (SELECT payload FROM journal WHERE position = registered)
WHERE registered > (SELECT position FROM pruned) AND registered <= ?1";

/// `?1`: up to where events go; `?2`: the hash of the last of them.
pub(super) const PRUNED: &str = "
UPDATE pruned SET position = ?1, hash = ?2
WHERE (SELECT hash FROM journal WHERE position = ?1) = ?2 AND NOT EXISTS (
    SELECT 1 FROM invocations WHERE (state < 5 OR plain_unanswered = 1 OR reply <> 0) AND accepted <= ?1
)";

/// `?1`: up to where events go. In this order.
pub(super) static PRUNE: LazyLock<[String; 5]> = LazyLock::new(|| {
    let buckets = (0..BUCKETS).map(|bucket| bucket.to_string()).collect::<Vec<_>>().join(", ");
    [
        "DELETE FROM invocations
             WHERE id IN (SELECT invocation_id FROM journal WHERE position <= ?1 AND kind = 20)"
            .to_owned(),
        "DELETE FROM postings WHERE era < (?1 + 1) / 4096".to_owned(),
        format!("DELETE FROM hints WHERE bucket IN ({buckets}) AND era < (?1 + 1) / 4096"),
        "DELETE FROM eras WHERE era < (?1 + 1) / 4096".to_owned(),
        "DELETE FROM journal WHERE position <= ?1".to_owned(),
    ]
});

/// Removes the oldest events. False, and nothing is removed, if the last event to go is not there with that hash, or if an
/// invocation that somebody still waits for was accepted up to there.
pub(super) fn prune(connection: &Connection, through: Head) -> rusqlite::Result<bool> {
    let last = through.position.0;
    connection.prepare_cached(KEEP_REGISTRATIONS)?.execute([last])?;
    if connection.prepare_cached(PRUNED)?.execute(params![last, through.hash])? == 0 {
        return Ok(false);
    }
    for statement in &*PRUNE {
        connection.prepare_cached(statement)?.execute([last])?;
    }
    Ok(true)
}

/// The statements here that write, for whoever looks at what SQLite makes of them.
#[cfg(test)]
pub(super) fn statements() -> Vec<String> {
    let mut statements: Vec<_> = [ERASE, ERASE_KEY, KEEP_REGISTRATIONS, PRUNED].map(str::to_owned).into();
    statements.push(ERASE_LOGS.clone());
    statements.extend(PRUNE.iter().cloned());
    statements
}

/// The oldest events, before the first invocation that is not settled: `$1` limit.
pub(super) const OLDEST: &str = "
SELECT journal.position, journal.hash, journal.at, invocations.finished_at
FROM journal LEFT JOIN invocations ON journal.kind = 20 AND invocations.id = journal.invocation_id
WHERE journal.position > (SELECT position FROM pruned) AND journal.position < coalesce(
    (SELECT min(accepted) FROM invocations WHERE state < 5 OR plain_unanswered = 1 OR reply <> 0),
    9223372036854775807
)
ORDER BY journal.position LIMIT $1";

impl SqliteReader {
    /// How far the journal can be pruned next: at most `limit` events, none of them younger than `before`, and none of
    /// them accepting an invocation that is unsettled or was finished since `before`.
    pub async fn prunable(&self, before: Timestamp, limit: usize) -> Result<Option<Head>, JournalError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = sqlx::query(OLDEST).bind(limit).fetch_all(&self.pool).await.map_err(error::unavailable)?;
        let mut last = None;
        for row in &rows {
            let (event, invocation) = (Columns::of("journal", row), Columns::of("invocations", row));
            let finished_at = invocation.optional_time("finished_at")?;
            if event.time("at")? >= before || finished_at.is_some_and(|at| at >= before) {
                break;
            }
            last = Some(Head { position: event.position("position")?, hash: event.digest("hash")? });
        }
        Ok(last)
    }
}
