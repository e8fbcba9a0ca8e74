//! The stage: the real binary as a process, and clients that speak to it over real sockets.

mod by_hand;
mod command;
mod credentials;
mod http;
mod peer;
pub(crate) mod postgres;
mod process;
mod router;
pub(crate) mod stage;
pub(crate) mod strace;
pub(crate) mod unreliable;
mod wire;

pub(crate) use command::command;
pub(crate) use credentials::{
    AUDITOR_KEY, BACKEND, BACKEND_KEY, ML, ML_KEY, OPERATOR_KEY, SECRET, agent_token, forged, token,
};
pub(crate) use http::Answer;
pub(crate) use peer::{Peer, answer, answered, general_error, lost, not_active, registration};
pub(crate) use router::{PATIENCE, Router, agent_id, printed};
pub(crate) use wire::{Incoming, NotOpened, Socket, text_frame};
