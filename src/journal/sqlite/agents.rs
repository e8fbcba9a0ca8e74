//! The agents, for readers: what each registered with, and whether it is there.

use bytes::Bytes;
use futures_util::TryStreamExt;

use crate::id::Identity;
use crate::journal::paging::bounded;
use crate::journal::sqlite::{SqliteReader, error};
use crate::journal::{AgentFilter, AgentPage, AgentRecord, JournalError, row};

/// A page ends once what its agents registered weighs this much.
const MAX_BYTES: usize = 8 << 20;

/// The columns of an agent, by a way to its row in `agents` and to that of its registered socket in `here`, if it has one.
macro_rules! agents {
    ($($rest:literal),+) => {
        concat!(
            "SELECT agents.agent_id, last_seen, event.at AS registered_at,
                 coalesce(event.payload, registration) AS registration, here.connected_at, here.version,
                 (SELECT name FROM nodes WHERE nodes.code = here.node) AS node
             FROM ", $($rest),+
        )
    };
}

/// `$1` the agent.
pub(super) const AGENT: &str = agents!(
    "agents
     LEFT JOIN sessions AS here ON here.id = (
         SELECT id FROM sessions WHERE identity = agents.agent_id AND registered IS NOT NULL
         ORDER BY registered DESC LIMIT 1
     )
     LEFT JOIN journal AS event ON event.position = agents.registered
     WHERE agents.agent_id = $1"
);

/// `$1` after, `$2` limit.
pub(super) const ALL: &str = agents!(
    "agents
     LEFT JOIN sessions AS here ON here.id = (
         SELECT id FROM sessions WHERE identity = agents.agent_id AND registered IS NOT NULL
         ORDER BY registered DESC LIMIT 1
     )
     LEFT JOIN journal AS event ON event.position = agents.registered
     WHERE agents.agent_id > $1 ORDER BY agents.agent_id LIMIT $2"
);

/// `$1` after, `$2` limit. Begins with the sockets: there may be many more agents.
pub(super) const CONNECTED: &str = agents!(
    "sessions AS here
     CROSS JOIN agents ON agents.agent_id = here.identity
     LEFT JOIN journal AS event ON event.position = agents.registered
     WHERE here.identity > $1 AND here.registered IS NOT NULL AND NOT EXISTS (
         SELECT 1 FROM sessions AS newer WHERE newer.identity = here.identity AND newer.registered > here.registered
     )
     ORDER BY here.identity LIMIT $2"
);

/// `$1` after, `$2` limit.
pub(super) const AWAY: &str = agents!(
    "agents
     LEFT JOIN sessions AS here ON false
     LEFT JOIN journal AS event ON event.position = agents.registered
     WHERE agents.agent_id > $1 AND NOT EXISTS (
         SELECT 1 FROM sessions WHERE identity = agents.agent_id AND sessions.registered IS NOT NULL
     )
     ORDER BY agents.agent_id LIMIT $2"
);

impl SqliteReader {
    /// Agents that match the filter, in the order of their ids, after one or from the first; at most `limit`.
    pub async fn agents(
        &self,
        filter: AgentFilter,
        after: Option<&Identity>,
        limit: usize,
    ) -> Result<AgentPage, JournalError> {
        let sql = match filter.connected {
            None => ALL,
            Some(true) => CONNECTED,
            Some(false) => AWAY,
        };
        let after = after.map_or_else(String::new, ToString::to_string);
        let mut rows = sqlx::query(sql).bind(after).bind(bounded(limit)).fetch(&self.pool);
        let mut agents: Vec<AgentRecord> = Vec::new();
        let mut bytes = 0;
        while let Some(row) = rows.try_next().await.map_err(error::unavailable)? {
            let agent = row::agent_record(&row)?;
            bytes += agent.registration.as_ref().map_or(0, Bytes::len);
            agents.push(agent);
            if bytes >= MAX_BYTES {
                break;
            }
        }
        let may_go_on = agents.len() == limit || bytes >= MAX_BYTES;
        let next = agents.last().filter(|_| may_go_on).map(|last| last.agent.clone());
        Ok(AgentPage { agents, next })
    }

    /// One agent.
    pub async fn agent(&self, agent: &Identity) -> Result<Option<AgentRecord>, JournalError> {
        let row = sqlx::query(AGENT).bind(agent.to_string()).fetch_optional(&self.pool).await;
        row.map_err(error::unavailable)?.as_ref().map(|row| row::agent_record(row)).transpose()
    }
}
