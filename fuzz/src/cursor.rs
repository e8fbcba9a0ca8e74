//! Cursors.
#![no_main]

use agent_router::http::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| fuzzing::cursor(input));
