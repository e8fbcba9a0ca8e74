//! A call at a time, each on a socket of its own: on an invoke socket, as the stock library makes them; or on a master's own
//! socket that leaves as soon as the call is accepted, and the answer is read over HTTP.

use std::time::Duration;

use rand::rngs::StdRng;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::super::super::notes::{Note, Notes};
use super::super::stage::{Act, Came, Stage, next, send};
use super::over_http::Reader;
use super::{Call, Heard, hear};
use crate::support::{ML_KEY, Socket};

/// Longer than any deadline.
const ENDED: Duration = Duration::from_secs(8);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum After {
    /// It stays until it has the answer.
    Stays,
    /// It has gone before every answer.
    Leaves,
}

pub(in super::super) async fn play(after: After, mut random: StdRng, stage: Stage) -> Notes {
    let mut notes = Notes::default();
    let reader = Reader::new();
    while stage.act() == Act::Playing {
        let call = Call::new(&stage, &mut random, &mut notes);
        let key = format!("{ML_KEY}:{}", call.agent);
        let header = match after {
            After::Stays => ("x-custom-invoke-key", key.as_str()),
            After::Leaves => ("api-key", ML_KEY),
        };
        let Some(mut socket) = stage.connect(Act::Playing, &[header], &mut random).await else { break };
        if !send(&socket, &call.frame(false)).await {
            continue;
        }
        let accepted = listen(&mut socket, after, &stage, &mut notes).await;
        drop(socket);
        if let (After::Leaves, Some(invocation)) = (after, accepted) {
            reader.read_to_the_end(invocation, &stage, &mut random, &mut notes).await;
        }
    }
    notes
}

/// Hears what becomes of the call; returns the invocation if its end is still to come.
async fn listen(socket: &mut Socket, after: After, stage: &Stage, notes: &mut Notes) -> Option<Uuid> {
    let until = Instant::now() + ENDED;
    let mut accepted = None;
    while stage.act() != Act::Over {
        match next(socket, until.min(Instant::now() + Duration::from_millis(100))).await {
            Came::Frame(frame) => match hear(&frame) {
                Heard::Accepted(invocation, _) => {
                    notes.notes.push(Note::Accepted { invocation });
                    accepted = Some(invocation);
                    if after == After::Leaves {
                        return accepted;
                    }
                }
                Heard::Ended(invocation, end) => {
                    notes.notes.push(Note::Ended { invocation, end });
                    stage.an_end_was_told();
                    // A master's own socket may be told of the end of an older call.
                    if after == After::Stays {
                        return None;
                    }
                }
                Heard::Refused => {
                    stage.was_refused();
                    sleep(Duration::from_millis(50)).await;
                    return None;
                }
                Heard::Else => {}
            },
            Came::Nothing if Instant::now() < until => {}
            Came::Nothing | Came::End => return accepted,
        }
    }
    None
}
