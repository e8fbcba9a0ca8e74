//! What is between the quotes of a string: finding its end, and its escapes.

use std::borrow::Cow;

const ONES: u64 = u64::from_ne_bytes([1; 8]);
const HIGH_BITS: u64 = u64::from_ne_bytes([0x80; 8]);

/// Where the first quote, backslash or control character is, at `from` or after it.
///
/// Looks at eight bytes at once, as strings are most of what passes through the router.
pub(super) fn first_special(text: &[u8], from: usize) -> Option<usize> {
    let (words, tail) = text.get(from..)?.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let hits =
            below(word, 0x20) | below(word ^ (ONES * u64::from(b'"')), 1) | below(word ^ (ONES * u64::from(b'\\')), 1);
        if hits != 0 {
            return Some(from + index * 8 + hits.trailing_zeros() as usize / 8);
        }
    }
    let offset = tail.iter().position(|&byte| byte < 0x20 || byte == b'"' || byte == b'\\')?;
    Some(from + words.len() * 8 + offset)
}

/// The high bit of the first byte of `word` that is less than `limit` (at most 0x80). Bits above it
/// may be set falsely, as the subtraction borrows from there; none below it is.
fn below(word: u64, limit: u64) -> u64 {
    word.wrapping_sub(ONES * limit) & !word & HIGH_BITS
}

/// What an escape stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::protocol) enum Escaped {
    /// A character; a surrogate pair is one.
    Character(char),
    /// Half of a surrogate pair, which Python keeps and UTF-8 cannot.
    LoneSurrogate,
}

/// Reads the escape that `text` begins with (its backslash first): what it stands for, and how many
/// bytes it takes. `None` if there is none.
pub(in crate::protocol) fn escape(text: &[u8]) -> Option<(Escaped, usize)> {
    let simple = match (text.first()?, text.get(1)?) {
        (b'\\', b'u') => return unicode_escape(text),
        (b'\\', byte @ (b'"' | b'\\' | b'/')) => char::from(*byte),
        (b'\\', b'b') => '\u{8}',
        (b'\\', b'f') => '\u{c}',
        (b'\\', b'n') => '\n',
        (b'\\', b'r') => '\r',
        (b'\\', b't') => '\t',
        _ => return None,
    };
    Some((Escaped::Character(simple), 2))
}

fn unicode_escape(text: &[u8]) -> Option<(Escaped, usize)> {
    let first = code_unit(text)?;
    if let Some(character) = char::from_u32(first) {
        return Some((Escaped::Character(character), 6));
    }
    let pair = text
        .get(6..)
        .and_then(code_unit)
        .filter(|second| (0xd800..0xdc00).contains(&first) && (0xdc00..0xe000).contains(second))
        .and_then(|second| char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00)));
    Some(pair.map_or((Escaped::LoneSurrogate, 6), |character| (Escaped::Character(character), 12)))
}

/// The number in the `\uXXXX` that `text` begins with.
fn code_unit(text: &[u8]) -> Option<u32> {
    text.strip_prefix(br"\u")?
        .get(..4)?
        .iter()
        .try_fold(0, |unit, &digit| Some(unit << 4 | char::from(digit).to_digit(16)?))
}

/// The characters of a string, given what is between its quotes. `None` if it has a lone surrogate.
pub(in crate::protocol) fn decode(content: &[u8]) -> Option<Cow<'_, str>> {
    let Some(first) = content.iter().position(|&byte| byte == b'\\') else {
        return str::from_utf8(content).ok().map(Cow::Borrowed);
    };
    let mut decoded = String::with_capacity(content.len());
    let (plain, mut rest) = content.split_at(first);
    decoded.push_str(str::from_utf8(plain).ok()?);
    while !rest.is_empty() {
        let (Escaped::Character(character), length) = escape(rest)? else {
            return None;
        };
        decoded.push(character);
        rest = &rest[length..];
        let next = rest.iter().position(|&byte| byte == b'\\').unwrap_or(rest.len());
        let (plain, others) = rest.split_at(next);
        decoded.push_str(str::from_utf8(plain).ok()?);
        rest = others;
    }
    Some(Cow::Owned(decoded))
}
