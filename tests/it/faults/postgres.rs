//! The database of one router crashes, is restarted, breaks its connections, and runs out of space.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::checker::{Seen, check_all};
use super::load::{Load, Pace, SETTINGS};
use super::record::Record;
use super::{Length, seeded};
use crate::support::postgres::Cluster;
use crate::support::{BACKEND_KEY, PATIENCE, Router, agent_id};

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// It crashes, and recovers.
    Crash,
    /// An administrator restarts it.
    Restart,
    /// `pg_terminate_backend` of each connection of the router.
    Terminate,
    /// Its disk is full for a while.
    Full,
}

const FAULTS: [Fault; 4] = [Fault::Crash, Fault::Restart, Fault::Terminate, Fault::Full];

/// A disk of 400 MiB in memory.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn new() -> Self {
        let disk = Self(TempDir::new().expect("a temporary directory can be made"));
        // Whoever runs Postgres has to find the way.
        as_root(&["chmod", "755", &disk.path()]);
        as_root(&["mount", "-t", "tmpfs", "-o", "size=400m,mode=1777", "tmpfs", &disk.path()]);
        disk
    }

    fn path(&self) -> String {
        self.0.path().display().to_string()
    }

    /// Leaves no room on it.
    fn fill(&self) {
        let ballast = self.0.path().join("ballast");
        let mut file = std::fs::File::create(ballast).expect("a file can be made");
        let error = std::io::copy(&mut std::io::repeat(0), &mut file).expect_err("it has an end");
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{error}");
    }

    fn free(&self) {
        std::fs::remove_file(self.0.path().join("ballast")).expect("a file can be removed");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Postgres may take a moment to leave it.
        as_root(&["umount", "--lazy", &self.path()]);
    }
}

/// Mounting is root's, also in the machine that tests everything.
fn as_root(command: &[&str]) {
    let user = Command::new("id").arg("-u").output().expect("there is `id`");
    let is_root = user.stdout == b"0\n";
    let command = if is_root { command.to_vec() } else { [&["sudo", "-n"], command].concat() };
    let done = Command::new(command[0]).args(&command[1..]).status().expect("the command can be run");
    assert!(done.success(), "{command:?} needs root, or sudo without a password");
}

/// A router, and the database that it has to itself.
struct Theatre {
    router: Router,
    cluster: Cluster,
    disk: SmallDisk,
}

impl Theatre {
    async fn open() -> Self {
        let disk = SmallDisk::new();
        let cluster = Cluster::start_in(disk.0.path());
        let router = Router::on(Arc::new(cluster.database()), "one", &SETTINGS).await;
        Self { router, cluster, disk }
    }

    async fn suffer(&self, fault: Fault, pause: Duration) {
        match fault {
            Fault::Crash => {
                self.cluster.crash().await;
                sleep(pause).await;
                self.cluster.start_again().await;
            }
            Fault::Restart => {
                self.cluster.shut_down().await;
                sleep(pause).await;
                self.cluster.start_again().await;
            }
            Fault::Terminate => {
                let mut terminated = 0;
                for _ in 0..3 {
                    terminated += self.router.database().terminate_all().await;
                    sleep(pause / 4).await;
                }
                assert!(terminated > 0, "there were no connections");
            }
            Fault::Full => {
                self.disk.fill();
                self.is(503).await;
                let body = serde_json::json!({"agent_id": agent_id(), "payload": {}});
                let refused = self.router.post_as(BACKEND_KEY, "/v1/invocations", body).await;
                assert_eq!(refused.problem(503), "journal_unavailable");
                sleep(pause).await;
                self.disk.free();
                // It may have ended when it could not write its own log of changes.
                self.cluster.start_again().await;
            }
        }
        self.is(200).await;
    }

    /// Waits until the router says that it is ready, or that it is not.
    async fn is(&self, status: u16) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ready = self.router.get_as("", "/health/ready").await;
            if ready.status == status {
                return;
            }
            assert!(Instant::now() < deadline, "{}, not {status}: {}", ready.status, ready.text);
            sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_whatever_happens_to_the_database() {
    let mut random = seeded();
    let length = Length::chosen(FAULTS.len());
    let theatre = Theatre::open().await;
    let (mut record, mut total) = (Record::default(), Seen::default());
    for (cycle, fault) in FAULTS.into_iter().cycle().take(length.cycles).enumerate() {
        let router = &theatre.router;
        let mut load = Load::start(vec![router.address()], length.scale, &Pace::default(), &mut random);
        load.goes_on(20).await;
        theatre.suffer(fault, Duration::from_millis(random.random_range(0..2_000))).await;
        load.goes_on(20).await;
        let progress = load.progress();
        let notes = load.stop().await;
        let findings = check_all(router, &mut record, &notes).await;
        eprintln!("cycle {cycle}, {fault:?}: {}; {progress:?}", findings.seen);
        findings.expect_none();
        total.add(findings.seen);
        record.begin_anew();
    }
    eprintln!("{} cycles; {total}", length.cycles);
    assert_eq!(record.count("node.started"), 1, "it was one process all the time");
    assert!(total.receipts > 20 * length.cycles && total.ends > 20 * length.cycles, "too little happened");
}
