//! What the router does for its journal by itself: it lets go of what is older than it is to keep, and sees to it that what
//! was erased is in none of the journal's files any more.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::Router;
use super::command::Command;
use crate::id::Position;
use crate::journal::{HistoryFilter, Journal, JournalError, Order};

/// Events that the journal lets go of at once: few enough that nobody notices the commit.
const PRUNED_AT_ONCE: usize = 512;

/// How long to leave the journal to others between two prunings.
const PRUNING_PAUSE: Duration = Duration::from_millis(20);

/// How often to look whether something has grown too old.
const PRUNING_INTERVAL: Duration = Duration::from_mins(1);

/// How soon to try again to scrub a journal that somebody is reading.
const SCRUBBING_INTERVAL: Duration = Duration::from_secs(1);

/// Scrubs the journal now, for an erasure that the predecessor may not have seen to the end, and whenever it is `wanted`. As
/// long as it does not succeed it tries again; erasures that come meanwhile are seen to by the same.
pub(super) async fn scrub(journal: Arc<dyn Journal>, wanted: Arc<Notify>, stopping: CancellationToken) {
    loop {
        let mut told = false;
        while let Err(error) = journal.scrub().await {
            if !told {
                tracing::warn!(%error, "what was erased is still in the journal's files; trying until it is not");
                told = true;
            }
            if stopping.run_until_cancelled(sleep(SCRUBBING_INTERVAL)).await.is_none() {
                return;
            }
        }
        tracing::debug!("what was erased is in none of the journal's files");
        if stopping.run_until_cancelled(wanted.notified()).await.is_none() {
            return;
        }
    }
}

/// Lets go of events that are older than `keep`, from now on.
pub(super) async fn retain(router: Router, keep: Duration, stopping: CancellationToken) {
    loop {
        let mut pruned = Pruned::default();
        if let Err(error) = prune(&router, keep, &stopping, &mut pruned).await {
            tracing::warn!(%error, "the journal cannot be pruned now; trying again in a minute");
        }
        if pruned.events > 0 {
            tracing::info!(events = pruned.events, through = %pruned.through, "the journal let go of its oldest events");
        }
        if stopping.run_until_cancelled(sleep(PRUNING_INTERVAL)).await.is_none() {
            return;
        }
    }
}

/// How far one run has come.
#[derive(Debug, Default)]
struct Pruned {
    events: u64,
    through: Position,
}

/// Prunes until there is nothing left to prune, or something is in the way.
async fn prune(
    router: &Router,
    keep: Duration,
    stopping: &CancellationToken,
    pruned: &mut Pruned,
) -> Result<(), JournalError> {
    let journal = router.journal();
    let mut first = None;
    while !stopping.is_cancelled() {
        let before = router.clock().now() - keep;
        let Some(through) = journal.prunable(before, PRUNED_AT_ONCE).await? else { return Ok(()) };
        let from = match first {
            Some(position) => position,
            None => oldest(&**journal).await?,
        };
        let events = u64::try_from(through.position.0 - from.0 + 1).unwrap_or(0);
        if let Err(declined) = router.request(Command::Prune { through, events }, 0).await {
            tracing::debug!(?declined, through = %through.position, "the journal is not pruned now");
            return Ok(());
        }
        first = Some(through.position.next());
        pruned.events += events;
        pruned.through = through.position;
        let _ = stopping.run_until_cancelled(sleep(PRUNING_PAUSE)).await;
    }
    Ok(())
}

/// The place of the oldest event that is there.
async fn oldest(journal: &dyn Journal) -> Result<Position, JournalError> {
    let first = journal.history(&HistoryFilter::default(), Order::Ascending, None, 1).await?.events;
    Ok(first.first().map_or(Position(1), |event| event.position))
}
