//! A text inside a string: decoded, and where its bytes are in the string.

use super::super::json::{Escaped, escape};

/// What is between the quotes of a string.
#[derive(Clone, Copy)]
pub(super) struct Quoted<'a>(pub(super) &'a [u8]);

/// A place in a string, and the same place in what it stands for.
#[derive(Default)]
pub(super) struct Place {
    quoted: usize,
    decoded: usize,
}

impl Quoted<'_> {
    /// The text that the string stands for. Half a surrogate pair becomes three bytes, as it would in UTF-8 if it were
    /// allowed there.
    pub(super) fn decode(self) -> Vec<u8> {
        let mut decoded = Vec::with_capacity(self.0.len());
        let mut at = 0;
        while let Some((code, length)) = self.step(at) {
            match code {
                Step::Byte(byte) => decoded.push(byte),
                Step::Character(character) => {
                    decoded.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                }
                // Which half it is makes no difference: the text is looked through and not passed on.
                Step::LoneSurrogate => decoded.extend_from_slice(b"\xed\xa0\x80"),
            }
            at += length;
        }
        decoded
    }

    /// Whether the text begins like an object, an array or a string.
    pub(super) fn begins_like_json(self) -> bool {
        let mut at = 0;
        while let Some((code, length)) = self.step(at) {
            match code {
                Step::Byte(b' ' | b'\t' | b'\n' | b'\r') | Step::Character(' ' | '\t' | '\n' | '\r') => at += length,
                Step::Byte(b'{' | b'[') | Step::Character('{' | '[' | '"') => return true,
                _ => return false,
            }
        }
        false
    }

    /// Moves on to a place in the text, and tells where that is in the string.
    pub(super) fn advance(self, place: &mut Place, decoded: usize) -> usize {
        while place.decoded < decoded {
            let Some((code, length)) = self.step(place.quoted) else { break };
            place.quoted += length;
            place.decoded += match code {
                Step::Byte(_) => 1,
                Step::Character(character) => character.len_utf8(),
                Step::LoneSurrogate => 3,
            };
        }
        place.quoted
    }

    /// What is at a place, and how many bytes of the string it takes.
    fn step(self, at: usize) -> Option<(Step, usize)> {
        let byte = *self.0.get(at)?;
        let step = match escape(&self.0[at..]) {
            Some((Escaped::Character(character), length)) => (Step::Character(character), length),
            Some((Escaped::LoneSurrogate, length)) => (Step::LoneSurrogate, length),
            None => (Step::Byte(byte), 1),
        };
        Some(step)
    }
}

enum Step {
    Byte(u8),
    Character(char),
    LoneSurrogate,
}

/// A text as it is written in a string. It has no control characters.
pub(super) fn escaped(text: &[u8]) -> Vec<u8> {
    text.iter().flat_map(|byte| b"\\".iter().take(usize::from(b"\"\\".contains(byte))).chain([byte])).copied().collect()
}
