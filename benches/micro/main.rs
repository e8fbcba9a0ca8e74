//! What the parts of an invocation's way cost by themselves, without sockets.
//!
//! ```text
//! cargo bench --bench micro
//! cargo bench --bench micro -- writer
//! ```
//!
//! - `codec`: frames in and out. `transitions`: what the ledger decides. `writer`: a commit to a SQLite journal on a real disk.
//! - `stage`: a ledger with an agent and a caller; what it decides is what `writer` commits.

mod codec;
mod stage;
mod transitions;
mod writer;

use criterion::{criterion_group, criterion_main};

criterion_group!(benches, codec::measure, transitions::measure, writer::measure);
criterion_main!(benches);
