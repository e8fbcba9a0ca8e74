//! Every statement is one that SQLite takes, and finds what it looks for by an index.

use std::collections::BTreeSet;

use sqlx::{AssertSqlSafe, Row, SqliteConnection};

use super::{commit, history, migration, open, reader, verify};

const QUERIES: [&str; 20] = [
    commit::NODE,
    history::ALL,
    history::FEED,
    history::OF_AGENT,
    history::OF_INVOCATION,
    history::OF_KIND,
    migration::APPLIED,
    migration::HAS_MIGRATIONS,
    reader::ACKNOWLEDGED,
    reader::AGENTS,
    reader::BY_ID,
    reader::BY_KEY,
    reader::HEAD,
    reader::INVOCATION,
    reader::PAYLOADS,
    reader::SESSIONS,
    reader::UNSETTLED,
    verify::BEYOND,
    verify::LINKS,
    verify::UNFOUNDED,
];

async fn migrated(folder: &tempfile::TempDir) -> SqliteConnection {
    let mut connection = open::writer(&folder.path().join("journal.db")).await.unwrap();
    migration::apply(&mut connection).await.unwrap();
    connection
}

/// What SQLite says it would do, a line for each step.
async fn plan(connection: &mut SqliteConnection, sql: &str) -> String {
    let sql = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"));
    let rows = sqlx::query(sql).fetch_all(connection).await.unwrap();
    rows.iter().map(|row| row.get::<String, _>("detail") + "\n").collect()
}

#[tokio::test]
async fn every_statement_can_be_prepared() {
    let folder = tempfile::tempdir().unwrap();
    let mut connection = migrated(&folder).await;
    for sql in QUERIES.into_iter().chain([verify::UNKEPT, commit::ADD_NODE]).chain(commit::COMMIT.split(";\n")) {
        plan(&mut connection, sql).await;
    }
}

#[tokio::test]
async fn a_commit_is_the_same_few_statements_whatever_the_batch() {
    assert_eq!(commit::COMMIT.split(";\n").count(), 12);
    assert_eq!(commit::COMMIT.as_ptr(), commit::COMMIT.as_ptr(), "made once");
}

#[tokio::test]
async fn readers_need_no_scan_and_no_sort() {
    let folder = tempfile::tempdir().unwrap();
    let mut connection = migrated(&folder).await;
    let cases = [
        (history::ALL, "SEARCH journal USING INTEGER PRIMARY KEY (rowid>?)"),
        (history::OF_INVOCATION, "SEARCH journal USING INDEX journal_by_invocation (invocation_id=? AND rowid>?)"),
        (history::OF_AGENT, "SEARCH agent_blocks USING PRIMARY KEY (agent_id=? AND block>?)"),
        (history::OF_KIND, "SEARCH kind_blocks USING PRIMARY KEY (kind=? AND block>?)"),
        (history::FEED, "SEARCH journal USING INDEX journal_for_feed (position>? AND position<?)"),
        (reader::UNSETTLED, "SCAN invocations USING INDEX invocations_unsettled"),
        (reader::BY_ID, "SEARCH invocations USING PRIMARY KEY (id=?)"),
        (reader::BY_KEY, "INDEX invocations_by_key (caller=? AND agent_id=? AND idempotency_key=?)"),
        (reader::PAYLOADS, "SEARCH journal USING INTEGER PRIMARY KEY (rowid=?)"),
        (verify::LINKS, "SEARCH journal USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
    ];
    for (sql, expected) in cases {
        let plan = plan(&mut connection, sql).await;
        assert!(plan.contains(expected), "{sql}\n{plan}");
        if sql != reader::BY_ID {
            assert!(!plan.contains("TEMP B-TREE"), "{sql}\n{plan}");
        }
    }
}

#[tokio::test]
async fn every_index_is_for_a_query_here() {
    let folder = tempfile::tempdir().unwrap();
    let mut connection = migrated(&folder).await;
    let mut plans = String::new();
    for sql in QUERIES {
        plans += &plan(&mut connection, sql).await;
    }
    let indexes: Vec<String> =
        sqlx::query_scalar("SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL")
            .fetch_all(&mut connection)
            .await
            .unwrap();
    let unused: BTreeSet<_> = indexes.iter().filter(|index| !plans.contains(index.as_str())).collect();
    assert!(unused.is_empty(), "{unused:?}");
}
