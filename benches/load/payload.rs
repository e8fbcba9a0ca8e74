//! What is asked, and has to come back: a payload of a given size with the invocation's number in it.
//!
//! Answers of the first part of the protocol carry nothing else by which a socket could tell them apart.

use serde::Deserialize;

/// Around the number and the filling.
const FRAME: &str = r#"{"number":,"text":""}"#;

/// The payloads of one size.
#[derive(Clone, Debug)]
pub(crate) struct Payloads {
    size: usize,
    filling: String,
}

#[derive(Deserialize)]
struct Numbered {
    number: u64,
}

impl Payloads {
    /// Payloads of `size` bytes, or of as few as a number takes.
    pub(crate) fn of(size: usize) -> Self {
        Self { size, filling: "x".repeat(size) }
    }

    /// The payload with this number.
    pub(crate) fn render(&self, number: u64) -> String {
        let digits = number.to_string();
        let filling = &self.filling[..self.size.saturating_sub(FRAME.len() + digits.len())];
        format!(r#"{{"number":{digits},"text":"{filling}"}}"#)
    }
}

/// The number of a payload, if it is one.
pub(crate) fn number(payload: &str) -> Option<u64> {
    serde_json::from_str::<Numbered>(payload).ok().map(|payload| payload.number)
}
