//! The words on the wire: what peers may say, and what the router says to them.
//!
//! Pure: no I/O, no clock, no async. It knows ids and error codes, and nothing of sockets, the
//! journal or the life of an invocation; `router`, `session` and `http` import it.
//!
//! - [`json`]: JSON as Python writes and reads it, cut and joined as bytes. A peer's JSON is never
//!   re-encoded on its way to another peer, so whatever one Python program writes, another one
//!   reads.
//! - [`inbound`]: frames that peers send, parsed once, at the edge.
//! - [`outbound`]: frames that the router sends.
//! - [`redact`]: the same JSON with secrets hidden, for readers.
//! - [`strict`]: the same JSON for HTTP, where it has to be strict.

#[cfg(test)]
pub(crate) mod corpus;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod inbound;
pub mod json;
pub mod outbound;
pub mod redact;
pub mod strict;

pub use inbound::{
    Answer, AnswerKind, BadFrame, Cancel, Dialect, Inbound, Invoke, InvokeOptions, Log, Register, Version, parse,
};
pub use outbound::{Addition, Delivery, ErrorAddition};
pub use redact::Redactor;
pub use strict::to_strict;

/// Values of `message_type`.
mod message_type {
    pub(super) const REGISTER: &str = "agent_register";
    pub(super) const REGISTERED: &str = "agent_registered";
    pub(super) const UNREGISTER: &str = "agent_unregister";
    pub(super) const INVOKE: &str = "agent_invoke";
    pub(super) const RESPONSE: &str = "agent_response";
    pub(super) const ERROR: &str = "agent_error";
    pub(super) const LOG: &str = "agent_log";
    pub(super) const CANCEL: &str = "agent_cancel";
    pub(super) const RECEIPT: &str = "agent_receipt";
}
