//! The life of an invocation: its states, which may follow which, and the terms and limits that decide it.
//!
//! Pure: no I/O, no clock, no randomness; time comes in as a parameter. May import `clock`, `id` and `code` alone.
//!
//! ```text
//! accepted → queued ──deliver──▶ delivered ──receipt──▶ running ──answer──▶ completed | failed
//!              ▲                     │                     │
//!              └──connection lost────┘      connection lost▼
//!              └────────── attempts left ──────────── interrupted ──adopted──▶ running
//!    queued ─ttl─▶ expired          any open state ─deadline─▶ timed_out          any open state ─▶ cancelled
//! ```

mod policy;
mod state;
#[cfg(test)]
mod tests;
mod transition;

pub use policy::{Policy, Terms, TermsError};
pub use state::{Finished, IdempotencyKey, Invocation, Labels, Order, Origin, Outcome, Reply, State, StateName};
pub use transition::{AfterLoss, LostConnection, Receipt, after_interruption};
