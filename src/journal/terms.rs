//! The index of events, as it is searched: terms, eras, and the places where all that a reader wants occurs together.
//!
//! An *era* is a run of [`ERA`] positions. A *term* is what an event can be found by: a letter and a value. The index has, for
//! each era and each term in it, the places in that era. Each back end asks its own tables; what is asked for next, and what
//! the answer amounts to, is here.

use std::borrow::Cow;

use crate::id::Identity;
use crate::journal::paging::Span;
use crate::journal::{EventKind, HistoryFilter, InvocationFilter, JournalError, Order};

/// Positions to an era.
pub(super) const ERA: i64 = 4096;

/// More terms than this no reader can ask for: an agent, a caller, two labels and a kind. Several kinds are counted apart, for
/// an event has one of them and not all.
pub(super) const MAX_TERMS: usize = 5;

/// Eras that are read at once, at most. Their offsets take up to 8 KiB a term and era.
const MAX_ERAS: i64 = 64;

/// The era of a place.
pub(super) const fn era(place: i64) -> i64 {
    place.div_euclid(ERA)
}

/// What an event can be found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Term<'a> {
    Agent(&'a str),
    Caller(&'a str),
    Kind(EventKind),
    RequestId(&'a str),
    SessionId(&'a str),
}

impl<'a> Term<'a> {
    /// The letter and the value, which together are the text in the table.
    pub(super) fn parts(self) -> (&'static str, Cow<'a, str>) {
        match self {
            Self::Agent(agent) => ("a", agent.into()),
            Self::Caller(caller) => ("c", caller.into()),
            Self::Kind(kind) => ("k", kind.code().to_string().into()),
            Self::RequestId(id) => ("r", id.into()),
            Self::SessionId(id) => ("s", id.into()),
        }
    }

    /// The text in the table.
    pub(super) fn text(self) -> String {
        let (letter, value) = self.parts();
        format!("{letter}{value}")
    }
}

/// What the index is asked for by a reader of events, the rarest first.
pub(super) fn of_events(filter: &HistoryFilter) -> Vec<Term<'_>> {
    let HistoryFilter { request_id, session_id, agent, caller, .. } = filter;
    terms(request_id.as_deref(), session_id.as_deref(), agent.as_ref(), caller.as_ref())
}

/// What the index is asked for by a reader of invocations, the rarest first.
pub(super) fn of_invocations(filter: &InvocationFilter) -> Vec<Term<'_>> {
    let InvocationFilter { request_id, session_id, agent, caller, .. } = filter;
    terms(request_id.as_deref(), session_id.as_deref(), agent.as_ref(), caller.as_ref())
}

fn terms<'a>(
    request_id: Option<&'a str>,
    session_id: Option<&'a str>,
    agent: Option<&'a Identity>,
    caller: Option<&'a Identity>,
) -> Vec<Term<'a>> {
    let terms = [
        request_id.map(Term::RequestId),
        session_id.map(Term::SessionId),
        agent.map(|agent| Term::Agent(agent.as_str())),
        caller.map(|caller| Term::Caller(caller.as_str())),
    ];
    terms.into_iter().flatten().collect()
}

/// Goes through the places where all terms, and one of the kinds, occur.
pub(super) struct Search {
    /// At most [`MAX_TERMS`].
    pub(super) terms: Vec<String>,
    /// The terms of the kinds, if there are several; without any, it does not matter.
    pub(super) kinds: Vec<String>,
    order: Order,
    places: Span,
    times: Span,
    /// How many eras the next step reads: few, as long as few might do.
    eras: i64,
}

/// What to ask the index for next: the eras of this span, with such times, that have all the terms; the first so many of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) eras: Span,
    pub(super) times: Span,
    pub(super) limit: i64,
}

impl Search {
    /// The rarer a term is likely to be, the earlier it should come. The times are those of eras: an event of theirs may
    /// still be outside them.
    pub(super) fn new(terms: Vec<Term<'_>>, kinds: &[EventKind], order: Order, places: Span, times: Span) -> Self {
        let mut terms: Vec<_> = terms.into_iter().map(Term::text).collect();
        let mut kinds: Vec<_> = kinds.iter().map(|kind| Term::Kind(*kind).text()).collect();
        if kinds.len() == 1 {
            terms.append(&mut kinds);
        }
        Self { terms, kinds, order, places, times, eras: 1 }
    }

    pub(super) const fn order(&self) -> Order {
        self.order
    }

    /// What to ask for next. `None`: there are no more eras.
    pub(super) fn step(&self) -> Option<Step> {
        let eras = Span { first: era(self.places.first), last: era(self.places.last) };
        (!self.places.is_empty()).then_some(Step { eras, times: self.times, limit: self.eras })
    }

