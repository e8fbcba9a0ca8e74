//! That this router lives, and which others do not.
//!
//! On a journal that several routers use, each counts on in a row of its own, its *lease*, beside the writer. Who finds that
//! another has not counted for [`LEASE`] submits that it is lost, and the first to have that committed ends its sockets.
//! Nobody compares clocks: each looks at the counts once a second, and measures with its own monotonic clock. What it did
//! not look at all the time, because the journal or the process itself stood still, it does not judge: it looks anew.
//!
//! The lease is also when this router's clock is compared with the journal's.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::Router;
use super::command::Command;
use crate::id::NodeId;
use crate::journal::{Beat, Journal};

/// A router that has not counted for so long is lost.
const LEASE: Duration = Duration::from_secs(15);

/// How often a router counts.
const RENEWAL: Duration = Duration::from_secs(5);

/// How often it looks whether others do.
const LOOK: Duration = Duration::from_secs(1);

/// How long the journal may take for either. Beyond, it is tried again a look later.
const PATIENCE: Duration = Duration::from_secs(2);

/// Two looks that are further apart have nothing to do with each other.
const MAX_GAP: Duration = Duration::from_secs(3);

/// How far the journal's clock may be ahead before this router's is put forward.
const AHEAD: Duration = Duration::from_millis(250);

/// How far it may be behind before that is worth a line in the log. It is never put back.
const BEHIND: Duration = Duration::from_secs(1);

/// How long a command may wait for room in the queue. Renewing does not wait for more.
const ROOM: Duration = Duration::from_secs(1);

/// Renews the lease of this router, and has those submitted that do not renew theirs, until it is told to stop.
pub(super) async fn keep(router: Router, epoch: i64, stopping: CancellationToken) {
    let mut lease = Lease { router, epoch, renewed: None, observed: Observed::default(), warned: false };
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let look = async {
            ticks.tick().await;
            lease.look().await;
        };
        if stopping.run_until_cancelled(look).await.is_none() {
            return;
        }
    }
}

struct Lease {
    router: Router,
    epoch: i64,
    renewed: Option<Instant>,
    observed: Observed,
    /// That the clock is ahead of the journal's is told once.
    warned: bool,
}

impl Lease {
    async fn look(&mut self) {
        let journal = Arc::clone(self.router.journal());
        let asked = Instant::now();
        let is_due = self.renewed.is_none_or(|renewed| asked - renewed >= RENEWAL);
        let beats = async { if is_due { journal.renew(self.epoch).await } else { journal.beats().await } };
        let beats = match timeout(PATIENCE, beats).await {
            Ok(Ok(beats)) => beats,
            Ok(Err(error)) => return tracing::debug!(%error, "the leases cannot be read"),
            Err(_) => return tracing::debug!("the journal takes too long for the leases"),
        };
        if is_due {
            self.renewed = Some(asked);
            self.compare_clocks(&*journal).await;
        }
        let own = self.router.node().id;
        let others = beats.into_iter().filter(|beat| beat.node != own);
        let lost = self.observed.look(asked, Instant::now(), others);
        self.router.metrics().set_nodes(1 + self.observed.present());
        for lost in lost {
            let Beat { node, epoch, .. } = lost;
            let told = self.router.submit(Command::NodeLost { node, epoch }, 0);
            if timeout(ROOM, told).await.is_err() {
                self.observed.forget(node);
            }
        }
    }

    async fn compare_clocks(&mut self, journal: &dyn Journal) {
        let clock = self.router.clock();
        let asked = Instant::now();
        let Ok(Ok(Some(time))) = timeout(PATIENCE, journal.time()).await else { return };
        // It was read at some moment since: what is ahead of now is ahead for certain.
        let now = clock.now();
        let ahead = time.since(now);
        let behind = now.since(time).saturating_sub(asked.elapsed());
        if ahead > AHEAD {
            tracing::info!(?ahead, "the journal's clock is ahead: this router's is put forward");
            clock.advance(ahead);
        } else if behind > BEHIND && !self.warned {
            self.warned = true;
            tracing::warn!(?behind, "the journal's clock is behind this router's, which is never put back");
        }
    }
}

/// Since when each of the others has not counted on.
#[derive(Debug, Default)]
struct Observed {
    looked: Option<Instant>,
    counts: HashMap<NodeId, Seen>,
}

