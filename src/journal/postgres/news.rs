//! What others have committed: read back from the rows, as they stand at one moment, in one round trip, or two.
//!
//! The ring `changes` says which rows each of the newest commits changed. Those are read again, whatever became of them in
//! between. If the ring does not go back far enough, everything is read (`whole`).
//!
//! The statements are prepared by their text and executed by theirs, those that are needed in one message that also begins
//! the transaction: a router reads this in each of its turns, and others may be waiting for that turn to end.

use std::sync::LazyLock;

use futures_util::TryStreamExt;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Either, PgConnection, Row};
use uuid::Uuid;

use crate::id::{NodeId, Position, SessionId};
use crate::invocation::StateName;
use crate::journal::postgres::commit::RING;
use crate::journal::postgres::open::Target;
use crate::journal::postgres::{error, migration};
use crate::journal::row::{self, Columns};
use crate::journal::{Dismissed, Head, JournalError, News};

/// So many events are looked through for what others changed; beyond, everything is read.
const FAR: i64 = 65_536;

/// Where the journal stands. Of all these statements, `$1` is the revision that the router has followed, `$2` the position, and
/// `$3` the router.
pub(super) const STANDING: &str = "
SELECT revision AS at, journal_head.position, journal_head.hash, acknowledged, pruned.position AS pruned,
    (SELECT hash FROM journal WHERE position = $2) AS followed, (SELECT oldest FROM compatibility) AS oldest
FROM journal_head, feed, pruned WHERE $1::BIGINT IS NOT NULL";

/// What each of the newer commits says of itself, and of how many agents, sockets and routers.
const NEWER: &str = "
SELECT dismissed_sessions, dismissed_positions,
    (cardinality(agents) + cardinality(sessions) + cardinality(nodes))::BIGINT AS peers
FROM {ring} ORDER BY revision";

/// The rows of invocations that are named by a newer event, or by the ring. Within, `OFFSET 0` leaves the planner no index but
/// that of positions: it would go through that of invocations from end to end.
///
/// Each is looked up by itself, here and below: a plan that is made while the table is empty would go through all of it once
/// it is not.
///
/// With them comes what is likely to be sent at once: what another router has accepted, or an answer for a caller of this one.
const INVOCATIONS: &str = "
SELECT found.*, sent.position AS body_at, sent.payload AS body FROM (
    SELECT id FROM (
        SELECT invocation_id AS id FROM journal WHERE position > $2 AND position <= (SELECT position {near}) OFFSET 0
    ) AS events WHERE id IS NOT NULL
    UNION SELECT unnest(invocations) FROM {ring}
) AS changed
CROSS JOIN LATERAL (SELECT * FROM invocations WHERE invocations.id = changed.id OFFSET 0) AS found
LEFT JOIN LATERAL (
    SELECT position, payload FROM journal WHERE position = CASE
        WHEN found.home <> $3 AND found.state = {queued} THEN found.accepted
        WHEN found.home = $3 AND found.origin <= {socket} THEN found.answer
    END AND octet_length(payload) <= {small} AND (SELECT position <= $2 + {close} FROM journal_head) OFFSET 0
) AS sent ON true
ORDER BY accepted";

const AGENTS: &str = "
SELECT found.* FROM (SELECT DISTINCT unnest(agents) AS agent_id FROM {ring}) AS changed
CROSS JOIN LATERAL (
    SELECT agent_id, registered, last_seen FROM agents WHERE agents.agent_id = changed.agent_id OFFSET 0
) AS found";

/// Those that have ended are there without an identity.
const SESSIONS: &str = "
SELECT changed.session, found.* FROM (SELECT DISTINCT unnest(sessions) AS session FROM {ring}) AS changed
LEFT JOIN LATERAL (SELECT * FROM sessions WHERE sessions.id = changed.session OFFSET 0) AS found ON true";

const NODES: &str = "
SELECT found.* FROM (SELECT DISTINCT unnest(nodes) AS code FROM {ring}) AS changed
CROSS JOIN LATERAL (SELECT * FROM nodes WHERE nodes.code = changed.code OFFSET 0) AS found";

/// So many of the statements are enough while agents, sockets and routers stay as they are, which they mostly do.
const FEW: usize = 3;

/// Bodies of more bytes are asked for when they are sent, and all of them if more events than these are looked at.
const SMALL: i64 = 4096;
const CLOSE: i64 = 2048;

/// The last of the origins that are sockets.
const SOCKET: i64 = 3;

