//! One bit of the journal's files is another: that is found, or it makes no difference to anybody who reads.

mod fixture;
mod served;

use std::fs;
use std::path::Path;

use agent_router::journal::sqlite::{SqliteJournal, SqliteOptions, SqliteReader};
use agent_router::journal::{Journal, JournalError, Verification};
use rand::Rng;
use rand::rngs::StdRng;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

use crate::faults::{Length, seeded};
use fixture::Fixture;
use served::served;

/// What came of a flipped bit.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// `journal verify` says so or cannot read it, or a router does not start on it.
    Found,
    /// Everything is served as before.
    Harmless,
    /// Something else is served.
    Served(String),
}

/// What is asked before the journal is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    /// `journal verify`, and the note beside the journal.
    All,
    /// Only whether the events are one chain.
    ChainAlone,
}

async fn verified(path: &Path, check: Check) -> Result<Verification, JournalError> {
    let reader = SqliteReader::open(path).await?;
    let verification = match check {
        Check::All => reader.verify_noted(Vec::new()).await,
        Check::ChainAlone => reader.verify(None, None).await,
    };
    reader.close().await;
    verification
}

/// What is served of a journal that a router has opened.
async fn opened(path: &Path) -> Result<(SqliteJournal, Vec<Option<String>>), JournalError> {
    let journal = SqliteJournal::open(&SqliteOptions::new(path, fixture::NODE)).await?;
    let restored = format!("{:?}", journal.restore().await?);
    Ok((journal, vec![Some(restored)]))
}

async fn fate(path: &Path, fixture: &Fixture, check: Check) -> Fate {
    match verified(path, check).await {
        Ok(Verification::Intact(_)) => {}
        Ok(Verification::Broken { .. }) | Err(_) => return Fate::Found,
    }
    let Ok((journal, mut shown)) = opened(path).await else { return Fate::Found };
    shown.extend(served(&journal, &fixture.questions).await);
    journal.close().await;
    let answers =
        shown.iter().zip(&fixture.served).filter_map(|(shown, expected)| shown.as_ref().zip(expected.as_ref()));
    answers
        .into_iter()
        .find(|(shown, expected)| shown != expected)
        .map_or(Fate::Harmless, |(shown, expected)| Fate::Served(different(shown, expected)))
}

/// Where two texts part.
fn different(shown: &str, expected: &str) -> String {
    let at = shown.bytes().zip(expected.bytes()).take_while(|(one, other)| one == other).count();
    let around = |text: &str| {
        String::from_utf8_lossy(&text.as_bytes()[at.saturating_sub(200)..text.len().min(at + 60)]).into_owned()
    };
    format!("{}\n   and not {}", around(shown), around(expected))
}

/// What came of so many flips.
#[derive(Debug, Default)]
struct Count {
    found: usize,
    harmless: usize,
    served: Vec<String>,
}

