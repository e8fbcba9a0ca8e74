//! The index of events in a SQLite file, and the migration that makes it of what was written before.

use agent_router::clock::Timestamp;
use agent_router::id::{Position, SessionId};
use agent_router::journal::{Batch, Detail, Head, HistoryFilter, Journal, JournalError, Order, Verification};
use rand::Rng;
use rand::rngs::StdRng;
use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, Connection};

use super::refusals::begin_and_leave;
use super::script::{Script, identity};
use super::store::Store;
use super::tale::{Tale, assert_same, seeded};

/// A file as the first version left it, with what is in another.
async fn written_before(journal: &Store) -> Store {
    let old = Store::new();
    std::fs::File::create(old.path()).unwrap();
    let mut door = old.back_door().await;
    let all = sqlx::migrate!("migrations/sqlite");
    let first = all.iter().filter(|migration| migration.version == 1).cloned().collect();
    Migrator::with_migrations(first).run(&mut door).await.unwrap();
    sqlx::query("ATTACH $1 AS new").bind(journal.path().to_str().unwrap()).execute(&mut door).await.unwrap();
    for table in ["journal", "invocations", "nodes"] {
        // What later migrations added is not there yet.
        let columns = "SELECT group_concat(name) FROM pragma_table_info($1)";
        let columns: String = sqlx::query_scalar(columns).bind(table).fetch_one(&mut door).await.unwrap();
        let copy = format!("INSERT INTO main.{table} ({columns}) SELECT {columns} FROM new.{table}");
        sqlx::query(AssertSqlSafe(copy)).execute(&mut door).await.unwrap();
    }
    let head = "UPDATE main.journal_head SET (position, hash) = (SELECT position, hash FROM new.journal_head)";
    sqlx::query(head).execute(&mut door).await.unwrap();
    door.close().await.unwrap();
    old
}

type Posting = (i64, String, Vec<u8>);

async fn postings(store: &Store, before_era: i64) -> Vec<Posting> {
    let sql = "SELECT era, term, offsets FROM postings WHERE era < $1 ORDER BY era, term";
    sqlx::query_as(sql).bind(before_era).fetch_all(&mut store.back_door().await).await.unwrap()
}

async fn eras(store: &Store, before_era: i64) -> Vec<(i64, i64, i64, i64)> {
    let sql = "SELECT era, indexed, first_at, last_at FROM eras WHERE era < $1 ORDER BY era";
    sqlx::query_as(sql).bind(before_era).fetch_all(&mut store.back_door().await).await.unwrap()
}

/// Where what the backend is told is.
async fn notices(journal: &dyn Journal) -> Vec<Position> {
    let (notices, _) = journal.feed(Position(0), Timestamp::default(), 10_000).await.unwrap();
    notices.into_iter().map(|notice| notice.position).collect()
}

#[tokio::test]
async fn what_was_written_before_is_indexed_as_what_is_written_now() {
    let random = &mut seeded();
    let store = Store::new();
    let journal = store.open().await;
    let mut tale = Tale::of_the_first_version();
    while tale.events.len() < 9_000 {
        let size = random.random_range(1..700);
        journal.commit(tale.batch(random, size).into()).await.unwrap();
    }
    let told = notices(&*journal).await;
    journal.close().await;

    let old = written_before(&store).await;
    let migrated = old.open().await;
    assert!(told.len() > 100 && notices(&*migrated).await == told, "the backend is told the same");
    // The newest era may not be in the writer's index yet.
    let whole = tale.head().0 / 4096 - 1;
    assert!(whole >= 1);
    assert_eq!(eras(&old, whole).await, eras(&store, whole).await);
    assert!(postings(&old, whole).await == postings(&store, whole).await, "the postings are the same");

    // And on it goes.
    for _ in 0..10 {
        let size = random.random_range(1..700);
        migrated.commit(tale.batch(random, size).into()).await.unwrap();
    }
    for label in 2..12 {
        let filter = HistoryFilter { session_id: Some(format!("session {label}")), ..HistoryFilter::default() };
        let mut found: Vec<i64> = Vec::new();
        loop {
            let beyond = found.last().copied().map(Position);
            let events = migrated.history(&filter, Order::Ascending, beyond, 1000).await.unwrap().events;
            found.extend(events.iter().map(|event| event.position.0));
            if events.len() < 1000 {
                break;
            }
        }
        assert_same(&found, &tale.matching(&filter, Order::Ascending), &filter);
    }
}

