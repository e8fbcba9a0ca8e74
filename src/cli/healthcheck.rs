//! `healthcheck`: one request to a router on this machine.

use super::failure::Failure;
use super::{request, say};
use crate::config::Config;

/// Succeeds if `GET /health/ready` is answered with 200.
pub(super) fn check(config: &Config) -> Result<(), Failure> {
    let address = request::router(config)?;
    let answer =
        request::send(address, "GET /health/ready", &[], "").map_err(|error| request::no_answer(address, &error))?;
    match answer.status {
        200 => say("ready"),
        status => Err(Failure::operation(format_args!("not ready: {status} {}", answer.body))),
    }
}
