//! Query strings of the history's and the invocations' lists.
#![no_main]

use agent_router::http::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| fuzzing::filters(input));
