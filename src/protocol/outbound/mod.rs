//! Frames that the router sends.
//!
//! All are UTF-8 text. What a peer wrote is joined in as the bytes that came, never re-encoded.

mod delivery;
mod errors;
mod log;
mod notices;
mod receipts;
#[cfg(test)]
mod tests;

use super::json::Object;

pub use delivery::{Addition, Delivery, answer, client_message};
pub use errors::{ErrorAddition, agent_uuid_error, frame_error, frame_too_large_error, invocation_error};
pub use log::log_notice;
pub use notices::{dismissal, registered_notice, unregistered_notice};
pub use receipts::{agent_cancel, agent_receipt, agent_registered, caller_receipt};

/// The fields of a text that was parsed when it came in. What is no object after all, such as a
/// payload that was erased since, counts as one without fields.
fn fields(text: &[u8]) -> Object<'_> {
    Object::parse(text).unwrap_or_else(|_| Object::empty())
}
