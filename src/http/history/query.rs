//! Which events somebody asks for, from where, and in which order.

use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::HeaderName;
use utoipa::IntoParams;

use super::Form;
use crate::clock::Timestamp;
use crate::http::Context;
use crate::http::cursor::List;
use crate::http::parameters::{Parameters, cursor_of, wrong_value};
use crate::http::problem::Problem;
use crate::http::values::{self, MAX_LIMIT, Name};
use crate::id::{InvocationId, Position};
use crate::journal::{EventKind, HistoryFilter, Order};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

const FILTERS: [&str; 8] = ["kind", "agent_id", "caller", "invocation_id", "request_id", "session_id", "from", "until"];
const PAGING: [&str; 4] = ["order", "limit", "cursor", "wait"];

/// Which events.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct FilterQuery {
    /// Of these kinds, separated by commas.
    #[param(value_type = values::KindsText, inline, required = false, style = Form, explode = false)]
    kind: Vec<EventKind>,
    /// About this agent.
    #[param(value_type = values::NameText, inline, required = false)]
    agent_id: Option<Name>,
    /// About this caller.
    #[param(value_type = values::NameText, inline, required = false)]
    caller: Option<Name>,
    /// About this invocation.
    #[param(value_type = values::UuidText, inline, required = false)]
    invocation_id: Option<InvocationId>,
    /// Of an invocation or a log line with this `request_id`.
    #[param(value_type = values::LabelText, inline, required = false)]
    request_id: Option<String>,
    /// Of an invocation or a log line with this `session_id`.
    #[param(value_type = values::LabelText, inline, required = false)]
    session_id: Option<String>,
    /// At this time or later.
    #[param(value_type = values::MomentText, inline, required = false)]
    from: Option<Timestamp>,
    /// Before this time.
    #[param(value_type = values::MomentText, inline, required = false)]
    until: Option<Timestamp>,
}

/// How many of them, from where.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct PageQuery {
    /// `asc`, the oldest first, or `desc`.
    #[param(value_type = values::OrderText, inline, required = false)]
    order: Order,
    /// How many there are on a page. A page also ends when it weighs 2 MiB.
    #[param(value_type = values::LimitNumber, inline, required = false)]
    limit: Option<usize>,
    /// The `next` of an earlier page with the same filters and order.
    #[param(value_type = values::CursorText, inline, required = false)]
    cursor: Option<Position>,
    /// Seconds to wait for an event if there is none, ascending.
    #[param(value_type = values::WaitNumber, inline, required = false)]
    wait: Duration,
}

/// Where a live history begins.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct FromCursor {
    /// The `next` of an ascending page with the same filters: the stream goes on beyond it.
    #[param(value_type = values::CursorText, inline, required = false)]
    cursor: Option<Position>,
}

/// Where a live history goes on.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub(in crate::http) struct FromEvent {
    /// The id of the last event that was seen; it counts before everything else.
    #[param(rename = "Last-Event-ID", value_type = values::EventIdText, inline, required = false)]
    last: Option<Position>,
}

/// What somebody asks of the history.
#[derive(Clone, Debug)]
pub(in crate::http) struct Question {
    /// `None`: for something that nothing can be about.
    pub(in crate::http) filter: Option<HistoryFilter>,
    pub(in crate::http) order: Order,
    /// Beyond which place; `None`: from the beginning, or from the end.
    pub(in crate::http) beyond: Option<Position>,
    pub(in crate::http) limit: Option<usize>,
    pub(in crate::http) wait: Duration,
    pub(in crate::http) list: List,
}

impl Question {
    /// `GET /v1/history`.
    pub(in crate::http) fn of_history(parameters: Parameters, form: Form) -> Result<Self, Problem> {
        let parameters = parameters.only(&[&FILTERS[..], &PAGING].concat())?;
        let filter = FilterQuery::read(&parameters)?;
        Self::paged("history", filter.into(), &parameters, form)
    }

    /// `GET /v1/invocations/{id}/history`.
    pub(in crate::http) fn of_invocation(
        id: InvocationId,
        parameters: Parameters,
        form: Form,
    ) -> Result<Self, Problem> {
        let parameters = parameters.only(&PAGING)?;
        let filter = HistoryFilter { invocation: Some(id), ..HistoryFilter::default() };
        Self::paged(&format!("history of {id}"), Some(filter), &parameters, form)
    }