/// All of them, in the order in which their rows are expected. Beyond what is near they find nothing, so that a look which is in
/// vain costs nobody anything.
pub(super) static LOOK: LazyLock<[String; 6]> = LazyLock::new(|| {
    let near = format!("FROM journal_head WHERE revision <= $1 + {RING} AND position <= $2 + {FAR}");
    let ring = format!(
        "(SELECT found.* FROM generate_series($1 + 1, (SELECT revision {near})) AS newer (revision)
          CROSS JOIN LATERAL (
              SELECT * FROM changes WHERE slot = newer.revision % {RING} AND revision = newer.revision OFFSET 0
          ) AS found) AS ring"
    );
    let numbers =
        [("{small}", SMALL), ("{close}", CLOSE), ("{queued}", StateName::Queued as i64), ("{socket}", SOCKET)];
    [STANDING, NEWER, INVOCATIONS, AGENTS, SESSIONS, NODES].map(|text| {
        let text = text.replace("{near}", &near).replace("{ring}", &ring);
        numbers.iter().fold(text, |text, (name, value)| text.replace(name, &value.to_string()))
    })
});

/// How far a router has followed the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// Commits.
    pub(super) revision: i64,
    pub(super) head: Head,
}

/// How the journal is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// At what is there now, and nobody is held up.
    Glance,
    /// Nobody else commits until the transaction ends, which this leaves open.
    Hold,
}

/// Where the journal stands.
pub(super) struct Standing {
    pub(super) seen: Seen,
    pub(super) feed: Position,
    pub(super) pruned: Position,
}

/// What was found.
pub(super) struct Looked {
    pub(super) standing: Standing,
    /// `None`: what is between cannot be told from the ring, or is too much, so that everything has to be read.
    pub(super) news: Option<News>,
}

/// Has the statements prepared on a connection that stays the router's.
pub(super) async fn prepare(connection: &mut PgConnection, target: &Target) -> Result<(), JournalError> {
    if target.pooled {
        return Ok(());
    }
    let texts = LOOK.iter().enumerate();
    let texts: Vec<_> =
        texts.map(|(number, text)| format!("PREPARE look_{number} (BIGINT, BIGINT, BIGINT) AS {text}")).collect();
    sqlx::raw_sql(AssertSqlSafe(texts.join(";"))).execute(connection).await.map(drop).map_err(error::unavailable)
}

/// The text of a statement of [`LOOK`], with what it is asked for.
fn asked(number: usize, text: &str, target: &Target, node: NodeId, from: Seen) -> String {
    let parameters = [from.revision, from.head.position.0, node.0];
    if target.pooled {
        let numbered = (1..).zip(parameters);
        return numbered.fold(text.to_owned(), |text, (number, value)| {
            text.replace(&format!("${number}"), &format!("{value}::BIGINT"))
        });
    }
    let [revision, position, node] = parameters;
    format!("EXECUTE look_{number} ({revision}, {position}, {node})")
}

/// Looks at the journal from where a router has followed it, in a transaction of its own. One round trip, and another one if
/// agents, sockets or routers have changed.
pub(super) async fn look(
    connection: &mut PgConnection,
    target: &Target,
    node: NodeId,
    from: Seen,
    look: Look,
) -> Result<Looked, JournalError> {
    let begun = match look {
        Look::Glance => target.begin("ISOLATION LEVEL REPEATABLE READ READ ONLY"),
        // What is behind the lock sees all that was committed before it was had: each statement has a snapshot of its own.
        Look::Hold => target.begin("") + "SELECT FROM journal_head FOR UPDATE;",
    };
    let mut answers = ask(connection, target, node, from, look, &begun, FEW).await?;
    if answers.get(1).into_iter().flatten().any(names_peers) {
        // All of it anew, so that it is of one moment. While the head is held, nothing has changed since.
        let begun = if look == Look::Glance { &begun } else { "" };
        answers = ask(connection, target, node, from, look, begun, LOOK.len()).await?;
    }
    let [standing, newer, invocations, agents, sessions, nodes] = &answers;
    let standing = stands(standing, Some(from))?;
    let commits = standing.seen.revision - from.revision;
    let is_far = i64::try_from(newer.len()).is_ok_and(|found| found < commits)
        || standing.seen.head.position.0 - from.head.position.0 > FAR
        || standing.pruned > from.head.position;
    if is_far {
        return Ok(Looked { standing, news: None });
    }
    let mut news = News {
        head: standing.seen.head.position,
        feed_acknowledged: standing.feed,
        pruned: standing.pruned,
        invocations: invocations.iter().map(|row| row::invocation(row)).collect::<Result<_, _>>()?,
        agents: agents.iter().map(|row| row::agent(row)).collect::<Result<_, _>>()?,
        nodes: nodes.iter().map(|row| row::node(row)).collect::<Result<_, _>>()?,
        ..News::default()
    };
    for row in invocations {
        let columns = Columns::of("invocations", row);
        if let Some(body) = columns.bytes("body")? {
            news.bodies.push((columns.position("body_at")?, body));
        }
    }
    for row in newer {
        news.dismissed.extend(dismissed(row)?);
    }
    for row in sessions {
        let columns = Columns::of("changes", row);
        match columns.session("id")? {
            Some(_) => news.sessions.push(row::session(row)?),
            None => news.ended.extend(columns.session("session")?),
        }
    }
    Ok(Looked { standing, news: Some(news) })
}

