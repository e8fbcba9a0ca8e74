//! `GET /v1/history`: what happened, in order.

use axum::extract::State;
use axum::response::Response;
use uuid::Uuid;

use super::access::Master;
use super::parameters::Parameters;
use super::problem::Problem;
use super::{Context, cursor, record};
use crate::code::ErrorCode;
use crate::id::{Identity, InvocationId, MAX_IDENTITY_BYTES, Position};
use crate::journal::{EventKind, EventRecord, HistoryFilter, Journal, JournalError};

const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1_000;

/// Payloads can be large. A page ends before its limit once it weighs this much, and is read from the journal in lots, so
/// that a page of the largest frames does not have to fit into memory.
const MAX_PAGE_BYTES: usize = 8 << 20;
const LOT: usize = 32;

/// Events that match every filter, oldest first. `next` goes on behind them, also when there are none yet.
pub(super) async fn read(
    State(context): State<Context>,
    Master(master): Master,
    parameters: Parameters,
) -> Result<Response, Problem> {
    if !master.is_backend() {
        return Err(Problem::forbidden("the history is for the backend's key"));
    }
    let query = HistoryQuery::new(parameters)?;
    let page = query.page(&**context.router.journal()).await.map_err(|error| unreadable(&error))?;
    Ok(record::response(&record::Page::new(&page.events, cursor::encode(page.next))))
}

/// The refusal that goes with a journal that cannot be read. Why is for the log: it may name files.
pub(super) fn unreadable(error: &JournalError) -> Problem {
    tracing::error!(%error, "the journal cannot be read");
    Problem::from(ErrorCode::JournalUnavailable)
}

#[derive(Debug)]
struct HistoryQuery {
    filter: HistoryFilter,
    after: Position,
    limit: usize,
}

struct Page {
    events: Vec<EventRecord>,
    next: Position,
}

impl HistoryQuery {
    fn new(parameters: Parameters) -> Result<Self, Problem> {
        let given = parameters.only(&["invocation_id", "agent_id", "kind", "cursor", "limit"])?;
        let identity = || format!("1 to {MAX_IDENTITY_BYTES} bytes without control characters");
        let kinds = || EventKind::ALL.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ");
        Ok(Self {
            filter: HistoryFilter {
                invocation: given.optional(
                    "invocation_id",
                    || "a UUID".to_owned(),
                    |text| text.parse::<Uuid>().ok().map(InvocationId),
                )?,
                agent: given.optional("agent_id", identity, |text| Identity::new(text).ok())?,
                kind: given.optional("kind", kinds, EventKind::from_name)?,
            },
            after: given
                .optional("cursor", || "the `next` of an earlier page".to_owned(), cursor::decode)?
                .unwrap_or_default(),
            limit: given
                .optional(
                    "limit",
                    || format!("a whole number from 1 to {MAX_LIMIT}"),
                    |text| text.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit)),
                )?
                .unwrap_or(DEFAULT_LIMIT),
        })
    }

    async fn page(&self, journal: &dyn Journal) -> Result<Page, JournalError> {
        // Read first: every event up to here is visible to the queries below, so if they find no more, the next page need
        // not look at these again.
        let looked_at = journal.head().await?.position;
        let mut page = Page { events: Vec::new(), next: self.after };
        let mut bytes = 0;
        while page.events.len() < self.limit && bytes < MAX_PAGE_BYTES {
            let wanted = LOT.min(self.limit - page.events.len());
            let lot = journal.history(&self.filter, page.next, wanted).await?;
            let exhausted = lot.len() < wanted;
            for event in lot {
                bytes += event.detail.len() + event.payload.as_ref().map_or(0, bytes::Bytes::len);
                page.next = event.position;
                page.events.push(event);
            }
            if exhausted {
                page.next = page.next.max(looked_at);
                break;
            }
        }
        Ok(page)
    }
}
