//! The journal's files are taken away under a running router, or are not what they were when it starts.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::sleep;

use super::play::{SETTINGS, begin, check, only_reads_are_served, wait_until_ready};
use crate::faults::{Length, seeded};
use crate::support::{OPERATOR_KEY, Peer, Router, agent_id, printed};

fn beside(router: &Router, ending: &str) -> PathBuf {
    format!("{}{ending}", router.journal().display()).into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_that_is_moved_away_is_not_written_to_until_it_is_back() {
    let mut random = seeded();
    let router = Router::on_a_file(&SETTINGS).await;
    let mut load = begin(&router, Length::chosen(1), &mut random);
    load.goes_on(20).await;
    let elsewhere = router.dir().join("elsewhere");
    fs::rename(router.journal(), &elsewhere).unwrap();
    wait_until_ready(&router, false).await;
    only_reads_are_served(&router).await;
    assert!(router.log().contains("its file was moved or removed"), "{}", router.log());
    fs::write(router.journal(), "something else").unwrap();
    sleep(Duration::from_secs(1)).await;
    only_reads_are_served(&router).await;
    fs::rename(&elsewhere, router.journal()).unwrap();
    wait_until_ready(&router, true).await;
    load.goes_on(20).await;
    let seen = check(&router, load).await;
    assert!(seen.receipts > 20 && seen.ends > 20, "too little happened");
}

#[tokio::test]
async fn a_journal_that_is_removed_can_still_be_read_and_is_missed_at_the_next_start() {
    let mut router = Router::on_a_file(&[("SHUTDOWN_GRACE", "1s")]).await;
    let agent = Peer::registered(&router, &agent_id()).await;
    let before = router.history("").await;
    fs::remove_file(router.journal()).unwrap();
    wait_until_ready(&router, false).await;
    only_reads_are_served(&router).await;
    assert_eq!(router.history("").await, before, "whoever wants it can have it as long as the router runs");

    drop(agent);
    router.terminate();
    router.failed().await;
    let refused = router.run(&["serve"]);
    assert!(
        !refused.status.success() && printed(&refused).contains("the journal has lost events"),
        "{}",
        printed(&refused)
    );
    assert!(!router.journal().exists(), "nothing is in the way of whoever puts it back");
    fs::remove_file(beside(&router, ".head")).unwrap();
    router.start_again().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_that_loses_a_file_beside_its_journal_ends_and_loses_nothing() {
    let mut random = seeded();
    let mut router = Router::on_a_file(&SETTINGS).await;
    let mut load = begin(&router, Length::chosen(1), &mut random);
    for ending in ["-wal", "-shm", ".lock"] {
        load.goes_on(20).await;
        fs::remove_file(beside(&router, ending)).unwrap();
        router.failed().await;
        assert!(router.log().contains("while this router was using it"), "{ending}: {}", router.log());
        router.start_again().await;
        load.moves_to(vec![router.address()]);
    }
    let seen = check(&router, load).await;
    assert!(seen.receipts > 20 && seen.ends > 20, "too little happened");
}

#[tokio::test]
async fn a_router_that_has_nothing_to_do_notices_too() {
    let mut router = Router::on_a_file(&[]).await;
    fs::remove_file(beside(&router, "-wal")).unwrap();
    // That it is asked now and then does not keep it from looking.
    let ask = router.request("GET", "/metrics", OPERATOR_KEY);
    let asking = tokio::spawn(async move {
        while ask.try_clone().expect("it has no body").send().await.is_ok_and(|answer| answer.status() == 200) {
            sleep(Duration::from_millis(100)).await;
        }
    });
    router.failed().await;
    asking.await.unwrap();
}

#[tokio::test]
async fn a_journal_behind_a_link_is_where_the_link_leads() {
    let mut router = Router::stopped_on_a_file(&[]);
    let link = router.dir().join("link.db");
    fs::write(router.journal(), "").unwrap();
    std::os::unix::fs::symlink(router.journal(), &link).unwrap();
    router.set("DATABASE_URL", &format!("sqlite://{}", link.display()));
    router.start_again().await;
    assert_eq!(router.get_as("", "/health/ready").await.status, 200);
    fs::remove_file(link).unwrap();
    wait_until_ready(&router, false).await;
    only_reads_are_served(&router).await;
}

#[tokio::test]
async fn an_older_copy_in_the_journals_place_is_refused_until_it_is_meant() {
    let mut router = Router::on_a_file(&[]).await;
    router.stop().await;
    let older = router.dir().join("older");
    fs::copy(router.journal(), &older).unwrap();
    router.start_again().await;
    router.stop().await;
    let put = |from: &Path| fs::copy(from, router.journal()).unwrap();
    put(&older);
    let verified = router.run(&["journal", "verify"]);
    assert!(!verified.status.success() && printed(&verified).contains("was committed"), "{}", printed(&verified));
    let refused = router.run(&["serve"]);
    assert!(!refused.status.success() && printed(&refused).contains("journal.db.head"), "{}", printed(&refused));
    fs::remove_file(beside(&router, ".head")).unwrap();
    router.start_again().await;
    router.stop().await;
    assert!(router.run(&["journal", "verify"]).status.success());
}

/// For SQLite, the log ends at the first frame that is damaged.
#[tokio::test]
async fn commits_that_a_damaged_log_has_lost_are_missed() {
    let mut router = Router::on_a_file(&[]).await;
    for _ in 0..3 {
        Peer::registered(&router, &agent_id()).await;
    }
    router.kill();
    let log = beside(&router, "-wal");
    let mut bytes = fs::read(&log).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&log, bytes).unwrap();
    for command in [&["journal", "verify"][..], &["serve"]] {
        let refused = router.run(command);
        let printed = printed(&refused);
        assert!(!refused.status.success() && printed.contains("was committed"), "{printed}");
    }
}
