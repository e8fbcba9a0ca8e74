//! `GET /v1/nodes`: the routers on the journal.

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::parameters::Parameters;
use super::problem::Problem;
use super::{Context, reply};
use crate::clock::Timestamp;
use crate::journal::{NodeRecord, NodeStanding};

/// A router.
#[derive(Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "they are the names of the interface")]
pub(super) struct Node {
    /// Its `NODE_ID`.
    node: String,
    /// Whether it is there.
    state: NodeState,
    /// Of its program.
    version: String,
    /// When it was started last.
    #[schema(format = DateTime)]
    started_at: String,
    /// When it last said that it lives, by the clock of the database; `null` if the journal is for one router alone.
    #[schema(format = DateTime, required = true)]
    renewed_at: Option<String>,
    /// How often it was started.
    #[schema(minimum = 1)]
    epoch: i64,
    /// Peers' own sockets that it holds.
    #[schema(minimum = 0)]
    sessions: u64,
    /// Whether it is the one that answers.
    this: bool,
}

/// `up`: it is there. `draining`: it is, and takes nothing new. `stopped`: it ended in good order. `lost`: it was not heard
/// of for 15 s, and its sockets are taken for ended.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum NodeState {
    Up,
    Draining,
    Stopped,
    Lost,
}

/// All of them.
#[derive(Serialize, ToSchema)]
pub(super) struct Nodes {
    nodes: Vec<Node>,
}

/// List routers
///
/// Those that ever wrote to the journal, in the order of their names.
#[utoipa::path(
    get, path = "/v1/nodes", tag = "operators", operation_id = "listNodes",
    responses((status = 200, description = "All of them.", body = Nodes))
)]
pub(super) async fn list(State(context): State<Context>, parameters: Parameters) -> Result<Response, Problem> {
    parameters.only(&[])?;
    let nodes = context.router.journal().nodes().await.map_err(|error| Problem::unreadable(&error))?;
    let own = context.router.node().id;
    let shown = |record: NodeRecord| {
        let this = record.row.node == own;
        Node::new(record, this)
    };
    Ok(reply::json(&Nodes { nodes: nodes.into_iter().map(shown).collect() }))
}

impl Node {
    fn new(NodeRecord { row, renewed_at, sessions }: NodeRecord, this: bool) -> Self {
        let state = match row.standing {
            NodeStanding::Up => NodeState::Up,
            NodeStanding::Draining => NodeState::Draining,
            NodeStanding::Stopped => NodeState::Stopped,
            NodeStanding::Lost => NodeState::Lost,
        };
        Self {
            node: row.name.to_string(),
            state,
            version: row.version.to_string(),
            started_at: row.started_at.to_rfc3339(),
            renewed_at: renewed_at.map(Timestamp::to_rfc3339),
            epoch: row.epoch,
            sessions,
            this,
        }
    }
}
