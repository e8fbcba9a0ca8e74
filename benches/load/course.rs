//! How a long run went, minute by minute, and whether it was flat.

use std::fmt;
use std::time::Duration;

/// What a minute was like, and how things stood at its end.
#[derive(Debug)]
pub(crate) struct Minute {
    number: u32,
    answers: usize,
    median: Duration,
    /// Of a hundred answers 99 came within it.
    slow: Duration,
    resident_kib: u32,
    handles: usize,
    wal_bytes: u64,
    file_bytes: u64,
}

impl Minute {
    pub(crate) const HEADER: &str = "minute   answers    p50 ms    p99 ms    RSS MiB  handles    WAL MiB   file MiB";

    pub(crate) fn new(
        number: u32,
        mut latencies: Vec<Duration>,
        (resident_kib, handles): (u32, usize),
        (wal_bytes, file_bytes): (u64, u64),
    ) -> Self {
        latencies.sort_unstable();
        let at = |percent| latencies.get(latencies.len() * percent / 100).copied().unwrap_or_default();
        let (median, slow) = (at(50), at(99));
        Self { number, answers: latencies.len(), median, slow, resident_kib, handles, wal_bytes, file_bytes }
    }
}

impl fmt::Display for Minute {
    #[expect(clippy::cast_precision_loss, reason = "megabytes, for people")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        write!(
            f,
            "{:>6} {:>9} {:>9.2} {:>9.2} {:>10.1} {:>8} {:>10.1} {:>10.1}",
            self.number,
            self.answers,
            self.median.as_secs_f64() * 1e3,
            self.slow.as_secs_f64() * 1e3,
            mib(u64::from(self.resident_kib) << 10),
            self.handles,
            mib(self.wal_bytes),
            mib(self.file_bytes)
        )
    }
}

/// How each thing that has to be flat went.
#[derive(Debug)]
pub(crate) struct Verdict(Vec<Trend>);

#[derive(Debug)]
struct Trend {
    name: &'static str,
    /// By how much of its middle value it has grown over the whole run.
    growth: f64,
    /// By how much it may.
    bound: f64,
}

impl Verdict {
    pub(crate) fn is_flat(&self) -> bool {
        self.0.iter().all(|trend| trend.growth <= trend.bound)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Trend { name, growth, bound } in &self.0 {
            let judged = if growth <= bound { "flat" } else { "NOT FLAT" };
            writeln!(f, "{name:<8} {:>+7.1} % over the run, at most {:.0} %: {judged}", growth * 1e2, bound * 1e2)?;
        }
        Ok(())
    }
}

/// Judges a run without its first third, in which caches fill and the journal grows out of nothing. Latencies are the
/// machine's too, and so may move more than what the router alone decides.
pub(crate) fn verdict(course: &[Minute]) -> Verdict {
    let judged = &course[course.len() / 3..];
    let trend = |name, bound, value: fn(&Minute) -> f64| Trend {
        name,
        growth: growth(&judged.iter().map(value).collect::<Vec<_>>()),
        bound,
    };
    #[expect(clippy::cast_precision_loss, reason = "it is a few hundred files, and megabytes")]
    Verdict(vec![
        trend("memory", 0.1, |minute| f64::from(minute.resident_kib)),
        trend("handles", 0.05, |minute| minute.handles as f64),
        trend("WAL", 0.1, |minute| minute.wal_bytes as f64),
        trend("p50", 0.25, |minute| minute.median.as_secs_f64()),
        trend("p99", 0.5, |minute| minute.slow.as_secs_f64()),
    ])
}

/// By how much of their median the values grow from the first to the last, along the median of the slopes between any two:
/// one bad minute does not bend that.
fn growth(values: &[f64]) -> f64 {
    let mut slopes = Vec::new();
    for (first, from) in values.iter().enumerate() {
        let later = values[first..].iter().zip(0_u32..).skip(1);
        slopes.extend(later.map(|(to, distance)| (to - from) / f64::from(distance)));
    }
    let steps = values.iter().skip(1).fold(0.0, |steps, _| steps + 1.0);
    let middle = median(values.to_vec());
    if middle == 0.0 { 0.0 } else { median(slopes) * steps / middle }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