    /// `GET /v1/history/stream`: beyond the last event that was seen, or the cursor; else from `from` on; else from the
    /// newest on.
    pub(in crate::http) fn of_stream(
        parameters: Parameters,
        headers: &HeaderMap,
        newest: Position,
    ) -> Result<Self, Problem> {
        let parameters = parameters.only(&[&FILTERS[..], &["cursor"]].concat())?;
        let list = list("history", &parameters, Order::Ascending);
        let FromCursor { cursor } = FromCursor { cursor: cursor_of(&parameters, |cursor| list.position(cursor))? };
        let filter = FilterQuery::read(&parameters)?;
        let start = if filter.from.is_some() { Position(0) } else { newest };
        let FromEvent { last } = FromEvent::read(headers)?;
        let beyond = last.or(cursor).unwrap_or(start);
        Ok(Self {
            filter: filter.into(),
            order: Order::Ascending,
            beyond: Some(beyond),
            limit: None,
            wait: Duration::ZERO,
            list,
        })
    }

    /// Refuses to go on behind a place that has no event yet, as one of another journal, or of a newer copy of this one:
    /// everything up to there would be missed without a word.
    pub(super) async fn refuse_the_unwritten(&self, context: &Context) -> Result<(), Problem> {
        let (Order::Ascending, Some(place)) = (self.order, self.beyond) else { return Ok(()) };
        let newest = context.router.journal().head().await.map_err(|error| Problem::unreadable(&error))?.position;
        if place <= newest {
            return Ok(());
        }
        Err(Problem::malformed(format!(
            "this is to go on behind event {place}, and the newest is {newest}: the journal is another one, or an older \
             copy; begin anew"
        )))
    }

    fn paged(name: &str, filter: Option<HistoryFilter>, parameters: &Parameters, form: Form) -> Result<Self, Problem> {
        let order = parameters.order(Order::Ascending)?;
        let list = list(name, parameters, order);
        let most = if form == Form::Page { MAX_LIMIT } else { usize::MAX };
        let page = PageQuery {
            order,
            limit: parameters.limit(most)?,
            cursor: cursor_of(parameters, |cursor| list.position(cursor))?,
            wait: parameters.wait()?,
        };
        Ok(Self { filter, order: page.order, beyond: page.cursor, limit: page.limit, wait: page.wait, list })
    }
}

fn list(name: &str, parameters: &Parameters, order: Order) -> List {
    List::new(name, &format!("{order:?}\n{}", parameters.without(&PAGING)))
}

impl FromEvent {
    fn read(headers: &HeaderMap) -> Result<Self, Problem> {
        let Some(id) = headers.get(LAST_EVENT_ID) else { return Ok(Self { last: None }) };
        let text = id.to_str().unwrap_or_default();
        let position = values::read_position(text).filter(|_| (1..=18).contains(&text.len()));
        let last = position.ok_or_else(|| wrong_value("Last-Event-ID", text, "the id of an event of this stream"))?;
        Ok(Self { last: Some(last) })
    }
}

impl FilterQuery {
    fn read(parameters: &Parameters) -> Result<Self, Problem> {
        Ok(Self {
            kind: parameters.kinds("kind")?,
            agent_id: parameters.name("agent_id")?,
            caller: parameters.name("caller")?,
            invocation_id: parameters.invocation("invocation_id")?,
            request_id: parameters.label("request_id")?,
            session_id: parameters.label("session_id")?,
            from: parameters.moment("from")?,
            until: parameters.moment("until")?,
        })
    }
}

/// `None` if nothing can match.
impl From<FilterQuery> for Option<HistoryFilter> {
    fn from(query: FilterQuery) -> Self {
        Some(HistoryFilter {
            invocation: query.invocation_id,
            agent: query.agent_id.map_or(Some(None), |name| name.map(Some))?,
            caller: query.caller.map_or(Some(None), |name| name.map(Some))?,
            kinds: query.kind,
            request_id: query.request_id,
            session_id: query.session_id,
            from: query.from,
            until: query.until,
        })
    }
}
