//! What an auditor notes elsewhere, and checks later: the head of the chain, and the chain.

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};
use utoipa::{IntoParams, ToSchema};

use crate::http::parameters::Parameters;
use crate::http::problem::Problem;
use crate::http::{Context, reply, values};
use crate::id::Position;
use crate::journal::chain::to_hex;
use crate::journal::{self, Report, Verification};

/// An event and its hash.
#[derive(Serialize, ToSchema)]
#[schema(as = Head)]
pub(in crate::http) struct HeadBody {
    /// Its place; 0 if there is none.
    #[schema(value_type = i64, minimum = 0, example = 4711)]
    position: Position,
    /// The hash of the chain up to and with it: SHA-256, in lower-case hexadecimal.
    #[schema(schema_with = hash)]
    hash: String,
}

/// What a check found.
#[derive(Serialize, ToSchema)]
#[serde(tag = "status", rename_all = "lowercase")]
#[schema(as = Verification)]
pub(in crate::http) enum VerificationBody {
    /// Every event is as it was written, or was erased or pruned as another event says.
    Intact {
        /// The first event that was checked.
        #[schema(value_type = i64, minimum = 0)]
        from: Position,
        /// How many were checked.
        #[schema(minimum = 0)]
        events: u64,
        /// How many of them have had their payload erased.
        #[schema(minimum = 0)]
        erased: u64,
        /// The last event that was pruned; `null` if none was.
        #[schema(required = true)]
        pruned: Option<HeadBody>,
        /// The last event that was checked.
        head: HeadBody,
    },
    /// Something is not as it was written.
    Broken {
        /// The first such place.
        #[schema(value_type = i64, minimum = 0)]
        position: Position,
        /// What is wrong there.
        what: String,
    },
}

/// Which events.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct Range {
    /// The first event; without it, the first that there is.
    #[param(value_type = values::PositionNumber, inline, required = false)]
    from: Option<Position>,
    /// The last event; without it, the newest.
    #[param(value_type = values::PositionNumber, inline, required = false)]
    to: Option<Position>,
}

fn hash() -> Object {
    ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[0-9a-f]{64}$")).build()
}

impl From<journal::Head> for HeadBody {
    fn from(head: journal::Head) -> Self {
        Self { position: head.position, hash: to_hex(&head.hash) }
    }
}

/// The newest event and its hash
///
/// To be noted elsewhere: whoever has it can tell later that nothing before it was changed.
#[utoipa::path(
    get, path = "/v1/history/head", tag = "history", operation_id = "readHead",
    responses((status = 200, description = "The newest event.", body = HeadBody))
)]
pub(in crate::http) async fn head(State(context): State<Context>, parameters: Parameters) -> Result<Response, Problem> {
    parameters.only(&[])?;
    let head = context.router.journal().head().await.map_err(|error| Problem::unreadable(&error))?;
    Ok(reply::json(&HeadBody::from(head)))
}

/// Verify the history
///
/// Recomputes the chain. Erased payloads and pruned events are told apart from damage. At most two at a time.
#[utoipa::path(
    get, path = "/v1/history/verify", tag = "history", operation_id = "verifyHistory",
    params(Range),
    responses(
        (status = 200, description = "What was found: `intact`, or `broken` and where.", body = VerificationBody),
        (status = 404, description = "The journal has no events there."),
        (status = 429, description = "Two checks are running already."),
    )
)]
pub(in crate::http) async fn verify(
    State(context): State<Context>,
    parameters: Parameters,
) -> Result<Response, Problem> {
    let parameters = parameters.only(&["from", "to"])?;
    let Range { from, to } = Range { from: parameters.position("from")?, to: parameters.position("to")? };
    let journal = context.router.journal();
    let head = journal.head().await.map_err(|error| Problem::unreadable(&error))?.position;
    let (first, last) = (from.unwrap_or(Position(1)), to.unwrap_or(head));
    if first > last || last > head {
        let detail = format!("the journal has no events from {first} to {last}; its newest is {head}");
        return Err(Problem::not_found(detail));
    }
    let _permit = context
        .checks
        .try_acquire()
        .map_err(|_| Problem::too_many("as many checks are running as may: try again when one is done"))?;
    let found = journal.verify(from, to).await.map_err(|error| Problem::unreadable(&error))?;
    Ok(reply::json(&VerificationBody::from(found)))
}

impl From<Verification> for VerificationBody {
    fn from(verification: Verification) -> Self {
        match verification {
            Verification::Intact(Report { from, events, erased, unchecked: _, pruned, head }) => Self::Intact {
                from,
                events,
                erased,
                pruned: (pruned.position > Position(0)).then(|| pruned.into()),
                head: head.into(),
            },
            Verification::Broken { position, what } => Self::Broken { position, what },
        }
    }
}
