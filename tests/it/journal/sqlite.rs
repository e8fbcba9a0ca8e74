//! What only a journal in a SQLite file promises.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;

use agent_router::clock::Timestamp;
use agent_router::id::{NodeId, Position, SessionId};
use agent_router::journal::sqlite::{SqliteJournal, SqliteOptions, SqliteReader, backup, migrate, migration_status};
use agent_router::journal::{
    Batch, EventKind, Journal, JournalError, Lookup, SessionRow, SessionStanding, Verification,
};
use futures_util::FutureExt;
use sqlx::Row;

use super::script::{Script, identity};
use super::store::{Store, intact};

#[tokio::test]
async fn a_second_router_is_refused_and_a_reader_is_not() {
    let store = Store::new();
    let journal = store.open().await;
    let mut script = Script::new();
    script.started();
    let head = journal.commit(script.take().into()).await.unwrap();

    match SqliteJournal::open(&store.options()).await {
        Err(JournalError::InUse(file)) => assert!(file.ends_with("journal.db"), "{file}"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(migrate(&store.path()).await, Err(JournalError::InUse(_))));
    let reader = SqliteReader::open(&store.path()).await.unwrap();
    assert_eq!(reader.verify(None, None).await.unwrap(), intact(1, head));
    assert!(migration_status(&store.path()).await.unwrap().iter().all(|migration| migration.applied));

    journal.close().await;
    SqliteJournal::open(&store.options()).await.expect("the lock goes with the journal").close().await;
}

#[tokio::test]
async fn migrations_are_applied_once() {
    let store = Store::new();
    let status = migration_status(&store.path()).await.unwrap();
    assert!(!store.path().exists(), "looking creates nothing");
    assert!(!status.is_empty() && status.iter().all(|migration| !migration.applied));

    let applied = migrate(&store.path()).await.unwrap();
    assert_eq!(applied.len(), status.len());
    assert!(applied.iter().zip(1..).all(|(migration, number)| migration.version == number && migration.applied));
    assert_eq!(applied[0].name, "journal");
    assert!(migrate(&store.path()).await.unwrap().is_empty());
    assert_eq!(migration_status(&store.path()).await.unwrap(), applied);
    store.open().await.close().await;
}

#[tokio::test]
async fn another_schema_is_refused() {
    let store = Store::new();
    store.open().await.close().await;
    let newest = migration_status(&store.path()).await.unwrap().last().unwrap().version;
    store.tamper("UPDATE _sqlx_migrations SET checksum = x'00'").await;
    let refused = SqliteJournal::open(&store.options()).await;
    assert!(matches!(refused, Err(JournalError::Schema { found: 1, .. })), "{refused:?}");

    store.tamper("INSERT INTO _sqlx_migrations VALUES (4711, 'later', CURRENT_TIMESTAMP, true, x'00', 1)").await;
    let newer = |error| matches!(error, JournalError::Schema { found: 4711, wanted, .. } if wanted == newest);
    assert!(newer(SqliteJournal::open(&store.options()).await.unwrap_err()));
    assert!(newer(SqliteReader::open(&store.path()).await.unwrap_err()));
    assert!(newer(migration_status(&store.path()).await.unwrap_err()));
    assert!(newer(migrate(&store.path()).await.unwrap_err()));

    store.tamper("DELETE FROM _sqlx_migrations").await;
    let behind = SqliteReader::open(&store.path()).await;
    assert!(matches!(behind, Err(JournalError::Schema { found: 0, wanted, .. }) if wanted == newest), "{behind:?}");
}

#[tokio::test]
async fn what_is_no_journal_is_refused() {
    let store = Store::new();
    std::fs::write(store.path(), "not a database, but long enough to look like a file of one".repeat(99)).unwrap();
    assert!(matches!(SqliteJournal::open(&store.options()).await, Err(JournalError::Unavailable(_))));
    assert!(matches!(SqliteReader::open(&store.path()).await, Err(JournalError::Unavailable(_))));
    let nowhere = SqliteOptions { path: store.path().join("missing").join("journal.db"), ..store.options() };
    assert!(matches!(SqliteJournal::open(&nowhere).await, Err(JournalError::Unavailable(_))));
}

#[tokio::test]
async fn a_row_that_cannot_be_is_an_error_that_names_its_column() {
    let cases = [
        ("UPDATE invocations SET state = 99", "state"),
        ("UPDATE invocations SET state = 2", "state"),
        ("UPDATE invocations SET queued_since = NULL", "state"),
        ("UPDATE invocations SET finished_at = 1", "state"),
        ("UPDATE invocations SET session = x'00'", "session"),
        ("UPDATE invocations SET code = 'nonsense'", "code"),
        ("UPDATE invocations SET origin = 5", "origin"),
        ("UPDATE invocations SET origin_session = NULL", "origin_session"),
        ("UPDATE invocations SET reply = 2", "reply"),
        ("UPDATE invocations SET additions = 7", "additions"),
        ("UPDATE invocations SET attempt = -1", "attempt"),
        ("UPDATE invocations SET agent_id = ''", "agent_id"),
        ("UPDATE invocations SET idempotency_key = 'k'", "key_digest"),
    ];
    for (sql, wrong) in cases {
        let store = Store::new();
        let journal = store.open().await;
        let mut script = Script::new();
        let invocation = script.invoked("agent", b"{}");
        journal.commit(script.take().into()).await.unwrap();
        assert_eq!(store.tamper(sql).await, 1, "{sql}");
        match journal.lookup(&Lookup { ids: vec![invocation.id], keys: Vec::new() }).await {
            Err(JournalError::Damaged { table: "invocations", column, .. }) => assert_eq!(column, wrong, "{sql}"),
            other => panic!("{sql}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_head_that_somebody_moved_stops_the_writer() {
    let store = Store::new();
    let journal = store.open().await;
    let mut script = Script::new();
    script.started();
    journal.commit(script.take().into()).await.unwrap();
    store.tamper("UPDATE journal_head SET hash = zeroblob(32)").await;
    script.started();
    let batch = Arc::new(script.take());
    for _ in 0..2 {
        let stopped = journal.commit(Arc::clone(&batch)).await;
        assert!(matches!(stopped, Err(JournalError::Damaged { table: "journal_head", .. })), "{stopped:?}");
    }
}

#[tokio::test]
async fn a_commit_that_nobody_waits_for_any_more_is_made_or_found_out_about() {
    let store = Store::new();
    let journal = store.open().await;
    let mut script = Script::new();
    script.started();
    let told = journal.commit(script.take().into());
    assert!(told.now_or_never().is_none(), "it takes a while");
    script.started();
    let head = journal.commit(script.take().into()).await.unwrap();
    assert_eq!(journal.verify(None, None).await.unwrap(), intact(2, head));

    store.tamper("CREATE TRIGGER stop BEFORE INSERT ON journal BEGIN SELECT raise(ABORT, 'no'); END").await;
    script.started();
    let batch = Arc::new(script.take());
    assert!(journal.commit(Arc::clone(&batch)).now_or_never().is_none(), "it takes a while");
    // It comes after it.
    journal.probe().await.unwrap();
    store.tamper("DROP TRIGGER stop").await;
    let head = journal.commit(batch).await.unwrap();
    assert_eq!(journal.verify(None, None).await.unwrap(), intact(3, head));

    script.started();
    assert!(journal.commit(script.take().into()).now_or_never().is_none(), "it takes a while");
    journal.close().await;
    assert_eq!(store.open().await.head().await.unwrap().position, Position(4));
}

#[tokio::test]
async fn a_probe_tells_whether_a_commit_would_succeed_and_leaves_no_trace() {
    let store = Store::new();
    let journal = store.open().await;
    let mut script = Script::new();
    script.started();
    let head = journal.commit(script.take().into()).await.unwrap();
    journal.probe().await.unwrap();
    assert_eq!(journal.head().await.unwrap(), head);
    script.started();
    let head = journal.commit(script.take().into()).await.unwrap();
    assert_eq!(journal.verify(None, None).await.unwrap(), intact(2, head));

    let mut other = store.back_door().await;
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let refused = journal.probe().await;
    assert!(matches!(refused, Err(JournalError::Unavailable(_))), "{refused:?}");
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    // What fails in the middle is taken back, and with it the lock.
    store.tamper("CREATE TRIGGER stop BEFORE UPDATE ON journal_head BEGIN SELECT raise(ABORT, 'no'); END").await;
    let refused = journal.probe().await;
    assert!(matches!(refused, Err(JournalError::Unavailable(_))), "{refused:?}");
    store.tamper("DROP TRIGGER stop").await;
    journal.probe().await.unwrap();
    // Whoever asks may go away.
    drop(tokio::time::timeout(std::time::Duration::ZERO, journal.probe()).await);
    script.started();
    journal.commit(script.take().into()).await.unwrap();
    journal.probe().await.unwrap();

    store.tamper("INSERT INTO _sqlx_migrations VALUES (4711, 'later', CURRENT_TIMESTAMP, true, x'00', 1)").await;
    let newer = journal.probe().await;
    assert!(matches!(newer, Err(JournalError::Schema { found: 4711, .. })), "{newer:?}");
    journal.close().await;
    assert!(matches!(journal.probe().await, Err(JournalError::Unavailable(_))), "it is closed");
}

#[tokio::test]
async fn a_backup_is_a_journal_that_a_router_can_run_on() {
    let store = Store::new();
    let journal = store.open().await;
    let mut script = Script::new();
    script.invoked("agent", b"{}");
    let head = journal.commit(script.take().into()).await.unwrap();
    let copy = SqliteOptions { path: store.path().with_file_name("copy.db"), ..store.options() };
    backup(&store.path(), &copy.path).await.unwrap();
    script.started();
    journal.commit(script.take().into()).await.unwrap();
    let again = backup(&store.path(), &copy.path).await;
    assert!(matches!(again, Err(JournalError::Unavailable(_))), "{again:?}");
    let nowhere = backup(&store.path(), &store.path().with_file_name("missing").join("copy.db")).await;
    assert!(matches!(nowhere, Err(JournalError::Unavailable(_))), "{nowhere:?}");

    let copied = SqliteJournal::open(&copy).await.unwrap();
    assert_eq!(copied.verify(None, None).await.unwrap(), intact(1, head));
    assert_eq!(copied.restore().await.unwrap().unsettled.len(), 1);
    let mut script = Script::after(head.position);
    script.started();
    copied.commit(script.take().into()).await.unwrap();
}

#[tokio::test]
async fn the_tables_name_every_kind_and_the_view_reads_well() {
    let store = Store::new();
    let journal = store.open().await;
    let mut script = Script::new();
    let invocation = script.invoked("agent", b"{ \"a\": 1 }");
    journal.commit(script.take().into()).await.unwrap();

    let mut door = store.back_door().await;
    let kinds: Vec<(i64, String)> =
        sqlx::query_as("SELECT code, name FROM event_kinds ORDER BY code").fetch_all(&mut door).await.unwrap();
    let known: Vec<_> = EventKind::ALL.iter().map(|kind| (kind.code(), kind.as_str().to_owned())).collect();
    assert_eq!(kinds, known);
    let states: Vec<(i64, String)> =
        sqlx::query_as("SELECT code, name FROM states ORDER BY code").fetch_all(&mut door).await.unwrap();
    let known = agent_router::invocation::StateName::ALL.map(|state| (state as i64, state.to_string()));
    assert_eq!(states, known);

    let row = sqlx::query("SELECT * FROM history").fetch_one(&mut door).await.unwrap();
    assert_eq!(row.get::<String, _>("at"), "2026-01-02T03:03:06.000000Z");
    assert_eq!(row.get::<String, _>("kind"), "invocation.accepted");
    assert_eq!(row.get::<String, _>("node"), "node-1");
    assert_eq!(row.get::<String, _>("invocation_id"), invocation.id.to_string());
    assert_eq!(row.get::<String, _>("payload"), "{ \"a\": 1 }");
}

/// Not a test: what [`what_was_committed_survives_a_kill`] runs in another process and kills.
#[tokio::test]
#[ignore = "writes until it is killed"]
async fn writes_until_it_is_killed() {
    let Some(path) = std::env::var_os("JOURNAL_TO_WRITE") else { return };
    let options = SqliteOptions::new(path, "node-1");
    let journal = SqliteJournal::open(&options).await.unwrap();
    let mut script = Script::after(journal.head().await.unwrap().position);
    loop {
        for _ in 0..20 {
            let mut invocation = script.accepted("agent", b"{}");
            script.completed(&mut invocation, b"[]");
            script.batch.changed.clear();
            script.keep(&invocation);
        }
        println!("committed {}", journal.commit(script.take().into()).await.unwrap().position);
    }
}

#[tokio::test]
async fn what_was_committed_survives_a_kill() {
    let store = Store::new();
    let (_, module) = module_path!().split_once("::").unwrap();
    for round in 1..=5 {
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &format!("{module}::writes_until_it_is_killed"), "--ignored", "--nocapture"])
            .env("JOURNAL_TO_WRITE", store.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut committed = BufReader::new(writer.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok)
            .filter_map(|line| line.split_once("committed ")?.1.parse::<i64>().ok());
        let mut told = committed.by_ref().nth(9 * round).expect("it commits");
        writer.kill().unwrap();
        writer.wait().unwrap();
        told = committed.last().unwrap_or(told);

        let journal = store.open().await;
        let head = journal.head().await.unwrap();
        assert!(head.position >= Position(told), "{head:?} is before {told}");
        let verification = journal.verify(None, None).await.unwrap();
        assert!(matches!(verification, Verification::Intact(_)), "{verification:?}");
        journal.close().await;
    }
}

#[tokio::test]
async fn a_batch_without_events_that_is_not_committed_is_not_taken_for_committed() {
    let store = Store::new();
    let journal = store.open().await;
    let row = SessionRow {
        session: SessionId::generate(),
        identity: identity("agent"),
        registered: None,
        version: 1,
        connected_at: Timestamp::from_micros(1),
        node: NodeId(1),
        standing: SessionStanding::Live,
        max_in_flight: 0,
        sealed_credential: None,
    };
    let batch = Batch { sessions: vec![row], ..Batch::default() };
    let mut other = store.back_door().await;
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let refused = journal.commit(batch.clone().into()).await;
    assert!(matches!(refused, Err(JournalError::Unavailable(_))), "{refused:?}");
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    assert!(journal.restore().await.unwrap().sessions.is_empty());
    journal.commit(batch.clone().into()).await.unwrap();
    assert_eq!(journal.restore().await.unwrap().sessions.len(), 1);
}