#[tokio::test]
async fn events_are_added_to_the_index_many_at_a_time() {
    let store = Store::new();
    let journal = store.open().await;
    let mut script = Script::new();
    for (events, indexed) in [(1, None), (2046, None), (1, Some(2048)), (1, Some(2048))] {
        for _ in 0..events {
            script.logged("agent", b"");
        }
        journal.commit(script.take().into()).await.unwrap();
        let found = eras(&store, i64::MAX).await;
        assert_eq!(found.first().map(|(_, indexed, ..)| *indexed), indexed);
    }
}

#[tokio::test]
async fn a_search_passes_over_the_eras_that_cannot_have_its_term() {
    let store = Store::new();
    let journal = store.open().await;
    let mut script = Script::new();
    for number in 0..9_000 {
        script.logged(if number % 1_000 == 0 { "agent" } else { "another" }, b"");
    }
    journal.commit(script.take().into()).await.unwrap();
    let filter = HistoryFilter { agent: Some(identity("agent")), ..HistoryFilter::default() };
    let found = async || {
        let events = journal.history(&filter, Order::Ascending, None, 100).await.unwrap().events;
        events.iter().map(|event| event.position.0).collect::<Vec<_>>()
    };
    let everywhere = found().await;
    assert_eq!(everywhere, (0..9).map(|thousand| thousand * 1_000 + 1).collect::<Vec<_>>());
    store.tamper("UPDATE hints SET marks = x'00000000' WHERE era = 1").await;
    assert_eq!(found().await, [1, 1_001, 2_001, 3_001, 4_001], "the second era is said not to have it");
    store.tamper("UPDATE hints SET marks = NULL").await;
    assert_eq!(found().await, everywhere, "an era of which nothing is known is looked at");
}

#[tokio::test]
async fn an_empty_file_of_the_first_version_is_migrated() {
    let store = Store::new();
    store.open().await.close().await;
    let old = written_before(&store).await;
    let journal = old.open().await;
    let mut script = Script::new();
    script.logged("agent", b"line");
    journal.commit(script.take().into()).await.unwrap();
    let filter = HistoryFilter { agent: Some(identity("agent")), ..HistoryFilter::default() };
    assert_eq!(journal.history(&filter, Order::Descending, None, 10).await.unwrap().events.len(), 1);
}

#[tokio::test]
async fn postings_have_every_offset_as_it_is() {
    let store = Store::new();
    let journal = store.open().await;
    let mut script = Script::new();
    // Two whole eras and a part, a commit at a time that ends anywhere.
    for number in 0..10_000 {
        script.logged("agent", b"");
        if number % 777 == 0 {
            journal.commit(script.take().into()).await.unwrap();
        }
    }
    journal.commit(script.take().into()).await.unwrap();
    for (era, term, offsets) in postings(&store, 2).await {
        assert!(["aagent", "k14"].contains(&&*term), "{term}");
        let expected = (u16::from(era == 0)..4096).flat_map(u16::to_be_bytes);
        assert!(offsets.into_iter().eq(expected), "era {era} of {term}");
    }
}

#[tokio::test]
async fn events_that_are_gone_are_passed_over_and_registrations_outlive_them() {
    let random = &mut seeded();
    let store = Store::new();
    let journal = store.open().await;
    let mut tale = Tale::default();
    while tale.events.len() < 6_000 {
        journal.commit(tale.batch(random, 500).into()).await.unwrap();
    }
    let mut script = Script::after(tale.head());
    let registered = script.registered("agent", SessionId::generate(), b"{\"name\": \"a\"}");
    script.batch.agents.push(agent_router::journal::AgentRow {
        agent: identity("agent"),
        registered: Some(registered),
        last_seen: None,
    });
    journal.commit(script.take().into()).await.unwrap();

    store.tamper("UPDATE pruned SET position = 5000").await;
    store.tamper("DELETE FROM journal WHERE position <= 5000").await;
    let filter = HistoryFilter { agent: Some(identity("agent-0")), ..HistoryFilter::default() };
    for order in [Order::Ascending, Order::Descending] {
        let events = journal.history(&filter, order, None, 5000).await.unwrap().events;
        let found: Vec<_> = events.iter().map(|event| event.position.0).collect();
        let left: Vec<_> = tale.matching(&filter, order).into_iter().filter(|place| *place > 5000).collect();
        assert_same(&found, &left, order);
    }

    store.tamper("UPDATE agents SET registration = CAST('{\"name\": \"a\"}' AS BLOB)").await;
    store.tamper("DELETE FROM journal").await;
    assert!(journal.payloads(&[registered]).await.unwrap().is_empty(), "it is not said to be pruned");
    store.tamper("UPDATE pruned SET position = (SELECT position FROM journal_head)").await;
    let payloads = journal.payloads(&[registered, Position(1)]).await.unwrap();
    assert_eq!(payloads, [(registered, "{\"name\": \"a\"}".into())]);
    let agent = journal.agent(&identity("agent")).await.unwrap().unwrap();
    assert_eq!((agent.registered_at, agent.registration.as_deref()), (None, Some(&b"{\"name\": \"a\"}"[..])));
}

