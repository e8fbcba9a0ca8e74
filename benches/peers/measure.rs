//! One round: the disk, each system with each load, and what else is asked of the router.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::sleep_until;

use crate::load::Load;
use crate::options::Options;
use crate::server::Processes;
use crate::system::{Running, System};
use crate::{Failure, disk, operations, router, sequential};

/// A system under a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Cell {
    pub(crate) system: System,
    pub(crate) payload: usize,
    pub(crate) outstanding: u32,
}

/// What was measured of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    /// Answers a second.
    pub(crate) throughput: f64,
    /// In seconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// CPU time of the server's processes for each answer, in seconds.
    pub(crate) server_cpu: f64,
    /// That of the clients.
    pub(crate) client_cpu: f64,
    /// The most memory that the server ever had, in MiB.
    pub(crate) peak: f64,
}

/// All of a round.
#[derive(Debug, Default)]
pub(crate) struct Round {
    pub(crate) cells: HashMap<Cell, Figures>,
    /// How long 4 KiB take to the disk, in seconds.
    pub(crate) sync: f64,
    /// Bytes a second that are written one after the other, and synced.
    pub(crate) sequential: f64,
    /// Nothing, if it was not measured.
    pub(crate) operations: Option<operations::Figures>,
}

/// Measures all of it once.
pub(crate) async fn round(options: &Options) -> Result<Round, Failure> {
    let mut round = Round::default();
    let folder = tempfile::Builder::new().prefix("peers-").tempdir_in(&options.dir)?;
    round.sync = disk::sync_time(folder.path())?.as_secs_f64();
    round.sequential = sequential::bytes_a_second(folder.path())?;
    for &system in &options.systems {
        eprintln!("  {system}");
        let folder = tempfile::Builder::new().prefix("peers-").tempdir_in(&options.dir)?;
        let running = Running::start(system, folder.path()).await?;
        let processes = running.processes().await?;
        for &payload in &options.payloads {
            for &outstanding in &options.outstanding {
                let cell = Cell { system, payload, outstanding };
                let figures = measure(options, &running, &processes, cell).await;
                round.cells.insert(cell, figures.map_err(|failure| format!("{cell:?}: {failure}"))?);
            }
        }
        running.stop()?;
    }
    if !options.loads_only && options.systems.contains(&System::Sqlite) {
        eprintln!("  drain, and memory");
        round.operations = Some(operations::measure(&options.dir).await?);
    }
    Ok(round)
}

async fn measure(options: &Options, running: &Running, processes: &Processes, cell: Cell) -> Result<Figures, Failure> {
    let time = Duration::from_secs_f64(options.seconds);
    let load = Load::new(options.workers, cell.outstanding, cell.payload, time);
    let (mut latencies, (server, clients)) = tokio::try_join!(running.run(&load), cpu(processes, &load))?;
    let count = f64::from(u32::try_from(latencies.len())?);
    latencies.sort_unstable();
    Ok(Figures {
        throughput: count / options.seconds,
        p50: percentile(&latencies, 50),
        p99: percentile(&latencies, 99),
        server_cpu: server.as_secs_f64() / count,
        client_cpu: clients.as_secs_f64() / count,
        peak: f64::from(processes.peak_kib()?) / 1024.0,
    })
}

/// The CPU time in the measured time, of the server and of this process.
async fn cpu(processes: &Processes, load: &Load) -> Result<(Duration, Duration), Failure> {
    let now = || Ok::<_, Failure>((processes.cpu_time()?, router::cpu_time(std::process::id())?));
    let measured = load.measured().await;
    sleep_until(measured.start).await;
    let start = now()?;
    sleep_until(measured.end).await;
    let end = now()?;
    Ok((end.0.saturating_sub(start.0), end.1.saturating_sub(start.1)))
}

/// The latency that so many percent are not above, in seconds. Not a number, if nothing was answered in that time.
fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).map_or(f64::NAN, Duration::as_secs_f64)
}
