//! The table.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use crate::options::{Options, Setup};
use crate::run::Measured;

const NAME_WIDTH: usize = 38;
const WIDTH: usize = 10;

/// A row: what it shows, and that of one measurement over the measured seconds.
type Row = (&'static str, fn(&Measured, f64) -> f64, usize);

const ROWS: &[Row] = &[
    ("invocations/s", |run, seconds| throughput(run, seconds), 0),
    ("latency p50, ms", |run, _| millis(percentile(&run.latencies, 50)), 2),
    ("latency p99, ms", |run, _| millis(percentile(&run.latencies, 99)), 2),
    ("latency max, ms", |run, _| millis(percentile(&run.latencies, 100)), 2),
    ("round trip within a router, p50, ms", |run, _| millis_if_any(&run.within), 2),
    ("round trip across routers, p50, ms", |run, _| millis_if_any(&run.across), 2),
    ("commit, mean of the routers', ms", |run, _| millis(run.usage.commit), 2),
    ("across takes longer, in commits", commits_longer, 1),
    ("commit of a row in Postgres, p50, ms", |run, _| run.row_commit.map_or(f64::NAN, millis), 2),
    ("sync of 4 KiB on this disk, ms", |run, _| millis(run.sync), 3),
    ("invocations in the time of a sync", |run, seconds| throughput(run, seconds) * run.sync.as_secs_f64(), 2),
    ("commits/s", |run, seconds| run.usage.commits / seconds, 0),
    ("events/s", |run, seconds| f64::from(run.written.events) / seconds, 0),
    ("events in a commit", |run, _| f64::from(run.written.events) / run.usage.commits, 1),
    ("journal: bytes an invocation", bytes_an_invocation, 0),
    ("routers: CPU s", |run, _| run.usage.router.as_secs_f64(), 2),
    ("routers: CPU us an invocation", |run, _| cpu(run), 1),
    ("a router: peak memory, MiB", |run, _| f64::from(run.peak_kib) / 1024.0, 1),
    ("clients: CPU s", |run, _| run.usage.clients.as_secs_f64(), 2),
];

/// All measurements beside each other.
pub(crate) fn table(options: &Options, measured: &[Measured]) -> impl Display {
    let Options { agents, masters, payload, version, seconds, .. } = options;
    let header = format!(
        "agents: {agents} (part {version} of the protocol); master sockets: {masters}; payload: {payload} bytes; \
         measured: {seconds} s after {} s of warm-up",
        Options::WARM_UP.as_secs()
    );
    fmt::from_fn(move |f| {
        writeln!(f, "{header}\n")?;
        write!(f, "{:<NAME_WIDTH$}", "journal")?;
        for run in measured {
            let journal = match run.setup {
                Setup { is_postgres: true, .. } => "Postgres",
                Setup { is_long: true, .. } => "long",
                Setup { .. } => "SQLite",
            };
            write!(f, "{journal:>WIDTH$}")?;
        }
        writeln!(f)?;
        line(f, "routers", measured, |run| f64::from(run.setup.nodes), 0)?;
        line(f, "outstanding", measured, |run| f64::from(run.setup.outstanding), 0)?;
        for (name, value, decimals) in ROWS {
            line(f, name, measured, |run| value(run, f64::from(*seconds)), *decimals)?;
        }
        line(f, "invocations/s, of SQLite's", measured, |run| on_sqlite(run, measured, count), 2)?;
        line(f, "CPU an invocation, of SQLite's", measured, |run| on_sqlite(run, measured, cpu), 2)?;
        writeln!(f, "\nchecked: every invocation answered once and rightly, and in the journal, which verifies")
    })
}

fn line(
    f: &mut Formatter<'_>,
    name: &str,
    measured: &[Measured],
    value: impl Fn(&Measured) -> f64,
    decimals: usize,
) -> fmt::Result {
    write!(f, "{name:<NAME_WIDTH$}")?;
    for run in measured {
        let value = value(run);
        if value.is_nan() {
            write!(f, "{:>WIDTH$}", "-")?;
        } else {
            write!(f, "{value:>WIDTH$.decimals$}")?;
        }
    }
    writeln!(f)
}

/// A figure as a share of what it is on an empty journal in SQLite, with as many outstanding, if that was measured.
fn on_sqlite(run: &Measured, measured: &[Measured], figure: fn(&Measured) -> f64) -> f64 {
    let (outstanding, is_long) = (run.setup.outstanding, false);
    let same = |other: &&Measured| other.setup == Setup { is_postgres: false, is_long, nodes: 1, outstanding };
    measured.iter().find(same).map_or(f64::NAN, |sqlite| figure(run) / figure(sqlite))
}

fn cpu(run: &Measured) -> f64 {
    run.usage.router.as_secs_f64() * 1e6 / count(run)
}

fn commits_longer(run: &Measured, _: f64) -> f64 {
    (millis_if_any(&run.across) - millis_if_any(&run.within)) / millis(run.usage.commit)
}

fn millis_if_any(latencies: &[Duration]) -> f64 {
    if latencies.is_empty() { f64::NAN } else { millis(percentile(latencies, 50)) }
}

fn count(run: &Measured) -> f64 {
    f64::from(u32::try_from(run.latencies.len()).unwrap_or(u32::MAX))
}

fn throughput(run: &Measured, seconds: f64) -> f64 {
    count(run) / seconds
}

fn bytes_an_invocation(run: &Measured, _: f64) -> f64 {
    let whole = run.written.bytes / run.answers.max(1);
    f64::from(u32::try_from(whole).unwrap_or(u32::MAX))
}

/// The latency that so many percent are not above.
fn percentile(latencies: &[Duration], percent: usize) -> Duration {
    let rank = (latencies.len() * percent).div_ceil(100);
    latencies.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
