//! Which eras may have a term at all, so that a search need not ask each era for it.
//!
//! A term has a *bucket* and a *mark*, 4 bytes, both from its hash. `hints` has, for each bucket and era, the marks of that
//! era's terms. The rows of a bucket lie together, whatever the era: a search reads those of one bucket, a few pages, where it
//! would have to read a page of `postings` for each era. An era without the mark does not have the term; one with it most
//! likely does, and `postings` says so. An era of which the marks are not known may have any term.

use std::collections::BTreeMap;

/// With more of them a search reads fewer pages, and a commit that adds to the index changes more.
pub(super) const BUCKETS: i64 = 32;

/// A row of `hints`.
#[derive(Debug)]
pub(super) struct Hints {
    pub(super) bucket: i64,
    pub(super) era: i64,
    pub(super) marks: Vec<u8>,
}

/// What to look for in place of a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hint {
    pub(super) bucket: i64,
    pub(super) mark: [u8; 4],
}

impl Hint {
    /// Of a term, in parts. The journal keeps what comes out here: it must stay the same for good.
    pub(super) fn of(term: &[&str]) -> Self {
        // FNV-1a. Whoever chooses labels that collide makes the search for them as slow as it would be without hints.
        let hash = term
            .iter()
            .flat_map(|part| part.bytes())
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        let [bucket, _, _, _, mark @ ..] = hash.to_be_bytes();
        Self { bucket: i64::from(bucket) % BUCKETS, mark }
    }
}

/// The marks of the terms of some eras.
#[derive(Debug, Default)]
pub(super) struct Marks(BTreeMap<(i64, i64), Vec<u8>>);

impl Marks {
    pub(super) fn add(&mut self, era: i64, term: &[&str]) {
        let Hint { bucket, mark } = Hint::of(term);
        self.0.entry((bucket, era)).or_default().extend(mark);
    }

    pub(super) fn into_rows(self) -> Vec<Hints> {
        self.0.into_iter().map(|((bucket, era), marks)| Hints { bucket, era, marks }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_is_what_journals_have_it_to_be() {
        assert_eq!(Hint::of(&["a", "planner"]), Hint::of(&["aplanner"]));
        assert_eq!(Hint::of(&[]), Hint { bucket: 0xcb % BUCKETS, mark: [0x84, 0x22, 0x23, 0x25] });
        assert_eq!(Hint::of(&["a"]), Hint { bucket: 0xaf % BUCKETS, mark: [0x86, 0x01, 0xec, 0x8c] });
    }
}
