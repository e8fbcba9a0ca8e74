//! The index of events, as it is written: behind the commits, by one router at a time.
//!
//! On SQLite the commit that makes the tail long enough adds it to the index. Here the commits of several routers take turns,
//! and what one of them does in its turn all of them wait for; so a task of its own adds what is committed, a *lot* at a time,
//! by statements that leave the events where they are. Every router has the task; an advisory lock says whose turn it is, and
//! whoever does not get it has nothing to do.
//!
//! The tail, which readers go through event by event, is so between 0 and [`DUE`] events long while nobody is in a hurry, and
//! as long as what was committed since the task last looked ([`PAUSE`]) under load. If the task cannot keep up, or no router
//! runs, the tail grows without bound: readers find the same, and take longer. Nothing waits for the index.

use std::time::Duration;

use sqlx::Row;
use tokio_util::sync::CancellationToken;

use crate::journal::JournalError;
use crate::journal::postgres::{PostgresReader, error};

/// So many events are not left out of the index.
const DUE: i64 = 2048;

/// At most so many are added at once: what a reader, or a router that prunes, may have to wait for.
const LOT: i64 = 8192;

/// Between two looks at how many events there are to add.
const PAUSE: Duration = Duration::from_secs(1);

/// Between two tries while the database is away.
const RETRY: Duration = Duration::from_secs(5);

/// The advisory lock of whoever changes the index, until its transaction ends. Taken first: a router that prunes waits for it.
pub(super) const LOCK: i64 = 4711_2027;

/// What a lot is added in. It need not be on the disk at once: what is lost of the index is added again.
const BEGIN: &str = "
BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
SET LOCAL synchronous_commit = off;
SET LOCAL statement_timeout = '30s';
SET LOCAL enable_seqscan = off;
SET LOCAL enable_bitmapscan = off;
SET LOCAL jit = off";

/// `$1`: the lock.
pub(super) const TRY_LOCK: &str = "SELECT pg_try_advisory_xact_lock($1)";

/// The last place that need not be added any more, and the newest.
pub(super) const REACHES: &str = "
SELECT
    greatest(coalesce((SELECT indexed FROM eras ORDER BY era DESC LIMIT 1), 0), (SELECT position FROM pruned)) AS indexed,
    (SELECT position FROM journal_head) AS head";

/// `$1` after, `$2` up to. What events have no invocation say their labels themselves; a label that is empty is none.
pub(super) const ADD: &str = "
WITH lot AS MATERIALIZED (
    SELECT journal.position, journal.at, journal.kind, journal.agent_id, journal.caller,
        CASE WHEN invocation_id IS NULL THEN json_label(detail, 'request_id') ELSE request_id END AS request_id,
        CASE WHEN invocation_id IS NULL THEN json_label(detail, 'session_id') ELSE session_id END AS session_id
    FROM journal LEFT JOIN LATERAL (
        SELECT request_id, session_id FROM invocations WHERE id = invocation_id OFFSET 0
    ) AS labels ON true
    WHERE journal.position > $1 AND journal.position <= $2
), hits AS (
    SELECT position, 'a' || agent_id AS term FROM lot WHERE agent_id IS NOT NULL
    UNION ALL SELECT position, 'c' || caller FROM lot WHERE caller IS NOT NULL
    UNION ALL SELECT position, 'k' || kind FROM lot
    UNION ALL SELECT position, 'r' || request_id FROM lot WHERE request_id <> ''
    UNION ALL SELECT position, 's' || session_id FROM lot WHERE session_id <> ''
), added AS (
    INSERT INTO postings (era, term, offsets)
    SELECT position / 4096, term, string_agg(int2send((position % 4096)::SMALLINT), ''::BYTEA ORDER BY position)
    FROM hits GROUP BY position / 4096, term
    ON CONFLICT (era, term) DO UPDATE SET offsets = postings.offsets || excluded.offsets
)
INSERT INTO eras (era, indexed, first_at, last_at)
SELECT position / 4096, max(position), min(at), max(at) FROM lot GROUP BY position / 4096
ON CONFLICT (era) DO UPDATE SET indexed = excluded.indexed,
    first_at = least(eras.first_at, excluded.first_at), last_at = greatest(eras.last_at, excluded.last_at)";

impl PostgresReader {
    /// Adds the next lot, if there is enough to add and nobody else is at it. Says whether there may be another one.
    pub(super) async fn index(&self) -> Result<bool, JournalError> {
        if !is_due(self.reaches().await?) {
            return Ok(false);
        }
        let persistent = !self.is_pooled();
        let mut transaction = self.pool().begin_with(BEGIN).await.map_err(error::unavailable)?;
        let lock = sqlx::query_scalar(TRY_LOCK).bind(LOCK).persistent(persistent);
        if !lock.fetch_one(&mut *transaction).await.map_err(error::unavailable)? {
            return Ok(false);
        }
        // Once more: somebody else may have been faster.
        let reaches = sqlx::query(REACHES).persistent(persistent).fetch_one(&mut *transaction).await;
        let (indexed, head) = places(&reaches.map_err(error::unavailable)?)?;
        if !is_due((indexed, head)) {
            return Ok(false);
        }
        let up_to = head.min(indexed + LOT);
        let add = sqlx::query(ADD).bind(indexed).bind(up_to).persistent(persistent);
        add.execute(&mut *transaction).await.map_err(error::unavailable)?;
        transaction.commit().await.map_err(error::unavailable)?;
        Ok(is_due((up_to, head)))
    }

    /// How far the index reaches, and the journal.
    async fn reaches(&self) -> Result<(i64, i64), JournalError> {
        let mut one = self.statement().await?;
        let row = one.query(REACHES).fetch_one(one.connection()).await.map_err(error::unavailable)?;
        places(&row)
    }
}

const fn is_due((indexed, head): (i64, i64)) -> bool {
    head - indexed >= DUE
}

fn places(row: &sqlx::postgres::PgRow) -> Result<(i64, i64), JournalError> {
    let place = |column| row.try_get(column).map_err(error::unavailable);
    Ok((place("indexed")?, place("head")?))
}

/// Adds to the index what is committed, until it is cancelled.
pub(super) async fn run(reader: PostgresReader, until: CancellationToken) {
    let mut failed = false;
    loop {
        // What has begun is brought to its end: it is short.
        let pause = match reader.index().await {
            Ok(true) => Duration::ZERO,
            Ok(false) => PAUSE,
            Err(error) => {
                if !failed {
                    tracing::warn!(%error, "the index of events is not written; readers search without it");
                }
                failed = true;
                RETRY
            }
        };
        if pause < RETRY {
            failed = false;
        }
        if until.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return;
        }
    }
}
