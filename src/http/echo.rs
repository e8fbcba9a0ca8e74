//! Sockets at `/` that say back what they are told, on connections like all others. See [`session::echo`].

use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::problem::Problem;
use super::seats::Seats;
use crate::session::{self, SocketSettings};

type Sockets = (SocketSettings, Seats);

pub(super) fn routes(sockets: Sockets) -> axum::Router {
    axum::Router::new().route("/", get(open)).with_state(sockets)
}

async fn open(State((settings, seats)): State<Sockets>, upgrade: WebSocketUpgrade) -> Response {
    let Some(seat) = seats.take() else { return Problem::no_seat().into_response() };
    session::configure(upgrade, &settings)
        .on_upgrade(move |socket| seat.held_by(Box::pin(session::echo(socket, settings))))
}
