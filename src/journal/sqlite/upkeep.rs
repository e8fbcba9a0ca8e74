//! Erasing and pruning: what a commit does besides, and how far to prune next.

use crate::clock::Timestamp;
use crate::journal::row::Columns;
use crate::journal::sqlite::cells::Layout;
use crate::journal::sqlite::encode::ERASED;
use crate::journal::sqlite::hints::BUCKETS;
use crate::journal::sqlite::{SqliteReader, error};
use crate::journal::{Head, JournalError};

/// Invocations whose payloads go, and what goes with them.
const GONE: &str = "$18";

/// The heap of the batch that they came with.
const HEAP: &str = "$6";

/// How these are packed.
pub(super) const LAYOUT: Layout = ERASED;

/// Whether a `line` is one of an agent's log about a request. The kinds are those of the index that leads to it.
const IS_WANTED: &str = "line.kind IN (11, 13, 14) AND line.kind = 14 AND line.agent_id = agent
                     AND CASE WHEN json_valid(line.detail) THEN line.detail ->> 'request_id' END = request";

/// The first place that is not in the index.
const TAIL: &str = "coalesce((SELECT indexed + 1 FROM eras WHERE era = (SELECT max(era) FROM eras)), 0)";

/// What a commit does besides for a batch that erases (`$18`: invocations) or prunes (`$19`: up to, `$20`: its hash).
///
/// Erasing comes after the batch's own events are there: those before the `payload.erased` count too, and those behind it, a
/// late answer in the same batch, do not. A key's digest is replaced, not removed, so
/// that whoever uses the key again is told that it was used for something else.
///
/// The agent's log lines about the request are looked for from the acceptance on: by the index of events, which costs a probe
/// for each era since and a look at the log lines of those eras in which both occur, and in the tail, which is short. The
/// batch's own events are in either by then.
///
/// Pruning fails, by a NULL where none may be, if the last event to go is not there with that hash, or if an invocation
/// that somebody still waits for was accepted up to there.
pub(super) fn statements() -> Vec<String> {
    let each = ERASED.each(GONE);
    let mut values = ERASED.values(GONE, HEAP).into_iter().map(|(_, value)| value);
    let [gone, agent, request, after] = std::array::from_fn(|_| values.next().unwrap_or_default());
    let buckets = (0..BUCKETS).map(|bucket| bucket.to_string()).collect::<Vec<_>>().join(", ");
    vec![
        format!(
            "UPDATE journal SET payload = NULL, salt = NULL
             WHERE payload IS NOT NULL AND invocation_id IN (SELECT {gone} FROM {each}) AND position < (
                 SELECT max(erased.position) FROM journal AS erased
                 WHERE erased.invocation_id = journal.invocation_id AND erased.kind = 80
             )"
        ),
        format!(
            "WITH wanted(agent, request, first, last) AS MATERIALIZED (
                 SELECT {agent}, {request}, {after} + 1, (
                     SELECT max(position) - 1 FROM journal WHERE invocation_id = {gone} AND kind = 80
                 )
                 FROM {each} WHERE {request} IS NOT NULL
             )
             UPDATE journal SET payload = NULL, salt = NULL
             WHERE payload IS NOT NULL AND position IN (
                 SELECT line.position FROM wanted
                 CROSS JOIN eras ON eras.era BETWEEN first / 4096 AND last / 4096
                 CROSS JOIN postings AS of_request
                     ON of_request.era = eras.era AND of_request.term = 'r' || request
                 CROSS JOIN postings AS of_agent ON of_agent.era = eras.era AND of_agent.term = 'a' || agent
                 CROSS JOIN journal AS line INDEXED BY journal_for_feed
                     ON line.position BETWEEN max(first, eras.era * 4096) AND min(last, eras.era * 4096 + 4095)
                 WHERE {IS_WANTED}
                 UNION ALL SELECT line.position FROM wanted
                 CROSS JOIN journal AS line INDEXED BY journal_for_feed
                     ON line.position BETWEEN max(first, {TAIL}) AND last
                 WHERE {IS_WANTED}
             )"
        ),
        format!(
            "UPDATE invocations SET key_digest = randomblob(32)
             WHERE key_digest IS NOT NULL AND id IN (SELECT {gone} FROM {each})"
        ),
        "UPDATE agents SET registration = (SELECT payload FROM journal WHERE position = registered)
             WHERE registered > (SELECT position FROM pruned) AND registered <= $19"
            .to_owned(),
        "UPDATE pruned SET
             position = CASE WHEN (SELECT hash FROM journal WHERE position = $19) = $20 AND NOT EXISTS (
                 SELECT 1 FROM invocations
                 WHERE (state < 5 OR plain_unanswered = 1 OR reply <> 0) AND accepted <= $19
             ) THEN $19 END,
             hash = $20
             WHERE $19 IS NOT NULL"
            .to_owned(),
        "DELETE FROM invocations
             WHERE id IN (SELECT invocation_id FROM journal WHERE position <= $19 AND kind = 20)"
            .to_owned(),
        "DELETE FROM postings WHERE era < ($19 + 1) / 4096".to_owned(),
        format!("DELETE FROM hints WHERE bucket IN ({buckets}) AND era < ($19 + 1) / 4096"),
        "DELETE FROM eras WHERE era < ($19 + 1) / 4096".to_owned(),
        "DELETE FROM journal WHERE position <= $19".to_owned(),
    ]
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
