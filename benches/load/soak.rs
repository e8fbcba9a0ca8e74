//! The same load for a long time: whether memory, file handles, the write-ahead log and latencies stay what they were.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use crate::course::{self, Minute};
use crate::database::Database;
use crate::master::Work;
use crate::options::{Options, Setup};
use crate::pace::Latencies;
use crate::payload::Payloads;
use crate::router::Router;
use crate::run::{self, connect, ended};
use crate::wire::Socket;
use crate::{Failure, disk};

const MINUTE: Duration = Duration::from_mins(1);

/// How many are outstanding while the maximum is measured: enough that commits are full.
const AT_MOST: Setup = Setup { is_postgres: false, is_long: false, nodes: 1, outstanding: 512 };

/// Keeps a router on SQLite under a steady load, prints what it takes minute by minute, and fails if that is not flat.
pub(crate) async fn soak(options: &Options, minutes: u32) -> Result<(), Failure> {
    let rate = match options.rate {
        Some(rate) => rate,
        None => half_of_maximum(options).await?,
    };
    let folder = tempfile::Builder::new().prefix("soak-").tempdir_in(&options.dir)?;
    let sync = disk::sync_time(folder.path())?;
    let database = Database::in_folder(folder.path());
    let mut routers = vec![Router::start(&database.url(), "router-1", folder.path())?];
    let (masters, mut agents, ids) = connect(options, &routers).await?;
    let master = masters.into_iter().next().ok_or("there is no master")?;
    println!(
        "{minutes} minutes at {rate} invocations a second, {} agents; 4 KiB take {sync:.1?} to the disk",
        ids.len()
    );

    let start = Instant::now() + Options::WARM_UP;
    let work = Work {
        agents: ids,
        nodes: 1,
        payloads: Payloads::of(options.payload),
        measured: start..start + MINUTE * minutes,
    };
    let latencies = Latencies::default();
    let watched = watch(&routers[0], folder.path(), &latencies, start, (minutes, options.leak));
    let (answers, course) = tokio::select! {
        biased;
        // First, because it is the reason for what the master sees of it.
        Some(agent) = agents.join_next() => {
            agent??;
            return Err("the router closed an agent's connection".into());
        }
        both = async { tokio::try_join!(master.keep_pace(&work, rate, &latencies), watched) } => both?,
    };

    routers[0].terminate()?;
    let delivered = ended(agents).await?;
    routers[0].ended()?;
    let verdict = course::verdict(&course);
    print!("{verdict}");
    if delivered != answers {
        return Err(format!("{answers} invocations were answered, and {delivered} delivered").into());
    }
    println!("{answers} invocations, each answered once; checking the journal, which takes a while");
    database.verify().await?;
    println!("the journal verifies");
    if verdict.is_flat() { Ok(()) } else { Err("not flat".into()) }
}

async fn half_of_maximum(options: &Options) -> Result<u32, Failure> {
    let measured = run::measure(options, AT_MOST, None).await?;
    let answers = u32::try_from(measured.latencies.len())?;
    println!("at most {} invocations a second", answers / options.seconds);
    Ok((answers / options.seconds / 2).max(1))
}

/// Keeps a socket that nobody uses: its Pings are answered.
async fn held(mut socket: Socket) -> Result<(), Failure> {
    while socket.receive().await? {
        while socket.next()?.is_some() {}
        socket.flush().await?;
    }
    Ok(())
}

/// A line for each minute. Each minute `leak` sockets are opened that nobody lets go: with them it cannot be flat.
async fn watch(
    router: &Router,
    folder: &Path,
    latencies: &Latencies,
    start: Instant,
    (minutes, leak): (u32, u32),
) -> Result<Vec<Minute>, Failure> {
    let mut course = Vec::new();
    let mut leaked = JoinSet::new();
    println!("{}", Minute::HEADER);
    sleep_until(start).await;
    taken(latencies);
    for number in 1..=minutes {
        for _ in 0..leak {
            let header = ("X-Custom-Authorization", &*Uuid::new_v4().to_string());
            leaked.spawn(held(Socket::open(router.address(), header).await?));
        }
        sleep_until(start + MINUTE * number).await;
        let size = |name: &str| fs::metadata(folder.join(name)).map_or(0, |file| file.len());
        let minute = Minute::new(
            number,
            taken(latencies),
            (resident_kib(router.pid())?, handles(router.pid())?),
            (size("journal.db-wal"), size("journal.db")),
        );
        println!("{minute}");
        course.push(minute);
    }
    Ok(course)
}

/// The memory that a process has now.
fn resident_kib(pid: u32) -> Result<u32, Failure> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let found = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.strip_suffix(" kB"));
    Ok(found.ok_or("Linux does not say how much memory it has")?.trim().parse()?)
}

/// How many files and sockets a process has open.
fn handles(pid: u32) -> Result<usize, Failure> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

fn taken(latencies: &Latencies) -> Vec<Duration> {
    std::mem::take(&mut *latencies.lock().expect("nobody panics with it"))
}
