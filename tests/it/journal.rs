//! The contract of the journal, which every back end keeps (`src/journal/mod.rs` has it in words).
//!
//! All but `sqlite` know only the contract and [`store::Store`], which makes the journal to be tried.

mod chain;
mod feed;
mod history;
mod random;
mod refusals;
mod rows;
mod script;
mod sqlite;
mod store;
