//! A socket that says back whatever it is told, held as all others are. For suites that test how WebSockets are spoken and
//! know nothing of what is said on these.

use axum::extract::ws::{Message, WebSocket};
use futures_util::StreamExt;

use super::SocketSettings;
use super::closing::{self, Stop};
use super::wire::Wire;

/// Serves an accepted socket until it is over.
pub async fn echo(socket: WebSocket, settings: SocketSettings) {
    let (sink, mut stream) = socket.split();
    let mut wire = Wire::new(sink, settings.slow_reader_timeout);
    let stop = loop {
        match stream.next().await {
            Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                if let Err(stop) = wire.message(message).await {
                    break stop;
                }
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Close(_))) | None => break Stop::Closed,
            Some(Err(error)) => break Stop::from_read_error(&error),
        }
    };
    let mut sink = wire.into_sink();
    let told = closing::say(&mut sink, stop).await;
    closing::wait(stream, stop, told).await;
}
