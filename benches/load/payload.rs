//! What is asked, and has to come back: a payload of a given size with the invocation's number in it.
//!
//! Answers of the first part of the protocol carry nothing else by which a socket could tell them apart.

use std::fmt::Write;

/// Around the number and the filling.
const FRAME: [&str; 3] = [r#"{"number":"#, r#","text":""#, r#""}"#];

/// The payloads of one size.
#[derive(Clone, Debug)]
pub(crate) struct Payloads {
    /// What a number leaves of the size.
    room: usize,
    filling: String,
}

impl Payloads {
    /// Payloads of `size` bytes, or of as few as a number takes.
    pub(crate) fn of(size: usize) -> Self {
        let frame = FRAME.iter().map(|part| part.len()).sum();
        Self { room: size.saturating_sub(frame), filling: "x".repeat(size) }
    }

    /// The payload with this number.
    pub(crate) fn render(&self, number: u64) -> String {
        let mut payload = String::with_capacity(self.filling.len() + FRAME[0].len());
        let [start, middle, end] = FRAME;
        write!(payload, "{start}{number}{middle}").expect("a string takes every character");
        payload.push_str(self.filling(payload.len() - start.len() - middle.len()));
        payload.push_str(end);
        payload
    }

    /// The number of a payload, if it is one of these.
    pub(crate) fn recognise(&self, payload: &str) -> Option<u64> {
        let (digits, rest) = split(payload)?;
        let text = rest.strip_prefix(FRAME[1])?.strip_suffix(FRAME[2])?;
        (text == self.filling(digits.len())).then(|| digits.parse().ok())?
    }

    fn filling(&self, digits: usize) -> &str {
        &self.filling[..self.room.saturating_sub(digits)]
    }
}

/// The number of a payload, if it has one.
pub(crate) fn number(payload: &str) -> Option<u64> {
    split(payload)?.0.parse().ok()
}

/// The digits of its number, and what comes after them.
fn split(payload: &str) -> Option<(&str, &str)> {
    let rest = payload.strip_prefix(FRAME[0])?;
    Some(rest.split_at(rest.find(',')?))
}
