//! What clients write down: each thing that they sent before they send it, and each thing that they saw before they do
//! anything else.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use rand::Rng;
use rand::rngs::StdRng;
use uuid::Uuid;

/// A text that tells itself from all others, and that cannot be cut or mixed up without being noticed: a name, and a digest
/// of the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Mark {
    pub(crate) name: Uuid,
    pub(crate) digest: u64,
}

impl Mark {
    /// The one that a text of [`new_text`] carries.
    pub(crate) fn in_text(text: &str) -> Option<Self> {
        let name = text.get(..36)?.parse().ok()?;
        let mut digest = DefaultHasher::new();
        text.hash(&mut digest);
        Some(Self { name, digest: digest.finish() })
    }
}

/// How large calls, answers and log lines are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bodies {
    /// 100 bytes to 64 KiB, small ones as often as large ones, and at times 512 KiB.
    All,
    /// 100 to 500 bytes.
    Small,
}

/// A new text with a mark.
pub(crate) fn new_text(bodies: Bodies, random: &mut StdRng) -> (Mark, String) {
    let length = if bodies == Bodies::Small {
        random.random_range(100..500)
    } else if random.random_bool(0.005) {
        512 * 1024
    } else {
        let doublings: f64 = random.random_range(100_f64.log2()..65_536_f64.log2());
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "100 to 65,536")]
        let length = doublings.exp2() as usize;
        length
    };
    let name = uuid::Builder::from_random_bytes(random.random()).into_uuid().to_string();
    let mut text = name.repeat(length / name.len() + 1);
    text.truncate(length);
    (Mark::in_text(&text).expect("it begins with its name"), text)
}

/// How an invocation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Completed,
    Failed,
    Expired,
    TimedOut,
    Cancelled,
}

/// How it ended, and with which answer if its agent gave one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) way: Way,
    pub(crate) answer: Option<Mark>,
}

impl End {
    /// The end that a code of the router's tells of; `None` for a refusal, which ends nothing.
    pub(crate) fn by_code(code: &str) -> Option<Self> {
        let way = match code {
            "agent_lost" => Way::Failed,
            "expired" => Way::Expired,
            "timed_out" => Way::TimedOut,
            "cancelled" => Way::Cancelled,
            _ => return None,
        };
        Some(Self { way, answer: None })
    }
}

/// A client's own, in the order in which it happened to it.
#[derive(Clone, Debug)]
pub(crate) enum Note {
    /// A caller asks this of an agent.
    Asked { call: Mark, agent: Uuid },
    /// A caller was told that it is accepted.
    Accepted { invocation: Uuid },
    /// A caller saw how it ended: on a socket, or over HTTP.
    Ended { invocation: Uuid, end: End },
    /// A caller asked over HTTP for what it had been told is accepted, and there was none.
    Missing { invocation: Uuid },
    /// An agent was sent a call. Only one of version 2 is told the invocation, the attempt and whether it is the first.
    Delivered { call: Mark, told: Option<Told> },
    /// An agent answers a call.
    Answered { call: Uuid, answer: Mark },
    /// An agent of version 2 was told that its answer ended the invocation.
    Counted { invocation: Uuid },
    /// The backend was told of an agent's log line.
    Heard { line: Mark },
}

/// What an agent of version 2 is told besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) invocation: Uuid,
    pub(crate) attempt: u64,
    pub(crate) redelivered: bool,
}

/// All notes of one client.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// Its own id, if it is an agent.
    pub(crate) agent: Option<Uuid>,
    pub(crate) notes: Vec<Note>,
}
