//! All that a router keeps in memory: read at its start, and when it is too far behind to be told what changed.

use std::collections::{BTreeMap, HashSet};

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::invocation::Invocation;
use crate::journal::postgres::error;
use crate::journal::postgres::news::{self, STANDING, Standing};
use crate::journal::postgres::open::Target;
use crate::journal::row;
use crate::journal::{AgentRow, JournalError, News, NodeRow, SessionRow};

pub(super) const UNSETTLED: &str =
    "SELECT * FROM invocations WHERE state < 5 OR plain_unanswered = 1 OR reply <> 0 ORDER BY accepted";
pub(super) const ALL_AGENTS: &str = "SELECT agent_id, registered, last_seen FROM agents ORDER BY agent_id";
pub(super) const ALL_SESSIONS: &str = "SELECT * FROM sessions ORDER BY id";
pub(super) const ALL_NODES: &str = "SELECT * FROM nodes ORDER BY code";

/// What reading everything may take, and a turn in which a router takes over all that it has read.
pub(super) const PATIENT: &str =
    "SET LOCAL idle_in_transaction_session_timeout = '60s'; SET LOCAL statement_timeout = '120s';";

/// Everything, as it stands at one moment.
pub(super) struct Whole {
    pub(super) standing: Standing,
    pub(super) unsettled: Vec<Invocation>,
    pub(super) agents: Vec<AgentRow>,
    pub(super) sessions: Vec<SessionRow>,
    pub(super) nodes: Vec<NodeRow>,
}

/// Reads everything at a glance: nobody is held up by it.
pub(super) async fn read(connection: &mut PgConnection, target: &Target) -> Result<Whole, JournalError> {
    let begin = target.begin("ISOLATION LEVEL REPEATABLE READ READ ONLY") + PATIENT;
    sqlx::raw_sql(AssertSqlSafe(begin)).execute(&mut *connection).await.map_err(error::unavailable)?;
    let whole = everything(connection).await?;
    sqlx::raw_sql("COMMIT").execute(connection).await.map_err(error::unavailable)?;
    Ok(whole)
}

/// Reads everything in a turn that holds the head, and leaves it open: nobody else commits meanwhile, so that a router gets
/// there however fast the others are.
pub(super) async fn hold(connection: &mut PgConnection, target: &Target) -> Result<Whole, JournalError> {
    let begin = target.begin("") + PATIENT + "SELECT FROM journal_head FOR UPDATE;";
    sqlx::raw_sql(AssertSqlSafe(begin)).execute(&mut *connection).await.map_err(error::unavailable)?;
    everything(connection).await
}

/// The transaction that is open shows the same moment to each statement, or lets nobody commit.
async fn everything(connection: &mut PgConnection) -> Result<Whole, JournalError> {
    let text = STANDING.replace("$1", "0").replace("$2", "0");
    let stands = sqlx::raw_sql(AssertSqlSafe(text)).fetch_all(&mut *connection).await.map_err(error::unavailable)?;
    Ok(Whole {
        standing: news::stands(&stands, None)?,
        unsettled: rows(connection, UNSETTLED, |row| row::invocation(row)).await?,
        agents: rows(connection, ALL_AGENTS, |row| row::agent(row)).await?,
        sessions: rows(connection, ALL_SESSIONS, |row| row::session(row)).await?,
        nodes: rows(connection, ALL_NODES, |row| row::node(row)).await?,
    })
}

/// Planned anew each time: by then the tables are not what they were.
async fn rows<T>(
    connection: &mut PgConnection,
    text: &'static str,
    of: impl Fn(&PgRow) -> Result<T, JournalError>,
) -> Result<Vec<T>, JournalError> {
    use futures_util::TryStreamExt;
    let mut stream = sqlx::query(text).persistent(false).fetch(connection);
    let mut found = Vec::new();
    while let Some(row) = stream.try_next().await.map_err(error::unavailable)? {
        found.push(of(&row)?);
    }
    Ok(found)
}

impl Whole {
    /// As news to a router that does not know what became of everything in between.
    pub(super) fn into_news(self) -> News {
        News {
            head: self.standing.seen.head.position,
            whole: true,
            feed_acknowledged: self.standing.feed,
            pruned: self.standing.pruned,
            invocations: self.unsettled,
            agents: self.agents,
            sessions: self.sessions,
            nodes: self.nodes,
            ..News::default()
        }
    }

    /// Brings it up to a later moment.
    pub(super) fn follow(&mut self, standing: Standing, news: News) {
        self.standing = standing;
        replace(&mut self.unsettled, news.invocations, |invocation| invocation.accepted);
        self.unsettled.retain(|invocation| !invocation.is_settled());
        replace(&mut self.agents, news.agents, |row| row.agent.clone());
        replace(&mut self.sessions, news.sessions, |row| row.session);
        let ended = HashSet::<_>::from_iter(news.ended);
        self.sessions.retain(|row| !ended.contains(&row.session));
        replace(&mut self.nodes, news.nodes, |row| row.node);
    }
}

/// Puts rows in the place of those with the same key, or beside them; all are in the order of their keys then.
fn replace<T, K: Ord>(rows: &mut Vec<T>, later: impl IntoIterator<Item = T>, key: impl Fn(&T) -> K) {
    let mut later = later.into_iter().peekable();
    if later.peek().is_none() {
        return;
    }
    let both = std::mem::take(rows).into_iter().chain(later).map(|row| (key(&row), row));
    *rows = both.collect::<BTreeMap<_, _>>().into_values().collect();
}