#[derive(Debug)]
struct Seen {
    beat: Beat,
    /// When that was seen first.
    since: Instant,
    /// It was found lost.
    told: bool,
}

impl Observed {
    /// Takes note of what was asked for at one moment and has come by another. Returns those that are found lost: each once.
    fn look(&mut self, asked: Instant, now: Instant, beats: impl Iterator<Item = Beat>) -> Vec<Beat> {
        let goes_on = self.looked.is_some_and(|looked| now.saturating_duration_since(looked) <= MAX_GAP);
        self.looked = Some(now);
        let mut lost = Vec::new();
        for beat in beats {
            let anew = Seen { beat, since: now, told: false };
            let seen = self.counts.entry(beat.node).or_insert(anew);
            if seen.beat != beat {
                *seen = Seen { beat, since: now, told: false };
            } else if !goes_on {
                seen.since = now;
            } else if !seen.told && asked.saturating_duration_since(seen.since) >= LEASE {
                seen.told = true;
                lost.push(beat);
            }
        }
        lost
    }

    /// How many others count on.
    fn present(&self) -> usize {
        let is_present = |seen: &&Seen| seen.since.elapsed() < LEASE;
        self.counts.values().filter(is_present).count()
    }

    /// That one was lost could not be told, and is to be found again.
    fn forget(&mut self, node: NodeId) {
        if let Some(seen) = self.counts.get_mut(&node) {
            seen.told = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHER: NodeId = NodeId(2);

    /// Looks once a second at a count that changes as `counts` says; when the other was found lost, in seconds.
    fn watch(counts: impl Fn(u64) -> i64, seconds: impl Iterator<Item = u64>) -> Vec<u64> {
        let start = Instant::now();
        let mut observed = Observed::default();
        let mut lost = Vec::new();
        for second in seconds {
            let now = start + Duration::from_secs(second);
            let beat = Beat { node: OTHER, epoch: 1, count: counts(second) };
            lost.extend(observed.look(now, now, [beat].into_iter()).iter().map(|_| second));
        }
        lost
    }

    #[test]
    fn a_router_that_counts_on_is_never_lost() {
        assert_eq!(watch(|second| i64::try_from(second / 5).unwrap(), 0..100), [0_u64; 0]);
    }

    #[test]
    fn a_router_that_stops_counting_is_found_lost_once() {
        assert_eq!(watch(|second| i64::try_from(second.min(20)).unwrap(), 0..100), [35]);
    }

    #[test]
    fn a_router_that_counts_again_can_be_lost_again() {
        assert_eq!(watch(|second| i64::from(second >= 30), 0..100), [15, 45]);
    }

    #[test]
    fn what_was_not_looked_at_all_the_time_is_not_judged() {
        let stood_still = (0..10).chain(20..30).chain(34..60);
        assert_eq!(watch(|_| 7, stood_still), [49], "two pauses, and each begins the observation anew");
    }

    #[test]
    fn an_answer_that_takes_long_says_nothing_about_the_time_that_it_took() {
        let start = Instant::now();
        let mut observed = Observed::default();
        let beat = Beat { node: OTHER, epoch: 1, count: 1 };
        let mut look = |asked: u64, now: u64| {
            let at = |second| start + Duration::from_secs(second);
            observed.look(at(asked), at(now), [beat].into_iter()).len()
        };
        for second in (0..14).step_by(2) {
            assert_eq!(look(second, second + 2), 0);
        }
        assert_eq!(look(14, 17), 0, "it was 12 s old when it was asked for");
        assert_eq!(look(17, 18), 1);
    }

    #[test]
    fn one_that_could_not_be_told_is_found_again() {
        let start = Instant::now();
        let mut observed = Observed::default();
        let mut look = |second: u64, forget: bool| {
            let now = start + Duration::from_secs(second);
            let beat = Beat { node: OTHER, epoch: 1, count: 1 };
            let lost = observed.look(now, now, [beat].into_iter()).len();
            if forget {
                observed.forget(OTHER);
            }
            lost
        };
        assert_eq!((0..15).map(|second| look(second, false)).sum::<usize>(), 0);
        assert_eq!(look(15, true), 1);
        assert_eq!(look(16, false), 1);
        assert_eq!(look(17, false), 0);
    }
}
