//! A durable, drop-in replacement for the router of GenAI AgentOS.
//!
//! Agents and masters hold a WebSocket to it. Every registration, invocation, answer, error and log line is committed to
//! a journal *before* it goes anywhere; invocations wait for an agent that is briefly away, and answers for a caller
//! that is; what happened can be read back and verified.
//!
//! **The one invariant: no effect before its event is durable.** No invocation, answer, receipt, notification or HTTP
//! result leaves for a thing that the journal has not committed. Refusals and errors about bad input are no such things:
//! they are sent at once, and journaled behind.
//!
//! # The way through the code
//! ```text
//! socket → session → protocol → router → journal (commit) → effects → session → socket
//! HTTP   → http ──────────────↗        ↘ history queries → http
//! ```
//! Imports point downward: `cli → app → http → session → router → journal → invocation → {clock, code, id}`; `protocol`
//! and `invocation` do not know each other; only [`journal`] names sqlx; only [`http`] and [`session`] name axum.

pub mod app;
pub mod auth;
pub mod cli;
pub mod clock;
pub mod code;
pub mod config;
pub mod http;
pub mod id;
pub mod invocation;
pub mod journal;
pub mod metrics;
pub mod new_file;
pub mod protocol;
pub mod record;
pub mod router;
pub mod session;
pub mod telemetry;
