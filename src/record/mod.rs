//! What is stored, as JSON for readers: the field names of the HTTP interface, of exports, and their schemas.
//!
//! Peers' own JSON is put in as it was stored, as far as strict JSON and what is to be hidden allow, never decoded and
//! written again. Depends on `journal` and `protocol`; `http` and `cli` import it.

mod event;
mod invocation;
mod schema;
mod table;
#[cfg(test)]
mod tests;

pub mod file;

use serde_json::value::{RawValue, to_raw_value};

pub(crate) use crate::journal::chain::to_hex as hex;
use crate::protocol::to_strict;

pub use event::{Event, Page, event_line};
pub use invocation::{Failure, Invocation, Invocations};
pub use table::{csv_header, csv_row};

/// A peer's JSON, for strict readers, on one line. What is no JSON, which the journal should not have, is shown as a
/// string.
pub(crate) fn strict(python: &[u8]) -> Box<RawValue> {
    let mut text = to_strict(python);
    if text.iter().any(is_line_break) {
        // Strings hold none, so these are between the tokens.
        text.to_mut().iter_mut().filter(|byte| is_line_break(byte)).for_each(|byte| *byte = b' ');
    }
    String::from_utf8(text.into_owned()).ok().and_then(|text| RawValue::from_string(text).ok()).unwrap_or_else(|| {
        to_raw_value(&String::from_utf8_lossy(python)).expect("a string can always be written as JSON")
    })
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "iterators call it so")]
const fn is_line_break(byte: &u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}
