//! The check of the whole journal: that nothing in it is other than it was written.

use futures_util::TryStreamExt;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::id::Position;
use crate::journal::chain::{self, Link};
use crate::journal::sqlite::reader::{self, HEAD};
use crate::journal::sqlite::{SqliteReader, error};
use crate::journal::{EventKind, Head, JournalError, Verification};

/// Events read at a time: a reader that stays in one transaction keeps the write-ahead log from being folded in.
const PAGE: i64 = 1000;

/// `$1` after, `$2` up to, `$3` limit.
pub(super) const LINKS: &str = "
SELECT position, at, kind, nodes.name AS node, invocation_id, agent_id, caller, detail, hash, payload_hash, salt, payload
FROM journal LEFT JOIN nodes ON nodes.code = node
WHERE position > $1 AND position <= $2 ORDER BY position LIMIT $3";

/// Events that the head does not know of.
pub(super) const BEYOND: &str =
    "SELECT min(position) FROM journal WHERE position > (SELECT position FROM journal_head) OR position < 1";

/// The first invocation whose events are not there or not its own.
pub(super) const UNFOUNDED: &str = "
SELECT min(invocations.accepted) FROM invocations
LEFT JOIN journal AS body ON body.position = invocations.accepted
LEFT JOIN journal AS answer ON answer.position = invocations.answer
WHERE body.kind IS NOT 20 OR body.invocation_id IS NOT invocations.id
   OR (invocations.answer IS NOT NULL
       AND (answer.kind IS NULL OR answer.kind NOT IN (26, 27) OR answer.invocation_id IS NOT invocations.id))";

/// The first accepted invocation, up to `$1`, that has no row.
pub(super) const UNKEPT: &str = "
SELECT min(position) FROM journal
WHERE position <= $1 AND kind = 20 AND NOT EXISTS (SELECT 1 FROM invocations WHERE id = invocation_id)";

impl SqliteReader {
    /// Recomputes the chain from the first event to the one that is the newest now. Takes constant memory and holds up
    /// nobody, a router that writes meanwhile least of all.
    pub async fn verify(&self) -> Result<Verification, JournalError> {
        let row = sqlx::query(HEAD).fetch_one(&self.pool).await.map_err(error::unavailable)?;
        let head = reader::head(&row)?;
        let mut verified = Head::EMPTY;
        while verified.position < head.position {
            let mut rows =
                sqlx::query(LINKS).bind(verified.position.0).bind(head.position.0).bind(PAGE).fetch(&self.pool);
            let before = verified.position;
            while let Some(row) = rows.try_next().await.map_err(error::unavailable)? {
                let position = verified.position.next();
                match check(&row, position, &verified.hash) {
                    Ok(hash) => verified = Head { position, hash },
                    Err(what) => return Ok(Verification::Broken { position, what }),
                }
            }
            if verified.position == before {
                return Ok(Verification::Broken { position: before.next(), what: "the event is missing".to_owned() });
            }
        }
        if verified.hash != head.hash {
            let what = "the newest event is not the one that journal_head names".to_owned();
            return Ok(Verification::Broken { position: head.position, what });
        }
        self.verify_rows(head).await
    }

    /// Checks that the rows agree with the events.
    async fn verify_rows(&self, head: Head) -> Result<Verification, JournalError> {
        let checks = [
            (BEYOND, "the event is outside what journal_head names"),
            (UNFOUNDED, "the row of the invocation accepted here points to an event that is not its own"),
            (UNKEPT, "the invocation accepted here has no row"),
        ];
        for (sql, what) in checks {
            let first: Option<i64> = sqlx::query_scalar(sql)
                .bind(head.position.0)
                .fetch_one(&self.pool)
                .await
                .map_err(error::unavailable)?;
            if let Some(first) = first {
                return Ok(Verification::Broken { position: Position(first), what: what.to_owned() });
            }
        }
        let events = u64::try_from(head.position.0).unwrap_or(0);
        Ok(Verification::Intact { events, head })
    }
}

/// Checks one event against its place and the hash before it; gives back its hash, or what is wrong.
fn check(row: &SqliteRow, position: Position, previous: &[u8; 32]) -> Result<[u8; 32], String> {
    fn get<'a, T: sqlx::Decode<'a, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>>(
        row: &'a SqliteRow,
        column: &str,
    ) -> Result<T, String> {
        row.try_get(column).map_err(|_| format!("{column} is missing or of another type"))
    }

    if get::<i64>(row, "position")? != position.0 {
        return Err("the event is missing".to_owned());
    }
    let kind: i64 = get(row, "kind")?;
    if EventKind::from_code(kind).is_none() {
        return Err(format!("there is no kind {kind}"));
    }
    let payload_hash: Option<&[u8]> = get(row, "payload_hash")?;
    let link = Link {
        position: position.0,
        at: get(row, "at")?,
        kind,
        node: get(row, "node")?,
        invocation: get(row, "invocation_id")?,
        agent: get(row, "agent_id")?,
        caller: get(row, "caller")?,
        detail: get(row, "detail")?,
        payload_hash,
    };
    let hash = link.hash(previous);
    if get::<&[u8]>(row, "hash")? != hash {
        return Err("the event is not what was hashed".to_owned());
    }
    match (get::<Option<&[u8]>>(row, "payload")?, get::<Option<&[u8]>>(row, "salt")?, payload_hash) {
        // There was none, or it has been erased, as may be.
        (None, None, _) => Ok(hash),
        (Some(payload), Some(salt), Some(digest)) if chain::payload_hash(salt, payload) == digest => Ok(hash),
        _ => Err("the payload is not what was hashed".to_owned()),
    }
}
