//! Rows of events.

use serde::Deserialize;

use crate::id::SessionId;
use crate::journal::row::{Cells, Columns};
use crate::journal::{EventKind, EventRecord, FeedEvent, Head, JournalError, Notice};

/// The row of `journal_head`.
pub(in crate::journal) fn head(row: &dyn Cells) -> Result<Head, JournalError> {
    let columns = Columns::of("journal_head", row);
    Ok(Head { position: columns.position("position")?, hash: columns.digest("hash")? })
}

/// A row of `journal`, with the name of its `node`.
pub(in crate::journal) fn event(row: &dyn Cells) -> Result<EventRecord, JournalError> {
    let columns = Columns::of("journal", row);
    Ok(EventRecord {
        position: columns.position("position")?,
        at: columns.time("at")?,
        kind: kind(&columns)?,
        node: columns.text("node")?.to_owned(),
        invocation: columns.invocation_id("invocation_id")?,
        agent: columns.optional_identity("agent_id")?,
        caller: columns.optional_identity("caller")?,
        detail: columns.text("detail")?.to_owned(),
        payload: columns.bytes("payload")?,
        payload_hash: columns.optional_digest("payload_hash")?,
        salt: columns.salt("salt")?,
        hash: columns.digest("hash")?,
    })
}

fn kind(columns: &Columns<'_>) -> Result<EventKind, JournalError> {
    let code = columns.integer("kind")?;
    EventKind::from_code(code).ok_or_else(|| columns.damaged("kind", format!("is {code}")))
}

/// What a row of `journal` has to tell the backend.
pub(in crate::journal) fn feed_event(row: &dyn Cells) -> Result<FeedEvent, JournalError> {
    /// What the feed needs of a registration's detail.
    #[derive(Deserialize)]
    struct Registration {
        session: SessionId,
    }

    let columns = Columns::of("journal", row);
    let payload = || columns.required("payload", columns.bytes("payload")?);
    let notice = match kind(&columns)? {
        EventKind::AgentRegistered => {
            let detail: Registration = serde_json::from_str(columns.text("detail")?)
                .map_err(|_| columns.damaged("detail", "names no session"))?;
            Notice::Registered { session: detail.session, payload: payload()? }
        }
        EventKind::AgentLogged => Notice::Logged { body: payload()? },
        EventKind::AgentDisconnected => Notice::Unregistered,
        other => return Err(columns.damaged("kind", format!("is {}, which is not for the feed", other.as_str()))),
    };
    Ok(FeedEvent { position: columns.position("position")?, agent: columns.identity("agent_id")?, notice })
}
