//! The wall clock jumps an hour forward and back, while the router runs and across its restarts: deadlines and ttls hold, the
//! order holds, and the chain verifies. The same with the clock of the database, which routers follow forward, and never back.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::checker::check_all;
use super::load::{Load, Pace, SETTINGS};
use super::record::Record;
use super::{Length, seeded};
use crate::support::postgres::Cluster;
use crate::support::{BACKEND_KEY, PATIENCE, Peer, Router, agent_id};

const HOUR: i64 = 3600;
/// For what waits in the queue of an agent that is away.
const PATIENT: Duration = Duration::from_millis(1_500);
/// What a busy machine, and a restart, may add to that.
const LATE: Duration = Duration::from_secs(5);
/// How far a router's clock may be from that of its database.
const EARLY: Duration = Duration::from_millis(300);

/// A router whose wall clock, or whose database's, is ours (`wall_clock.c`). The monotonic clock is the machine's, as it is
/// when somebody sets a clock.
struct Shifted {
    router: Router,
    /// Which file says by how much.
    file: PathBuf,
    shift: i64,
}

/// Compiles the clock into a directory; returns the library.
fn wall_clock(directory: &Path) -> String {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/faults/wall_clock.c");
    let library = directory.join("wall_clock.so").display().to_string();
    let compiled =
        Command::new("cc").args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", &library]).arg(source).status();
    assert!(compiled.expect("there is a C compiler: run scripts/prerequisites").success(), "the clock is not compiled");
    library
}

impl Shifted {
    async fn start() -> Self {
        // On Postgres the time is the database's, and this machine's must not matter.
        let mut router = Router::stopped(&SETTINGS);
        let (library, file) = (wall_clock(router.dir()), router.dir().join("clock"));
        router.set("LD_PRELOAD", &library);
        router.set("SHIFT_FILE", &file.display().to_string());
        set(&file, 0);
        router.start_again().await;
        Self { router, file, shift: 0 }
    }

