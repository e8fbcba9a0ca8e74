//! `/v1/agents`: who there is, who is there, and what waits for them.

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::openapi::schema::{Object as Schema, ObjectBuilder, SchemaType};
use utoipa::{IntoParams, ToSchema};

use super::access::Asker;
use super::cursor::{List, WrongCursor};
use super::parameters::{Parameters, cursor_of};
use super::problem::Problem;
use super::values::{self, AgentInPath, DEFAULT_LIMIT, MAX_LIMIT};
use super::{Context, reply};
use crate::clock::Timestamp;
use crate::id::Identity;
use crate::journal::{AgentFilter, AgentPage, AgentRecord};
use crate::protocol::json::Object;
use crate::record;
use crate::router::{Declined, Load};

/// An agent.
#[derive(Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "they are the names of the interface")]
pub(super) struct Agent {
    /// Its id.
    #[schema(value_type = String)]
    agent_id: Identity,
    /// `agent_name`, as it registered last.
    #[schema(schema_with = registered, required = true)]
    name: Option<Box<RawValue>>,
    /// `agent_description`.
    #[schema(schema_with = registered, required = true)]
    description: Option<Box<RawValue>>,
    /// `agent_input_schema`.
    #[schema(schema_with = registered, required = true)]
    input_schema: Option<Box<RawValue>>,
    /// Whether it has a registered socket now.
    connected: bool,
    /// Since when.
    #[schema(format = DateTime, required = true)]
    connected_since: Option<String>,
    /// When its last connection ended, while it has none.
    #[schema(format = DateTime, required = true)]
    last_seen: Option<String>,
    /// When it registered last; `null` if it never did, or if that is pruned.
    #[schema(format = DateTime, required = true)]
    registered_at: Option<String>,
    /// The router that holds its registered socket: its `NODE_ID`.
    #[schema(required = true)]
    node: Option<String>,
    /// The protocol version of its registered socket.
    #[schema(minimum = 1, maximum = 2, required = true)]
    protocol_version: Option<u8>,
    /// How many invocations wait for it.
    #[schema(minimum = 0)]
    queued: usize,
    /// How many it was sent and has not answered.
    #[schema(minimum = 0)]
    in_flight: usize,
}

/// Some agents.
#[derive(Serialize, ToSchema)]
#[schema(as = AgentPage)]
pub(super) struct Agents {
    agents: Vec<Agent>,
    /// The cursor that goes on behind these agents; null at the end.
    #[schema(required = true)]
    next: Option<String>,
}

fn registered() -> Schema {
    ObjectBuilder::new()
        .schema_type(SchemaType::AnyValue)
        .description(Some("As the agent registered it, of whatever type; null if it did not say."))
        .build()
}

/// Which agents, and from where.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct AgentsQuery {
    /// `true`: those that have a registered socket; `false`: those that have none.
    #[param(value_type = values::Flag, inline, required = false)]
    connected: Option<bool>,
    /// How many there are on a page. A page also ends when it weighs 8 MiB.
    #[param(value_type = values::LimitNumber, inline, required = false)]
    limit: usize,
    /// The `next` of an earlier page with the same filter.
    #[param(value_type = values::CursorText, inline, required = false)]
    cursor: Option<Identity>,
}

/// List agents
///
/// Those that ever registered, in the order of their ids. What they registered is shown to masters as it is, to others
/// with the values of `REDACT_KEYS` hidden.
#[utoipa::path(
    get, path = "/v1/agents", tag = "agents", operation_id = "listAgents",
    params(AgentsQuery),
    responses((status = 200, description = "One page.", body = Agents))
)]
pub(super) async fn list(
    State(context): State<Context>,
    asker: Asker,
    parameters: Parameters,
) -> Result<Response, Problem> {
    let parameters = parameters.only(&["connected", "limit", "cursor"])?;
    let list = List::new("agents", &parameters.without(&["limit", "cursor"]));
    let agent = |cursor: &str| {
        let name = String::from_utf8(list.place(cursor)?).map_err(|_| WrongCursor::Unknown)?;
        Identity::new(&name).map_err(|_| WrongCursor::Unknown)
    };
    let query = AgentsQuery {
        connected: parameters.flag("connected")?,
        limit: parameters.limit(MAX_LIMIT)?.unwrap_or(DEFAULT_LIMIT),
        cursor: cursor_of(&parameters, agent)?,
    };
    let filter = AgentFilter { connected: query.connected };
    let page = context.router.journal().agents(filter, query.cursor.as_ref(), query.limit).await;
    let AgentPage { agents, next } = page.map_err(|error| Problem::unreadable(&error))?;
    let next = next.map(|last| list.cursor(last.as_str().as_bytes()));
    Ok(reply::json(&Agents { agents: shown(&context, &asker, agents).await?, next }))
}

/// How an agent stands
///
/// Its registration, its connection, and what waits for it.
#[utoipa::path(
    get, path = "/v1/agents/{id}", tag = "agents", operation_id = "getAgent",
    params(AgentInPath),
    responses(
        (status = 200, description = "As it stands.", body = Agent),
        (status = 404, description = "No agent of this id has ever registered."),
    )
)]
pub(super) async fn read(
    State(context): State<Context>,
    asker: Asker,
    AgentInPath(id): AgentInPath,
    parameters: Parameters,
) -> Result<Response, Problem> {
    parameters.only(&[])?;
    let unknown = || Problem::not_found("no agent of this id has ever registered: check the id, or start the agent");
    let id = context.settings.authenticator.canonical(id.ok_or_else(unknown)?);
    let found = context.router.journal().agent(&id).await.map_err(|error| Problem::unreadable(&error))?;
    let mut shown = shown(&context, &asker, vec![found.ok_or_else(unknown)?]).await?;
    Ok(reply::json(&shown.remove(0)))
}

async fn shown(context: &Context, asker: &Asker, found: Vec<AgentRecord>) -> Result<Vec<Agent>, Problem> {
    let names = found.iter().map(|agent| agent.agent.clone()).collect();
    let loads = context.router.loads(names).await.map_err(|declined| match declined {
        Declined::Refused(code) => code.into(),
        _ => Problem::unknown_outcome(),
    })?;
    let hides = asker.master().is_none();
    Ok(found.into_iter().zip(loads).map(|(agent, load)| Agent::new(context, hides, agent, load)).collect())
}

impl Agent {
    fn new(context: &Context, hides: bool, agent: AgentRecord, load: Load) -> Self {
        let registration = agent.registration.as_deref().unwrap_or(b"{}");
        let registration = if hides { context.redactor.redact(registration) } else { registration.into() };
        let registration = Object::parse(&registration).unwrap_or_else(|_| Object::empty());
        let field = |name| registration.get(name).map(|value| record::strict(value.bytes()));
        Self {
            name: field("agent_name"),
            description: field("agent_description"),
            input_schema: field("agent_input_schema"),
            agent_id: agent.agent,
            connected: agent.connected_at.is_some(),
            connected_since: agent.connected_at.map(Timestamp::to_rfc3339),
            last_seen: agent.last_seen.filter(|_| agent.connected_at.is_none()).map(Timestamp::to_rfc3339),
            registered_at: agent.registered_at.map(Timestamp::to_rfc3339),
            node: agent.node,
            protocol_version: agent.version,
            queued: load.queued,
            in_flight: load.in_flight,
        }
    }
}
