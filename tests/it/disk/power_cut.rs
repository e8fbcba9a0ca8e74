//! The power is cut: what the disk had at that moment is all there is, and everything that any client had received is in it.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use serde_json::Value;
use tokio::time::sleep;
use uuid::Uuid;

use super::image::{Disk, Shelf};
use super::play::SETTINGS;
use crate::faults::checker::{Seen, check_all};
use crate::faults::load::{Load, Pace, Scale};
use crate::faults::notes::Note;
use crate::faults::record::Record;
use crate::faults::{Length, seeded};
use crate::support::Router;
use crate::support::strace::{Injection, SYNCS};

/// How many cuts go by between two checks.
const ACT: usize = 10;
/// How soon after its very first start a router loses its power, at the latest.
const FIRST_MOMENTS: Duration = Duration::from_millis(150);

/// How long it takes at the most until so much is committed that the log is folded in: a router that is traced, on a busy disk,
/// commits a few times in a second.
const FOLDED: Duration = Duration::from_mins(3);

/// A router on disks whose power is cut.
struct Machine {
    router: Router,
    shelf: Shelf,
    disk: Disk,
}

impl Machine {
    fn new() -> Self {
        let shelf = Shelf::new();
        let disk = shelf.disk();
        let mut machine = Self { router: Router::stopped_on_a_file(&SETTINGS), shelf, disk };
        machine.use_disk();
        machine
    }

    fn use_disk(&mut self) {
        let path = self.disk.place().join("journal.db");
        self.router.set("DATABASE_URL", &format!("sqlite://{}", path.display()));
    }

    /// A new journal, on a new disk.
    fn begin_anew(&mut self) {
        self.disk = self.shelf.disk();
        self.use_disk();
    }

    /// Cuts the power while the router runs; it is gone then, and has the disk as it was.
    fn cut(&mut self) {
        // Nothing is sent any more, as if the machine had no power. What the system is writing, it goes on writing.
        self.router.pause();
        let disk = self.shelf.cut(&self.disk);
        self.goes_down(disk);
    }

