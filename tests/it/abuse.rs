//! What strangers and agents gone wrong would do, from outside: each finds a limit and an answer, and nobody else notices.
//!
//! `docs/security.md` has them in a table, with these tests. Some have a long form, which `ABUSE=long` chooses.

mod rates;
