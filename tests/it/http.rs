//! HTTP: what masters, auditors and operators ask, from outside.

mod agents;
mod document;
mod history;
mod invocations;
mod limits;
mod live;
mod operators;
mod origins;
mod problems;
mod roles;
mod urls;
mod waiters;
