//! `GET /v1/invocations`.

use axum::extract::State;
use axum::response::Response;
use utoipa::IntoParams;

use crate::auth::Role;
use crate::clock::Timestamp;
use crate::http::access::Asker;
use crate::http::cursor::List;
use crate::http::parameters::{Parameters, cursor_of};
use crate::http::problem::Problem;
use crate::http::values::{self, DEFAULT_LIMIT, MAX_LIMIT, Name};
use crate::http::{Context, reply};
use crate::id::Position;
use crate::invocation::StateName;
use crate::journal::{InvocationFilter, Order};
use crate::record;

/// Which invocations, and from where.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct InvocationsQuery {
    /// For this agent.
    #[param(value_type = values::NameText, inline, required = false)]
    agent_id: Option<Name>,
    /// Of this caller. A master lists its own whatever it says here.
    #[param(value_type = values::NameText, inline, required = false)]
    caller: Option<Name>,
    /// In this state now.
    #[param(value_type = values::StateText, inline, required = false)]
    state: Option<StateName>,
    /// With this `request_metadata.request_id`.
    #[param(value_type = values::LabelText, inline, required = false)]
    request_id: Option<String>,
    /// With this `request_metadata.session_id`.
    #[param(value_type = values::LabelText, inline, required = false)]
    session_id: Option<String>,
    /// Accepted at this time or later.
    #[param(value_type = values::MomentText, inline, required = false)]
    from: Option<Timestamp>,
    /// Accepted before this time.
    #[param(value_type = values::MomentText, inline, required = false)]
    until: Option<Timestamp>,
    /// `desc`, the newest first, or `asc`.
    #[param(value_type = values::OrderText, inline, required = false)]
    order: Order,
    /// How many there are on a page. A page may have fewer, also none, and still a `next`.
    #[param(value_type = values::LimitNumber, inline, required = false)]
    limit: usize,
    /// The `next` of an earlier page of the same list.
    #[param(value_type = values::CursorText, inline, required = false)]
    cursor: Option<Position>,
}

const NAMES: [&str; 10] =
    ["agent_id", "caller", "state", "request_id", "session_id", "from", "until", "order", "limit", "cursor"];

/// List invocations
///
/// In the order of their acceptance, the newest first. Masters get their own; auditors get all, with the values of
/// `REDACT_KEYS` hidden.
#[utoipa::path(
    get, path = "/v1/invocations", tag = "invocations", operation_id = "listInvocations",
    params(InvocationsQuery),
    responses((status = 200, description = "One page.", body = record::Invocations))
)]
pub(in crate::http) async fn list(
    State(context): State<Context>,
    asker: Asker,
    parameters: Parameters,
) -> Result<Response, Problem> {
    let (query, list) = InvocationsQuery::read(parameters, &asker)?;
    let (order, beyond, limit) = (query.order, query.cursor, query.limit);
    let Some(filter) = query.filter(&asker.0) else {
        return Ok(reply::json(&record::Invocations::new(&[], None, None)));
    };
    let page = context.router.journal().invocations(&filter, order, beyond, limit).await;
    let page = page.map_err(|error| Problem::unreadable(&error))?;
    let redactor = asker.master().is_none().then_some(&*context.redactor);
    let next = page.next.map(|place| list.cursor_at(place));
    Ok(reply::json(&record::Invocations::new(&page.invocations, redactor, next)))
}

impl InvocationsQuery {
    /// What is asked for, and the list that its cursors are good for.
    pub(in crate::http) fn read(parameters: Parameters, asker: &Asker) -> Result<(Self, List), Problem> {
        let parameters = parameters.only(&NAMES)?;
        let order = parameters.order(Order::Descending)?;
        let question = format!("{order:?} {:?}\n{}", asker.master(), parameters.without(&["order", "limit", "cursor"]));
        let list = List::new("invocations", &question);
        let query = Self {
            agent_id: parameters.name("agent_id")?,
            caller: parameters.name("caller")?,
            state: parameters.state("state")?,
            request_id: parameters.label("request_id")?,
            session_id: parameters.label("session_id")?,
            from: parameters.moment("from")?,
            until: parameters.moment("until")?,
            order,
            limit: parameters.limit(MAX_LIMIT)?.unwrap_or(DEFAULT_LIMIT),
            cursor: cursor_of(&parameters, |cursor| list.position(cursor))?,
        };
        Ok((query, list))
    }

    /// `None` if nothing can match: a name that is nobody's, or another caller for a master.
    pub(in crate::http) fn filter(self, role: &Role) -> Option<InvocationFilter> {
        let caller = match (role, self.caller) {
            (Role::Master(master), None) => Some(master.clone()),
            (Role::Master(master), Some(caller)) => Some(caller.filter(|caller| caller == master)?),
            (_, caller) => caller.map_or(Some(None), |name| name.map(Some))?,
        };
        Some(InvocationFilter {
            agent: self.agent_id.map_or(Some(None), |name| name.map(Some))?,
            caller,
            state: self.state,
            request_id: self.request_id,
            session_id: self.session_id,
            from: self.from,
            until: self.until,
        })
    }
}