    /// One on a database with such a clock, in this directory.
    async fn on_shifted(directory: &TempDir) -> (Cluster, Self) {
        let (library, file) = (wall_clock(directory.path()), directory.path().join("clock"));
        set(&file, 0);
        // Whoever runs Postgres has to find the way.
        std::fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).expect("it is this user's");
        let cluster = Cluster::start_as(&[("LD_PRELOAD", Path::new(&library)), ("SHIFT_FILE", &file)]);
        let router = Router::on(Arc::new(cluster.database()), "one", &SETTINGS).await;
        (cluster, Self { router, file, shift: 0 })
    }

    /// Puts the wall clock forward or back.
    fn jump(&mut self, seconds: i64) {
        self.shift += seconds;
        set(&self.file, self.shift);
    }

    /// Waits until the router has put its clock forward so often since its log began.
    async fn follows(&self, times: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.router.log().matches("this router's is put forward").count() < times {
            assert!(Instant::now() < deadline, "the router does not follow the clock of its database");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// That the process has the clock that it is given: its log lines have times of the wall clock.
    async fn has_jumped(&self) {
        // That is logged.
        let witness = Peer::registered(&self.router, &agent_id()).await;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = self.router.log();
            let times = log.lines().rev().filter_map(|line| line.split(' ').next()?.parse::<DateTime<Utc>>().ok());
            let shown = times.map(|time| (time - Utc::now()).num_seconds()).next();
            if shown.is_some_and(|shown| (shown - self.shift).abs() < HOUR / 2) {
                return witness.close().await;
            }
            assert!(Instant::now() < deadline, "the log's time is {shown:?} from now, not {}", self.shift);
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Two invocations that wait for an agent that is away: one for its ttl, one for its deadline.
    async fn two_that_wait(&self, away: &str) -> [Waiting; 2] {
        let ms = PATIENT.as_millis();
        let ttl = json!({"agent_id": away, "ttl_ms": ms, "deadline_ms": 600_000, "payload": {"call": new_call()}});
        let deadline = json!({"agent_id": away, "ttl_ms": 600_000, "deadline_ms": ms, "payload": {"call": new_call()}});
        [self.ask("expired", ttl).await, self.ask("timed_out", deadline).await]
    }

    async fn ask(&self, end: &'static str, body: Value) -> Waiting {
        let since = Instant::now();
        let accepted = self.router.post_as(BACKEND_KEY, "/v1/invocations", body).await.expect(202);
        Waiting { id: accepted["id"].as_str().expect("an invocation has an id").to_owned(), end, since }
    }
}

/// How far the clock of a file is shifted from now on, in seconds.
fn set(file: &Path, shift: i64) {
    // In place at once: whoever reads it sees the one or the other.
    let unfinished = file.with_extension("new");
    std::fs::write(&unfinished, format!("{shift}\n")).expect("a file can be written");
    std::fs::rename(unfinished, file).expect("a file can be renamed");
}

fn new_call() -> String {
    format!("{} waits", agent_id())
}

struct Waiting {
    id: String,
    end: &'static str,
    since: Instant,
}

impl Waiting {
    /// It ends as it should, when it should.
    async fn ends(&self, router: &Router) {
        router.wait_for_state(&self.id, self.end).await;
        let took = self.since.elapsed();
        assert!(took + EARLY >= PATIENT && took < PATIENT + LATE, "{} after {took:?}", self.end);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deadlines_and_order_hold_when_the_clock_jumps() {
    let mut random = seeded();
    let length = Length::chosen(1);
    let mut shifted = Shifted::start().await;
    let away = agent_id();
    Peer::registered(&shifted.router, &away).await.leave(&shifted.router).await;
    let mut record = Record::default();
    for cycle in 0..length.cycles {
        // What waits for the agent that is away is not of the load, and ends in an act of its own.
        for jump in [HOUR, -HOUR, -HOUR, HOUR] {
            let waiting = shifted.two_that_wait(&away).await;
            shifted.jump(jump);
            shifted.has_jumped().await;
            for waiting in &waiting {
                waiting.ends(&shifted.router).await;
            }
        }
        let waiting = shifted.two_that_wait(&away).await;
        shifted.router.kill();
        shifted.jump(-HOUR);
        shifted.router.start_again().await;
        shifted.has_jumped().await;
        for waiting in &waiting {
            waiting.ends(&shifted.router).await;
        }
        record.read_to_the_end(&shifted.router).await;
        record.begin_anew();

        let addresses = |shifted: &Shifted| vec![shifted.router.address()];
        let mut load = Load::start(addresses(&shifted), length.scale, &Pace::default(), &mut random);
        load.goes_on(20).await;
        for (jump, restarts) in [(HOUR, false), (-HOUR, false), (-HOUR, true), (HOUR, true), (HOUR, true)] {
            if restarts {
                shifted.router.kill();
            }
            shifted.jump(jump);
            if restarts {
                shifted.router.start_again().await;
                load.moves_to(addresses(&shifted));
            }
            shifted.has_jumped().await;
            load.goes_on(20).await;
        }
        let notes = load.stop().await;
        let findings = check_all(&shifted.router, &mut record, &notes).await;
        eprintln!("cycle {cycle}, 10 jumps: {}", findings.seen);
        findings.expect_none();
        assert!(findings.seen.receipts > 100 && findings.seen.ends > 100, "too little happened");
        record.begin_anew();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routers_follow_the_clock_of_their_database_forward_and_never_back() {
    let mut random = seeded();
    let length = Length::chosen(1);
    let away = agent_id();
    for cycle in 0..length.cycles {
        let mut record = Record::default();
        let directory = TempDir::new().expect("a temporary directory can be made");
        let (_cluster, mut shifted) = Shifted::on_shifted(&directory).await;
        Peer::registered(&shifted.router, &away).await.leave(&shifted.router).await;
        // An hour has passed, as far as anyone can tell.
        let late =
            json!({"agent_id": away, "ttl_ms": 900_000, "deadline_ms": 900_000, "payload": {"call": new_call()}});
        let late = shifted.ask("timed_out", late).await;
        shifted.jump(HOUR);
        shifted.follows(1).await;
        shifted.router.wait_for_state(&late.id, late.end).await;
        // From then on, and whatever the database's clock does, a second is a second.
        for (jump, restarts) in [(0, false), (-HOUR, false), (-HOUR, true), (HOUR, false)] {
            let waiting = shifted.two_that_wait(&away).await;
            if restarts {
                shifted.router.kill();
            }
            shifted.jump(jump);
            if restarts {
                shifted.router.start_again().await;
            }
            for waiting in &waiting {
                waiting.ends(&shifted.router).await;
            }
        }
        record.read_to_the_end(&shifted.router).await;
        record.begin_anew();

        let mut load = Load::start(vec![shifted.router.address()], length.scale, &Pace::default(), &mut random);
        load.goes_on(20).await;
        let followed = shifted.router.log().matches("this router's is put forward").count();
        for (jump, times) in [(3 * HOUR, 1), (-HOUR, 1), (-HOUR, 1), (4 * HOUR, 2)] {
            shifted.jump(jump);
            shifted.follows(followed + times).await;
            load.goes_on(20).await;
        }
        let notes = load.stop().await;
        let findings = check_all(&shifted.router, &mut record, &notes).await;
        eprintln!("cycle {cycle}, 9 jumps of the database's clock: {}", findings.seen);
        findings.expect_none();
        assert!(findings.seen.receipts > 100 && findings.seen.ends > 100, "too little happened");
    }
}