/// Executes the first of the statements, as many as `count`, and leaves the others without rows.
async fn ask(
    connection: &mut PgConnection,
    target: &Target,
    node: NodeId,
    from: Seen,
    look: Look,
    begun: &str,
    count: usize,
) -> Result<[Vec<PgRow>; 6], JournalError> {
    let statements: Vec<_> =
        LOOK.iter().take(count).enumerate().map(|(at, text)| asked(at, text, target, node, from)).collect();
    let ended = if look == Look::Glance { ";COMMIT" } else { "" };
    let mut answers = answers(connection, format!("{begun}{}{ended}", statements.join(";"))).await?;
    // Before them are those of the beginning, and behind them that of the end.
    let behind = usize::from(look == Look::Glance);
    let first = answers.len().checked_sub(count + behind);
    let first = first.ok_or_else(|| damaged("one", "it could not be looked at"))?;
    let mut answers = answers.drain(first..first + count);
    Ok(std::array::from_fn(|_| answers.next().unwrap_or_default()))
}

/// The rows of each statement of a text.
async fn answers(connection: &mut PgConnection, text: String) -> Result<Vec<Vec<PgRow>>, JournalError> {
    let mut stream = sqlx::raw_sql(AssertSqlSafe(text)).fetch_many(connection);
    let (mut answers, mut rows) = (Vec::new(), Vec::new());
    while let Some(said) = stream.try_next().await.map_err(error::unavailable)? {
        match said {
            Either::Left(_) => answers.push(std::mem::take(&mut rows)),
            Either::Right(row) => rows.push(row),
        }
    }
    Ok(answers)
}

/// Reads [`STANDING`], of a journal that is the one which a router has followed, with a schema that it may still write to.
pub(super) fn stands(rows: &[PgRow], from: Option<Seen>) -> Result<Standing, JournalError> {
    let [row] = rows else { return Err(damaged("one", "a table of one row has none")) };
    let columns = Columns::of("journal_head", row);
    migration::require_compatible(columns.integer("oldest")?)?;
    let seen = Seen { revision: columns.integer("at")?, head: row::head(row)? };
    if let Some(from) = from {
        follows(from, seen, columns.optional_digest("followed")?)?;
    }
    Ok(Standing { seen, feed: columns.position("acknowledged")?, pruned: columns.position("pruned")? })
}

/// The journal that a router has followed is the one that is there.
fn follows(from: Seen, now: Seen, followed: Option<[u8; 32]>) -> Result<(), JournalError> {
    if now.revision < from.revision {
        return Err(damaged("revision", "commits that were there are gone"));
    }
    let same = now.revision > from.revision || now.head == from.head;
    let chained = from.head.position.0 == 0 || followed.is_none_or(|hash| hash == from.head.hash);
    if same && chained { Ok(()) } else { Err(damaged("hash", "it is another journal than before")) }
}

fn damaged(column: &'static str, what: &str) -> JournalError {
    JournalError::Damaged { table: "journal_head", column, what: what.to_owned() }
}

/// Whether a commit changed agents, sockets or routers. If that cannot be read, they are looked at.
fn names_peers(row: &PgRow) -> bool {
    row.try_get::<i64, _>("peers").map_or(true, |peers| peers > 0)
}

/// What a commit has others send to sockets of theirs.
fn dismissed(row: &PgRow) -> Result<impl Iterator<Item = Dismissed>, JournalError> {
    let wrong = |_| JournalError::Damaged { table: "changes", column: "slot", what: "is of another type".to_owned() };
    let sessions = row.try_get::<Vec<Uuid>, _>("dismissed_sessions").map_err(wrong)?;
    let positions = row.try_get::<Vec<i64>, _>("dismissed_positions").map_err(wrong)?;
    let pairs = sessions.into_iter().zip(positions);
    Ok(pairs.map(|(session, position)| Dismissed { session: SessionId(session), position: Position(position) }))
}