/// Flips bits of a file of the journal, each in a copy of its own.
async fn flip(fixture: &Fixture, file: &str, flips: usize, check: Check, random: &mut StdRng) -> Count {
    let mut count = Count::default();
    for _ in 0..flips {
        let copy = fixture.copy();
        let path = copy.path().join("journal.db");
        if check == Check::ChainAlone {
            fs::remove_file(copy.path().join("journal.db.head")).unwrap();
        }
        let (at, place) = fixture.place(file, random);
        let bit = random.random_range(0..8);
        let target = copy.path().join(file);
        let mut bytes = fs::read(&target).unwrap();
        bytes[at] ^= 1 << bit;
        fs::write(&target, bytes).unwrap();
        match fate(&path, fixture, check).await {
            Fate::Found => count.found += 1,
            Fate::Harmless => count.harmless += 1,
            Fate::Served(different) => count.served.push(format!("{file}, byte {at}, bit {bit}, {place}: {different}")),
        }
    }
    eprintln!(
        "{flips} flips in {file}, {check:?}: {} found, {} harmless, {} served",
        count.found,
        count.harmless,
        count.served.len()
    );
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_of_the_database_is_found_or_harmless() {
    let mut random = seeded();
    let fixture = Fixture::folded().await;
    let flips = 10 * Length::chosen(3).cycles;
    let count = flip(&fixture, "journal.db", flips, Check::All, &mut random).await;
    assert!(count.served.is_empty(), "what is not true is served: {:#?}", count.served);
    // Nearly half of them are, as a rule.
    assert!(count.found > flips / 10, "hardly anything is found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_of_the_log_is_found_or_harmless() {
    let mut random = seeded();
    let fixture = Fixture::with_log().await;
    let flips = 10 * Length::chosen(1).cycles;
    let count = flip(&fixture, "journal.db-wal", flips, Check::All, &mut random).await;
    assert!(count.served.is_empty(), "what is not true is served: {:#?}", count.served);
    assert!(count.found > flips / 5, "hardly anything is found");
}

/// The control: who checks the chain alone is served what is not true.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_chain_alone_does_not_tell_of_every_flipped_bit() {
    let mut random = seeded();
    let flips = 10 * Length::chosen(1).cycles;
    let log = flip(&Fixture::with_log().await, "journal.db-wal", flips, Check::ChainAlone, &mut random).await;
    let database = flip(&Fixture::folded().await, "journal.db", flips, Check::ChainAlone, &mut random).await;
    assert!(log.served.len() + database.served.len() > flips / 5, "then the other tests show nothing");
}

/// Each kind of thing beside the events, changed as no router would.
#[tokio::test]
async fn what_is_not_what_the_events_say_is_found() {
    let fixture = Fixture::folded().await;
    for sql in CHANGES {
        let copy = fixture.copy();
        let path = copy.path().join("journal.db");
        let mut connection = SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
        let changed = sqlx::query(*sql).execute(&mut connection).await.unwrap().rows_affected();
        connection.close().await.unwrap();
        assert!(changed > 0 || sql.starts_with("DROP"), "{sql} changes nothing");
        let found = verified(&path, Check::All).await;
        assert!(!matches!(found, Ok(Verification::Intact(_))), "{sql} goes unnoticed");
    }
}

const CHANGES: &[&str] = &[
    "UPDATE invocations SET agent_id = 'another' WHERE accepted = (SELECT min(accepted) FROM invocations)",
    "UPDATE invocations SET caller = 'another' WHERE accepted = (SELECT min(accepted) FROM invocations)",
    "UPDATE invocations SET accepted_at = accepted_at + 1, deadline = deadline + 1",
    "UPDATE invocations SET body_bytes = body_bytes + 1 WHERE state = 5 AND request_id <> ''",
    "UPDATE invocations SET ttl = ttl + 1",
    "UPDATE invocations SET deadline = deadline + 1",
    "UPDATE invocations SET max_attempts = max_attempts + 1",
    "UPDATE invocations SET idempotency_key = 'another' WHERE idempotency_key = 'key 1'",
    "UPDATE invocations SET key_digest = randomblob(32) WHERE idempotency_key = 'key 1'",
    "UPDATE invocations SET request_id = 'request 3' WHERE request_id = 'request 1'",
    "UPDATE invocations SET session_id = NULL WHERE session_id <> ''",
    "UPDATE invocations SET state = 8 WHERE state = 7",
    "UPDATE invocations SET attempt = attempt + 1",
    "UPDATE invocations SET starts = starts + 1 WHERE state = 5",
    "UPDATE invocations SET delivered_at = delivered_at + 1 WHERE delivered_at > 0",
    "UPDATE invocations SET finished_at = finished_at + 1 WHERE finished_at > 0",
    "UPDATE invocations SET queued_since = queued_since + 1 WHERE queued_since > 0",
    "UPDATE invocations SET session = randomblob(16) WHERE session IS NOT NULL",
    "UPDATE invocations SET reply = 1 WHERE state < 5",
    "DELETE FROM invocations WHERE state = 5",
    "UPDATE agents SET registered = registered + 1 WHERE registered > 0",
    "UPDATE agents SET last_seen = last_seen + 1 WHERE last_seen > 0",
    "UPDATE sessions SET identity = 'another'",
    "UPDATE sessions SET connected_at = connected_at + 1",
    "UPDATE sessions SET registered = NULL WHERE registered > 0",
    "UPDATE sessions SET version = 1 WHERE version = 2",
    "UPDATE sessions SET max_in_flight = max_in_flight + 1",
    "UPDATE nodes SET started_at = started_at + 1",
    "UPDATE nodes SET version = 'another'",
    "UPDATE nodes SET standing = 2",
    "UPDATE feed SET acknowledged = acknowledged + 1",
    "UPDATE postings SET offsets = substr(offsets, 3) WHERE term = 'k14'",
    "UPDATE postings SET term = 'k15' WHERE term = 'k14'",
    "DELETE FROM postings WHERE term LIKE 'r%'",
    "UPDATE postings SET era = 77",
    "UPDATE hints SET marks = zeroblob(4)",
    "DELETE FROM hints WHERE bucket < 16",
    "UPDATE eras SET indexed = indexed + 1",
    "UPDATE eras SET indexed = indexed - 1",
    "UPDATE eras SET first_at = first_at + 1",
    "UPDATE eras SET last_at = last_at - 1",
    "DELETE FROM eras",
    "UPDATE event_kinds SET name = 'agent.lodged' WHERE code = 14",
    "UPDATE states SET name = 'done' WHERE code = 5",
    "UPDATE compatibility SET oldest = 1",
    "DROP INDEX journal_for_feed",
];
