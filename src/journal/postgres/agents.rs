//! The agents, for readers: what each registered with, and whether it is there.
//!
//! A page is found first, by ids and weights, and loaded then: so it can end where what its agents registered weighs enough.

use futures_util::TryStreamExt;

use crate::id::Identity;
use crate::journal::paging::bounded;
use crate::journal::postgres::{PostgresReader, error};
use crate::journal::row::{self, Columns};
use crate::journal::{AgentFilter, AgentPage, AgentRecord, JournalError};

/// A page ends once what its agents registered weighs this much.
const MAX_BYTES: i64 = 8 << 20;

/// `$1` agents, each with its registered socket, if it has one.
pub(super) const AGENTS: &str = "
SELECT agents.agent_id, last_seen, event.at AS registered_at,
    coalesce(event.payload, registration) AS registration, here.connected_at, here.version,
    (SELECT name FROM nodes WHERE nodes.code = here.node) AS node
FROM agents
LEFT JOIN LATERAL (
    SELECT connected_at, version, node FROM sessions WHERE identity = agents.agent_id AND registered IS NOT NULL
    ORDER BY registered DESC LIMIT 1
) AS here ON true
LEFT JOIN LATERAL (SELECT at, payload FROM journal WHERE position = agents.registered OFFSET 0) AS event ON true
WHERE agents.agent_id = ANY($1::TEXT[]) ORDER BY agents.agent_id";

/// An agent, and what its registration weighs.
macro_rules! weighed {
    ($rest:literal) => {
        concat!(
            "SELECT agents.agent_id,
                 coalesce(octet_length(event.payload), octet_length(registration), 0)::BIGINT AS bytes
             FROM ",
            $rest
        )
    };
}

/// `$1` after, `$2` limit.
pub(super) const ALL: &str = weighed!(
    "agents
     LEFT JOIN LATERAL (SELECT payload FROM journal WHERE position = agents.registered OFFSET 0) AS event ON true
     WHERE agents.agent_id > $1 ORDER BY agents.agent_id LIMIT $2"
);

/// `$1` after, `$2` limit. Begins with the sockets: there may be many more agents.
pub(super) const CONNECTED: &str = weighed!(
    "sessions AS here
     CROSS JOIN LATERAL (SELECT * FROM agents WHERE agent_id = here.identity OFFSET 0) AS agents
     LEFT JOIN LATERAL (SELECT payload FROM journal WHERE position = agents.registered OFFSET 0) AS event ON true
     WHERE here.identity > $1 AND here.registered IS NOT NULL AND here.registered = (
         SELECT max(newer.registered) FROM sessions AS newer WHERE newer.identity = here.identity
     )
     ORDER BY here.identity LIMIT $2"
);

/// `$1` after, `$2` limit.
pub(super) const AWAY: &str = weighed!(
    "agents
     LEFT JOIN LATERAL (SELECT payload FROM journal WHERE position = agents.registered OFFSET 0) AS event ON true
     WHERE agents.agent_id > $1 AND (
         SELECT max(registered) FROM sessions WHERE identity = agents.agent_id AND sessions.registered IS NOT NULL
     ) IS NULL
     ORDER BY agents.agent_id LIMIT $2"
);

impl PostgresReader {
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
        let mut snapshot = self.snapshot().await?;
        let query = snapshot.query(sql).bind(after).bind(bounded(limit));
        let mut found: Vec<String> = Vec::new();
        let mut bytes = 0;
        for row in query.fetch_all(snapshot.connection()).await.map_err(error::unavailable)? {
            let columns = Columns::of("agents", &row);
            found.push(columns.identity("agent_id")?.to_string());
            bytes += columns.integer("bytes")?;
            if bytes >= MAX_BYTES {
                break;
            }
        }
        let may_go_on = found.len() == limit || bytes >= MAX_BYTES;
        let query = snapshot.query(AGENTS).bind(found);
        let mut rows = query.fetch(snapshot.connection());
        let mut agents: Vec<AgentRecord> = Vec::new();
        while let Some(row) = rows.try_next().await.map_err(error::unavailable)? {
            agents.push(row::agent_record(&row)?);
        }
        let next = agents.last().filter(|_| may_go_on).map(|last| last.agent.clone());
        Ok(AgentPage { agents, next })
    }

    /// One agent.
    pub async fn agent(&self, agent: &Identity) -> Result<Option<AgentRecord>, JournalError> {
        let mut one = self.statement().await?;
        let query = one.query(AGENTS).bind(vec![agent.to_string()]);
        let row = query.fetch_optional(one.connection()).await.map_err(error::unavailable)?;
        row.as_ref().map(|row| row::agent_record(row)).transpose()
    }
}
