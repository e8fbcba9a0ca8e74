//! How often one identity may have an agent invoked: a bucket of tokens for each, filled by time alone.
//!
//! Pure: the time is a parameter. Who asks too often is refused before the writer hears of it, so that one that runs wild
//! costs the others nothing.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::id::{IdMap, Identity};

/// How many identities are told apart; more share one bucket. Those who have not asked for a while are not among them.
const MAX_IDENTITIES: usize = 16_384;

/// How often, at most, a full table is searched for those who have not asked for a while.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// One token, in the unit in which buckets are measured: a microsecond adds as many of it as tokens come in a second.
const TOKEN: u64 = 1_000_000;

/// How often somebody may do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// How often in a second, in the long run. At least 1.
    pub per_second: u32,
    /// How often at once, after doing nothing for a while. At least 1.
    pub burst: u32,
}

/// How often each identity may have an agent invoked; `None`: as often as it likes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// A master.
    pub masters: Option<RateLimit>,
    /// Anybody else.
    pub others: Option<RateLimit>,
}

/// How often each identity has asked.
#[derive(Debug)]
pub(super) struct Allowances {
    limits: RateLimits,
    buckets: IdMap<Identity, Bucket>,
    /// Of those who are too many to be told apart.
    shared: Option<Bucket>,
    swept_at: Timestamp,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// At most the burst, in parts of a [`TOKEN`].
    level: u64,
    at: Timestamp,
}

impl Allowances {
    /// With nobody having asked yet; `None` if everybody may ask as often as they like.
    pub(super) fn new(limits: RateLimits) -> Option<Self> {
        let is_limited = limits.masters.is_some() || limits.others.is_some();
        is_limited.then(|| Self { limits, buckets: IdMap::default(), shared: None, swept_at: Timestamp::default() })
    }

    /// Takes a token of `who`; if there is none, says how long it takes for the next to be there.
    pub(super) fn take(&mut self, who: &Identity, now: Timestamp) -> Result<(), Duration> {
        let limit = if who.is_master() { self.limits.masters } else { self.limits.others };
        let Some(limit) = limit else { return Ok(()) };
        if let Some(bucket) = self.buckets.get_mut(who) {
            return bucket.take(limit, now);
        }
        if self.buckets.len() >= MAX_IDENTITIES {
            self.sweep(now);
        }
        let mut full = Bucket::full(limit, now);
        if self.buckets.len() >= MAX_IDENTITIES {
            return self.shared.get_or_insert(full).take(limit, now);
        }
        let taken = full.take(limit, now);
        self.buckets.insert(who.clone(), full);
        taken
    }

    /// Forgets those whose buckets are full again: a new one would be the same.
    fn sweep(&mut self, now: Timestamp) {
        if now.since(self.swept_at) < SWEEP_EVERY {
            return;
        }
        self.swept_at = now;
        let RateLimits { masters, others } = self.limits;
        self.buckets.retain(|who, bucket| {
            let limit = if who.is_master() { masters } else { others };
            limit.is_some_and(|limit| bucket.level_at(limit, now) < capacity(limit))
        });
    }
}

impl Bucket {
    fn full(limit: RateLimit, now: Timestamp) -> Self {
        Self { level: capacity(limit), at: now }
    }

    fn level_at(&self, limit: RateLimit, now: Timestamp) -> u64 {
        let micros = u64::try_from(now.since(self.at).as_micros()).unwrap_or(u64::MAX);
        let come = micros.saturating_mul(u64::from(limit.per_second));
        self.level.saturating_add(come).min(capacity(limit))
    }

    fn take(&mut self, limit: RateLimit, now: Timestamp) -> Result<(), Duration> {
        *self = Self { level: self.level_at(limit, now), at: now.max(self.at) };
        match self.level.checked_sub(TOKEN) {
            Some(rest) => {
                self.level = rest;
                Ok(())
            }
            None => Err(Duration::from_micros((TOKEN - self.level).div_ceil(u64::from(limit.per_second.max(1))))),
        }
    }
}

