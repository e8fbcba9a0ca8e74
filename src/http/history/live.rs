//! `GET /v1/history/stream`: events as they happen (server-sent events).

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, sleep};
use utoipa::ToSchema;

use super::page::{FOLLOWING_PAUSE, LOT};
use super::query::{FilterQuery, FromCursor, FromEvent, Question};
use crate::http::Context;
use crate::http::parameters::Parameters;
use crate::http::problem::Problem;
use crate::id::Position;
use crate::journal::{EventRecord, HistoryPage, JournalError, Order};
use crate::record;

/// How long nothing is said at most.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// How long a client is asked to wait before it connects again, in milliseconds.
const RETRY_MILLIS: u32 = 1_000;

/// For proxies that would otherwise hold events back until they have a bufferful.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// One server-sent event.
#[derive(ToSchema)]
#[expect(dead_code, reason = "this describes what is written line by line")]
pub(in crate::http) struct StreamedEvent {
    /// Its position: what `Last-Event-ID` goes on behind.
    #[schema(pattern = "^[0-9]+$")]
    id: String,
    /// The event: an `Event` as JSON, on one line.
    #[schema(content_media_type = "application/json")]
    data: String,
}

/// What happens, as it happens
///
/// Server-sent events: the `id` of each is its position, its `data` the event. `Last-Event-ID` goes on behind that
/// position; without it, `cursor` says where, or `from`, or it begins now. Ends after `STREAM_LIFETIME`, or when the
/// router stops; a client that connects again, as browsers do by themselves, misses nothing and gets nothing twice. The
/// values of `REDACT_KEYS` are hidden.
#[utoipa::path(
    get, path = "/v1/history/stream", tag = "history", operation_id = "followHistory",
    params(FilterQuery, FromCursor, FromEvent),
    responses(
        (status = 200, description = "Events, for as long as the connection lives.", body = StreamedEvent,
            content_type = "text/event-stream"),
        (status = 429, description = "As many answers are streamed as may; see `MAX_STREAMS`."),
    )
)]
pub(in crate::http) async fn follow(
    State(context): State<Context>,
    headers: HeaderMap,
    parameters: Parameters,
) -> Result<Response, Problem> {
    let newest = context.router.newest();
    let now = *newest.borrow();
    let question = Question::of_stream(parameters, &headers, now)?;
    question.refuse_the_unwritten(&context).await?;
    let permit = context.stream_permit()?;
    let live = Live {
        told: question.beyond.unwrap_or(now),
        end: Instant::now() + context.settings.stream_lifetime,
        context,
        question,
        newest,
        caught_up: false,
        begun: false,
        _permit: permit,
    };
    let body = Body::from_stream(stream::try_unfold(live, async |mut live: Live| {
        Ok::<_, JournalError>(live.next().await?.map(|chunk| (chunk, live)))
    }));
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (X_ACCEL_BUFFERING, HeaderValue::from_static("no")),
    ];
    Ok((headers, body).into_response())
}

/// One stream: what its client has been told of, and what it waits for.
struct Live {
    context: Context,
    question: Question,
    newest: watch::Receiver<Position>,
    /// Everything up to here that matches has been sent.
    told: Position,
    /// Whether there was nothing more when it was last looked.
    caught_up: bool,
    begun: bool,
    end: Instant,
    _permit: OwnedSemaphorePermit,
}

impl Live {
    /// What to send next; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, JournalError> {
        if !self.begun {
            self.begun = true;
            // A client that is cut off before the first event knows from this where to go on.
            return Ok(Some(format!("retry: {RETRY_MILLIS}\nid: {}\n\n", self.told).into()));
        }
        let silent_until = Instant::now() + HEARTBEAT;
        loop {
            if self.context.stopping.is_cancelled() || Instant::now() >= self.end {
                return Ok(None);
            }
            if self.caught_up {
                tokio::select! {
                    changed = self.newest.changed() => if changed.is_err() { return Ok(None) },
                    () = tokio::time::sleep_until(silent_until) => {
                        // The id spares the journal a search from the last match on, when the client comes back.
                        return Ok(Some(format!(": nothing new\nid: {}\n\n", self.told).into()));
                    }
                    () = tokio::time::sleep_until(self.end) => return Ok(None),
                    () = self.context.stopping.cancelled() => return Ok(None),
                }
                sleep(FOLLOWING_PAUSE).await;
            }
            let lot = self.lot().await.inspect_err(|error| tracing::error!(%error, "a live history is cut off"))?;
            if !lot.is_empty() {
                return Ok(Some(self.written(&lot)));
            }
        }
    }

    async fn lot(&mut self) -> Result<Vec<EventRecord>, JournalError> {
        // Seen before looking: what is committed in between is found now or makes it look again.
        let newest = *self.newest.borrow_and_update();
        let Some(filter) = &self.question.filter else {
            self.caught_up = true;
            return Ok(Vec::new());
        };
        let journal = &**self.context.router.journal();
        let page = journal.history(filter, Order::Ascending, Some(self.told), LOT).await?;
        let HistoryPage { events: lot, more } = page;
        self.caught_up = !more;
        if let Some(last) = lot.last() {
            self.told = last.position;
        }
        if !more {
            self.told = self.told.max(newest);
        }
        Ok(lot)
    }

    fn written(&self, lot: &[EventRecord]) -> Bytes {
        let mut text = Vec::new();
        for event in lot {
            text.extend(format!("id: {}\ndata: ", event.position).into_bytes());
            text.extend(record::event_line(event, &self.context.redactor));
            text.extend(b"\n\n");
        }
        text.into()
    }
}
