//! What Redis answers, as far as it is needed.

use crate::Failure;

/// A reply, or a part of one.
#[derive(Debug)]
pub(crate) enum Value<'a> {
    /// A number, a status, or nothing.
    Other,
    Error(&'a [u8]),
    Text(&'a [u8]),
    List(Vec<Value<'a>>),
}

impl<'a> Value<'a> {
    pub(crate) fn list(&self) -> Option<&[Value<'a>]> {
        match self {
            Self::List(list) => Some(list),
            _ => None,
        }
    }

    pub(crate) fn text(&self) -> Option<&'a [u8]> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// How long the reply is with which `bytes` begin, if all of it is there.
pub(crate) fn length(bytes: &[u8]) -> Result<Option<usize>, Failure> {
    let mut at = 0;
    let mut left = 1_usize;
    while left > 0 {
        let Some((kind, head, next)) = head(bytes, at) else { return Ok(None) };
        left -= 1;
        at = next;
        match kind {
            b'$' => at += count(head)?.map_or(0, |length| length + 2),
            b'*' => left += count(head)?.unwrap_or_default(),
            _ => {}
        }
    }
    Ok((at <= bytes.len()).then_some(at))
}

/// Reads a reply that is all there.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value<'_>, Failure> {
    Ok(value(bytes, 0)?.0)
}

fn value(bytes: &[u8], at: usize) -> Result<(Value<'_>, usize), Failure> {
    let (kind, head, mut at) = head(bytes, at).ok_or("a reply of Redis is cut")?;
    let value = match kind {
        b'$' => match count(head)? {
            Some(length) => {
                let text = &bytes[at..at + length];
                at += length + 2;
                Value::Text(text)
            }
            None => Value::Other,
        },
        b'*' => {
            let mut list = Vec::new();
            for _ in 0..count(head)?.unwrap_or_default() {
                let (item, next) = self::value(bytes, at)?;
                list.push(item);
                at = next;
            }
            Value::List(list)
        }
        b'-' => Value::Error(head),
        _ => Value::Other,
    };
    Ok((value, at))
}

/// Kind and rest of the line at this place, and where the next one begins.
fn head(bytes: &[u8], at: usize) -> Option<(u8, &[u8], usize)> {
    let rest = bytes.get(at..)?;
    let end = rest.iter().position(|&byte| byte == b'\r')?;
    let next = (rest.len() > end + 1).then_some(at + end + 2)?;
    Some((*rest.first()?, &rest[1..end], next))
}

/// A length; `None` is nothing.
fn count(head: &[u8]) -> Result<Option<usize>, Failure> {
    match std::str::from_utf8(head)? {
        "-1" => Ok(None),
        digits => Ok(Some(digits.parse()?)),
    }
}
