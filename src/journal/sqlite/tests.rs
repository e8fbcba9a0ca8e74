//! Every statement is one that SQLite takes, and finds what it looks for by an index.

use std::collections::BTreeSet;

use sqlx::{AssertSqlSafe, Row, SqliteConnection};

use super::{
    agents, check, commit, history, invocations, matches, migration, open, pages, reader, rows, upkeep, verify, write,
};
use crate::journal::paging::InOrder;

const QUERIES: &[&str] = &[
    agents::AGENT,
    agents::ALL,
    agents::AWAY,
    agents::CONNECTED,
    commit::NODE,
    history::FEED,
    invocations::ERAS_OF_TIME,
    invocations::RECORDS,
    invocations::TAIL_OF_TIME,
    matches::INDEXED,
    matches::TAIL,
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
    pages::PAGE,
    upkeep::OLDEST,
    check::lives::EVENTS,
    check::lives::ROWS_AFTER,
    check::peers::EVENTS,
    check::structure::COMMON,
    check::structure::INTEGRITY,
    check::terms::EVENTS,
    check::terms::HINTS,
    check::terms::NEXT_ERA,
    check::terms::POSTINGS,
    check::terms::SHAPE,
    check::terms::STRAY,
    verify::BEYOND,
    verify::BOUNDS,
    verify::ERASED_LATER,
    verify::FOUNDATIONS,
    verify::HASH_AT,
];

const IN_ORDER: [InOrder; 11] = [
    history::ALL,
    history::AT,
    history::OF_INVOCATION,
    history::OF_TIME,
    history::TAIL,
    invocations::AT,
    invocations::FAILED,
    invocations::FAILED_HORIZON,
    invocations::TAIL,
    invocations::UNSETTLED,
    invocations::UNSETTLED_HORIZON,
];

/// What readers page through, in both orders.
fn in_order() -> impl Iterator<Item = &'static str> {
    // Neither terms nor kinds: nobody asks that of the index.
    let searches = matches::ERAS.iter().flatten().skip(1);
    IN_ORDER.iter().chain(searches).flat_map(|query| [query.ascending, query.descending])
}

fn queries() -> impl Iterator<Item = &'static str> {
    QUERIES.iter().copied().chain(in_order())
}

async fn migrated(folder: &tempfile::TempDir) -> SqliteConnection {
    let mut connection = open::migrator(&folder.path().join("journal.db")).await.unwrap();
    migration::apply(&mut connection).await.unwrap();
    connection
}

/// What SQLite says it would do, a line for each step.
async fn plan(connection: &mut SqliteConnection, sql: &str) -> String {
    let sql = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"));
    let rows = sqlx::query(sql).fetch_all(connection).await.unwrap();
    rows.iter().map(|row| row.get::<String, _>("detail") + "\n").collect()
}

/// What a commit writes with, whatever is in it.
fn writes() -> impl Iterator<Item = &'static str> {
    rows::STATEMENTS.into_iter().chain([write::ACKNOWLEDGE, write::MOVE_HEAD, write::TOUCH])
}

#[tokio::test]
async fn every_statement_can_be_prepared() {
    let folder = tempfile::tempdir().unwrap();
    let mut connection = migrated(&folder).await;
    for sql in queries().chain([commit::ADD_NODE]).chain(writes()) {
        plan(&mut connection, sql).await;
    }
    for sql in upkeep::statements() {
        plan(&mut connection, &sql).await;
    }
}

#[tokio::test]
async fn a_row_is_written_without_a_table_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let mut connection = migrated(&folder).await;
    for sql in writes() {
        let program = sqlx::query(AssertSqlSafe(format!("EXPLAIN {sql}"))).fetch_all(&mut connection).await.unwrap();
        let opcodes = program.iter().map(|row| row.get::<String, _>("opcode"));
        let tables: Vec<_> =
            opcodes.filter(|opcode| opcode.contains("Ephemeral") || opcode.contains("Sorter")).collect();
        assert!(tables.is_empty(), "{sql}: {tables:?}, which would cost more than the row");
    }
}

#[tokio::test]
async fn what_is_erased_or_pruned_is_found_by_an_index() {
    let folder = tempfile::tempdir().unwrap();
    let mut connection = migrated(&folder).await;
    for sql in upkeep::statements() {
        let plan = plan(&mut connection, &sql).await;
        let scans = plan.lines().filter(|step| step.starts_with("SCAN ")).collect::<Vec<_>>();
        assert!(
            scans.iter().all(|scan| ["SCAN pruned", "SCAN wanted", "SCAN CONSTANT ROW"].contains(scan)),
            "{sql}\n{plan}"
        );
    }
    let logged = upkeep::statements().into_iter().find(|sql| sql.contains("wanted")).expect("one is for log lines");
    let plan = plan(&mut connection, &logged).await;
    for step in [
        "SEARCH eras USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)",
        "SEARCH of_request USING COVERING INDEX postings_by_term (era=? AND term=?)",
        "SEARCH of_agent USING COVERING INDEX postings_by_term (era=? AND term=?)",
        "SEARCH line USING INDEX journal_for_feed (position>? AND position<?)",
        "SEARCH journal USING INTEGER PRIMARY KEY (rowid=?)",
    ] {
        assert!(plan.contains(step), "{step}\n{plan}");
    }
}