fn capacity(limit: RateLimit) -> u64 {
    u64::from(limit.burst) * TOKEN
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);
    const SLOW: RateLimit = RateLimit { per_second: 3, burst: 5 };

    fn allowances(limit: RateLimit) -> Allowances {
        Allowances::new(RateLimits { masters: Some(limit), others: Some(limit) }).unwrap()
    }

    fn name(name: &str) -> Identity {
        Identity::new(name).unwrap()
    }

    #[test]
    fn a_burst_is_taken_at_once_and_then_it_goes_at_the_rate() {
        let (mut allowances, who) = (allowances(SLOW), name("a"));
        for _ in 0..SLOW.burst {
            assert_eq!(allowances.take(&who, START), Ok(()));
        }
        let third = Duration::from_micros(333_334);
        assert_eq!(allowances.take(&who, START), Err(third));
        assert!(allowances.take(&who, START + third - Duration::from_micros(1)).is_err());
        assert_eq!(allowances.take(&who, START + third), Ok(()));
        assert!(allowances.take(&who, START + third).is_err());
    }

    #[test]
    fn who_pauses_has_the_burst_again_and_no_more_than_that() {
        let (mut allowances, who) = (allowances(SLOW), name("a"));
        let taken = |allowances: &mut Allowances, now| (0..100).filter(|_| allowances.take(&who, now).is_ok()).count();
        assert_eq!(taken(&mut allowances, START), 5);
        assert_eq!(taken(&mut allowances, START + Duration::from_secs(1)), 3);
        assert_eq!(taken(&mut allowances, START + Duration::from_hours(24 * 365 * 1000)), 5);
    }

    #[test]
    fn each_has_its_own_and_masters_have_theirs() {
        let limits = RateLimits { masters: None, others: Some(RateLimit { per_second: 1, burst: 1 }) };
        let mut allowances = Allowances::new(limits).unwrap();
        for who in ["a", "b"] {
            assert_eq!(allowances.take(&name(who), START), Ok(()));
            assert_eq!(allowances.take(&name(who), START), Err(Duration::from_secs(1)));
        }
        assert!((0..10).all(|_| allowances.take(&Identity::backend(), START).is_ok()));
        assert!(Allowances::new(RateLimits::default()).is_none());
    }

    #[test]
    fn a_clock_that_stands_still_or_goes_back_gives_nothing() {
        let (mut allowances, who) = (allowances(RateLimit { per_second: 1_000, burst: 1 }), name("a"));
        assert_eq!(allowances.take(&who, START), Ok(()));
        assert!(allowances.take(&who, START - Duration::from_hours(1)).is_err());
        assert!(allowances.take(&who, START).is_err());
        assert_eq!(allowances.take(&who, START + Duration::from_millis(1)), Ok(()));
    }

    #[test]
    fn however_many_ask_the_table_stays_small_and_those_beyond_share() {
        let mut allowances = allowances(RateLimit { per_second: 1, burst: 2 });
        let taken = (0..2 * MAX_IDENTITIES).filter(|n| allowances.take(&name(&n.to_string()), START).is_ok()).count();
        assert_eq!(taken, MAX_IDENTITIES + 2);
        assert_eq!(allowances.buckets.len(), MAX_IDENTITIES);
        assert_eq!(allowances.take(&name("0"), START), Ok(()), "who is known keeps its own");
        let later = START + Duration::from_secs(2);
        assert_eq!(allowances.take(&name("new"), later), Ok(()));
        assert_eq!(allowances.buckets.len(), 1, "those who have paused are forgotten");
    }

    proptest! {
        /// Whoever waits as long as it is told is let in, and nobody gets more than the burst and what the time brings.
        #[test]
        fn no_more_is_taken_than_the_burst_and_the_rate(
            per_second in 1_u32..5_000,
            burst in 1_u32..200,
            pauses in prop::collection::vec((0_u64..2_000_000, prop::bool::ANY), 1..400),
        ) {
            let limit = RateLimit { per_second, burst };
            let (mut allowances, who) = (allowances(limit), name("a"));
            let (mut now, mut taken) = (START, 0_u64);
            for (pause, obeys) in pauses {
                now = now + Duration::from_micros(pause / u64::from(per_second));
                match allowances.take(&who, now) {
                    Ok(()) => taken += 1,
                    Err(wait) if obeys => {
                        now = now + wait;
                        prop_assert_eq!(allowances.take(&who, now), Ok(()));
                        taken += 1;
                    }
                    Err(wait) => prop_assert!(!wait.is_zero()),
                }
                let micros = u64::try_from(now.since(START).as_micros()).unwrap();
                prop_assert!(taken * TOKEN <= u64::from(burst) * TOKEN + micros * u64::from(per_second));
            }
        }
    }
}
