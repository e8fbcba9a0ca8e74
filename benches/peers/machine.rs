//! Where and when something was measured.

use std::fs;

use agent_router::clock::Clock;

/// The day, in UTC.
pub(crate) fn date() -> String {
    Clock::start().now().to_rfc3339().chars().take_while(|&character| character != 'T').collect()
}

/// Processor, cores, memory and Linux.
pub(crate) fn description() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = field(&cpu, "model name").unwrap_or("a processor that does not say its name").to_owned();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib: u64 =
        field(&memory, "MemTotal").and_then(|size| size.strip_suffix(" kB")?.parse().ok()).unwrap_or_default();
    let linux = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let linux: Vec<_> = linux.split('.').take(2).collect();
    format!(
        "{model}, {cores} cores for servers and clients together, {} GiB of memory, Linux {}",
        kib >> 20,
        linux.join(".")
    )
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| Some(line.strip_prefix(name)?.trim_start().strip_prefix(':')?.trim()))
}
