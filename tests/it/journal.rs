//! The contract of the journal, which every back end keeps (`src/journal/mod.rs` has it in words).
//!
//! All but `sqlite`, `index`, `turns`, `sharing` and `doubt` know only the contract and [`store::Store`], which makes the
//! journal to be tried.

mod agents;
mod chain;
mod differential;
mod doubt;
mod erase;
mod export;
mod feed;
mod history;
mod index;
mod invocations;
mod pooled;
mod prune;
mod random;
mod refusals;
mod rivals;
mod rows;
mod script;
mod sharing;
mod sqlite;
pub(crate) mod store;
mod tale;
