//! Every route, and who it is for.

use axum::Extension;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::get;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};
use utoipa_axum::routes;

use super::access::{Access, Kind, admit};
use super::problem::Problem;
use super::{
    Context, address, agents, docs, health, history, invocations, invoke_agent, nodes, openapi, operators, origin,
    socket, traffic,
};

const MASTERS: Access = Access(&[Kind::Master]);
const AUDITORS: Access = Access(&[Kind::Auditor]);
const OPERATORS: Access = Access(&[Kind::Operator]);
const MASTERS_AND_AUDITORS: Access = Access(&[Kind::Master, Kind::Auditor]);
const AUDITORS_AND_OPERATORS: Access = Access(&[Kind::Auditor, Kind::Operator]);
const ALL_ROLES: Access = Access(&[Kind::Master, Kind::Auditor, Kind::Operator]);

/// Everything that is answered, with what surrounds every answer.
pub(super) fn routes(context: Context) -> axum::Router {
    let (described, _) = table().split_for_parts();
    described
        // Not described: a WebSocket, with credentials of its own, and a page.
        .route("/ws", get(socket::open))
        .merge(docs::routes())
        .fallback(async || Problem::no_such_page())
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .layer(DefaultBodyLimit::max(context.settings.socket.max_frame_bytes))
        .layer(Extension(context.clone()))
        // From here on outwards: the last is the first to see a request.
        .layer(from_fn_with_state(context.clone(), origin::guard))
        .layer(from_fn_with_state(context.clone(), address::without_keys))
        .layer(from_fn_with_state(context.clone(), traffic::observe))
        .with_state(context)
}

/// The routes that are described. Whoever is on a line may use what is on it; nothing else decides that.
pub(super) fn table() -> OpenApiRouter<Context> {
    OpenApiRouter::with_openapi(openapi::frame())
        .routes(only(MASTERS, routes!(invocations::invoke)))
        .routes(only(MASTERS, routes!(invocations::cancel)))
        .routes(only(MASTERS_AND_AUDITORS, routes!(invocations::list)))
        .routes(only(MASTERS_AND_AUDITORS, routes!(invocations::read)))
        .routes(only(ALL_ROLES, routes!(agents::list)))
        .routes(only(ALL_ROLES, routes!(agents::read)))
        .routes(only(AUDITORS, routes!(history::read)))
        .routes(only(AUDITORS, routes!(history::follow)))
        .routes(only(AUDITORS, routes!(history::of_invocation)))
        .routes(only(AUDITORS, routes!(history::head)))
        .routes(only(AUDITORS, routes!(history::verify)))
        .routes(only(AUDITORS_AND_OPERATORS, routes!(nodes::list)))
        .routes(only(OPERATORS, routes!(operators::metrics)))
        .routes(only(OPERATORS, routes!(operators::disconnect)))
        .routes(only(OPERATORS, routes!(operators::workload, operators::drain, operators::resume)))
        .routes(only(OPERATORS, routes!(operators::erase)))
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(openapi::serve))
        .routes(routes!(openapi::serve_asyncapi))
        // Its own rule: open in development mode, for masters in secured mode.
        .routes(routes!(invoke_agent::send))
}

/// Keeps everybody else out of a route.
fn only(access: Access, (schemas, mut paths, routes): UtoipaMethodRouter<Context>) -> UtoipaMethodRouter<Context> {
    openapi::restrict(&mut paths, access);
    let admit = move |context, peer, request, next| admit(access, context, peer, request, next);
    (schemas, paths, routes.route_layer(from_fn(admit)))
}
