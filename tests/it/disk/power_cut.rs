//! The power is cut: what the disk had at that moment is all there is, and everything that any client had received is in it.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::image::{Disk, Shelf};
use super::rounds;
use crate::chaos::actors::{Agent, Caller, Notes, Stage};
use crate::chaos::checks::{self, Seen, ended};
use crate::chaos::seed;
use crate::support::strace::{Injection, SYNCS};
use crate::support::{Journal, Router, agent_id, printed};

const AGENTS: usize = 4;
const CALLERS: usize = 3;

/// A long run makes a long journal.
const VERIFIED: Duration = Duration::from_mins(5);

/// How soon after its very first start a router loses its power, at the latest.
const FIRST_MOMENTS: Duration = Duration::from_millis(150);

/// A router on disks whose power is cut, and who plays with it.
struct Theatre {
    router: Router,
    shelf: Shelf,
    disk: Disk,
    agents: Vec<String>,
    random: StdRng,
    /// Whether commits are synced; they are.
    syncs: bool,
}

impl Theatre {
    fn open(random: StdRng) -> Self {
        let shelf = Shelf::new();
        let disk = shelf.disk();
        let settings = [
            ("RESUME_GRACE", "500ms"),
            ("AGENT_GRACE", "30s"),
            ("DRAIN_DELAY", "50ms"),
            ("DEFAULT_TTL", "3s"),
            ("DEFAULT_DEADLINE", "6s"),
        ];
        let agents = (0..AGENTS).map(|_| agent_id()).collect();
        let mut theatre =
            Self { router: Router::stopped_on_a_file(&settings), shelf, disk, agents, random, syncs: true };
        theatre.put_on_disk();
        theatre
    }

    fn put_on_disk(&mut self) {
        let path = self.disk.place().join("journal.db");
        self.router.set("DATABASE_URL", &format!("sqlite://{}", path.display()));
    }

    /// A new router, with a new journal on a new disk.
    fn begin_anew(&mut self) {
        self.disk = self.shelf.disk();
        self.put_on_disk();
    }

    /// Starts the router and plays until the power is cut, that long after the start or after it serves; returns what those who
    /// played had received by then. The router is gone afterwards, and has the disk as it was.
    async fn play_until_cut(&mut self, since: Since, after: Duration) -> Vec<Notes> {
        let (playing, stage_playing) = watch::channel(true);
        let (serving, mut is_serving) = watch::channel(None);
        let log = self.disk.place().join("journal.db-wal");
        let (router, agents, random) = (&mut self.router, &self.agents, &mut self.random);
        let play = async {
            router.start_again().await;
            let unsynced = (!self.syncs).then(|| Injection::into(router.pid(), SYNCS, "retval=0", &[&log]));
            let (_addresses, addresses) = watch::channel(vec![router.address()]);
            serving.send_replace(Some(Instant::now()));
            let stage = Stage { addresses, playing: stage_playing };
            let mut actors = JoinSet::new();
            for (index, id) in agents.iter().enumerate() {
                let random = StdRng::from_rng(random);
                actors.spawn(Agent { id: id.clone(), is_version_2: index % 2 == 0, random }.play(stage.clone()));
            }
            for index in 0..CALLERS {
                let random = StdRng::from_rng(random);
                actors.spawn(Caller { index, agents: agents.clone(), random }.play(stage.clone()));
            }
            let notes = actors.join_all().await;
            assert!(unsynced.is_none_or(|unsynced| unsynced.count() > 0), "nothing was to be synced");
            notes
        };
        let (shelf, disk) = (&self.shelf, &self.disk);
        let cut = async {
            if let Since::Serving = since {
                is_serving.wait_for(Option::is_some).await.expect("it starts");
            }
            sleep(after).await;
            // What is received from now on may be lost, and is not noted.
            playing.send_replace(false);
            shelf.cut(disk)
        };
        let (notes, disk) = tokio::join!(play, cut);
        self.router.kill();
        self.disk = disk;
        self.put_on_disk();
        notes
    }

    /// Checks the journal after a cut, or several, against all that was received before.
    async fn check(&mut self, notes: &[Notes]) -> (Seen, usize) {
        self.router.start_again().await;
        let mut journal = Journal::default();
        ended(&self.router, &mut journal).await;
        self.router.stop().await;
        let verified = self.router.run_within(&["journal", "verify"], VERIFIED);
        assert!(verified.status.success(), "{}", printed(&verified));
        (checks::all(&journal.events, notes), journal.events.len())
    }

    /// The invocations that the journal says were accepted; none, if it cannot be read.
    fn accepted(&self) -> BTreeSet<String> {
        let exported = self.router.run(&["journal", "export"]);
        let lines = String::from_utf8_lossy(&exported.stdout).into_owned();
        let events = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line is JSON"));
        let accepted = events.filter(|event| event["kind"] == "invocation.accepted");
        accepted.map(|event| event["invocation_id"].as_str().expect("it has an id").to_owned()).collect()
    }
}

#[derive(Clone, Copy)]
enum Since {
    Start,
    Serving,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_received_before_a_power_cut_is_in_the_journal() {
    let mut theatre = Theatre::open(StdRng::seed_from_u64(seed()));
    let (mut notes, mut cuts) = (Vec::new(), 0);
    for _ in 0..rounds(3) {
        let after = Duration::from_millis(theatre.random.random_range(0..2500));
        notes.extend(theatre.play_until_cut(Since::Serving, after).await);
        cuts += 1;
    }
    let (Seen { receipts, ends, deliveries }, events) = theatre.check(&notes).await;
    eprintln!("{cuts} cuts: {receipts} receipts, {ends} ends, {deliveries} deliveries, {events} events");
    assert!(receipts > 10 * cuts && ends > 10 * cuts, "too little happened");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_that_had_just_begun_survives_a_power_cut() {
    let mut theatre = Theatre::open(StdRng::seed_from_u64(seed()));
    let (mut receipts, mut events) = (0, 0);
    let cuts = rounds(4);
    for cut in 0..cuts {
        theatre.begin_anew();
        let after = theatre.random.random_range(Duration::ZERO..FIRST_MOMENTS);
        // Of the process, and of the first that it can have promised.
        let since = if cut % 2 == 0 { Since::Start } else { Since::Serving };
        let notes = theatre.play_until_cut(since, after).await;
        let (seen, count) = theatre.check(&notes).await;
        receipts += seen.receipts;
        events += count;
    }
    eprintln!("{cuts} cuts: {receipts} receipts, {events} events");
    assert!(receipts > 0, "nothing had begun");
}

/// The control: with a write-ahead log that is not synced by a commit, as with `synchronous=NORMAL`, what was received is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_loses_what_was_received_if_commits_are_not_synced() {
    let mut theatre = Theatre::open(StdRng::seed_from_u64(seed()));
    theatre.syncs = false;
    let (mut received, mut lost) = (0, 0);
    let cuts = rounds(2);
    for _ in 0..cuts {
        theatre.begin_anew();
        let after = Duration::from_millis(theatre.random.random_range(500..2000));
        let notes = theatre.play_until_cut(Since::Serving, after).await;
        let kept = theatre.accepted();
        let receipts: Vec<_> = notes.iter().flat_map(|notes| &notes.receipts).collect();
        received += receipts.len();
        lost += receipts.iter().filter(|id| !kept.contains(**id)).count();
    }
    eprintln!("{cuts} cuts: {lost} of {received} receipts lost");
    assert!(lost > 0, "the disk keeps what is not synced: then the other tests show nothing");
}
