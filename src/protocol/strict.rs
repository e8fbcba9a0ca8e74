//! Python's JSON made strict, for HTTP.

use std::borrow::Cow;

use super::json::{Escaped, escape};

/// Rewrites what strict JSON does not have, given a text that Python accepts, and leaves every
/// other byte as it was.
///
/// `NaN`, `Infinity` and `-Infinity`, integers that fit neither `i64` nor `u64`, and numbers too
/// large for a float become strings of the same characters; a lone surrogate escape becomes its own
/// six characters.
#[must_use]
pub fn to_strict(text: &[u8]) -> Cow<'_, [u8]> {
    let mut rewritten = Rewritten { text, copied: 0, out: Vec::new() };
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        at = match byte {
            b'"' => rewritten.string(at + 1),
            b'-' | b'0'..=b'9' | b'N' | b'I' => rewritten.scalar(at),
            _ => at + 1,
        };
    }
    rewritten.finish()
}

/// The text so far: what was changed is in `out`, what comes after `copied` is still only in
/// `text`.
struct Rewritten<'a> {
    text: &'a [u8],
    copied: usize,
    out: Vec<u8>,
}

impl<'a> Rewritten<'a> {
    /// Puts `inserted` in at a place that is not before any earlier one.
    fn insert(&mut self, at: usize, inserted: u8) {
        self.out.extend_from_slice(&self.text[self.copied..at]);
        self.out.push(inserted);
        self.copied = at;
    }

    /// Goes through a string from behind its first quote; returns where it is over.
    fn string(&mut self, start: usize) -> usize {
        let mut at = start;
        while let Some(byte) = self.text.get(at) {
            match byte {
                b'"' => return at + 1,
                b'\\' => {
                    let (escaped, length) = escape(&self.text[at..]).unwrap_or((Escaped::Character('\\'), 1));
                    if escaped == Escaped::LoneSurrogate {
                        self.insert(at, b'\\');
                    }
                    at += length;
                }
                _ => at += 1,
            }
        }
        at
    }

    /// Goes through a number, or a word that stands for one; returns where it is over.
    fn scalar(&mut self, start: usize) -> usize {
        let rest = &self.text[start..];
        let length = rest
            .iter()
            .position(|byte| !(byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')))
            .unwrap_or(rest.len());
        if !is_strict(&rest[..length]) {
            self.insert(start, b'"');
            self.insert(start + length, b'"');
        }
        start + length
    }

    fn finish(mut self) -> Cow<'a, [u8]> {
        if self.out.is_empty() {
            return Cow::Borrowed(self.text);
        }
        self.out.extend_from_slice(&self.text[self.copied..]);
        Cow::Owned(self.out)
    }
}

/// Whether strict readers have a number for it.
fn is_strict(scalar: &[u8]) -> bool {
    let Ok(scalar) = str::from_utf8(scalar) else {
        return false;
    };
    if scalar.contains(['.', 'e', 'E']) {
        return scalar.parse::<f64>().is_ok_and(f64::is_finite);
    }
    scalar.parse::<i64>().is_ok() || scalar.parse::<u64>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn becomes(python: &str, strict: &str) {
        let made = to_strict(python.as_bytes());
        assert_eq!(String::from_utf8_lossy(&made), strict);
        assert_eq!(matches!(made, Cow::Borrowed(_)), python == strict, "{python}");
        serde_json::from_slice::<serde_json::Value>(&made).unwrap();
    }

    #[test]
    fn a_strict_text_is_left_alone() {
        becomes(
            r#" {"a": [1, -2.5e3, true, false, null], "NaN": "Infinity -Infinity 1e999 \ud83d\ude00 \\ud800"} "#,
            r#" {"a": [1, -2.5e3, true, false, null], "NaN": "Infinity -Infinity 1e999 \ud83d\ude00 \\ud800"} "#,
        );
        becomes("[18446744073709551615,-9223372036854775808,-0,1e-400]", {
            "[18446744073709551615,-9223372036854775808,-0,1e-400]"
        });
    }

    #[test]
    fn numbers_that_strict_readers_lack_become_strings() {
        becomes("[NaN, Infinity,-Infinity]", r#"["NaN", "Infinity","-Infinity"]"#);
        becomes(r#"{"n":18446744073709551616}"#, r#"{"n":"18446744073709551616"}"#);
        becomes("-9223372036854775809", r#""-9223372036854775809""#);
        becomes("[1e999,-1.5E+400]", r#"["1e999","-1.5E+400"]"#);
    }

    #[test]
    fn a_lone_surrogate_becomes_its_own_characters() {
        becomes(r#""\ud800""#, r#""\\ud800""#);
        becomes(r#"{"\uDC00": "\ud83dx\ud83d\ud83d\ude00\n"}"#, r#"{"\\uDC00": "\\ud83dx\\ud83d\ud83d\ude00\n"}"#);
    }
}
