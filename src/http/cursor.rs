//! Where a reader of the history stands, opaque to it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::id::Position;

/// The cursor that goes on after this place.
pub(super) fn encode(position: Position) -> String {
    URL_SAFE_NO_PAD.encode(position.0.to_be_bytes())
}

/// The place after which a cursor goes on; `None` if it is not one of ours.
pub(super) fn decode(cursor: &str) -> Option<Position> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
    let position = i64::from_be_bytes(bytes.try_into().ok()?);
    (position >= 0).then_some(Position(position))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_leads_back_to_its_place() {
        for position in [0, 1, 255, 256, 1_000_000, i64::MAX].map(Position) {
            let cursor = encode(position);
            assert_eq!(decode(&cursor), Some(position));
            assert!(cursor.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{cursor}");
        }
    }

    #[test]
    fn other_texts_are_no_cursors() {
        let negative = URL_SAFE_NO_PAD.encode((-1_i64).to_be_bytes());
        let long = URL_SAFE_NO_PAD.encode([0; 9]);
        for text in ["", "1", "AAAAAAAAAAA=", "AAAAAAAAAAB", "AAAAAAAA+/A", &negative, &long] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
