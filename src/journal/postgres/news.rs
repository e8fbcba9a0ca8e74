//! What others have committed, and all there is: read back from the rows, as they stand at one moment.
//!
//! The ring `changes` says which rows each of the newest commits changed. Those are read again, whatever became of them in
//! between. If the ring does not go back far enough, everything is read.

use std::collections::BTreeSet;

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, PgConnection, Postgres, Row};
use uuid::Uuid;

use crate::id::{Position, SessionId};
use crate::invocation::Invocation;
use crate::journal::postgres::commit::RING;
use crate::journal::postgres::error;
use crate::journal::postgres::open::Target;
use crate::journal::row::{self, Columns};
use crate::journal::{AgentRow, Dismissed, Head, JournalError, News, NodeRow, SessionRow};

/// So many events are looked through for what others changed; beyond, everything is read.
const FAR: i64 = 65_536;

/// `$1`, `$2`: after which event and up to which; `$3`: those that no event names. Within, `OFFSET 0` leaves the planner no
/// index but that of positions: it would go through that of invocations from end to end.
///
/// Each is looked up by itself: a plan that is made while the table is empty would go through all of it once it is not.
pub(super) const INVOCATIONS: &str = "
SELECT found.* FROM (
    SELECT id FROM (
        SELECT invocation_id AS id FROM journal WHERE position > $1 AND position <= $2 OFFSET 0
    ) AS events WHERE id IS NOT NULL
    UNION SELECT unnest($3::UUID[])
) AS changed
CROSS JOIN LATERAL (SELECT * FROM invocations WHERE invocations.id = changed.id OFFSET 0) AS found
ORDER BY accepted";
pub(super) const AGENTS: &str = "SELECT agent_id, registered, last_seen FROM agents WHERE agent_id = ANY($1::TEXT[])";
pub(super) const SESSIONS: &str = "SELECT * FROM sessions WHERE id = ANY($1::UUID[])";
pub(super) const NODES: &str = "SELECT * FROM nodes WHERE code = ANY($1::BIGINT[])";

pub(super) const UNSETTLED: &str =
    "SELECT * FROM invocations WHERE state < 5 OR plain_unanswered = 1 OR reply <> 0 ORDER BY accepted";
pub(super) const ALL_AGENTS: &str = "SELECT agent_id, registered, last_seen FROM agents ORDER BY agent_id";
pub(super) const ALL_SESSIONS: &str = "SELECT * FROM sessions ORDER BY id";
pub(super) const ALL_NODES: &str = "SELECT * FROM nodes ORDER BY code";

/// How far a router has followed the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// Commits.
    pub(super) revision: i64,
    pub(super) head: Head,
}

/// Everything that a router keeps in memory.
pub(super) struct Everything {
    pub(super) unsettled: Vec<Invocation>,
    pub(super) agents: Vec<AgentRow>,
    pub(super) sessions: Vec<SessionRow>,
    pub(super) nodes: Vec<NodeRow>,
}

/// How the journal is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// At what is there now, and nobody is held up.
    Glance,
    /// Nobody else commits until the transaction ends, which this leaves open.
    Hold,
}

/// Where the journal stands, and what its transaction has found besides.
pub(super) struct Standing {
    pub(super) seen: Seen,
    pub(super) feed: Position,
    pub(super) pruned: Position,
    changes: Changes,
}

impl Standing {
    /// What is between cannot be told from the ring, or is too much: everything has to be read.
    pub(super) fn is_far(&self, from: Seen) -> bool {
        self.changes.commits < self.seen.revision - from.revision
            || self.seen.head.position.0 - from.head.position.0 > FAR
            || self.pruned > from.head.position
    }
}

/// The keys of the rows that were changed.
#[derive(Default)]
struct Changes {
    /// Commits that say so.
    commits: i64,
    invocations: BTreeSet<Uuid>,
    agents: BTreeSet<String>,
    sessions: BTreeSet<Uuid>,
    nodes: BTreeSet<i64>,
    dismissed: Vec<Dismissed>,
}

