//! JSON as Python writes and reads it, without turning it into values and back.
//!
//! Accepts what `CPython`'s `json.loads` accepts: `NaN`, `Infinity`, `-Infinity`, integers of any
//! size, lone surrogate escapes, duplicate keys (the last one counts); and rejects what it rejects,
//! control characters in strings included. Nesting may be of any depth: nothing here recurses.
//!
//! A text is scanned once, into the spans of its top-level fields ([`Object`]). A [`Value`] is such
//! a span: its text has been checked, and is decoded when it is asked for. [`Members`] writes.

mod object;
mod scan;
mod string;
#[cfg(test)]
mod tests;
mod value;
mod write;

pub use object::{Object, ParseError};
pub use value::{Elements, Value};
pub use write::Members;

pub(super) use string::{Escaped, decode, escape};

/// Whether a text is one value and nothing else. One that only goes beyond what a stock agent survives is one, too.
pub(super) fn is_value(text: &[u8]) -> bool {
    let mut scanner = scan::Scanner::new(text);
    scanner.whitespace();
    let read = scanner.value().and_then(|_| scanner.end());
    !matches!(read, Err(scan::Fault::Syntax))
}