    fn goes_down(&mut self, disk: Disk) {
        self.router.kill();
        self.disk = disk;
        self.use_disk();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_received_before_a_power_cut_is_in_the_journal() {
    let mut random = seeded();
    let length = Length::chosen(3);
    let mut machine = Machine::new();
    machine.router.start_again().await;
    let (mut record, mut total, mut left) = (Record::default(), Seen::default(), length.cycles);
    while left > 0 {
        let cuts = left.min(ACT);
        left -= cuts;
        let mut load = Load::start(vec![machine.router.address()], length.scale, &Pace::default(), &mut random);
        for _ in 0..cuts {
            load.goes_on(20).await;
            sleep(Duration::from_millis(random.random_range(0..1_000))).await;
            machine.cut();
            machine.router.start_again().await;
            load.moves_to(vec![machine.router.address()]);
        }
        load.goes_on(20).await;
        let findings = check_all(&machine.router, &mut record, &load.stop().await).await;
        eprintln!("{left} cuts left; {}", findings.seen);
        findings.expect_none();
        total.add(findings.seen);
        record.begin_anew();
    }
    eprintln!("{} cuts; {total}", length.cycles);
    assert!(total.receipts > 20 * length.cycles && total.ends > 20 * length.cycles, "too little happened");
}

/// Starts the router for the very first time and cuts its power: so long after the process began, or after it served and
/// clients came.
async fn cut_in_the_first_moments(machine: &mut Machine, serves: bool, random: &mut StdRng) -> Seen {
    machine.begin_anew();
    let after = random.random_range(Duration::ZERO..FIRST_MOMENTS);
    let start = |router: &Router, random| Load::start(vec![router.address()], Scale::SHORT, &Pace::default(), random);
    let mut load = if serves {
        machine.router.start_again().await;
        let load = start(&machine.router, random);
        sleep(after).await;
        machine.cut();
        machine.router.start_again().await;
        load.moves_to(vec![machine.router.address()]);
        load
    } else {
        let (router, shelf, disk) = (&mut machine.router, &machine.shelf, &machine.disk);
        let cut = async {
            sleep(after).await;
            shelf.cut(disk)
        };
        let ((), disk) = tokio::join!(router.start_again(), cut);
        machine.goes_down(disk);
        machine.router.start_again().await;
        start(&machine.router, random)
    };
    load.goes_on(10).await;
    let findings = check_all(&machine.router, &mut Record::default(), &load.stop().await).await;
    findings.expect_none();
    machine.router.stop().await;
    findings.seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_that_had_just_begun_survives_a_power_cut() {
    let mut random = seeded();
    let cuts = Length::chosen(2).cycles;
    let (mut machine, mut total) = (Machine::new(), Seen::default());
    for cut in 0..cuts {
        total.add(cut_in_the_first_moments(&mut machine, cut % 2 == 1, &mut random).await);
    }
    eprintln!("{cuts} cuts; {total}");
}

/// Whether the file is on the disk nobody knows then: the router ends, and the log still has it all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_could_not_be_folded_in_is_still_there_after_a_power_cut() {
    let mut random = seeded();
    let length = Length::chosen(1);
    let (mut machine, mut total) = (Machine::new(), Seen::default());
    let (mut left, mut failed) = (length.cycles, 0);
    while left > 0 {
        let cuts = left.min(ACT);
        left -= cuts;
        // Each act has a disk of its own: all of them together would not fit on one.
        machine.begin_anew();
        machine.router.start_again().await;
        let mut load = Load::start(vec![machine.router.address()], length.scale, &Pace::default(), &mut random);
        for _ in 0..cuts {
            failed += fail_to_fold(&mut machine).await;
            load.moves_to(vec![machine.router.address()]);
        }
        load.goes_on(20).await;
        let findings = check_all(&machine.router, &mut Record::default(), &load.stop().await).await;
        eprintln!("{left} cuts left; {}", findings.seen);
        findings.expect_none();
        total.add(findings.seen);
        machine.router.stop().await;
    }
    eprintln!("{} cuts, {failed} syncs of the file failed; {total}", length.cycles);
}

/// Each sync of the file fails until the router has ended; then the power is cut, and it starts again. Says how many failed.
async fn fail_to_fold(machine: &mut Machine) -> usize {
    let file = machine.disk.place().join("journal.db");
    let failing = Injection::into(machine.router.pid(), SYNCS, "error=EIO", &[&file]);
    failing.strikes(FOLDED).await;
    machine.router.failed().await;
    machine.disk = machine.shelf.cut(&machine.disk);
    machine.use_disk();
    machine.router.start_again().await;
    failing.count()
}

/// The control: with a write-ahead log that is not synced by a commit, as with `synchronous=NORMAL`, what was received is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_loses_what_was_received_if_commits_are_not_synced() {
    let mut random = seeded();
    let cuts = Length::chosen(1).cycles;
    let (mut machine, mut received, mut lost) = (Machine::new(), 0, 0);
    for _ in 0..cuts {
        machine.begin_anew();
        machine.router.start_again().await;
        let log = machine.disk.place().join("journal.db-wal");
        let unsynced = Injection::into(machine.router.pid(), SYNCS, "retval=0", &[&log]);
        let mut load = Load::start(vec![machine.router.address()], Scale::SHORT, &Pace::default(), &mut random);
        load.goes_on(20).await;
        machine.cut();
        assert!(unsynced.count() > 0, "nothing was to be synced");
        let kept = accepted(&machine.router);
        // What is left may be no journal at all: the load ends with another.
        machine.begin_anew();
        machine.router.start_again().await;
        load.moves_to(vec![machine.router.address()]);
        let notes = load.stop().await;
        let all = notes.iter().flat_map(|notes| &notes.notes).filter_map(receipt);
        let since = accepted(&machine.router);
        let before: Vec<_> = all.filter(|invocation| !since.contains(invocation)).collect();
        received += before.len();
        lost += before.iter().filter(|invocation| !kept.contains(*invocation)).count();
        machine.router.stop().await;
    }
    eprintln!("{cuts} cuts: {lost} of {received} receipts lost");
    assert!(lost > 0, "the disk keeps what is not synced: then the other tests show nothing");
}

/// The invocations that the journal says were accepted; none, if it cannot be read.
fn accepted(router: &Router) -> BTreeSet<Uuid> {
    let exported = router.run(&["journal", "export"]);
    let lines = String::from_utf8_lossy(&exported.stdout).into_owned();
    let events = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line is JSON"));
    let accepted = events.filter(|event| event["kind"] == "invocation.accepted");
    accepted.filter_map(|event| event["invocation_id"].as_str().and_then(|id| id.parse().ok())).collect()
}

/// The invocation that a client was told is accepted.
fn receipt(note: &Note) -> Option<Uuid> {
    match note {
        Note::Accepted { invocation } => Some(*invocation),
        _ => None,
    }
}
