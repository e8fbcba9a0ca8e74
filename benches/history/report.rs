//! The tables.

use std::fmt;
use std::fmt::Display;
use std::time::Duration;

/// How long one kind of page took.
pub(crate) struct Latencies {
    pub(crate) name: &'static str,
    /// How much was on a page, on average.
    pub(crate) found: usize,
    /// How long each took, ascending.
    pub(crate) sorted: Vec<Duration>,
}

/// All of it, streamed.
pub(crate) struct Streamed {
    pub(crate) name: &'static str,
    pub(crate) bytes: usize,
    pub(crate) took: Duration,
    /// What the stream added to the process's memory, or all of it if the process did nothing else.
    pub(crate) memory_kib: u64,
}

pub(crate) fn latencies(head: i64, measured: &[Latencies]) -> impl Display {
    fmt::from_fn(move |f| {
        writeln!(f, "a journal of {head} events; milliseconds over HTTP, page and client included\n")?;
        writeln!(f, "{:<34}{:>8}{:>10}{:>10}{:>10}", "page", "found", "p50", "p99", "max")?;
        for Latencies { name, found, sorted } in measured {
            let [p50, p99, max] = [50, 99, 100].map(|percent| percentile(sorted, percent).as_secs_f64() * 1e3);
            writeln!(f, "{name:<34}{found:>8}{p50:>10.2}{p99:>10.2}{max:>10.2}")?;
        }
        Ok(())
    })
}

pub(crate) fn streams(streamed: &[Streamed]) -> impl Display {
    fmt::from_fn(move |f| {
        writeln!(f, "\n{:<34}{:>10}{:>10}{:>14}", "all of it", "MiB", "s", "memory, MiB")?;
        for Streamed { name, bytes, took, memory_kib } in streamed {
            let (size, seconds) = (mib(*bytes as u64), took.as_secs_f64());
            writeln!(f, "{name:<34}{size:>10}{seconds:>10.2}{:>14}", memory_kib.div_ceil(1024))?;
        }
        Ok(())
    })
}

fn mib(bytes: u64) -> u64 {
    bytes >> 20
}

/// The latency that so many percent are not above.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}
