//! Frames, in every dialect: what is read, cut out and put back.
#![no_main]

use agent_router::protocol::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| fuzzing::frame(input));
