//! The router as its clients see it: the real binary, real sockets, black box.
//!
//! Each test starts a router of its own; each module is one subject of the protocol.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::needless_pass_by_value, reason = "a `json!` is made for the call")]

mod answers;
mod asyncapi;
mod bad_frames;
mod callers;
mod clients;
mod command_line;
mod config;
mod connecting;
mod correlation;
mod credit;
mod disk;
mod dismissal;
mod faults;
mod feed;
mod follow;
mod http;
mod invoke_agent;
mod invoking;
mod journal;
mod ledger;
mod memory;
mod model;
mod nodes;
mod nodes_model;
mod operators;
mod outage;
mod receipts;
mod registration;
mod restarts;
mod retention;
mod secrets;
mod sessions;
mod sizes;
mod slow_journal;
mod sockets;
mod structure;
mod support;
mod takeover;
mod tools;
mod turns;
mod upkeep;
mod verify;
mod version_two;
mod waiting;