    /// What the answer amounts to, which has for each era, in order, where in it all terms occur: the places, in order; there
    /// may be none.
    pub(super) fn found(&mut self, eras: &[(i64, Offsets)]) -> Vec<i64> {
        let mut found = Vec::new();
        for (era, offsets) in eras {
            let before = found.len();
            found.extend(offsets.iter().map(|offset| era * ERA + offset).filter(|place| self.places.contains(*place)));
            if self.order == Order::Descending {
                found[before..].reverse();
            }
            self.places = match self.order {
                Order::Ascending => self.places.after(self.order, era * ERA + ERA - 1),
                Order::Descending => self.places.after(self.order, era * ERA),
            };
        }
        if eras.len() < usize::try_from(self.eras).unwrap_or(usize::MAX) {
            self.places = Span::EMPTY;
        }
        self.eras = (self.eras * 2).min(MAX_ERAS);
        found
    }
}

pub(super) fn damaged(column: &'static str) -> JournalError {
    JournalError::Damaged { table: "postings", column, what: "is not what the index keeps there".to_owned() }
}

/// Places in an era: a bit for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Offsets([u64; WORDS]);

/// As many as [`ERA`] places take, at 64 each.
const WORDS: usize = 64;

impl Offsets {
    /// Every place of an era.
    pub(super) const ALL: Self = Self([u64::MAX; WORDS]);

