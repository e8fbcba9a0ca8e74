//! A line of an agent's log on its way to the backend, shortened if it has to be.

use bytes::Bytes;

use super::fields;
use crate::protocol::json::{Members, Object, escape};
use crate::protocol::message_type;

/// Fields of a log line that the backend knows, besides the message.
const KNOWN: [&str; 3] = ["log_level", "request_id", "session_id"];

/// The longest of them that stays in a line which is reduced to them, in bytes of its text.
const MAX_KNOWN_BYTES: usize = 1024;

/// An agent has logged. `body` is its frame without type, sender and `invoked_by`; the notice is at
/// most `max_len` bytes, for any `max_len` that has room for the names of things.
///
/// Of a line that is too long, as much of `log_message` stays as fits, with a mark that says how
/// long it was. If that is not enough, nothing but the mark and the short fields that the backend
/// knows stays.
#[must_use]
pub fn log_notice(body: &[u8], agent: &str, max_len: usize) -> Bytes {
    let line = fields(body);
    let sender = Members::new().text("message_type", message_type::LOG).text("agent_uuid", agent);
    let whole = notice(&line, &["message_type", "agent_uuid"], &sender, &Members::new());
    if whole.len() <= max_len {
        return whole;
    }
    shortened(&line, &sender, max_len).unwrap_or_else(|| reduced(&line, body.len(), &sender))
}

fn notice(line: &Object<'_>, cut: &[&str], first: &Members, last: &Members) -> Bytes {
    Members::new().raw("request_payload", &line.splice(cut, first, last)).into_object()
}

/// The line with the beginning of its message; `None` if its message is no string, or it is too
/// long without any.
fn shortened(line: &Object<'_>, sender: &Members, max_len: usize) -> Option<Bytes> {
    let message = line.get("log_message")?.string_content()?;
    let mark = mark(message.len());
    let with_message = |message: &[u8]| {
        let quoted = [b"\"", message, mark.as_bytes(), b"\""].concat();
        let last = Members::new().raw("log_message", &quoted);
        notice(line, &["message_type", "agent_uuid", "log_message"], sender, &last)
    };
    let room = max_len.checked_sub(with_message(b"").len())?;
    Some(with_message(beginning(message, room)))
}

/// The mark and the short fields that the backend knows.
fn reduced(line: &Object<'_>, length: usize, sender: &Members) -> Bytes {
    let mut last = Members::new().text("log_message", mark(length).trim_start());
    for name in KNOWN {
        if let Some(value) = line.get(name).filter(|value| value.bytes().len() <= MAX_KNOWN_BYTES) {
            last = last.raw(name, value.bytes());
        }
    }
    notice(&Object::empty(), &[], sender, &last)
}

fn mark(length: usize) -> String {
    format!(" … [cut by the router, {length} bytes in all]")
}

/// At most `room` bytes of a string's content, cut neither within a character nor within an escape.
fn beginning(content: &[u8], room: usize) -> &[u8] {
    let mut end = 0;
    while let Some(&byte) = content.get(end) {
        let length = match byte {
            b'\\' => escape(&content[end..]).map_or(1, |(_, length)| length),
            0xf0.. => 4,
            0xe0.. => 3,
            0xc0.. => 2,
            _ => 1,
        };
        if end + length > room {
            break;
        }
        end += length;
    }
    content.get(..end).unwrap_or(content)
}
