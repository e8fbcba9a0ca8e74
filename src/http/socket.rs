//! `GET /ws`: from a request to a session.

use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};

use super::Context;
use super::access::Peer;
use super::origin;
use super::problem::Problem;
use crate::code::ErrorCode;
use crate::session;

/// How a socket without a usable credential is closed; existing clients know this code and this text.
const NO_CREDENTIAL: (u16, &str) = (4000, "Missing Authorization header");

/// Opens a session, or a socket that is closed at once with the reason: a client library reports a close better than a
/// status.
pub(super) async fn open(
    State(context): State<Context>,
    peer: Peer,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => {
            return Problem::with_status(rejection.status(), rejection.body_text()).into_response();
        }
    };
    if !origin::is_allowed(&headers, &context.settings.allowed_origins) {
        context.journal_refusal(peer, "origin not allowed").await;
        return Problem::forbidden("web pages from this origin may not open a socket; see ALLOWED_ORIGINS")
            .into_response();
    }
    let Some(seat) = context.seats.take() else {
        context.journal_refusal(peer, "too many connections").await;
        return Problem::no_seat().into_response();
    };
    let settings = context.settings.socket.clone();
    let upgrade = session::configure(upgrade, &settings);
    match context.settings.authenticator.socket(&headers, context.router.clock().now()) {
        Ok(principal) => upgrade.on_upgrade(move |socket| {
            // In boxes: each layer around a session would otherwise have room for it, and for its socket, twice.
            let socket = Box::new(socket);
            seat.held_by(Box::pin(async move {
                let served =
                    session::run(socket, principal, context.router.clone(), &context.settings.authenticator, settings)
                        .await;
                if served == Err(ErrorCode::NotAllowed) {
                    context.journal_refusal(peer, "the caller of the invoke key is not connected").await;
                }
            }))
        }),
        Err(refused) => upgrade.on_upgrade(move |socket| {
            let (code, reason) = NO_CREDENTIAL;
            seat.held_by(Box::pin(async move {
                tokio::join!(
                    session::refuse(socket, code, reason),
                    context.journal_refusal(peer, refused.to_string()),
                );
            }))
        }),
    }
}