#[tokio::test]
async fn readers_need_no_scan_and_no_sort() {
    let folder = tempfile::tempdir().unwrap();
    let mut connection = migrated(&folder).await;
    let cases = [
        (agents::AGENT, "SEARCH agents USING PRIMARY KEY (agent_id=?)"),
        (agents::ALL, "SEARCH agents USING PRIMARY KEY (agent_id>?)"),
        (agents::ALL, "SEARCH sessions USING COVERING INDEX sessions_by_identity (identity=? AND registered>?)"),
        (agents::AWAY, "SEARCH agents USING PRIMARY KEY (agent_id>?)"),
        (agents::CONNECTED, "SEARCH here USING INDEX sessions_by_identity (identity>?)"),
        (history::FEED, "SEARCH journal USING INDEX journal_for_feed (position>? AND position<?)"),
        (invocations::RECORDS, "SEARCH invocations USING PRIMARY KEY (id=?)"),
        (invocations::TAIL_OF_TIME, "SEARCH journal USING INTEGER PRIMARY KEY (rowid>?)"),
        (matches::TAIL, "SEARCH journal USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        (reader::UNSETTLED, "SCAN invocations USING INDEX invocations_unsettled"),
        (reader::BY_ID, "SEARCH invocations USING PRIMARY KEY (id=?)"),
        (reader::BY_KEY, "INDEX invocations_by_key (caller=? AND agent_id=? AND idempotency_key=?)"),
        (reader::PAYLOADS, "SEARCH journal USING INTEGER PRIMARY KEY (rowid=?)"),
        (reader::PAYLOADS, "SEARCH agents USING INDEX agents_by_registered (registered=?)"),
        (pages::PAGE, "SEARCH journal USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        (upkeep::OLDEST, "SEARCH journal USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        (upkeep::OLDEST, "SEARCH invocations USING INDEX invocations_unsettled"),
        (verify::ERASED_LATER, "SEARCH journal USING INDEX journal_by_invocation (invocation_id=? AND rowid>?)"),
        (verify::FOUNDATIONS, "SEARCH invocations USING PRIMARY KEY (id>?)"),
        (
            check::lives::EVENTS,
            "SEARCH journal USING INDEX journal_by_invocation (invocation_id>? AND invocation_id<?)",
        ),
        (check::lives::ROWS_AFTER, "SEARCH invocations USING PRIMARY KEY (id>?)"),
        (check::terms::EVENTS, "SEARCH journal USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        (check::terms::POSTINGS, "SEARCH postings USING INDEX postings_by_term (era=?)"),
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
async fn what_pages_are_found_by_needs_no_scan_and_no_sort() {
    let folder = tempfile::tempdir().unwrap();
    let mut connection = migrated(&folder).await;
    let cases = [
        (history::ALL, "SEARCH journal USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        (history::AT, "SEARCH journal USING INTEGER PRIMARY KEY (rowid=?)"),
        (
            history::OF_INVOCATION,
            "SEARCH journal USING INDEX journal_by_invocation (invocation_id=? AND rowid>? AND rowid<?)",
        ),
        (history::OF_TIME, "SEARCH eras USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        (history::OF_TIME, "SEARCH journal USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        (history::TAIL, "SEARCH journal USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        (invocations::AT, "SEARCH journal USING INTEGER PRIMARY KEY (rowid=?)"),
        (
            invocations::FAILED,
            "SEARCH invocations USING INDEX invocations_by_failure (state=? AND accepted>? AND accepted<?)",
        ),
        (invocations::FAILED_HORIZON, "INDEX invocations_by_failure (state=? AND accepted>? AND accepted<?)"),
        (invocations::TAIL, "SEARCH journal USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        (invocations::UNSETTLED, "SEARCH invocations USING INDEX invocations_unsettled (accepted>? AND accepted<?)"),
        (invocations::UNSETTLED_HORIZON, "INDEX invocations_unsettled (accepted>? AND accepted<?)"),
    ];
    for (query, expected) in cases {
        for sql in [query.ascending, query.descending] {
            let plan = plan(&mut connection, sql).await;
            assert!(plan.contains(expected), "{sql}\n{plan}");
        }
    }
    for sql in in_order() {
        let plan = plan(&mut connection, sql).await;
        let postings = plan.lines().filter(|step| step.contains(" term_") || step.contains(" postings"));
        let mut postings = postings.map(|step| step.contains("INDEX postings_by_term (era=? AND term=?)"));
        assert!(postings.all(|probed| probed), "{sql}\n{plan}");
        if sql.contains("hints") {
            assert!(plan.contains("SEARCH eras USING PRIMARY KEY (bucket=? AND era>? AND era<?)"), "{sql}\n{plan}");
        }
        assert!(!plan.contains("TEMP B-TREE"), "{sql}\n{plan}");
        let scans = plan.lines().filter(|step| step.starts_with("SCAN"));
        assert!(scans.clone().all(|scan| scan.contains("json_each")), "{sql}\n{plan}");
    }
}

#[tokio::test]
async fn every_index_is_for_a_query_here() {
    let folder = tempfile::tempdir().unwrap();
    let mut connection = migrated(&folder).await;
    let mut plans = String::new();
    for sql in queries() {
        plans += &plan(&mut connection, sql).await;
    }
    for sql in upkeep::statements() {
        plans += &plan(&mut connection, &sql).await;
    }
    let indexes: Vec<String> =
        sqlx::query_scalar("SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL")
            .fetch_all(&mut connection)
            .await
            .unwrap();
    let unused: BTreeSet<_> = indexes.iter().filter(|index| !plans.contains(index.as_str())).collect();
    assert!(unused.is_empty(), "{unused:?}");
}
