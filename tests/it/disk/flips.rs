//! One bit of the journal's files is another: that is found, or it makes no difference to anybody who reads.

mod fixture;
mod served;

use std::fs;
use std::path::Path;

use agent_router::journal::sqlite::{SqliteJournal, SqliteOptions, SqliteReader};
use agent_router::journal::{Journal, JournalError, Verification};
use rand::Rng;
use rand::rngs::StdRng;

use crate::faults::{Length, seeded};
use fixture::Fixture;
use served::served;

/// What came of a flipped bit.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// `journal verify` says so, or cannot read it.
    Verified(String),
    /// A router does not start on it.
    Refused(String),
    /// Everything is served as before.
    Harmless,
    /// Something else is served.
    Served(String),
}

async fn verified(path: &Path) -> Result<Verification, JournalError> {
    let reader = SqliteReader::open(path).await?;
    let verification = reader.verify_noted(Vec::new()).await;
    reader.close().await;
    verification
}

/// What is served of a journal that a router has opened.
async fn opened(path: &Path) -> Result<(SqliteJournal, Vec<Option<String>>), JournalError> {
    let journal = SqliteJournal::open(&SqliteOptions::new(path, fixture::NODE)).await?;
    let restored = format!("{:?}", journal.restore().await?);
    Ok((journal, vec![Some(restored)]))
}

async fn fate(path: &Path, fixture: &Fixture) -> Fate {
    match verified(path).await {
        Ok(Verification::Intact(_)) => {}
        Ok(Verification::Broken { position, what }) => return Fate::Verified(format!("{position}: {what}")),
        Err(error) => return Fate::Verified(error.to_string()),
    }
    let (journal, mut shown) = match opened(path).await {
        Ok(opened) => opened,
        Err(error) => return Fate::Refused(error.to_string()),
    };
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

/// Flips bits of a file of the journal, each in a copy of its own, and says what came of them.
async fn flip(fixture: &Fixture, file: &str, flips: usize, random: &mut StdRng) -> (usize, usize) {
    let (mut found, mut harmless) = (0, 0);
    for _ in 0..flips {
        let copy = fixture.copy();
        let path = copy.path().join("journal.db");
        let (at, what) = fixture.place(file, random);
        let bit = random.random_range(0..8);
        let target = copy.path().join(file);
        let mut bytes = fs::read(&target).unwrap();
        bytes[at] ^= 1 << bit;
        fs::write(&target, bytes).unwrap();
        match fate(&path, fixture).await {
            Fate::Verified(_) | Fate::Refused(_) => found += 1,
            Fate::Harmless => harmless += 1,
            Fate::Served(difference) => eprintln!("MISSED {file} {at}.{bit} {what}: {difference}"),
        }
    }
    (found, harmless)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_of_the_database_is_found_or_harmless() {
    let mut random = seeded();
    let fixture = Fixture::folded().await;
    let flips = 10 * Length::chosen(4).cycles;
    let (found, harmless) = flip(&fixture, "journal.db", flips, &mut random).await;
    eprintln!("{flips} flips: {found} found, {harmless} harmless");
    assert_eq!(found + harmless, flips, "something that is not true is served");
    assert!(found > flips / 4, "hardly anything is found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_of_the_log_is_found_or_harmless() {
    let mut random = seeded();
    let fixture = Fixture::with_log().await;
    let flips = 10 * Length::chosen(4).cycles;
    let (found, harmless) = flip(&fixture, "journal.db-wal", flips, &mut random).await;
    eprintln!("{flips} flips: {found} found, {harmless} harmless");
    assert_eq!(found + harmless, flips, "something that is not true is served");
    assert!(found > flips / 4, "hardly anything is found");
}
