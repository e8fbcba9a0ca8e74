//! The rows of agents, sockets and routers, and how far the backend has its notifications, against the events.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures_util::TryStreamExt;
use serde::Deserialize;
use sqlx::{SqliteConnection, SqlitePool};

use crate::clock::Timestamp;
use crate::id::{Position, SessionId};
use crate::journal::audit::Damage;
use crate::journal::row::{self, Columns};
use crate::journal::sqlite::{error, reader};
use crate::journal::{EventKind, JournalError, NodeStanding, SessionStanding};

/// What these rows follow from.
pub(in crate::journal::sqlite) const EVENTS: &str = "
SELECT position, at, kind, node, agent_id, detail FROM journal
WHERE kind IN (1, 3, 4, 5, 10, 11, 13, 60) ORDER BY position";

#[derive(Deserialize)]
struct Facts {
    session: Option<SessionId>,
    version: Option<serde_json::Value>,
    max_in_flight: Option<u32>,
    position: Option<Position>,
    node: Option<String>,
}

/// What the events amount to.
#[derive(Default)]
struct Told {
    registered: HashMap<String, Position>,
    last_seen: HashMap<String, Timestamp>,
    /// Ends of last connections of who has not registered yet: one of them may be in its row.
    seen: HashMap<String, BTreeSet<Timestamp>>,
    sockets: HashMap<SessionId, Socket>,
    starts: BTreeMap<i64, Start>,
    lost: Vec<String>,
    acknowledged: Position,
}

struct Socket {
    identity: String,
    connected_at: Timestamp,
    registered: Option<Position>,
    version: u8,
    max_in_flight: u32,
}

struct Start {
    at: Timestamp,
    version: String,
    draining: bool,
}

impl Told {
    fn take(&mut self, columns: &Columns<'_>) -> Option<()> {
        let (position, at) = (columns.position("position").ok()?, columns.time("at").ok()?);
        let node = columns.integer("node").ok()?;
        let identity = columns.optional_text("agent_id").ok()?.unwrap_or_default();
        let facts: Facts = serde_json::from_str(columns.text("detail").ok()?).ok()?;
        match EventKind::from_code(columns.integer("kind").ok()?)? {
            EventKind::NodeStarted => {
                let version = facts.version?.as_str()?.to_owned();
                self.starts.insert(node, Start { at, version, draining: false });
            }
            EventKind::NodeDraining => self.starts.get_mut(&node)?.draining = true,
            EventKind::NodeResumed => self.starts.get_mut(&node)?.draining = false,
            EventKind::NodeLost => self.lost.push(facts.node?),
            EventKind::AgentConnected => {
                let (identity, registered, version, max_in_flight) = (identity.to_owned(), None, 1, 0);
                let socket = Socket { identity, connected_at: at, registered, version, max_in_flight };
                self.sockets.insert(facts.session?, socket);
            }
            EventKind::AgentRegistered => {
                self.registered.insert(identity.to_owned(), position);
                let socket = self.sockets.get_mut(&facts.session?)?;
                socket.registered = Some(position);
                socket.version = u8::try_from(facts.version?.as_u64()?).ok()?;
                socket.max_in_flight = facts.max_in_flight?;
            }
            EventKind::AgentDisconnected => {
                self.sockets.remove(&facts.session?);
                let is_there = self.sockets.values().any(|socket| socket.identity == identity);
                if !is_there && self.registered.contains_key(identity) {
                    self.last_seen.insert(identity.to_owned(), at);
                } else if !is_there {
                    self.seen.entry(identity.to_owned()).or_default().insert(at);
                }
            }
            EventKind::FeedAcknowledged => self.acknowledged = facts.position?,
            _ => {}
        }
        Some(())
    }
}

pub(super) async fn check(pool: &SqlitePool) -> Result<Option<Damage>, JournalError> {
    // One transaction: a router may be changing them.
    let mut snapshot = pool.begin().await.map_err(error::unavailable)?;
    let head = sqlx::query(reader::HEAD).fetch_one(&mut *snapshot).await.map_err(error::unavailable)?;
    let head = row::head(&head)?.position;
    let pruned: i64 = sqlx::query_scalar(reader::PRUNED).fetch_one(&mut *snapshot).await.map_err(error::unavailable)?;
    let mut told = Told::default();
    let mut events = sqlx::query(EVENTS).fetch(&mut *snapshot);
    while let Some(event) = events.try_next().await.map_err(error::unavailable)? {
        // What was before it may be pruned.
        let _ = told.take(&Columns::of("journal", &event));
    }
    drop(events);
    let wrong = wrong(&mut snapshot, &told, pruned > 0).await?;
    Ok(wrong.map(|what| Damage { position: head, what: format!("{what} is not what the events up to here say") }))
}

/// What is wrong. With events that are gone, only what the others tell.
async fn wrong(snapshot: &mut SqliteConnection, told: &Told, partly: bool) -> Result<Option<String>, JournalError> {
    for found in sqlx::query(reader::AGENTS).fetch_all(&mut *snapshot).await.map_err(error::unavailable)? {
        let agent = row::agent(&found)?;
        let name = agent.agent.as_str();
        let (registered, last_seen) = (told.registered.get(name).copied(), told.last_seen.get(name).copied());
        let was_seen = |at| told.seen.get(name).is_some_and(|seen| seen.contains(&at));
        let agrees = (agent.registered == registered || partly && registered.is_none())
            && (partly || agent.last_seen == last_seen || last_seen.is_none() && agent.last_seen.is_none_or(was_seen));
        if !agrees {
            return Ok(Some(format!("the row of agent {name}")));
        }
    }
    for found in sqlx::query(reader::SESSIONS).fetch_all(&mut *snapshot).await.map_err(error::unavailable)? {
        let session = row::session(&found)?;
        let agrees = told.sockets.get(&session.session).map_or(partly, |socket| {
            socket.identity == session.identity.as_str()
                && socket.connected_at == session.connected_at
                && socket.registered == session.registered
                && (socket.version == session.version || session.standing == SessionStanding::Registering)
                && socket.max_in_flight == session.max_in_flight
        });
        if !agrees {
            return Ok(Some(format!("the row of socket {}", session.session)));
        }
    }
    for found in sqlx::query(reader::NODES).fetch_all(&mut *snapshot).await.map_err(error::unavailable)? {
        let node = row::node(&found)?;
        let Some(start) = told.starts.get(&node.node.0) else { continue };
        let standing = match node.standing {
            NodeStanding::Up => !start.draining,
            NodeStanding::Draining => start.draining,
            NodeStanding::Stopped => false,
            NodeStanding::Lost => told.starts.values().any(|other| other.at > start.at) || !told.lost.is_empty(),
        };
        if node.started_at != start.at || *node.version != *start.version || !standing {
            return Ok(Some(format!("the row of router {}", node.name)));
        }
    }
    let acknowledged: i64 =
        sqlx::query_scalar(reader::ACKNOWLEDGED).fetch_one(snapshot).await.map_err(error::unavailable)?;
    let agrees = told.acknowledged == Position(acknowledged) || partly && told.acknowledged == Position(0);
    Ok((!agrees).then(|| "how far the backend has its notifications".to_owned()))
}