    /// From the index: 2 bytes big-endian each, in any order.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, JournalError> {
        let (offsets, rest) = bytes.as_chunks();
        let mut words = [0; WORDS];
        for offset in offsets {
            let offset = usize::from(u16::from_be_bytes(*offset));
            *words.get_mut(offset / 64).ok_or_else(|| damaged("offsets"))? |= 1 << (offset % 64);
        }
        if rest.is_empty() { Ok(Self(words)) } else { Err(damaged("offsets")) }
    }

    /// Keeps what the other has too.
    pub(super) fn keep(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(word, other)| *word &= other);
    }

    fn iter(&self) -> impl Iterator<Item = i64> {
        let in_word = |(base, word): (i64, &u64)| {
            let word = *word;
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| base + bit)
        };
        (0..).step_by(64).zip(&self.0).flat_map(in_word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL_TIME: Span = Span { first: i64::MIN, last: i64::MAX };

    fn offsets(offsets: &[u16]) -> Offsets {
        let bytes: Vec<u8> = offsets.iter().flat_map(|offset| offset.to_be_bytes()).collect();
        Offsets::parse(&bytes).unwrap()
    }

    fn search(order: Order, first: i64, last: i64) -> Search {
        Search::new(vec![Term::Agent("a")], &[], order, Span { first, last }, ALL_TIME)
    }

    fn owned(texts: &[&str]) -> Vec<String> {
        texts.iter().copied().map(str::to_owned).collect()
    }

    /// Between which eras it asks next, and for how many.
    fn asks(search: &Search) -> Option<(i64, i64, i64)> {
        search.step().map(|step| (step.eras.first, step.eras.last, step.limit))
    }

    #[test]
    fn each_term_is_a_letter_and_a_value() {
        let terms = [
            (Term::Agent("x"), "ax"),
            (Term::Caller("x"), "cx"),
            (Term::Kind(EventKind::InvocationAccepted), "k20"),
            (Term::RequestId("x"), "rx"),
            (Term::SessionId("x"), "sx"),
        ];
        for (term, text) in terms {
            assert_eq!(term.text(), text);
        }
    }

    #[test]
    fn a_filter_asks_for_all_that_it_names_the_rarest_first() {
        let (agent, caller) = (Identity::new("a").ok(), Identity::new("c").ok());
        let (request_id, session_id) = (Some("r".to_owned()), Some("s".to_owned()));
        let named = [Term::RequestId("r"), Term::SessionId("s"), Term::Agent("a"), Term::Caller("c")];
        let of_invocations = InvocationFilter {
            agent: agent.clone(),
            caller: caller.clone(),
            request_id: request_id.clone(),
            session_id: session_id.clone(),
            ..InvocationFilter::default()
        };
        assert_eq!(super::of_invocations(&of_invocations), named);
        assert_eq!(super::of_invocations(&InvocationFilter::default()), []);
        let of_events = HistoryFilter { agent, caller, request_id, session_id, ..HistoryFilter::default() };
        assert_eq!(super::of_events(&of_events), named);
        assert_eq!(
            super::of_events(&HistoryFilter { agent: None, session_id: None, ..of_events }),
            [named[0], named[3]]
        );
    }

    #[test]
    fn one_kind_is_a_term_and_several_are_not() {
        let (first, last) = (EventKind::NodeStarted, EventKind::NodeStopped);
        for (kinds, terms, of_kinds) in [
            (&[][..], vec!["ra"], vec![]),
            (&[first], vec!["ra", "k1"], vec![]),
            (&[first, last], vec!["ra"], vec!["k1", "k2"]),
        ] {
            let search = Search::new(vec![Term::RequestId("a")], kinds, Order::Ascending, Span::EMPTY, ALL_TIME);
            assert_eq!((search.terms, search.kinds), (owned(&terms), owned(&of_kinds)));
        }
    }

    #[test]
    fn an_era_has_its_places_and_no_other() {
        let places = [-1, 0, ERA - 1, ERA, 2 * ERA - 1, 2 * ERA];
        assert_eq!(places.map(era), [-1, 0, 0, 1, 1, 2]);
    }

    #[test]
    fn places_are_found_in_order_between_the_first_and_the_last() {
        let mut search = search(Order::Ascending, ERA + 3, 4 * ERA + 5);
        assert_eq!((search.order(), asks(&search)), (Order::Ascending, Some((1, 4, 1))));
        assert_eq!(search.found(&[(1, offsets(&[4095, 4, 3, 2]))]), [ERA + 3, ERA + 4, 2 * ERA - 1]);
        assert_eq!(asks(&search), Some((2, 4, 2)));
        // An era may have each term, and no place that has them all.
        assert_eq!(search.found(&[(2, offsets(&[])), (3, offsets(&[1, 0]))]), [3 * ERA, 3 * ERA + 1]);
        assert_eq!(asks(&search), Some((4, 4, 4)));
        assert_eq!(search.found(&[(4, offsets(&[0, 5, 6]))]), [4 * ERA, 4 * ERA + 5]);
        assert_eq!(asks(&search), None);
    }

    #[test]
    fn places_are_found_from_the_last_to_the_first_too() {
        let mut search = search(Order::Descending, ERA + 3, 4 * ERA + 5);
        assert_eq!((search.order(), asks(&search)), (Order::Descending, Some((1, 4, 1))));
        assert_eq!(search.found(&[(4, offsets(&[0, 5, 6]))]), [4 * ERA + 5, 4 * ERA]);
        assert_eq!(asks(&search), Some((1, 3, 2)));
        let eras = [(3, offsets(&[1, 4095])), (2, offsets(&[7]))];
        assert_eq!(search.found(&eras), [4 * ERA - 1, 3 * ERA + 1, 2 * ERA + 7]);
        assert_eq!(asks(&search), Some((1, 1, 4)));
        assert_eq!(search.found(&[(1, offsets(&[2, 3, 4095]))]), [2 * ERA - 1, ERA + 3]);
        assert_eq!(asks(&search), None);
    }

    #[test]
    fn more_eras_are_asked_for_each_time_until_there_are_fewer() {
        let mut search = search(Order::Ascending, 0, i64::MAX);
        for (asked, next) in [(1, 2), (2, 4), (4, 8), (8, 16), (16, 32), (32, 64), (64, 64), (64, 64)] {
            let (first, _, limit) = asks(&search).unwrap();
            assert_eq!(limit, asked);
            let eras: Vec<_> = (first..first + limit).map(|era| (era, offsets(&[]))).collect();
            assert!(search.found(&eras).is_empty());
            assert_eq!(asks(&search).map(|(first, _, limit)| (first, limit)), Some((first + asked, next)));
        }
        let (first, ..) = asks(&search).unwrap();
        let fewer: Vec<_> = (first..first + 63).map(|era| (era, Offsets::ALL)).collect();
        assert_eq!(search.found(&fewer).len(), 63 * 4096);
        assert_eq!(asks(&search), None);
        assert_eq!(asks(&self::search(Order::Ascending, 5, 4)), None);
    }

    #[test]
    fn offsets_are_kept_as_a_set_and_what_is_none_is_damage() {
        let some = [4095, 0, 64, 63, 1, 65, 127, 128, 2048];
        let mut sorted = some.map(i64::from);
        sorted.sort_unstable();
        let listed = |offsets: &Offsets| offsets.iter().collect::<Vec<_>>();
        assert_eq!(listed(&offsets(&some)), sorted);
        assert_eq!(offsets(&[7, 7, 7]), offsets(&[7]));
        assert_eq!(listed(&Offsets::ALL), (0..ERA).collect::<Vec<_>>());

        let mut both = offsets(&some);
        both.keep(&offsets(&[2, 64, 128, 129, 4095]));
        assert_eq!(listed(&both), [64, 128, 4095]);
        both.keep(&Offsets::ALL);
        assert_eq!(listed(&both), [64, 128, 4095]);

        for damaged in [&[0x10, 0][..], &[0xff, 0xff], &[0], &[0, 1, 2]] {
            let error = Offsets::parse(damaged).unwrap_err();
            assert!(matches!(error, JournalError::Damaged { table: "postings", column: "offsets", .. }), "{error}");
        }
    }
}