/// A log line: its place, its agent and its `request_id`.
type Line = (i64, usize, usize);

/// Log lines of three agents about five requests.
fn lines(random: &mut StdRng, script: &mut Script) -> Vec<Line> {
    let count = random.random_range(1..900);
    let line = |_| {
        let (agent, request) = (random.random_range(0..3), random.random_range(0..5));
        let position = script.logged(&format!("agent {agent}"), b"line");
        let event = script.batch.events.last_mut().unwrap();
        let request_id = format!("request {request}");
        event.labels.request_id = Some(request_id.as_str().into());
        event.detail = Detail::AgentLogged { request_id: Some(request_id), session_id: None };
        (position.0, agent, request)
    };
    (0..count).map(line).collect()
}

async fn assert_found(journal: &dyn Journal, told: &[Line], pruned: i64) {
    for (agent, request) in (0..3).flat_map(|agent| (0..5).map(move |request| (agent, request))) {
        let filter = HistoryFilter {
            agent: Some(identity(&format!("agent {agent}"))),
            request_id: Some(format!("request {request}")),
            ..HistoryFilter::default()
        };
        let matches = |line: &&Line| line.0 > pruned && (line.1, line.2) == (agent, request);
        let mut expected: Vec<_> = told.iter().filter(matches).map(|line| line.0).collect();
        for order in [Order::Ascending, Order::Descending] {
            let events = journal.history(&filter, order, None, 100_000).await.unwrap().events;
            let found: Vec<_> = events.iter().map(|event| event.position.0).collect();
            assert_same(&found, &expected, (&filter, order, pruned));
            expected.reverse();
        }
    }
}

#[tokio::test]
async fn the_index_is_whole_whatever_becomes_of_commits_between_prunings_and_restarts() {
    let random = &mut seeded();
    let store = Store::new();
    let mut journal = store.open().await;
    let mut told: Vec<Line> = Vec::new();
    let mut pruned = 0;
    for round in 0..60 {
        let head = journal.head().await.unwrap().position;
        let mut script = Script::after(head);
        let mut lines = lines(random, &mut script);
        if head.0 > pruned && random.random_bool(0.2) {
            let position = Position(random.random_range(pruned + 1..=head.0));
            let hash = journal.hash_at(position).await.unwrap().unwrap();
            script.pruned(Head { position, hash });
        }
        let batch = script.take();
        match random.random_range(0..10) {
            // Its caller goes away; whoever comes next finds out what became of it.
            0..2 => begin_and_leave(journal.as_ref(), &batch),
            // It fails.
            2..4 => {
                let never = Script::after(head).accepted("agent", b"");
                let bad = Batch { changed: vec![never], ..batch.clone() };
                assert!(matches!(journal.commit(bad.clone().into()).await, Err(JournalError::Unavailable(_))));
            }
            4 => {
                journal.close().await;
                journal = store.open().await;
            }
            _ => {}
        }
        let _ = journal.commit(Batch::default().into()).await;
        if journal.head().await.unwrap().position == head {
            journal.commit(batch.clone().into()).await.unwrap();
        }
        told.append(&mut lines);
        pruned = batch.pruned.map_or(pruned, |through| through.position.0);
        if round % 10 == 9 {
            assert_found(journal.as_ref(), &told, pruned).await;
        }
    }
    assert!(matches!(journal.verify(None, None).await.unwrap(), Verification::Intact(_)));
}
