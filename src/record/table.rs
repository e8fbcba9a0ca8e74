//! Events as rows of a table, RFC 4180.

use csv::{Terminator, WriterBuilder};

use super::event::Event;
use crate::id::Identity;
use crate::journal::EventRecord;
use crate::protocol::Redactor;

/// The names of the columns: the fields of an event.
const COLUMNS: [&str; 14] = [
    "position",
    "at",
    "kind",
    "node_id",
    "invocation_id",
    "agent_id",
    "caller",
    "detail",
    "payload",
    "hash",
    "payload_hash",
    "salt",
    "redacted",
    "erased",
];

/// The first line, with its end.
#[must_use]
pub fn csv_header() -> Vec<u8> {
    line(COLUMNS)
}

/// The event as one record, with its line's end: the fields of [`Event`], JSON as text, null and absent as empty.
#[must_use]
pub fn csv_row(event: &EventRecord, redactor: &Redactor) -> Vec<u8> {
    let event = Event::new(event, redactor);
    let flag = |set: bool| if set { "true" } else { "" };
    line([
        &event.position.to_string(),
        &event.at,
        event.kind,
        event.node_id,
        &event.invocation_id.map(|id| id.to_string()).unwrap_or_default(),
        event.agent_id.map(Identity::as_str).unwrap_or_default(),
        event.caller.map(Identity::as_str).unwrap_or_default(),
        event.detail.get(),
        event.payload.as_ref().map(|payload| payload.get()).unwrap_or_default(),
        &event.hash,
        event.payload_hash.as_deref().unwrap_or_default(),
        event.salt.as_deref().unwrap_or_default(),
        flag(event.redacted),
        flag(event.erased),
    ])
}

fn line(cells: [&str; COLUMNS.len()]) -> Vec<u8> {
    let mut writer = WriterBuilder::new().terminator(Terminator::CRLF).from_writer(Vec::new());
    writer.write_record(cells).expect("a vector takes whatever is written");
    writer.into_inner().expect("a vector can always be flushed")
}