/// Begins a transaction that looks at the journal from where a router has followed it. One round trip.
pub(super) async fn stand(
    connection: &mut PgConnection,
    target: &Target,
    from: Seen,
    look: Look,
) -> Result<Standing, JournalError> {
    let (begun, hold) = match look {
        Look::Glance => (target.begin("ISOLATION LEVEL REPEATABLE READ READ ONLY"), ""),
        Look::Hold => (target.begin(""), "FOR UPDATE"),
    };
    // What is behind the lock sees all that was committed before it was had: each statement has a snapshot of its own then.
    let text = format!(
        "{begun} SELECT revision AS at, position, hash FROM journal_head {hold};
         SELECT acknowledged, (SELECT position FROM pruned) AS pruned,
             (SELECT hash FROM journal WHERE position = {}) AS followed FROM feed;
         SELECT found.* FROM generate_series({}, (SELECT least(revision, {}) FROM journal_head)) AS newer (revision)
             CROSS JOIN LATERAL (
                 SELECT * FROM changes WHERE slot = newer.revision % {RING} AND revision = newer.revision OFFSET 0
             ) AS found ORDER BY revision",
        from.head.position.0,
        from.revision + 1,
        from.revision + RING,
    );
    let rows = sqlx::raw_sql(AssertSqlSafe(text)).fetch_all(connection).await.map_err(error::unavailable)?;
    let [head, beside, newer @ ..] = &rows[..] else {
        return Err(damaged("one", "a table of one row has none"));
    };
    let at = Columns::of("journal_head", head);
    let seen = Seen { revision: at.integer("at")?, head: row::head(head)? };
    let beside = Columns::of("feed", beside);
    follows(from, seen, beside.optional_digest("followed")?)?;
    let mut changes = Changes::default();
    for row in newer {
        changes.add(row)?;
    }
    Ok(Standing { seen, feed: beside.position("acknowledged")?, pruned: beside.position("pruned")?, changes })
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

impl Changes {
    fn add(&mut self, row: &PgRow) -> Result<(), JournalError> {
        let wrong =
            |_| JournalError::Damaged { table: "changes", column: "slot", what: "is of another type".to_owned() };
        self.commits += 1;
        self.invocations.extend(row.try_get::<Vec<Uuid>, _>("invocations").map_err(wrong)?);
        self.agents.extend(row.try_get::<Vec<String>, _>("agents").map_err(wrong)?);
        self.sessions.extend(row.try_get::<Vec<Uuid>, _>("sessions").map_err(wrong)?);
        self.nodes.extend(row.try_get::<Vec<i64>, _>("nodes").map_err(wrong)?);
        let sessions = row.try_get::<Vec<Uuid>, _>("dismissed_sessions").map_err(wrong)?;
        let positions = row.try_get::<Vec<i64>, _>("dismissed_positions").map_err(wrong)?;
        let dismissed = sessions.into_iter().zip(positions);
        self.dismissed.extend(
            dismissed
                .map(|(session, position)| Dismissed { session: SessionId(session), position: Position(position) }),
        );
        Ok(())
    }
}

/// The rows that others have changed since a router last followed, in the transaction that [`stand`] began.
pub(super) async fn read(
    connection: &mut PgConnection,
    target: &Target,
    from: Seen,
    standing: Standing,
) -> Result<News, JournalError> {
    let is_far = standing.is_far(from);
    let Standing { seen, feed, pruned, changes } = standing;
    let mut news = News {
        head: seen.head.position,
        dismissed: changes.dismissed,
        feed_acknowledged: feed,
        pruned,
        ..News::default()
    };
    if is_far {
        let all = everything(connection).await?;
        news.whole = true;
        (news.invocations, news.agents, news.sessions, news.nodes) =
            (all.unsettled, all.agents, all.sessions, all.nodes);
        return Ok(news);
    }
    if seen.head.position > from.head.position || !changes.invocations.is_empty() {
        let invocations = query(target, INVOCATIONS).bind(from.head.position.0).bind(seen.head.position.0);
        let unnamed: Vec<_> = changes.invocations.into_iter().collect();
        news.invocations = rows(connection, invocations.bind(unnamed), |row| row::invocation(row)).await?;
    }
    if !changes.agents.is_empty() {
        let agents: Vec<_> = changes.agents.into_iter().collect();
        news.agents = rows(connection, query(target, AGENTS).bind(agents), |row| row::agent(row)).await?;
    }
    if !changes.sessions.is_empty() {
        let mut gone = changes.sessions;
        let sessions: Vec<_> = gone.iter().copied().collect();
        news.sessions = rows(connection, query(target, SESSIONS).bind(sessions), |row| row::session(row)).await?;
        for session in &news.sessions {
            gone.remove(&session.session.0);
        }
        news.ended = gone.into_iter().map(SessionId).collect();
    }
    if !changes.nodes.is_empty() {
        let nodes: Vec<_> = changes.nodes.into_iter().collect();
        news.nodes = rows(connection, query(target, NODES).bind(nodes), |row| row::node(row)).await?;
    }
    Ok(news)
}

/// All that is not settled, in the transaction that [`stand`] began.
pub(super) async fn everything(connection: &mut PgConnection) -> Result<Everything, JournalError> {
    // Planned anew each time: by then the tables are not what they were.
    let query = |text| sqlx::query(text).persistent(false);
    Ok(Everything {
        unsettled: rows(connection, query(UNSETTLED), |row| row::invocation(row)).await?,
        agents: rows(connection, query(ALL_AGENTS), |row| row::agent(row)).await?,
        sessions: rows(connection, query(ALL_SESSIONS), |row| row::session(row)).await?,
        nodes: rows(connection, query(ALL_NODES), |row| row::node(row)).await?,
    })
}

/// A statement, which has a name only if the connection stays the router's.
fn query(target: &Target, text: &'static str) -> Query<'static, Postgres, PgArguments> {
    sqlx::query(text).persistent(!target.pooled)
}

async fn rows<T>(
    connection: &mut PgConnection,
    query: Query<'_, Postgres, PgArguments>,
    of: impl Fn(&PgRow) -> Result<T, JournalError>,
) -> Result<Vec<T>, JournalError> {
    use futures_util::TryStreamExt;
    let mut stream = query.fetch(connection);
    let mut found = Vec::new();
    while let Some(row) = stream.try_next().await.map_err(error::unavailable)? {
        found.push(of(&row)?);
    }
    Ok(found)
}
