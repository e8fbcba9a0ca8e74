//! The control: a journal that forgets what it had taken. It is set back to a copy while the router is down, as a disk that
//! lies about its writes would have it; the checker must find that out, on either back end.

use std::sync::Arc;

use super::checker::{Rule, check_all};
use super::load::{Load, Pace, SETTINGS, Scale};
use super::record::Record;
use super::seeded;
use crate::support::postgres::Cluster;
use crate::support::{Router, printed};

/// Saves the journal, has the load go on, sets the journal back, and has the load go on again.
async fn is_found_out(mut router: Router, save: impl AsyncFnOnce(&Router), set_back: impl AsyncFnOnce(&Router)) {
    let mut random = seeded();
    let mut load = Load::start(vec![router.address()], Scale::SHORT, &Pace::default(), &mut random);
    load.goes_on(20).await;
    save(&router).await;
    load.goes_on(30).await;
    let mut before = Record::default();
    before.read_on(&router).await;
    router.kill();
    set_back(&router).await;
    router.start_again().await;
    load.moves_to(vec![router.address()]);
    load.goes_on(20).await;
    let notes = load.stop().await;

    // What an auditor had noted elsewhere.
    let mut record = Record::default();
    record.heads = before.heads;
    let findings = check_all(&router, &mut record, &notes).await;
    let count = |rule| findings.violations.iter().filter(|violation| violation.rule == rule).count();
    let (lost, verified) = (count(Rule::Lost), count(Rule::Verified));
    eprintln!(
        "{}; {} violations, {lost} things lost, {verified} heads wrong",
        findings.seen,
        findings.violations.len()
    );
    assert!(lost > 20, "a journal that has lost 30 ends has lost {lost} things: {:?}", findings.violations);
    assert_eq!(verified, 1, "the head that was noted is gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_set_back_is_found_out() {
    let router = Router::on_a_file(&SETTINGS).await;
    let save = async |router: &Router| {
        let copied = router.run(&["backup", "--to", "saved.db"]);
        assert!(copied.status.success(), "{}", printed(&copied));
    };
    let set_back = async |router: &Router| {
        std::fs::rename(router.dir().join("saved.db"), router.journal()).expect("there is a copy");
        for more in ["db-wal", "db-shm", "db.head"] {
            // They belong to the file that is gone; with the last, the router would refuse the copy.
            let _ = std::fs::remove_file(router.journal().with_extension(more));
        }
    };
    is_found_out(router, save, set_back).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_set_back_is_found_out() {
    let cluster = Cluster::start();
    let router = Router::on(Arc::new(cluster.database()), "one", &SETTINGS).await;
    is_found_out(router, async |_| cluster.save().await, async |_| cluster.set_back().await).await;
}
