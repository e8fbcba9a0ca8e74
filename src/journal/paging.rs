//! Reading a part at a time: from where to where, and in which order.

use crate::clock::Timestamp;
use crate::id::Position;
use crate::journal::Order;

/// A query in both orders.
#[derive(Clone, Copy, Debug)]
pub(super) struct InOrder {
    pub(super) ascending: &'static str,
    pub(super) descending: &'static str,
}

impl InOrder {
    pub(super) const fn sql(self, order: Order) -> &'static str {
        match order {
            Order::Ascending => self.ascending,
            Order::Descending => self.descending,
        }
    }
}

/// The query, ordered `by` some columns in one direction, and what follows.
macro_rules! in_order {
    ($sql:expr, by $first:literal $(, $by:literal)*; $rest:literal) => {
        InOrder {
            ascending: concat!($sql, " ORDER BY ", $first $(, ", ", $by)*, " ", $rest),
            descending: concat!($sql, " ORDER BY ", $first, " DESC" $(, ", ", $by, " DESC")*, " ", $rest),
        }
    };
}
pub(super) use in_order;

/// Places, or microseconds, from the first to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) first: i64,
    pub(super) last: i64,
}

impl Span {
    pub(super) const EMPTY: Self = Self { first: 0, last: -1 };

    /// The places that are left beyond one, or all.
    pub(super) fn beyond(order: Order, beyond: Option<Position>) -> Self {
        let all = Self { first: 0, last: i64::MAX };
        match (order, beyond) {
            (_, None) => all,
            (Order::Ascending, Some(Position(after))) => Self { first: after.saturating_add(1).max(0), ..all },
            (Order::Descending, Some(Position(before))) => Self { last: before.saturating_sub(1), ..all },
        }
    }

    /// The moments not before one and before another.
    pub(super) fn of_time(from: Option<Timestamp>, until: Option<Timestamp>) -> Self {
        Self {
            first: from.map_or(i64::MIN, Timestamp::as_micros),
            last: until.map_or(i64::MAX, |until| until.as_micros().saturating_sub(1)),
        }
    }

    /// Whether any moment is in it.
    pub(super) fn is_all_time(self) -> bool {
        self == Self::of_time(None, None)
    }

    pub(super) const fn is_empty(self) -> bool {
        self.first > self.last
    }

    pub(super) fn contains(self, place: i64) -> bool {
        (self.first..=self.last).contains(&place)
    }

    /// What both have.
    pub(super) fn within(self, other: Self) -> Self {
        Self { first: self.first.max(other.first), last: self.last.min(other.last) }
    }

    /// The part up to a place, and the part after it.
    pub(super) fn split(self, place: i64) -> (Self, Self) {
        (Self { last: self.last.min(place), ..self }, Self { first: self.first.max(place.saturating_add(1)), ..self })
    }

    /// What is left of it beyond a place.
    pub(super) fn after(self, order: Order, place: i64) -> Self {
        self.within(Self::beyond(order, Some(Position(place))))
    }
}

/// A limit as SQL takes it.
pub(super) fn bounded(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
