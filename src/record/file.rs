//! An export, read back: one event a line, each checked against the chain.

use std::borrow::Cow;
use std::io::{self, BufRead, Read};

use chrono::DateTime;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::clock::Timestamp;
use crate::id::{InvocationId, Position};
use crate::journal::audit::{Audit, Content, Damage, Entry};
use crate::journal::chain::{Link, SALT_BYTES, from_hex};
use crate::journal::{EventKind, Verification};

/// The longest line that is read: more than the largest event takes.
const MAX_LINE_BYTES: usize = 16 << 20;

/// Why a file could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It could not be read.
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// There is nothing in it, which proves nothing.
    #[error("there is no event in it")]
    Empty,
    /// A line is no event. Lines are counted from 1.
    #[error("line {line} is no event of an export: {what}")]
    Line {
        /// Which.
        line: u64,
        /// What is wrong with it.
        what: String,
    },
}

/// A line: what [`event_line`](super::event_line) writes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    position: Position,
    at: &'a str,
    kind: &'a str,
    #[serde(borrow)]
    node_id: Cow<'a, str>,
    invocation_id: Option<InvocationId>,
    #[serde(borrow)]
    agent_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    caller: Option<Cow<'a, str>>,
    #[serde(borrow)]
    detail: &'a RawValue,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    hash: &'a str,
    payload_hash: Option<&'a str>,
    salt: Option<&'a str>,
    #[serde(default)]
    redacted: bool,
    #[serde(default)]
    erased: bool,
}

/// Checks an export, line by line, with the audit that fits it. Takes as much memory as the longest line, and the audit.
pub fn verify(mut file: impl BufRead, mut audit: Audit) -> Result<Verification, FileError> {
    let mut text = Vec::new();
    for line in 1.. {
        text.clear();
        if file.by_ref().take(MAX_LINE_BYTES as u64 + 1).read_until(b'\n', &mut text)? == 0 {
            if line == 1 {
                return Err(FileError::Empty);
            }
            break;
        }
        let wrong = |what| FileError::Line { line, what };
        if text.len() > MAX_LINE_BYTES {
            return Err(wrong(format!("it is longer than {MAX_LINE_BYTES} bytes")));
        }
        let event: Line<'_> = serde_json::from_slice(&text).map_err(|error| wrong(without_place(&error)))?;
        if let Err(damage) = event.check(&mut audit).map_err(wrong)? {
            return Ok(damage.into());
        }
    }
    Ok(audit.finish())
}

/// What is wrong, in a text that is one line.
fn without_place(error: &serde_json::Error) -> String {
    let (message, column) = (error.to_string(), error.column());
    let what = message.split(" at line ").next().unwrap_or_default();
    format!("{what}, at byte {column}")
}

impl Line<'_> {
    /// Has the audit check it; the outer error says why it is no event.
    fn check(&self, audit: &mut Audit) -> Result<Result<(), Damage>, String> {
        let kind = EventKind::from_name(self.kind).ok_or_else(|| format!("there is no kind {:?}", self.kind))?;
        let hash: [u8; 32] = from_hex(self.hash).ok_or("hash is not 64 hexadecimal digits")?;
        let payload_hash = self.payload_hash.map(from_hex::<32>);
        let payload_hash =
            payload_hash.map(|hash| hash.ok_or("payload_hash is not 64 hexadecimal digits")).transpose()?;
        let salt = self.salt.map(from_hex::<SALT_BYTES>);
        let salt = salt.map(|salt| salt.ok_or("salt is not 32 hexadecimal digits")).transpose()?;
        let salt = salt.as_ref().map(|salt| &salt[..]);
        // What is stored can be `null` too.
        let payload = self.payload.map(|payload| payload.get().as_bytes()).or(salt.map(|_| &b"null"[..]));
        if self.redacted && (self.erased || salt.is_some()) || self.erased && payload.is_some() {
            return Err("payload, salt, redacted and erased contradict each other".to_owned());
        }
        let content = if self.redacted { Content::Hidden } else { Content::Stored { payload, salt } };
        let entry = Entry {
            link: Link {
                position: self.position.0,
                at: micros(self.at)?,
                kind: kind.code(),
                node: &self.node_id,
                invocation: self.invocation_id.as_ref().map(|id| &id.0.as_bytes()[..]),
                agent: self.agent_id.as_deref(),
                caller: self.caller.as_deref(),
                detail: self.detail.get(),
                payload_hash: payload_hash.as_ref().map(|hash| &hash[..]),
            },
            hash: &hash,
            content,
        };
        Ok(audit.check(&entry))
    }
}

/// The moment that is written so, and not otherwise.
fn micros(text: &str) -> Result<i64, String> {
    let moment = DateTime::parse_from_rfc3339(text).ok().map(|at| at.timestamp_micros());
    moment
        .filter(|micros| Timestamp::from_micros(*micros).to_rfc3339() == text)
        .ok_or_else(|| format!("at is {text:?}, which is no time with six decimals in UTC"))
}
