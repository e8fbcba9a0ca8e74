//! The real clients, `genai-protocol` 2.0.3 and 1.0.9, against the real router: what works with the original works here.
//!
//! The Python programs are in `tests/clients`; `scripts/test` makes their virtual environments and says where they are.

mod calls;
mod connections;
mod installation;
mod outcomes;
mod program;
mod registration;
