//! `/v1/history`: what happened, in order: by the page, all of it, or as it happens. For auditors.

mod export;
mod live;
mod page;
mod proof;
mod query;

pub(super) use live::*;
pub(super) use proof::*;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Version};
use axum::response::Response;

pub(super) use self::query::Question;
use self::query::{FilterQuery, PageQuery};
use super::negotiation::accepted;
use super::parameters::Parameters;
use super::problem::Problem;
use super::values::InvocationInPath;
use super::{Context, reply};
use crate::record;

/// In which form events are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A page.
    Page,
    /// Every one, a JSON object a line.
    Lines,
    /// Every one, a row of a table.
    Table,
}

const FORMS: [(&str, Form); 3] =
    [("application/json", Form::Page), (export::NDJSON, Form::Lines), (export::CSV, Form::Table)];

/// What happened
///
/// As a page, oldest first; `wait` follows the live end. With `Accept: application/x-ndjson` or `text/csv`, everything
/// from the cursor (or the beginning) to the newest event there is now is streamed, and `limit` bounds it, without an
/// upper bound of its own. Each line of the former can be verified with `agent-router journal verify --file`. The values
/// of `REDACT_KEYS` are hidden.
#[utoipa::path(
    get, path = "/v1/history", tag = "history", operation_id = "readHistory",
    params(FilterQuery, PageQuery),
    responses(
        (status = 200, description = "One page, or a stream of all.", content(
            (record::Page = "application/json"), (String = "application/x-ndjson"), (String = "text/csv"),
        )),
        (status = 406, description = "There is no such form of it."),
        (status = 429, description = "As many answers are streamed as may; see `MAX_STREAMS`."),
        (status = 505, description = "A stream is wanted by HTTP/1.0."),
    )
)]
pub(super) async fn read(
    State(context): State<Context>,
    version: Version,
    headers: HeaderMap,
    parameters: Parameters,
) -> Result<Response, Problem> {
    let form = accepted(&headers, &FORMS)?;
    let question = Question::of_history(parameters, form)?;
    answer(&context, question, form, version).await
}

/// The life of an invocation
///
/// Its events, from the first to the last, in the same forms as the history.
#[utoipa::path(
    get, path = "/v1/invocations/{id}/history", tag = "history", operation_id = "readInvocationHistory",
    params(InvocationInPath, PageQuery),
    responses(
        (status = 200, description = "One page, or a stream of all.", content(
            (record::Page = "application/json"), (String = "application/x-ndjson"), (String = "text/csv"),
        )),
        (status = 404, description = "There is no invocation of this id."),
        (status = 406, description = "There is no such form of it."),
        (status = 429, description = "As many answers are streamed as may; see `MAX_STREAMS`."),
        (status = 505, description = "A stream is wanted by HTTP/1.0."),
    )
)]
pub(super) async fn of_invocation(
    State(context): State<Context>,
    InvocationInPath(id): InvocationInPath,
    version: Version,
    headers: HeaderMap,
    parameters: Parameters,
) -> Result<Response, Problem> {
    let form = accepted(&headers, &FORMS)?;
    let question = Question::of_invocation(id, parameters, form)?;
    let found = context.router.journal().invocation(id).await.map_err(|error| Problem::unreadable(&error))?;
    if found.is_none() {
        return Err(Problem::not_found(format!("there is no invocation {id}")));
    }
    answer(&context, question, form, version).await
}

async fn answer(context: &Context, question: Question, form: Form, version: Version) -> Result<Response, Problem> {
    question.refuse_the_unwritten(context).await?;
    match form {
        Form::Page => {
            let page = page::read(context, &question).await?;
            let next = question.list.cursor_at(page.next);
            Ok(reply::json(&record::Page::new(&page.events, &context.redactor, next)))
        }
        // Its end is the end of the connection, whatever ended that, so that a part would pass for all of it.
        Form::Lines | Form::Table if version < Version::HTTP_11 => Err(Problem::with_status(
            StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            "over HTTP/1.0 nobody could tell all of it from a part: ask by HTTP/1.1 (in nginx: proxy_http_version 1.1)",
        )),
        Form::Lines | Form::Table => export::stream(context, question, form).await,
    }
}
