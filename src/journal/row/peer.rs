//! Rows of agents, of sockets and of routers.

use crate::id::NodeId;
use crate::journal::row::{Cells, Columns};
use crate::journal::{
    AgentRecord, AgentRow, JournalError, NodeRecord, NodeRow, NodeStanding, SessionRow, SessionStanding,
};

/// A row of `agents`.
pub(in crate::journal) fn agent(row: &dyn Cells) -> Result<AgentRow, JournalError> {
    let columns = Columns::of("agents", row);
    Ok(AgentRow {
        agent: columns.identity("agent_id")?,
        registered: columns.optional_position("registered")?,
        last_seen: columns.optional_time("last_seen")?,
    })
}

/// A row of `sessions`.
pub(in crate::journal) fn session(row: &dyn Cells) -> Result<SessionRow, JournalError> {
    let columns = Columns::of("sessions", row);
    Ok(SessionRow {
        session: columns.required("id", columns.session("id")?)?,
        identity: columns.identity("identity")?,
        registered: columns.optional_position("registered")?,
        version: columns.number("version")?,
        connected_at: columns.time("connected_at")?,
        node: NodeId(columns.integer("node")?),
        standing: SessionStanding::from_code(columns.integer("standing")?)
            .ok_or_else(|| columns.damaged("standing", "is no standing"))?,
        max_in_flight: columns.number("max_in_flight")?,
        sealed_credential: columns.bytes("sealed_credential")?,
    })
}

/// A row of `nodes`.
pub(in crate::journal) fn node(row: &dyn Cells) -> Result<NodeRow, JournalError> {
    let columns = Columns::of("nodes", row);
    Ok(NodeRow {
        node: NodeId(columns.integer("code")?),
        name: columns.text("name")?.into(),
        epoch: columns.integer("epoch")?,
        standing: NodeStanding::from_code(columns.integer("standing")?)
            .ok_or_else(|| columns.damaged("standing", "is no standing"))?,
        version: columns.text("version")?.into(),
        started_at: columns.time("started_at")?,
    })
}

/// The same, with how many `sessions` it holds, and when it `renewed_at`.
pub(in crate::journal) fn node_record(row: &dyn Cells) -> Result<NodeRecord, JournalError> {
    let columns = Columns::of("nodes", row);
    Ok(NodeRecord {
        row: node(row)?,
        renewed_at: columns.optional_time("renewed_at")?,
        sessions: columns.number("sessions")?,
    })
}

/// An agent, with what it registered with, and its registered socket.
pub(in crate::journal) fn agent_record(row: &dyn Cells) -> Result<AgentRecord, JournalError> {
    let columns = Columns::of("agents", row);
    let connected_at = columns.optional_time("connected_at")?;
    Ok(AgentRecord {
        node: columns.optional_text("node")?.map(str::to_owned),
        agent: columns.identity("agent_id")?,
        registered_at: columns.optional_time("registered_at")?,
        registration: columns.bytes("registration")?,
        connected_at,
        version: columns.optional_number("version")?,
        last_seen: columns.optional_time("last_seen")?.filter(|_| connected_at.is_none()),
    })
}
