//! All of the history, as a stream: in constant memory, and as fast as its reader reads.

use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tokio::sync::OwnedSemaphorePermit;

use super::Form;
use super::page::LOT;
use super::query::Question;
use crate::http::Context;
use crate::http::problem::Problem;
use crate::id::Position;
use crate::journal::{EventRecord, HistoryPage, JournalError, Order};
use crate::record;

/// A JSON object a line.
pub(super) const NDJSON: &str = "application/x-ndjson";
/// RFC 4180.
pub(super) const CSV: &str = "text/csv";

const CONTENT_DISPOSITION: HeaderName = HeaderName::from_static("content-disposition");

/// What has not been sent yet.
struct Export {
    context: Context,
    question: Question,
    form: Form,
    /// The newest event when it began; what comes later is left out.
    head: Position,
    left: usize,
    begun: bool,
    over: bool,
    _permit: OwnedSemaphorePermit,
}

/// Streams the answer to a question. If the journal fails in the middle, the answer is cut off, which its reader notices
/// by its missing end.
pub(super) async fn stream(context: &Context, question: Question, form: Form) -> Result<Response, Problem> {
    let permit = context.stream_permit()?;
    let head = context.router.journal().head().await.map_err(|error| Problem::unreadable(&error))?.position;
    let export = Export {
        context: context.clone(),
        left: question.limit.unwrap_or(usize::MAX),
        question,
        form,
        head,
        begun: false,
        over: false,
        _permit: permit,
    };
    let body = Body::from_stream(stream::try_unfold(export, async |mut export: Export| {
        Ok::<_, JournalError>(export.next().await?.map(|chunk| (chunk, export)))
    }));
    let (kind, name) = match form {
        Form::Table => ("text/csv; charset=utf-8; header=present", "attachment; filename=\"history.csv\""),
        _ => (NDJSON, "attachment; filename=\"history.ndjson\""),
    };
    let headers = [(CONTENT_TYPE, kind), (CONTENT_DISPOSITION, name)];
    Ok((headers.map(|(name, value)| (name, HeaderValue::from_static(value))), body).into_response())
}

impl Export {
    /// The next lot, written down; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, JournalError> {
        if self.over {
            return Ok(None);
        }
        let mut chunk = Vec::new();
        if !self.begun && self.form == Form::Table {
            chunk.extend(record::csv_header());
        }
        self.begun = true;
        while chunk.is_empty() && !self.over {
            let lot = self.lot().await.inspect_err(|error| tracing::error!(%error, "an export is cut off"))?;
            for event in &lot {
                self.write(event, &mut chunk);
            }
        }
        Ok((!chunk.is_empty()).then(|| chunk.into()))
    }

    async fn lot(&mut self) -> Result<Vec<EventRecord>, JournalError> {
        let Some(filter) = &self.question.filter else {
            self.over = true;
            return Ok(Vec::new());
        };
        let order = self.question.order;
        let beyond = match (order, self.question.beyond) {
            (Order::Descending, None) => Some(self.head.next()),
            (_, beyond) => beyond,
        };
        let page = self.context.router.journal().history(filter, order, beyond, LOT.min(self.left)).await?;
        let HistoryPage { events: mut lot, more } = page;
        self.over = !more;
        if order == Order::Ascending {
            let within = lot.partition_point(|event| event.position <= self.head);
            self.over |= within < lot.len();
            lot.truncate(within);
        }
        self.left -= lot.len();
        self.over |= self.left == 0;
        self.question.beyond = lot.last().map_or(beyond, |event| Some(event.position));
        Ok(lot)
    }

    fn write(&self, event: &EventRecord, chunk: &mut Vec<u8>) {
        let redactor = &self.context.redactor;
        if self.form == Form::Table {
            chunk.extend(record::csv_row(event, redactor));
        } else {
            chunk.extend(record::event_line(event, redactor));
            chunk.push(b'\n');
        }
    }
}
