//! Time as the journal keeps it: UTC, in whole microseconds.
//!
//! Nothing below `app` reads a clock by itself; time is a parameter, so every rule can be tested at any moment.

use std::fmt;
use std::ops::{Add, Sub};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Serialize, Serializer};

/// A moment in UTC, in microseconds since the Unix epoch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From microseconds since the Unix epoch.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the Unix epoch.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// How long after `earlier` this is; zero if it is not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// RFC 3339, UTC, with microseconds: `2026-01-02T03:04:05.000006Z`.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        DateTime::<Utc>::from_timestamp_micros(self.0).unwrap_or_default().to_rfc3339_opts(SecondsFormat::Micros, true)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_rfc3339())
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(rhs.as_micros()).unwrap_or(i64::MAX)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, rhs: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(rhs.as_micros()).unwrap_or(i64::MAX)))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_rfc3339())
    }
}

/// The wall clock as it was at the start, carried on by the monotonic clock: it never jumps back while the router runs, so
/// that setting the machine's clock expires nobody's invocation. Clones are one clock.
#[derive(Clone, Debug)]
pub struct Clock {
    started: Instant,
    /// What it showed when it was started, and what it was put forward by since; in microseconds.
    base: Arc<AtomicI64>,
}

impl Clock {
    /// Reads the wall clock, once.
    #[must_use]
    pub fn start() -> Self {
        Self::start_at(Timestamp(Utc::now().timestamp_micros()))
    }

    /// Goes on from a time that others agree on.
    #[must_use]
    pub fn start_at(now: Timestamp) -> Self {
        Self { started: Instant::now(), base: Arc::new(AtomicI64::new(now.0)) }
    }

    /// The present moment.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp(self.base.load(Ordering::Relaxed)) + self.started.elapsed()
    }

    /// Puts it forward. (Nothing puts it back.)
    pub fn advance(&self, by: Duration) {
        self.base.fetch_add(i64::try_from(by.as_micros()).unwrap_or(0), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_put_forward_is_so_for_all_who_have_it() {
        let start = Timestamp::from_micros(1_700_000_000_000_000);
        let clock = Clock::start_at(start);
        let other = clock.clone();
        assert!(clock.now() >= start && clock.now().since(start) < Duration::from_mins(1));
        clock.advance(Duration::from_hours(1));
        assert!(other.now().since(start) >= Duration::from_hours(1));
    }
}
