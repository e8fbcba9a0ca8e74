//! Erasing and pruning: what a commit does besides, in the same transaction.

use std::sync::LazyLock;

use sqlx::{PgConnection, query};

use crate::journal::postgres::encode::{Bound, storable};
use crate::journal::postgres::{error, index};
use crate::journal::{Batch, JournalError};

/// The first place that is not in the index.
const TAIL: &str = "coalesce((SELECT max(indexed) + 1 FROM eras), 0)";

/// `$1`: invocations. Payloads of all events before their `payload.erased`; a late answer behind it stays.
pub(super) const PAYLOADS: &str = "
UPDATE journal SET payload = NULL, salt = NULL
WHERE payload IS NOT NULL AND invocation_id = ANY($1::UUID[]) AND position < (
    SELECT max(erased.position) FROM journal AS erased
    WHERE erased.invocation_id = journal.invocation_id AND erased.kind = 80
)";

/// `$1` invocations, `$2` agents, `$3` what their log lines name, `$4` after which place. Found by the index of events, and
/// in the tail that is not in it yet.
pub(super) static LOG_LINES: LazyLock<&'static str> = LazyLock::new(|| {
    format!(
        "WITH wanted AS MATERIALIZED (
             SELECT gone.agent, gone.request, gone.after + 1 AS first, (
                 SELECT max(position) - 1 FROM journal WHERE invocation_id = gone.id AND kind = 80
             ) AS last
             FROM unnest($1::UUID[], $2::TEXT[], $3::TEXT[], $4::BIGINT[]) AS gone (id, agent, request, after)
             WHERE gone.request IS NOT NULL
         ), spans AS MATERIALIZED (
             SELECT agent, request, greatest(first, eras.era * 4096) AS first, least(last, eras.indexed) AS last
             FROM wanted JOIN eras ON eras.era BETWEEN first / 4096 AND last / 4096
             WHERE EXISTS (SELECT FROM postings WHERE postings.era = eras.era AND term = 'r' || request)
                 AND EXISTS (SELECT FROM postings WHERE postings.era = eras.era AND term = 'a' || agent)
             UNION ALL SELECT agent, request, greatest(first, {TAIL}), last FROM wanted
         )
         UPDATE journal SET payload = NULL, salt = NULL
         WHERE payload IS NOT NULL AND position IN (
             SELECT line.position FROM spans JOIN journal AS line ON line.position BETWEEN first AND last
             WHERE line.kind IN (11, 13, 14) AND line.kind = 14 AND line.agent_id = agent
                 AND json_label(line.detail, 'request_id') = request
         )"
    )
    .leak()
});

/// `$1`: invocations. A key's digest is replaced, not removed, so that whoever uses the key again is told that it was used for
/// something else.
pub(super) const DIGESTS: &str = "
UPDATE invocations SET key_digest = sha256(uuid_send(gen_random_uuid()))
WHERE key_digest IS NOT NULL AND id = ANY($1::UUID[])";

/// `$1`: up to where the journal is pruned, `$2`: the hash there. A NULL where none may be, if that is not there, or if an
/// invocation that somebody still waits for was accepted up to there.
pub(super) const PRUNE: [&str; 6] = [
    "UPDATE agents SET registration = journal.payload FROM journal
     WHERE journal.position = agents.registered
         AND registered > (SELECT position FROM pruned) AND registered <= $1 AND $2::BYTEA IS NOT NULL",
    "UPDATE pruned SET hash = $2, position = CASE
         WHEN (SELECT hash FROM journal WHERE position = $1) = $2 AND NOT EXISTS (
             SELECT FROM invocations WHERE (state < 5 OR plain_unanswered = 1 OR reply <> 0) AND accepted <= $1
         ) THEN $1 END
     WHERE one = 1",
    "DELETE FROM invocations WHERE $2::BYTEA IS NOT NULL
         AND id IN (SELECT invocation_id FROM journal WHERE position <= $1 AND kind = 20)",
    "DELETE FROM postings WHERE era < ($1 + 1) / 4096 AND $2::BYTEA IS NOT NULL",
    "DELETE FROM eras WHERE era < ($1 + 1) / 4096 AND $2::BYTEA IS NOT NULL",
    "DELETE FROM journal WHERE position <= $1 AND $2::BYTEA IS NOT NULL",
];

/// `$1`: the lock of whoever changes the index.
pub(super) const LOCK: &str = "SELECT pg_advisory_xact_lock($1)";

/// Whether there is any of it in a batch.
pub(super) fn is_due(batch: &Batch) -> bool {
    !batch.erased.is_empty() || batch.pruned.is_some()
}

/// Does it, behind the batch's own events: those before a `payload.erased` count too. It is rare, and planned anew each time: by
/// then the tables are not what they were.
pub(super) async fn perform(connection: &mut PgConnection, batch: &Batch) -> Result<(), sqlx::Error> {
    let gone: Vec<_> = batch.erased.iter().map(|erased| erased.invocation.0).collect();
    if !gone.is_empty() {
        query(PAYLOADS).bind(&gone).persistent(false).execute(&mut *connection).await?;
        let mut bound = Bound::default();
        let logs = || batch.erased.iter().map(|erased| erased.logs.as_ref());
        bound.array(gone.iter().copied());
        bound.array(logs().map(|logs| logs.map(|logs| logs.agent.as_str())));
        bound.array(logs().map(|logs| logs.map(|logs| storable(&logs.request_id))));
        bound.array(logs().map(|logs| logs.map(|logs| logs.after.0)));
        let arguments = bound.done().map_err(|_| sqlx::Error::InvalidArgument("an erasure".to_owned()))?;
        sqlx::query_with(*LOG_LINES, arguments).persistent(false).execute(&mut *connection).await?;
        query(DIGESTS).bind(&gone).persistent(false).execute(&mut *connection).await?;
    }
    if let Some(pruned) = batch.pruned {
        // Whoever adds to the index where it is to be cut ends first.
        query(LOCK).bind(index::LOCK).persistent(false).execute(&mut *connection).await?;
        for step in PRUNE {
            let step = query(step).bind(pruned.position.0).bind(pruned.hash.to_vec());
            step.persistent(false).execute(&mut *connection).await?;
        }
    }
    Ok(())
}

/// Frees the space of rows that are gone, so that the server overwrites it. It cannot run in a transaction, and waits for
/// nobody: what a reader can still see stays until the next time.
pub(super) const SCRUB: [&str; 2] = ["VACUUM (SKIP_LOCKED) journal", "VACUUM (SKIP_LOCKED) invocations"];

/// Removes the versions of rows that hold what was erased.
pub(super) async fn scrub(connection: &mut PgConnection) -> Result<(), JournalError> {
    for text in SCRUB {
        sqlx::raw_sql(text).execute(&mut *connection).await.map_err(error::unavailable)?;
    }
    Ok(())
}
