//! One page of events, and waiting for there to be some.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::query::Question;
use crate::http::Context;
use crate::http::problem::Problem;
use crate::http::values::DEFAULT_LIMIT;
use crate::id::Position;
use crate::journal::{EventRecord, HistoryPage, Journal, JournalError, Order};

/// Events of a stream that are read at once, if they are small.
pub(super) const LOT: usize = 128;

/// Whoever follows the live end looks again at most this often, however fast events come.
pub(super) const FOLLOWING_PAUSE: Duration = Duration::from_millis(20);

/// Some events, and beyond which place to go on.
pub(super) struct Page {
    pub(super) events: Vec<EventRecord>,
    pub(super) next: Position,
}

/// The next page. Ascending, an empty one is waited on, until something happens or the wait or the router is over.
pub(super) async fn read(context: &Context, question: &Question) -> Result<Page, Problem> {
    let end = Instant::now() + question.wait;
    let limit = question.limit.unwrap_or(DEFAULT_LIMIT);
    let mut newest = context.router.newest();
    let mut beyond = question.beyond;
    loop {
        newest.borrow_and_update();
        let page = page(&**context.router.journal(), question, beyond, limit).await;
        let page = page.map_err(|error| Problem::unreadable(&error))?;
        if !page.events.is_empty() || question.order == Order::Descending || question.filter.is_none() {
            return Ok(page);
        }
        beyond = Some(page.next);
        let more = async {
            sleep(FOLLOWING_PAUSE).await;
            tokio::select! {
                changed = newest.changed() => changed.is_ok(),
                () = context.stopping.cancelled() => false,
            }
        };
        if !timeout_at(end, more).await.unwrap_or(false) {
            return Ok(page);
        }
    }
}

async fn page(
    journal: &dyn Journal,
    question: &Question,
    beyond: Option<Position>,
    limit: usize,
) -> Result<Page, JournalError> {
    // Read first: every event up to here is visible to the query below, so if it finds no more, the next page need not
    // look at these again.
    let end = match question.order {
        Order::Ascending => journal.head().await?.position,
        Order::Descending => Position(0),
    };
    let Some(filter) = &question.filter else {
        return Ok(Page { events: Vec::new(), next: end });
    };
    let HistoryPage { events, more } = journal.history(filter, question.order, beyond, limit).await?;
    let last = events.last().map(|event| event.position).or(beyond).unwrap_or_default();
    let next = match question.order {
        _ if more => last,
        Order::Ascending => last.max(end),
        Order::Descending => end,
    };
    Ok(Page { events, next })
}
