//! One WebSocket, from its acceptance to its end.
//!
//! A session is one task that reads and writes concurrently. It turns frames into commands for the router, and what the
//! router posts into frames; it knows what each kind of socket may say, what the peer has confirmed, and whether it is
//! still there. What it all means is the router's to say. Imports `router`, `protocol`, `auth` and `journal` (to read
//! payloads), and axum's WebSocket.
//!
//! Bounded: the reader waits while the router is busy; what waits to be written is bounded by
//! [`crate::router::Outbox`]; a peer that does not read, or is not there, loses its socket.

mod closing;
mod echo;
mod feed_window;
mod heartbeat;
mod payloads;
mod pending;
mod presence;
mod reader;
#[cfg(test)]
mod tests;
mod unconfirmed;
mod wire;
mod writer;

use std::pin::pin;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use futures_util::StreamExt;
use futures_util::stream::{SplitSink, SplitStream};
use tokio::sync::{Mutex, Notify, watch};
use tokio::time::sleep;

use self::closing::{Farewell, Stop};
pub use self::echo::echo;
use self::heartbeat::Pulse;
use self::presence::Presence;
use self::reader::{Reader, Role};
use self::unconfirmed::Unconfirmed;
use self::wire::Wire;
use self::writer::Writer;
use crate::auth::{Authenticator, Principal};
use crate::code::ErrorCode;
use crate::id::{Identity, SessionId};
use crate::protocol::{Dialect, Version};
use crate::router::{self, Ending, Outlet, Router};

/// Frames up to so many times the largest that is sent are read, so that their sender gets an error and not a dead
/// connection.
const READ_FACTOR: usize = 4;

/// The smallest read, and the size from which a write is begun before it is complete. An idle socket keeps a read
/// buffer of this size.
const BUFFER_BYTES: usize = 4096;

/// Room for Pongs and Pings beside the largest frame.
const SLACK_BYTES: usize = 64 << 10;

/// How long a router that goes down writes what was queued.
const LAST_WRITES: Duration = Duration::from_secs(1);

/// How sockets are held.
#[derive(Clone, Debug)]
pub struct SocketSettings {
    /// How often the peer is pinged; it is dead after two misses.
    pub ping_interval: Duration,
    /// How long a frame may wait for the peer to read.
    pub slow_reader_timeout: Duration,
    /// The largest frame that is sent, in bytes; frames up to four times that are read.
    pub max_frame_bytes: usize,
    /// How long a backend may answer no notification before it is taken for one that never does.
    pub feed_ack_timeout: Duration,
    /// Whether credentials are verified, so that an agent's id has to be a UUID.
    pub secured: bool,
}

/// Sets the bounds of a socket that is about to be accepted.
pub fn configure<F>(upgrade: WebSocketUpgrade<F>, settings: &SocketSettings) -> WebSocketUpgrade<F> {
    let largest_read = READ_FACTOR * settings.max_frame_bytes;
    upgrade
        .max_message_size(largest_read)
        .max_frame_size(largest_read)
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_write_buffer_size(settings.max_frame_bytes + BUFFER_BYTES + SLACK_BYTES)
}

/// Closes a socket whose peer may not come in; takes a few seconds at most.
pub async fn refuse(socket: WebSocket, code: u16, reason: &'static str) {
    let (sink, stream) = socket.split();
    closing::shake_hands(sink, stream, Farewell { code, reason }).await;
}

