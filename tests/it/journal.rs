//! The contract of the journal, which every back end keeps (`src/journal/mod.rs` has it in words).
//!
//! All but `sqlite` and `index` know only the contract and [`store::Store`], which makes the journal to be tried.

mod agents;
mod chain;
mod erase;
mod export;
mod feed;
mod history;
mod index;
mod invocations;
mod prune;
mod random;
mod refusals;
mod rows;
mod script;
mod sqlite;
mod store;
mod tale;
