//! A text that is an object: its fields, and its bytes with fields cut out and put in.

use std::borrow::Cow;
use std::ops::Range;

use super::scan::{Fault, MAX_DEPTH, MAX_DIGITS, Scanner};
use super::{Members, Value, string};

/// The top-level fields of a text.
pub struct Object<'a> {
    text: &'a [u8],
    /// Behind the opening brace.
    inside: usize,
    fields: Vec<Field<'a>>,
}

struct Field<'a> {
    /// `None` if it has a lone surrogate: no name that is looked for has.
    name: Option<Cow<'a, str>>,
    /// From the key's quote to the end of the value.
    span: Range<usize>,
    value: Value<'a>,
}

/// Why a text is not taken for an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// It is not UTF-8.
    #[error("not UTF-8")]
    NotUtf8,
    /// It is not JSON as Python reads it.
    #[error("not JSON")]
    NotJson,
    /// It is JSON, and something else than an object.
    #[error("not an object")]
    NotAnObject,
    /// It is nested deeper than a stock agent survives.
    #[error("nested more than {MAX_DEPTH} deep")]
    TooDeep,
    /// It has an integer longer than a stock agent survives.
    #[error("an integer of more than {MAX_DIGITS} digits")]
    TooManyDigits,
}

impl From<Fault> for ParseError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Syntax => Self::NotJson,
            Fault::TooDeep => Self::TooDeep,
            Fault::TooManyDigits => Self::TooManyDigits,
        }
    }
}

impl<'a> Object<'a> {
    /// An object without fields: `{}`.
    #[must_use]
    pub fn empty() -> Self {
        Self { text: b"{}", inside: 1, fields: Vec::new() }
    }

    /// Reads a text to its end.
    pub fn parse(text: &'a [u8]) -> Result<Self, ParseError> {
        str::from_utf8(text).map_err(|_| ParseError::NotUtf8)?;
        let mut scanner = Scanner::new(text);
        scanner.whitespace();
        if !scanner.take(b'{') {
            scanner.value()?;
            scanner.end()?;
            return Err(ParseError::NotAnObject);
        }
        let inside = scanner.position();
        let mut fields = Vec::with_capacity(8);
        scanner.whitespace();
        if !scanner.take(b'}') {
            loop {
                let start = scanner.position();
                let key = scanner.key()?;
                let value = scanner.value()?;
                fields.push(Field {
                    name: string::decode(&text[key]),
                    span: start..value.end,
                    value: Value::checked(&text[value]),
                });
                scanner.whitespace();
                if scanner.take(b'}') {
                    break;
                }
                if !scanner.take(b',') {
                    return Err(ParseError::NotJson);
                }
                scanner.whitespace();
            }
        }
        scanner.end()?;
        Ok(Self { text, inside, fields })
    }

    /// A field's value; the last one, if the object has several of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Value<'a>> {
        self.fields.iter().rev().find(|field| field.is_one_of(&[name])).map(|field| field.value)
    }

    /// The name of a field that is none of these, if there is one; what of it is no text is left
    /// out.
    #[must_use]
    pub fn field_other_than(&self, names: &[&str]) -> Option<Cow<'a, str>> {
        let other = self.fields.iter().find(|field| !field.is_one_of(names))?;
        Some(other.name.clone().unwrap_or_default())
    }

    /// The text without the fields of these names, every other byte as it was. Borrowed if there
    /// are none.
    #[must_use]
    pub fn without(&self, names: &[&str]) -> Cow<'a, [u8]> {
        if self.fields.iter().any(|field| field.is_one_of(names)) {
            Cow::Owned(self.splice(names, &Members::new(), &Members::new()))
        } else {
            Cow::Borrowed(self.text)
        }
    }

    /// The text without the fields `cut`, with `first` before and `last` behind the fields that
    /// stay.
    #[must_use]
    pub fn splice(&self, cut: &[&str], first: &Members, last: &Members) -> Vec<u8> {
        let mut spliced = Vec::with_capacity(self.text.len() + first.as_bytes().len() + last.as_bytes().len() + 2);
        self.splice_into(&mut spliced, cut, first, last);
        spliced
    }

    /// [`Self::splice`], behind what `out` holds.
    pub fn splice_into(&self, out: &mut Vec<u8>, cut: &[&str], first: &Members, last: &Members) {
        self.pieces(cut, first, last, |piece| out.extend_from_slice(piece));
    }

    /// The length of what [`Self::splice`] makes.
    #[must_use]
    pub fn spliced_len(&self, cut: &[&str], first: &Members, last: &Members) -> usize {
        let mut length = 0;
        self.pieces(cut, first, last, |piece| length += piece.len());
        length
    }

    fn pieces(&self, cut: &[&str], first: &Members, last: &Members, mut piece: impl FnMut(&[u8])) {
        let fields_start = self.fields.first().map_or(self.inside, |field| field.span.start);
        piece(&self.text[..fields_start]);
        piece(first.as_bytes());
        let mut needs_comma = !first.as_bytes().is_empty();
        let mut read_to = fields_start;
        for field in &self.fields {
            // The comma before this field, with its whitespace; nothing before the first field.
            let separator = &self.text[read_to..field.span.start];
            read_to = field.span.end;
            if field.is_one_of(cut) {
                continue;
            }
            if needs_comma {
                piece(if separator.is_empty() { b"," } else { separator });
            }
            piece(&self.text[field.span.clone()]);
            needs_comma = true;
        }
        if !last.as_bytes().is_empty() {
            if needs_comma {
                piece(b",");
            }
            piece(last.as_bytes());
        }
        piece(&self.text[read_to..]);
    }
}

impl Field<'_> {
    fn is_one_of(&self, names: &[&str]) -> bool {
        self.name.as_deref().is_some_and(|name| names.contains(&name))
    }
}
