//! The disk takes nothing more: it is full, or has become read-only.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rand::Rng;
use serde_json::json;
use tokio::time::sleep;

use super::image::SmallDisk;
use super::mount::run;
use super::play::{SETTINGS, begin, check, only_reads_are_served, wait_until_ready};
use crate::faults::{Length, seeded};
use crate::support::{BACKEND_KEY, Peer, Router, agent_id};

async fn router_on(disk: &Path) -> Router {
    let mut router = Router::stopped_on_a_file(&SETTINGS);
    router.set("DATABASE_URL", &format!("sqlite://{}", disk.join("journal.db").display()));
    router.start_again().await;
    router
}

/// Takes all the room that there is, to be given back by removing the folder.
fn fill(disk: &Path) -> PathBuf {
    let ballast = disk.join("ballast");
    fs::create_dir(&ballast).unwrap();
    for exponent in (12..30).rev() {
        let (size, file) = ((1_u64 << exponent).to_string(), ballast.join(exponent.to_string()));
        let taken = Command::new("fallocate").args(["-l", &size]).arg(&file).stderr(Stdio::null()).status();
        if !taken.expect("there is fallocate").success() {
            let _ = fs::remove_file(file);
        }
    }
    let mut last = File::create(ballast.join("last")).unwrap();
    while last.write_all(&[0; 512]).is_ok() {}
    let _ = last.sync_all();
    ballast
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_refuses_while_the_disk_is_full_and_goes_on_when_there_is_room() {
    let mut random = seeded();
    let length = Length::chosen(2);
    let disk = SmallDisk::new();
    let router = router_on(disk.mount().place()).await;
    let mut load = begin(&router, length, &mut random);
    let (rounds, pid) = (length.cycles, router.pid());
    for _ in 0..rounds {
        load.goes_on(20).await;
        sleep(Duration::from_millis(random.random_range(0..800))).await;
        let ballast = fill(disk.mount().place());
        wait_until_ready(&router, false).await;
        only_reads_are_served(&router).await;
        sleep(Duration::from_millis(random.random_range(0..1000))).await;
        fs::remove_dir_all(ballast).unwrap();
        wait_until_ready(&router, true).await;
    }
    load.goes_on(20).await;
    assert_eq!(router.pid(), pid, "it never ended");
    let seen = check(&router, load).await;
    eprintln!("{rounds} times full: {seen}");
    assert!(seen.receipts > 10 * rounds && seen.ends > 10 * rounds, "too little happened");
}

/// The log has room left when nothing else has, and what SQLite notes of each page of it, beside it, has to grow with it.
#[tokio::test]
async fn a_log_that_has_room_is_written_to_although_the_disk_is_full() {
    const PAGE: u64 = 4096;
    // SQLite notes so many of them before it needs more room for that.
    const NOTED_AT_FIRST: u64 = 4062;
    let disk = SmallDisk::new();
    let mut router = router_on(disk.mount().place()).await;
    let id = agent_id();
    Peer::registered(&router, &id).await.leave(&router).await;
    let log = disk.mount().place().join("journal.db-wal");
    run(
        "fallocate",
        &["--keep-size", "--length", &(3 * NOTED_AT_FIRST * PAGE).to_string(), &log.display().to_string()],
    );
    let ballast = fill(disk.mount().place());
    let invocation =
        json!({"agent_id": id, "payload": {"text": "x".repeat(100_000)}, "ttl_ms": 600_000, "deadline_ms": 600_000});
    let mut accepted = Vec::new();
    while fs::metadata(&log).unwrap().len() < 2 * NOTED_AT_FIRST * PAGE {
        let answer = router.post_as(BACKEND_KEY, "/v1/invocations", invocation.clone()).await.expect(202);
        accepted.push(answer["id"].as_str().expect("a text").to_owned());
    }
    router.kill();
    fs::remove_dir_all(ballast).unwrap();
    router.start_again().await;
    for id in [&accepted[0], accepted.last().unwrap()] {
        assert_eq!(router.invocation(id).await["state"], "queued");
    }
    assert!(router.run(&["journal", "verify"]).status.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_refuses_while_its_files_cannot_be_changed() {
    let mut random = seeded();
    let length = Length::chosen(2);
    let disk = SmallDisk::new();
    let router = router_on(disk.mount().place()).await;
    let mut load = begin(&router, length, &mut random);
    let (rounds, pid) = (length.cycles, router.pid());
    for _ in 0..rounds {
        load.goes_on(20).await;
        sleep(Duration::from_millis(random.random_range(0..800))).await;
        let files = ["journal.db", "journal.db-wal"].map(|name| disk.mount().place().join(name).display().to_string());
        run("chattr", &["+i", &files[0], &files[1]]);
        wait_until_ready(&router, false).await;
        only_reads_are_served(&router).await;
        run("chattr", &["-i", &files[0], &files[1]]);
        wait_until_ready(&router, true).await;
    }
    load.goes_on(20).await;
    assert_eq!(router.pid(), pid, "it never ended");
    let seen = check(&router, load).await;
    assert!(seen.receipts > 10 * rounds && seen.ends > 10 * rounds, "too little happened");
}

/// What Linux does with a file system whose disk fails. Nothing is being written meanwhile: a sync that is under way at that
/// moment may be reported as done although it was not, by the system itself.
#[tokio::test]
async fn a_file_system_that_becomes_read_only_takes_nothing_with_it() {
    let mut disk = SmallDisk::new();
    let mut router = router_on(disk.mount().place()).await;
    let cycles = Length::chosen(1).cycles;
    for _ in 0..cycles {
        let id = agent_id();
        Peer::registered(&router, &id).await.leave(&router).await;
        let invocation = json!({"agent_id": id, "payload": {}, "ttl_ms": 600_000, "deadline_ms": 600_000});
        let accepted = router.post_as(BACKEND_KEY, "/v1/invocations", invocation.clone()).await.expect(202);
        let before = router.history("").await;
        disk.mount().abort();
        let asked = router.request("POST", "/v1/invocations", BACKEND_KEY).json(&invocation).send().await;
        assert!(asked.is_ok_and(|refused| refused.status() == 503), "it takes what it cannot keep");
        only_reads_are_served(&router).await;
        router.kill();
        disk.mount_again();
        router.start_again().await;
        assert_eq!(router.history("").await[..before.len()], before);
        let kept = router.invocation(accepted["id"].as_str().expect("it has an id")).await;
        assert_eq!(kept["state"], "queued", "{kept}");
        assert!(router.run(&["journal", "verify"]).status.success());
    }
    eprintln!("{cycles} times read-only");
}
