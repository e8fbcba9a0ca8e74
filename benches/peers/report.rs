//! The tables: medians of all rounds. A ratio is one of figures of the same round.

use std::fmt::Write;

use crate::bars::{self, Bar};
use crate::machine;
use crate::measure::{Cell, Figures, Round};
use crate::options::Options;
use crate::system::System;

/// The smallest and the largest payload of the bars.
const SMALL: usize = 200;
const LARGE: usize = 16 << 10;

/// All of it, as a part of a page.
pub(crate) fn page(options: &Options, rounds: &[Round]) -> String {
    let mut page = String::new();
    header(&mut page, options, rounds).expect("a string takes every character");
    for &payload in &options.payloads {
        loads(&mut page, options, rounds, payload).expect("a string takes every character");
    }
    let bars = bars(rounds);
    if bars.is_empty() {
        return page;
    }
    write!(page, "\n### What is asked for\n\n{}", bars::table(&bars)).expect("a string takes every character");
    page
}

fn header(page: &mut String, options: &Options, rounds: &[Round]) -> std::fmt::Result {
    let sync = median(rounds.iter().map(|round| round.sync)) * 1e3;
    let sequential = median(rounds.iter().map(|round| round.sequential)) / f64::from(1 << 20);
    writeln!(page, "Measured on {}: {}.\n", machine::date(), machine::description())?;
    writeln!(
        page,
        "{} rounds of {} s each, {} agents or workers; medians. A sync of 4 KiB takes {sync:.3} ms on this disk, and one after the \
         other it takes {sequential:.0} MiB a second.",
        options.rounds, options.seconds, options.workers
    )
}

fn loads(page: &mut String, options: &Options, rounds: &[Round], payload: usize) -> std::fmt::Result {
    let table = |page: &mut String, title: &str, value: &dyn Fn(&[&Figures]) -> String| {
        write!(page, "\n| {title} |")?;
        options.outstanding.iter().try_for_each(|outstanding| write!(page, " {outstanding} |"))?;
        writeln!(page, "\n|---|{}", "---|".repeat(options.outstanding.len()))?;
        for &system in &options.systems {
            write!(page, "| {} |", system.title())?;
            for &outstanding in &options.outstanding {
                let cell = Cell { system, payload, outstanding };
                let figures: Vec<_> = rounds.iter().filter_map(|round| round.cells.get(&cell)).collect();
                write!(page, " {} |", value(&figures))?;
            }
            writeln!(page)?;
        }
        Ok(())
    };
    let of = |figures: &[&Figures], value: fn(&Figures) -> f64| median(figures.iter().map(|figures| value(figures)));
    writeln!(page, "\n### Payloads of {payload} bytes")?;
    table(page, "answers a second (p50, p99 in ms), by how many are outstanding", &|figures| {
        let throughput = thousands(of(figures, |figures| figures.throughput));
        let [p50, p99] =
            [of(figures, |figures| figures.p50), of(figures, |figures| figures.p99)].map(|time| time * 1e3);
        format!("{throughput} ({}, {})", short(p50), short(p99))
    })?;
    table(page, "CPU of the server, of the clients, µs an answer; peak memory of the server, MiB", &|figures| {
        let [server, clients] = [of(figures, |figures| figures.server_cpu), of(figures, |figures| figures.client_cpu)]
            .map(|time| time * 1e6);
        format!("{}, {}; {:.0}", short(server), short(clients), of(figures, |figures| figures.peak))
    })
}

/// Those for which everything was measured that they are made of.
fn bars(rounds: &[Round]) -> Vec<Bar> {
    let throughput = |round: &Round, system, payload, outstanding| {
        round.cells.get(&Cell { system, payload, outstanding }).map(|figures| figures.throughput)
    };
    let mut bars = Vec::new();
    let mut bar = |name: String, unit, (bound, aim): (f64, f64), value: &dyn Fn(&Round) -> Option<f64>| {
        // A round in which the other answered nothing has no ratio.
        let values: Vec<f64> = rounds.iter().filter_map(value).filter(|value| value.is_finite()).collect();
        if !values.is_empty() {
            let smaller_is_better = aim < bound;
            bars.push(Bar { name, measured: median(values.into_iter()), bound, aim, unit, smaller_is_better });
        }
    };
    let ratios = [
        (System::Sqlite, System::Redis, "SQLite ÷ Redis Streams, always", [(64, 1.0, 1.5), (512, 1.0, 1.5)]),
        (System::Sqlite, System::NatsAlways, "SQLite ÷ JetStream, always", [(64, 10.0, 25.0), (512, 10.0, 25.0)]),
        (System::Sqlite, System::Relay, "SQLite ÷ relay without a journal", [(64, 0.22, 0.33), (512, 0.15, 0.3)]),
        (System::Postgres, System::Queue, "Postgres ÷ Postgres as a queue", [(64, 2.0, 5.0), (512, 2.0, 5.0)]),
    ];
    for (ours, other, name, bounds) in ratios {
        for (outstanding, bound, aim) in bounds {
            bar(format!("{name}, {outstanding} outstanding"), "", (bound, aim), &|round| {
                Some(throughput(round, ours, SMALL, outstanding)? / throughput(round, other, SMALL, outstanding)?)
            });
        }
    }
    bar("Postgres ÷ SQLite, 512 outstanding".to_owned(), "", (0.4, 0.6), &|round| {
        Some(throughput(round, System::Postgres, SMALL, 512)? / throughput(round, System::Sqlite, SMALL, 512)?)
    });
    bar("what SQLite adds to the p50 of the relay, 1 outstanding".to_owned(), "syncs", (2.5, 2.05), &|round| {
        let p50 = |system| round.cells.get(&Cell { system, payload: SMALL, outstanding: 1 }).map(|figures| figures.p50);
        Some((p50(System::Sqlite)? - p50(System::Relay)?) / round.sync)
    });
    bar(
        "16 KiB payloads: bytes of them that SQLite journals ÷ sequential synced write".to_owned(),
        "",
        (0.2, 0.5),
        &|round| {
            let rates = [64, 512].map(|outstanding| throughput(round, System::Sqlite, LARGE, outstanding));
            let best = rates.into_iter().flatten().reduce(f64::max)?;
            // The question and the answer.
            Some(best * 2.0 * f64::from(16 << 10) / round.sequential)
        },
    );
    bar("drain of 10,000 that waited for one agent ÷ live with 64 outstanding".to_owned(), "", (1.0, 2.0), &|round| {
        Some(round.operations?.drained / throughput(round, System::Sqlite, SMALL, 64)?)
    });
    bar("memory of an idle agent, of 10,000".to_owned(), "KiB", (20.0, 10.0), &|round| Some(round.operations?.idle));
    bar("memory with 100,000 invocations that wait".to_owned(), "MiB", (256.0, 64.0), &|round| {
        Some(round.operations?.waiting)
    });
    bars
}

/// Of an even number, the mean of the two in the middle.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        count => f64::midpoint(values[(count - 1) / 2], values[count / 2]),
    }
}

/// Two digits that matter.
fn short(value: f64) -> String {
    if !value.is_finite() {
        "–".to_owned()
    } else if value < 1.0 {
        format!("{value:.2}")
    } else if value < 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}
