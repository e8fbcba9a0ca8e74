//! The tables.

use std::fmt;
use std::fmt::Display;
use std::time::Duration;

/// One kind of page.
pub(crate) struct Row {
    pub(crate) list: &'static str,
    pub(crate) name: &'static str,
    /// How much was on a page, on average.
    pub(crate) found: usize,
    /// From the oldest on, from the newest back, from anywhere.
    pub(crate) latencies: Vec<Latencies>,
}

/// How long one kind of page took.
pub(crate) struct Latencies {
    sorted: Vec<Duration>,
    /// The router's CPU time for all of them.
    cpu: Duration,
}

impl Latencies {
    pub(crate) fn new(mut took: Vec<Duration>, cpu: Duration) -> Self {
        took.sort_unstable();
        Self { sorted: took, cpu }
    }

    /// The router's CPU time for one of them, on average.
    fn cpu(&self) -> Duration {
        self.cpu / u32::try_from(self.sorted.len().max(1)).unwrap_or(u32::MAX)
    }

    /// The latency that so many percent are not above.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.sorted.len() * percent).div_ceil(100);
        self.sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }
}

/// All of it, streamed.
pub(crate) struct Streamed {
    pub(crate) name: &'static str,
    pub(crate) bytes: usize,
    pub(crate) took: Duration,
    /// What the stream added to the process's memory, or all of it if the process did nothing else.
    pub(crate) memory_kib: u64,
}

pub(crate) fn pages(head: i64, rows: &[Row]) -> impl Display {
    fmt::from_fn(move |f| {
        writeln!(
            f,
            "a journal of {head} events; milliseconds over HTTP, page and client included: p50/p99 (CPU of the router)\n"
        )?;
        for of_list in rows.chunk_by(|one, next| one.list == next.list) {
            let list = of_list.first().map_or("", |row| row.list);
            writeln!(f, "{list:<28}{:>6}{:>20}{:>20}{:>20}", "found", "oldest first", "newest first", "anywhere")?;
            for Row { name, found, latencies, .. } in of_list {
                write!(f, "  {name:<26}{found:>6}")?;
                for latencies in latencies {
                    let took = [latencies.percentile(50), latencies.percentile(99), latencies.cpu()];
                    let [p50, p99, cpu] = took.map(|took| took.as_secs_f64() * 1e3);
                    write!(f, "{:>20}", format!("{p50:.2}/{p99:.2} ({cpu:.2})"))?;
                }
                writeln!(f)?;
            }
            writeln!(f)?;
        }
        Ok(())
    })
}

/// The slowest kind of page of a list.
pub(crate) fn slowest(rows: &[Row], list: &str) -> Duration {
    let of_list = rows.iter().filter(|row| row.list == list).flat_map(|row| &row.latencies);
    of_list.map(|latencies| latencies.percentile(99)).max().unwrap_or_default()
}

pub(crate) fn streams(streamed: &[Streamed]) -> impl Display {
    fmt::from_fn(move |f| {
        writeln!(f, "{:<34}{:>10}{:>10}{:>14}", "all of it", "MiB", "s", "memory, MiB")?;
        for Streamed { name, bytes, took, memory_kib } in streamed {
            let (size, seconds) = (bytes >> 20, took.as_secs_f64());
            writeln!(f, "{name:<34}{size:>10}{seconds:>10.2}{:>14}", memory_kib.div_ceil(1024))?;
        }
        Ok(())
    })
}
