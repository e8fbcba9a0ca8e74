//! The disk answers with errors: a router that cannot know what is on it ends, one that can refuses what it cannot keep.

use std::fs;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use rand::Rng;
use serde_json::json;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};
use tokio::time::{sleep, timeout};

use super::play::{SETTINGS, begin, check, only_reads_are_served, wait_until_ready};
use crate::faults::{Length, seeded};
use crate::support::strace::{Injection, SYNCS};
use crate::support::{BACKEND_KEY, OPERATOR_KEY, PATIENCE, Peer, Router, agent_id};

/// All ways to write to a file that SQLite has.
const WRITES: &str = "write,pwrite64";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_ends_when_a_sync_fails() {
    let mut random = seeded();
    let length = Length::chosen(2);
    let mut router = Router::on_a_file(&SETTINGS).await;
    let mut load = begin(&router, length, &mut random);
    let (rounds, mut injected) = (length.cycles, 0);
    for _ in 0..rounds {
        load.goes_on(20).await;
        sleep(Duration::from_millis(random.random_range(0..800))).await;
        let how = format!("error=EIO:when={}+", random.random_range(1..4));
        let failing = Injection::into(router.pid(), SYNCS, &how, &[]);
        router.failed().await;
        injected += failing.count();
        drop(failing);
        router.start_again().await;
        load.moves_to(vec![router.address()]);
    }
    assert_eq!(router.log().matches("the router had to stop: the journal failed").count(), rounds, "{}", router.log());
    load.goes_on(20).await;
    let seen = check(&router, load).await;
    eprintln!("{rounds} ends, {injected} syncs failed: {seen}");
    assert!(seen.receipts > 10 * rounds && seen.ends > 10 * rounds, "too little happened");
}

#[tokio::test]
async fn a_router_that_ends_because_a_sync_failed_says_so() {
    let mut router = Router::on_a_file(&SETTINGS).await;
    let _failing = Injection::into(router.pid(), SYNCS, "error=EIO", &[&router.dir().join("journal.db-wal")]);
    let invocation = json!({"agent_id": agent_id(), "payload": {}});
    let asked = router.request("POST", "/v1/invocations", BACKEND_KEY).json(&invocation).send().await;
    assert!(asked.is_ok_and(|refused| !refused.status().is_success()), "nothing is there to take it");
    router.failed().await;
    for said in ["the journal failed, and only a new start finds out", "disk I/O error (SQLite code 1034)"] {
        assert!(router.log().contains(said), "{}", router.log());
    }
}

/// A system says once that a sync failed: the next succeeds, and what was not written stays so.
#[tokio::test]
async fn a_log_that_could_not_be_folded_in_is_not_let_go_of_although_the_next_sync_succeeds() {
    for is_stopped in [true, false] {
        let mut router = Router::on_a_file(&SETTINGS).await;
        let target = agent_id();
        Peer::registered(&router, &target).await.leave(&router).await;
        let (journal, log) = (router.dir().join("journal.db"), router.dir().join("journal.db-wal"));
        let failing = Injection::into(router.pid(), SYNCS, "error=EIO:when=1", &[&journal]);
        // A router that goes on folds in a megabyte at a time; one that is stopped, all that there is.
        let (bytes, times) = if is_stopped { (10, 1) } else { (200_000, 60) };
        let payload = json!({"text": "x".repeat(bytes)});
        let invocation = json!({"agent_id": target, "payload": payload, "ttl_ms": 600_000, "deadline_ms": 600_000});
        let mut accepted = Vec::new();
        for _ in 0..times {
            let asked = router.request("POST", "/v1/invocations", BACKEND_KEY).json(&invocation).send().await;
            let Ok(asked) = asked.and_then(reqwest::Response::error_for_status) else { break };
            let answer: serde_json::Value = asked.json().await.unwrap();
            accepted.push(answer["id"].as_str().expect("a text").to_owned());
        }
        assert!(!accepted.is_empty() && (is_stopped || accepted.len() < times));
        if is_stopped {
            router.terminate();
        }
        router.failed().await;
        assert_eq!(failing.count(), 1);
        drop(failing);
        assert!(fs::metadata(&log).is_ok_and(|log| log.len() > 0), "stopped: {is_stopped}");
        router.start_again().await;
        for id in &accepted {
            assert_eq!(router.invocation(id).await["state"], "queued");
        }
        router.stop().await;
        assert!(!log.exists(), "all of it is in the file");
        assert!(router.run(&["journal", "verify"]).status.success());
    }
}

