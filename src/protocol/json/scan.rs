//! The one pass over a text: finds where a value ends, and that it is one.

use std::ops::Range;

use super::string;

/// Containers may be nested this deep. Python's own reader gives up at about twice that, with an error that ends a
/// stock agent, so nothing deeper may reach one.
pub(super) const MAX_DEPTH: usize = 512;

/// An integer may have this many digits: no stock agent survives one that has more.
pub(super) const MAX_DIGITS: usize = 4300;

/// Why a text is no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is not JSON as Python reads it.
    Syntax,
    /// It is nested deeper than [`MAX_DEPTH`].
    TooDeep,
    /// It has an integer of more than [`MAX_DIGITS`].
    TooManyDigits,
}

use Fault::Syntax;

/// A place in a text. Every method starts there, and leaves it behind what it has read.
pub(super) struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    pub(super) fn position(&self) -> usize {
        self.at
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// Takes the next byte if it is this one.
    pub(super) fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    pub(super) fn whitespace(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// Takes the whitespace that may end a text, and fails if anything follows it.
    pub(super) fn end(&mut self) -> Result<(), Fault> {
        self.whitespace();
        if self.at == self.text.len() { Ok(()) } else { Err(Syntax) }
    }

    /// Reads one value, however deep it is nested; returns its span.
    pub(super) fn value(&mut self) -> Result<Range<usize>, Fault> {
        let start = self.at;
        let mut open = Nesting::default();
        loop {
            match self.peek().ok_or(Syntax)? {
                b'{' => {
                    self.at += 1;
                    self.whitespace();
                    if !self.take(b'}') {
                        open.push(Container::Object)?;
                        self.key()?;
                        continue;
                    }
                }
                b'[' => {
                    self.at += 1;
                    self.whitespace();
                    if !self.take(b']') {
                        open.push(Container::Array)?;
                        continue;
                    }
                }
                b'"' => {
                    self.string()?;
                }
                _ => self.scalar()?,
            }
            loop {
                let Some(container) = open.innermost() else {
                    return Ok(start..self.at);
                };
                self.whitespace();
                let byte = self.peek().ok_or(Syntax)?;
                self.at += 1;
                match (container, byte) {
                    (Container::Object, b'}') | (Container::Array, b']') => open.pop(),
                    (Container::Object, b',') => {
                        self.whitespace();
                        self.key()?;
                        break;
                    }
                    (Container::Array, b',') => {
                        self.whitespace();
                        break;
                    }
                    _ => return Err(Syntax),
                }
            }
        }
    }

    /// Reads a key, its colon and the whitespace before the value; returns the span between the
    /// key's quotes.
    pub(super) fn key(&mut self) -> Result<Range<usize>, Fault> {
        let key = self.string()?;
        self.whitespace();
        if !self.take(b':') {
            return Err(Syntax);
        }
        self.whitespace();
        Ok(key)
    }

    /// Reads a string; returns the span between its quotes.
    fn string(&mut self) -> Result<Range<usize>, Fault> {
        if !self.take(b'"') {
            return Err(Syntax);
        }
        let start = self.at;
        loop {
            self.at = string::first_special(self.text, self.at).ok_or(Syntax)?;
            match self.text[self.at] {
                b'"' => {
                    self.at += 1;
                    return Ok(start..self.at - 1);
                }
                b'\\' => self.at += escape_length(&self.text[self.at + 1..]).ok_or(Syntax)?,
                _ => return Err(Syntax),
            }
        }
    }

    fn scalar(&mut self) -> Result<(), Fault> {
        let rest = &self.text[self.at..];
        let word: &[u8] = match rest.first() {
            Some(b'n') => b"null",
            Some(b't') => b"true",
            Some(b'f') => b"false",
            Some(b'N') => b"NaN",
            Some(b'I') => b"Infinity",
            Some(b'-') if rest.get(1) == Some(&b'I') => b"-Infinity",
            _ => return self.number(),
        };
        if !rest.starts_with(word) {
            return Err(Syntax);
        }
        self.at += word.len();
        Ok(())
    }

    fn number(&mut self) -> Result<(), Fault> {
        self.take(b'-');
        let start = self.at;
        if !self.take(b'0') {
            self.digits()?;
        }
        let digits = self.at - start;
        let fraction = self.take(b'.');
        if fraction {
            self.digits()?;
        }
        let exponent = matches!(self.peek(), Some(b'e' | b'E'));
        if digits > MAX_DIGITS && !fraction && !exponent {
            return Err(Fault::TooManyDigits);
        }
        if exponent {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// Reads one digit or more.
    fn digits(&mut self) -> Result<(), Fault> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == start { Err(Syntax) } else { Ok(()) }
    }
}

/// The length of an escape, its backslash included; `rest` is what follows the backslash. Halves of
/// a surrogate pair count as one each here.
fn escape_length(rest: &[u8]) -> Option<usize> {
    match rest.first()? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(2),
        b'u' => rest.get(1..5)?.iter().all(u8::is_ascii_hexdigit).then_some(6),
        _ => None,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Container {
    Object,
    Array,
}

/// The containers that are open, one bit each.
#[derive(Default)]
struct Nesting {
    depth: usize,
    arrays: [u64; MAX_DEPTH / 64],
}

impl Nesting {
    fn push(&mut self, container: Container) -> Result<(), Fault> {
        let (word, bit) = (self.depth / 64, 1 << (self.depth % 64));
        let word = self.arrays.get_mut(word).ok_or(Fault::TooDeep)?;
        match container {
            Container::Array => *word |= bit,
            Container::Object => *word &= !bit,
        }
        self.depth += 1;
        Ok(())
    }

    fn pop(&mut self) {
        self.depth -= 1;
    }

    fn innermost(&self) -> Option<Container> {
        let top = self.depth.checked_sub(1)?;
        let array = self.arrays[top / 64] >> (top % 64) & 1 == 1;
        Some(if array { Container::Array } else { Container::Object })
    }
}
