//! One value inside a text.

use std::borrow::Cow;

use super::scan::Scanner;
use super::{Object, string};

/// The text of one value, already checked, without the whitespace around it.
#[derive(Clone, Copy)]
pub struct Value<'a>(&'a [u8]);

impl<'a> Value<'a> {
    /// `text` has been read by a [`Scanner`], as one value.
    pub(super) fn checked(text: &'a [u8]) -> Self {
        Self(text)
    }

    /// The text as it stands.
    #[must_use]
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// Whether it is `null`.
    #[must_use]
    pub fn is_null(self) -> bool {
        self.0 == b"null"
    }

    /// Whether Python takes it for false: `null`, `false`, a zero, an empty string, array or
    /// object.
    #[must_use]
    pub fn is_falsy(self) -> bool {
        match self.0.first() {
            Some(b'n' | b'f') | None => true,
            Some(b'"') => self.0 == br#""""#,
            Some(b'[' | b'{') => self.0[1..self.0.len() - 1].trim_ascii().is_empty(),
            Some(b'-' | b'0'..=b'9') => self.is_zero(),
            Some(_) => false,
        }
    }

    /// Whether it is a number that is zero, one which is too small for a float included.
    fn is_zero(self) -> bool {
        str::from_utf8(self.0).is_ok_and(|text| text.parse() == Ok(0.0_f64))
    }

    /// The characters, if it is a string. One with a lone surrogate has none.
    #[must_use]
    pub fn as_text(self) -> Option<Cow<'a, str>> {
        string::decode(self.string_content()?)
    }

    /// What is between the quotes, if it is a string: with its escapes, as it was written.
    #[must_use]
    pub fn string_content(self) -> Option<&'a [u8]> {
        self.0.strip_prefix(b"\"")?.strip_suffix(b"\"")
    }

    /// The truth value, if it is `true` or `false`.
    #[must_use]
    pub fn as_bool(self) -> Option<bool> {
        match self.0 {
            b"true" => Some(true),
            b"false" => Some(false),
            _ => None,
        }
    }

    /// The number, if it is an integer in range. A float is none, whatever its value.
    #[must_use]
    pub fn as_u64(self) -> Option<u64> {
        str::from_utf8(self.0).ok()?.parse().ok()
    }

    /// The fields, if it is an object.
    #[must_use]
    pub fn as_object(self) -> Option<Object<'a>> {
        Object::parse(self.0).ok()
    }

    /// Whether it is an object.
    #[must_use]
    pub fn is_object(self) -> bool {
        self.0.first() == Some(&b'{')
    }

    /// The elements, if it is an array.
    #[must_use]
    pub fn elements(self) -> Option<Elements<'a>> {
        let mut scanner = Scanner::new(self.0);
        scanner.take(b'[').then_some(Elements { text: self.0, scanner })
    }
}

/// The elements of an array, in order.
pub struct Elements<'a> {
    text: &'a [u8],
    scanner: Scanner<'a>,
}

impl<'a> Iterator for Elements<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        self.scanner.whitespace();
        // The text was checked, so that the only failure left is that of `]`: no more elements.
        let span = self.scanner.value().ok()?;
        self.scanner.whitespace();
        self.scanner.take(b',');
        Some(Value::checked(&self.text[span]))
    }
}