/// Serves an accepted socket until it is over. It comes in a box, since it is passed on from future to future, each of which
/// has room for what it was given as long as it lives. When this returns, the router knows the end and the socket is closed. At
/// a hard shutdown it may be dropped.
///
/// # Errors
/// Why the router did not take the socket, which is closed by then.
pub async fn run(
    socket: Box<WebSocket>,
    principal: Principal,
    router: Router,
    authenticator: &Authenticator,
    settings: SocketSettings,
) -> Result<(), ErrorCode> {
    let session = SessionId::generate();
    let (outbox, outlet) = router::outbox();
    let presence = Presence::new(&router, session);
    // What happens once in the life of a socket is in boxes of its own: tens of thousands of sockets need no room for it.
    if let Err(why) = Box::pin(router.open(session, &principal, outbox)).await {
        presence.declined();
        let Farewell { code, reason } = Farewell::refused(why);
        Box::pin(refuse(*socket, code, reason)).await;
        return Err(why);
    }
    let role = Role::of(&principal);
    let caller = principal.identity().clone();
    drop(principal);
    Box::pin(serve(socket, session, role, caller, outlet, presence, &router, authenticator, &settings)).await;
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "what a socket is served with, once")]
async fn serve(
    socket: Box<WebSocket>,
    session: SessionId,
    role: Role,
    caller: Identity,
    outlet: Outlet,
    presence: Presence<'_>,
    router: &Router,
    authenticator: &Authenticator,
    settings: &SocketSettings,
) {
    let (sink, stream) = halves(socket);
    let wire = Mutex::new(Wire::new(sink, settings.slow_reader_timeout));
    let unconfirmed = Unconfirmed::new(settings.feed_ack_timeout);
    let pulse = Pulse::default();
    let ending = outlet.ending();
    let mut reader = Reader {
        stream,
        session,
        role,
        caller,
        dialect: Dialect { version: Version::One, secured: settings.secured },
        router,
        authenticator,
        unconfirmed: &unconfirmed,
        pulse: &pulse,
    };
    let writer = Writer {
        outlet,
        session,
        router,
        wire: &wire,
        unconfirmed: &unconfirmed,
        max_frame_bytes: settings.max_frame_bytes,
    };

    // Of the few sockets that are the backend's.
    let silence = async {
        match role {
            Role::Backend => Box::pin(unconfirmed.watch_silence(router)).await,
            Role::Peer | Role::Invoke => std::future::pending().await,
        }
    };

    let stop = 'over: {
        let leave = Notify::new();
        let mut reading = pin!(reader.run(&wire, &leave));
        let over = {
            // In no order: whichever comes first may use up the task's turn, and a peer that never stops sending would keep the
            // others from theirs, so that nobody noticed that it does not read.
            let mut going_on = pin!(async {
                tokio::select! {
                    Some(stop) = &mut reading => Over::Read(stop),
                    stop = writer.run() => Over::Unread(stop),
                    stop = heartbeat::beat(settings.ping_interval, &pulse, &wire, &unconfirmed) => Over::Unread(stop),
                    never = silence => never,
                }
            });
            tokio::select! {
                biased;
                stop = ordered(ending) => Over::Unread(stop),
                over = &mut going_on => over,
            }
        };
        let stop = match over {
            Over::Read(stop) => break 'over stop,
            Over::Unread(stop) => stop,
        };
        leave.notify_one();
        reading.await;
        stop
    };
    let mut sink = wire.into_inner().into_sink();
    let told = Box::pin(closing::say(&mut sink, stop)).await;
    if stop.leaves_frames() {
        Box::pin(reader.take_rest(told)).await;
    }
    let reason = stop.reason();
    Box::pin(presence.end(reason)).await;
    tracing::debug!(%session, reason = reason.as_str(), "socket over");
    Box::pin(closing::wait(reader.stream, stop, told)).await;
}

/// The box is not needed any more.
fn halves(socket: Box<WebSocket>) -> (SplitSink<WebSocket, Message>, SplitStream<WebSocket>) {
    (*socket).split()
}

/// Which half a session ended with.
enum Over {
    /// The reading one: nothing is left to be read.
    Read(Stop),
    /// Another; the reading one is to be told.
    Unread(Stop),
}

/// Waits for the router to end the socket. Before a restart the writer is given a moment for what is queued; it knows
/// of the restart too, and stops when it is done.
async fn ordered(mut ending: watch::Receiver<Option<Ending>>) -> Stop {
    let why = match ending.wait_for(Option::is_some).await {
        Ok(why) => *why,
        Err(_) => None,
    };
    match why {
        Some(Ending::Restarting) => sleep(LAST_WRITES).await,
        Some(_) => {}
        // The router let go without a word, which the writer sees when it has written everything.
        None => std::future::pending().await,
    }
    why.map_or(Stop::Lost, Stop::Ordered)
}
