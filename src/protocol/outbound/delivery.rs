//! An invocation on its way to an agent, and its answer on the way back.

use bytes::Bytes;

use super::fields;
use crate::id::InvocationId;
use crate::protocol::json::Members;
use crate::protocol::message_type;

/// What an invocation is given on its way to an agent.
#[derive(Debug, Clone, Copy)]
pub struct Delivery<'a> {
    /// What the agent sends back with its answer.
    pub invoked_by: &'a str,
    /// For agents of version 2.
    pub addition: Option<Addition>,
}

/// What an agent of version 2 is told of an invocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addition {
    /// The invocation's id, for the answer.
    pub invocation_id: InvocationId,
    /// Which delivery of it this is, from 1.
    pub attempt: u32,
    /// What is left until its deadline, in milliseconds.
    pub deadline_ms: u64,
    /// Whether the agent may have seen it before.
    pub redelivered: bool,
}

impl Delivery<'_> {
    /// The frame: `body` with these fields, in place of any of the same names.
    #[must_use]
    pub fn encode(&self, body: &[u8]) -> Bytes {
        let (cut, first, last) = self.changes();
        fields(body).splice(cut, &first, &last).into()
    }

    /// The frame's length in bytes.
    #[must_use]
    pub fn encoded_len(&self, body: &[u8]) -> usize {
        let (cut, first, last) = self.changes();
        fields(body).spliced_len(cut, &first, &last)
    }

    /// The fields that are cut, and those that are put before and behind the others.
    fn changes(&self) -> (&'static [&'static str], Members, Members) {
        let invoked_by = Members::new().text("invoked_by", self.invoked_by);
        let Some(addition) = self.addition else {
            return (&["invoked_by"], Members::new(), invoked_by);
        };
        let cut = &["message_type", "invoked_by", "invocation_id", "attempt", "deadline_ms", "redelivered"];
        let mut last = invoked_by
            .text("invocation_id", &addition.invocation_id.to_string())
            .number("attempt", addition.attempt.into())
            .number("deadline_ms", addition.deadline_ms);
        if addition.redelivered {
            last = last.raw("redelivered", b"true");
        }
        (cut, Members::new().text("message_type", message_type::INVOKE), last)
    }
}

/// The `message` of `POST /invoke-agent`, an object, as a frame; `token` is its `invoked_by`.
#[must_use]
pub fn client_message(message: &[u8], token: &str) -> Bytes {
    Delivery { invoked_by: token, addition: None }.encode(message)
}

/// An answer as its caller gets it. Callers that see additions are told which invocation it is of.
#[must_use]
pub fn answer(body: &Bytes, invocation_id: Option<InvocationId>) -> Bytes {
    let Some(invocation_id) = invocation_id else {
        return body.clone();
    };
    let last = Members::new().text("invocation_id", &invocation_id.to_string());
    fields(body).splice(&["invocation_id"], &Members::new(), &last).into()
}
