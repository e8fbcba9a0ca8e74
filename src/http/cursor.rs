//! Where a reader of a list stands, opaque to it, and good for that list alone.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::id::Position;

const DIGEST_BYTES: usize = 8;

/// What tells lists apart: which list it is, its filters and its order. A cursor of another list would lead to a place
/// that means something else there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct List([u8; DIGEST_BYTES]);

/// A text that is no cursor of this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WrongCursor {
    /// It is no cursor at all.
    Unknown,
    /// It is one of another list.
    OtherList,
}

impl List {
    /// The list `name` with these filters and this order, in whatever form, as long as it is always the same.
    pub(super) fn new(name: &str, question: &str) -> Self {
        let digest = Sha256::new_with_prefix(name).chain_update([0]).chain_update(question).finalize();
        let mut list = [0; DIGEST_BYTES];
        list.copy_from_slice(&digest[..DIGEST_BYTES]);
        Self(list)
    }

    /// The cursor that goes on beyond this place.
    pub(super) fn cursor(self, place: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode([&self.0, place].concat())
    }

    /// The place beyond which a cursor goes on.
    pub(super) fn place(self, cursor: &str) -> Result<Vec<u8>, WrongCursor> {
        let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| WrongCursor::Unknown)?;
        let (list, place) = bytes.split_at_checked(DIGEST_BYTES).ok_or(WrongCursor::Unknown)?;
        if list == self.0 { Ok(place.to_vec()) } else { Err(WrongCursor::OtherList) }
    }

    /// The cursor that goes on beyond this position.
    pub(super) fn cursor_at(self, position: Position) -> String {
        self.cursor(&position.0.to_be_bytes())
    }

    /// The position beyond which a cursor goes on.
    pub(super) fn position(self, cursor: &str) -> Result<Position, WrongCursor> {
        let position = self.place(cursor)?.try_into().map(i64::from_be_bytes).map_err(|_| WrongCursor::Unknown)?;
        if position >= 0 { Ok(Position(position)) } else { Err(WrongCursor::Unknown) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_leads_back_to_its_place() {
        let list = List::new("history", "agent a");
        for position in [0, 1, 255, 256, 1_000_000, i64::MAX].map(Position) {
            let cursor = list.cursor_at(position);
            assert_eq!(list.position(&cursor), Ok(position));
            assert!(cursor.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{cursor}");
        }
        assert_eq!(list.place(&list.cursor(b"agent-7")), Ok(b"agent-7".to_vec()));
    }

    #[test]
    fn a_cursor_is_good_for_its_own_list_alone() {
        let cursor = List::new("history", "agent a").cursor_at(Position(7));
        for other in [List::new("history", "agent b"), List::new("invocations", "agent a")] {
            assert_eq!(other.position(&cursor), Err(WrongCursor::OtherList));
        }
    }

    #[test]
    fn other_texts_are_no_cursors() {
        let list = List::new("history", "");
        let negative = list.cursor_at(Position(-1));
        let long = list.cursor(&[0; 9]);
        for text in ["", "1", "AAAAAAAAAAA=", "AAAAAAAAAAB", "AAAAAAAA+/A", &negative, &long] {
            assert_eq!(list.position(text), Err(WrongCursor::Unknown), "{text}");
        }
    }
}