/// How much of a log is in the file is noted in shared memory, which outlives a router while somebody else has the journal open.
#[tokio::test]
async fn what_was_folded_in_and_not_synced_is_folded_in_again_by_the_next_start() {
    let mut router = Router::on_a_file(&SETTINGS).await;
    let (journal, log) = (router.dir().join("journal.db"), router.dir().join("journal.db-wal"));
    let target = agent_id();
    Peer::registered(&router, &target).await.leave(&router).await;
    router.restart().await;
    let emptied = async {
        while fs::metadata(&log).unwrap().len() > 0 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, emptied).await.expect("a start empties the log");
    let synced = fs::read(&journal).unwrap();
    // Closed behind the reader: with a file that it closes, this process would give up its reader's locks.
    let notes = fs::File::open(router.dir().join("journal.db-shm")).unwrap();
    let number_at = |at| {
        let mut number = [0; 4];
        notes.read_exact_at(&mut number, at).unwrap();
        u32::from_ne_bytes(number)
    };
    let (pages, folded_in) = (|| number_at(16), || number_at(96));

    let payload = json!({"text": "x".repeat(200_000)});
    let invocation = json!({"agent_id": target, "payload": payload, "ttl_ms": 600_000, "deadline_ms": 600_000});
    let mut accepted = Vec::new();
    let mut invoke = async |router: &Router| {
        let answer = router.post_as(BACKEND_KEY, "/v1/invocations", invocation.clone()).await.expect(202);
        accepted.push(answer["id"].as_str().expect("a text").to_owned());
    };
    invoke(&router).await;
    let options = SqliteConnectOptions::new().filename(&journal).read_only(true);
    let mut reader = options.connect().await.unwrap();
    sqlx::raw_sql("BEGIN; SELECT count(*) FROM journal").execute(&mut reader).await.unwrap();
    // What the reader does not see is in the log alone, and so the rest is not synced.
    while folded_in() == 0 {
        invoke(&router).await;
    }
    router.kill();
    sqlx::raw_sql("COMMIT").execute(&mut reader).await.unwrap();
    let file = fs::File::options().write(true).open(&journal).unwrap();
    file.set_len(0).unwrap();
    file.write_all_at(&synced, 0).unwrap();
    assert!(0 < folded_in() && folded_in() < pages(), "{} of {}", folded_in(), pages());

    router.start_again().await;
    for id in &accepted {
        assert_eq!(router.invocation(id).await["state"], "queued");
    }
    router.stop().await;
    reader.close().await.unwrap();
    assert!(router.run(&["journal", "verify"]).status.success());
}

/// What is erased is folded into the file at once, so that the log can be emptied.
#[tokio::test]
async fn a_router_ends_when_what_is_erased_could_not_be_synced() {
    let mut router = Router::on_a_file(&SETTINGS).await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    let accepted = router.post_as(BACKEND_KEY, "/v1/invocations", json!({"agent_id": target, "payload": {}})).await;
    let id = accepted.expect(202)["id"].as_str().expect("a text").to_owned();
    let delivery = agent.recv().await;
    agent.answer(&delivery, json!({})).await;
    router.wait_for_state(&id, "completed").await;

    let failing = Injection::into(router.pid(), SYNCS, "error=EIO", &[&router.dir().join("journal.db")]);
    router
        .post_as(OPERATOR_KEY, &format!("/v1/invocations/{id}/erase"), json!({"reason": "asked for"}))
        .await
        .expect(200);
    failing.strikes(PATIENCE).await;
    // It has nothing more to commit.
    router.failed().await;
    drop(failing);
    router.start_again().await;
    assert_eq!(router.invocation(&id).await["payload"], json!(null));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_refuses_while_writes_fail_and_goes_on_when_they_do_not() {
    let mut random = seeded();
    let length = Length::chosen(2);
    let router = Router::on_a_file(&SETTINGS).await;
    let mut load = begin(&router, length, &mut random);
    let (rounds, mut injected, pid) = (length.cycles, 0, router.pid());
    for _ in 0..rounds {
        load.goes_on(20).await;
        sleep(Duration::from_millis(random.random_range(0..800))).await;
        let folder = router.dir().to_owned();
        let files = ["journal.db", "journal.db-wal", "journal.db-shm"].map(|name| folder.join(name));
        let how = format!("error=EIO:when={}+", random.random_range(1..100));
        let failing = Injection::into(pid, WRITES, &how, &files.each_ref().map(AsRef::as_ref));
        wait_until_ready(&router, false).await;
        only_reads_are_served(&router).await;
        sleep(Duration::from_millis(random.random_range(0..1000))).await;
        injected += failing.count();
        drop(failing);
        wait_until_ready(&router, true).await;
    }
    load.goes_on(20).await;
    assert_eq!(router.pid(), pid);
    let seen = check(&router, load).await;
    eprintln!("{rounds} outages, {injected} writes failed: {seen}");
    assert!(seen.receipts > 10 * rounds && seen.ends > 10 * rounds, "too little happened");
}
