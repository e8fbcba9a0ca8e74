//! Secrets in payloads, hidden from readers.
//!
//! A text is not decoded and written again: what is hidden is found as spans of it, and all other bytes stay as they are.

mod quoted;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::ops::Range;

use super::json;
use quoted::{Place, Quoted, escaped};

/// What stands in the place of what is hidden.
const MARKER: &str = r#""[redacted]""#;

/// JSON is looked for in strings in JSON, this often in one another. What is nested deeper is hidden whole, so that the
/// work stays linear and nothing gets through.
const MAX_LEVEL: usize = 8;

/// Which fields hold secrets.
#[derive(Clone, Debug, Default)]
pub struct Redactor {
    /// Folded.
    names: Vec<String>,
}

impl Redactor {
    /// Hides the values of fields with these names. Case, hyphens and underscores do not count: `api_key` is `apiKey`
    /// and `API-Key` too.
    #[must_use]
    pub fn new(keys: &[String]) -> Self {
        Self { names: keys.iter().map(|key| folded(key).collect()).collect() }
    }

    /// The text with every such value, of whatever type, replaced by `"[redacted]"`, and every other byte as it was;
    /// borrowed if there was none.
    ///
    /// At any depth, and also in strings, names of fields included, that hold JSON themselves. What is no JSON as Python reads it is left alone.
    #[must_use]
    pub fn redact<'a>(&self, text: &'a [u8]) -> Cow<'a, [u8]> {
        let hidden = if self.names.is_empty() { Vec::new() } else { self.find(text, 0) };
        if hidden.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut redacted = Vec::with_capacity(text.len());
        let mut copied = 0;
        for Hidden { span, level } in hidden {
            redacted.extend_from_slice(&text[copied..span.start]);
            redacted.extend_from_slice(&(0..level).fold(MARKER.into(), |marker: Vec<u8>, _| escaped(&marker)));
            copied = span.end;
        }
        redacted.extend_from_slice(&text[copied..]);
        Cow::Owned(redacted)
    }

    /// What is to be hidden of a text, in order. `level` is the number of strings that the text is in. Recurses no deeper
    /// than [`MAX_LEVEL`]; nesting of objects and arrays is gone through without.
    fn find(&self, text: &[u8], level: usize) -> Vec<Hidden> {
        let mut hidden = Vec::new();
        if !json::is_value(text) {
            return hidden;
        }
        let mut at = 0;
        while let Some(content) = next_string(text, at) {
            at = content.end + 1;
            let colon = behind_whitespace(text, at);
            let names_a_field = text.get(colon) == Some(&b':');
            if names_a_field && self.hides(&text[content.clone()]) {
                let start = behind_whitespace(text, colon + 1);
                at = value_end(text, start);
                hidden.push(Hidden { span: start..at, level });
            } else {
                self.find_quoted(text, content, level, &mut hidden);
            }
        }
        hidden
    }

    /// What is to be hidden of a string, given the span between its quotes.
    fn find_quoted(&self, text: &[u8], content: Range<usize>, level: usize, hidden: &mut Vec<Hidden>) {
        let quoted = Quoted(&text[content.clone()]);
        if !quoted.begins_like_json() {
            return;
        }
        let decoded = quoted.decode();
        if level == MAX_LEVEL {
            if json::is_value(&decoded) {
                hidden.push(Hidden { span: content.start - 1..content.end + 1, level });
            }
            return;
        }
        let mut place = Place::default();
        hidden.extend(self.find(&decoded, level + 1).into_iter().map(|Hidden { span, level }| {
            let [start, end] =
                [span.start, span.end].map(|decoded| content.start + quoted.advance(&mut place, decoded));
            Hidden { span: start..end, level }
        }));
    }

    fn hides(&self, key: &[u8]) -> bool {
        json::decode(key).is_some_and(|key| self.names.iter().any(|name| folded(&key).eq(name.chars())))
    }
}

/// A value that is to be hidden.
struct Hidden {
    span: Range<usize>,
    /// In how many strings it is, one in another: so often are the quotes of what replaces it escaped.
    level: usize,
}

fn folded(name: &str) -> impl Iterator<Item = char> {
    name.chars().filter(|c| !matches!(c, '-' | '_')).flat_map(char::to_lowercase)
}

/// The span between the quotes of the next string at `from` or behind it.
fn next_string(text: &[u8], from: usize) -> Option<Range<usize>> {
    let start = from + text[from..].iter().position(|byte| *byte == b'"')? + 1;
    Some(start..string_end(text, start)?)
}

/// Where the closing quote is of a string that begins at `at`.
fn string_end(text: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += text.get(at..)?.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
        if text[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
}

fn behind_whitespace(text: &[u8], at: usize) -> usize {
    at + text[at..].iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count()
}

/// Behind the value that begins at `start`, however deep it is nested.
fn value_end(text: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0_usize);
    while let Some(byte) = text.get(at) {
        at += 1;
        match byte {
            b'"' => at = string_end(text, at).map_or(text.len(), |quote| quote + 1),
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ if depth > 0 => continue,
            _ => {
                let rest = text[at..].iter();
                return at + rest.take_while(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte)).count();
            }
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}
