//! Every statement is one that Postgres takes, and finds what it looks for by an index, in tables that nobody has analysed.

use std::collections::BTreeSet;

use sqlx::{AssertSqlSafe, Executor, PgConnection, Row};

use super::{
    agents, commit, history, index, invocations, lease, matches, migration, news, open, pages, prunable, reader,
    upkeep, verify, whole,
};
use crate::journal::paging::InOrder;

#[path = "../../../tests/it/support/postgres/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    clippy::pedantic,
    reason = "it is for the tests of the whole program"
)]
mod throw_away;

const QUERIES: &[&str] = &[
    agents::AGENTS,
    agents::ALL,
    agents::AWAY,
    agents::CONNECTED,
    history::FEED,
    index::REACHES,
    invocations::ERAS_OF_TIME,
    invocations::RECORDS,
    invocations::TAIL_OF_TIME,
    matches::INDEXED,
    pages::PAGE,
    prunable::OLDEST,
    reader::BY_ID,
    reader::BY_KEY,
    reader::HEAD,
    reader::INVOCATION,
    reader::PAYLOADS,
    reader::SESSION,
    verify::BEYOND,
    verify::BOUNDS,
    verify::ERASED_LATER,
    verify::FOUNDATIONS,
    verify::HASH_AT,
];

/// Of the writer, and what goes through a whole table because there is no other way.
const OTHERS: &[&str] = &[
    index::ADD,
    index::TRY_LOCK,
    lease::BEATS,
    lease::TIME,
    migration::APPLIED,
    migration::TABLES,
    migration::OLDEST,
    reader::NODES,
    upkeep::DIGESTS,
    upkeep::PAYLOADS,
    whole::ALL_AGENTS,
    whole::ALL_NODES,
    whole::ALL_SESSIONS,
    whole::UNSETTLED,
];

const IN_ORDER: [InOrder; 12] = [
    history::ALL,
    history::AT,
    history::EVENTS,
    history::OF_INVOCATION,
    history::TAIL,
    invocations::AT,
    invocations::FAILED,
    invocations::FAILED_HORIZON,
    invocations::TAIL,
    invocations::UNSETTLED,
    invocations::UNSETTLED_HORIZON,
    matches::OF_TIME,
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

async fn connected(database: &throw_away::Database) -> PgConnection {
    let target = open::Target::new(database.url()).unwrap();
    open::readers(&target, 1).await.unwrap().acquire().await.unwrap().detach()
}

/// What Postgres says it would do, a line for each step, whatever the parameters are.
async fn plan(connection: &mut PgConnection, sql: &str) -> String {
    connection.execute(AssertSqlSafe(format!("PREPARE explained AS {sql}"))).await.unwrap_or_else(|error| {
        panic!("{sql}\n{error}");
    });
    let count = "SELECT cardinality(parameter_types) FROM pg_prepared_statements WHERE name = 'explained'";
    let count: i32 = sqlx::query_scalar(count).fetch_one(&mut *connection).await.unwrap();
    let nulls = vec!["NULL"; usize::try_from(count).unwrap()].join(", ");
    let call = if count == 0 { "explained".to_owned() } else { format!("explained({nulls})") };
    let explain = AssertSqlSafe(format!("EXPLAIN (COSTS OFF) EXECUTE {call}"));
    let rows = sqlx::raw_sql(explain).fetch_all(&mut *connection).await.unwrap();
    connection.execute("DEALLOCATE explained").await.unwrap();
    rows.iter().map(|row| row.get::<String, _>(0) + "\n").collect()
}

#[tokio::test]
async fn every_statement_can_be_prepared() {
    let database = throw_away::database().await;
    let mut connection = connected(&database).await;
    let upkeep = upkeep::PRUNE.into_iter().chain([*upkeep::LOG_LINES, *commit::COMMIT, *commit::PLAIN]);
    let look = news::LOOK.iter().map(String::as_str);
    for sql in queries().chain(OTHERS.iter().copied()).chain(upkeep).chain(look) {
        plan(&mut connection, sql).await;
    }
}

#[tokio::test]
async fn readers_find_everything_by_an_index() {
    let database = throw_away::database().await;
    let mut connection = connected(&database).await;
    // Of one row each.
    let small = ["compatibility", "feed", "journal_head", "leases", "nodes", "pruned"];
    for sql in queries().chain([index::ADD]).chain(news::LOOK.iter().map(String::as_str)) {
        let plan = plan(&mut connection, sql).await;
        for scan in plan.lines().filter(|step| step.contains("Seq Scan on ")) {
            assert!(small.iter().any(|table| scan.contains(&format!("on {table}"))), "{sql}\n{plan}");
        }
        // A walk through an index is one only where the order of it is all that is asked for.
        let steps: Vec<_> = plan.lines().collect();
        for (step, next) in steps.iter().zip(&steps[1..]) {
            // Of the whole of a table, that is.
            let is_kept = step.contains("Materialize") && !small.iter().any(|table| next.ends_with(table));
            assert!(!is_kept, "{sql}\n{plan}");
            let is_walk = step.contains("Index Scan") || step.contains("Index Only Scan");
            let is_ordered = step.contains(" on eras") || step.contains("invocations_unsettled");
            let is_small = small.iter().any(|table| step.contains(&format!(" on {table}")));
            assert!(!is_walk || is_ordered || is_small || next.contains("Index Cond"), "{step}\n{sql}\n{plan}");
        }
        assert!(!plan.contains("Hash Join"), "{sql}\n{plan}");
    }
}

#[tokio::test]
async fn pages_come_in_order_without_being_sorted_whole() {
    let database = throw_away::database().await;
    let mut connection = connected(&database).await;
    // These sort what is on the page, or what an invocation has.
    let sorted = [history::AT, history::EVENTS, history::OF_INVOCATION, invocations::AT];
    let sorted: Vec<_> = sorted.iter().flat_map(|query| [query.ascending, query.descending]).collect();
    let pages = [agents::ALL, agents::AWAY, agents::CONNECTED, history::FEED, pages::PAGE, prunable::OLDEST];
    for sql in in_order().chain(pages) {
        let plan = plan(&mut connection, sql).await;
        assert!(sorted.contains(&sql) || !plan.contains("Sort"), "{sql}\n{plan}");
        // A part that is in order already need not be read to its end.
        assert!(
            !sql.contains("FROM eras CROSS JOIN LATERAL (\n") || plan.contains("Incremental Sort"),
            "{sql}\n{plan}"
        );
    }
}

#[tokio::test]
async fn an_era_costs_a_probe_for_each_term() {
    let database = throw_away::database().await;
    let mut connection = connected(&database).await;
    for query in matches::ERAS.iter().flatten().skip(1) {
        for sql in [query.ascending, query.descending] {
            let plan = plan(&mut connection, sql).await;
            let probes =
                plan.lines().filter(|step| step.contains("Index Cond: ((era = eras.era) AND (term = ")).count();
            assert_eq!(probes, sql.matches("FROM postings").count(), "{sql}\n{plan}");
        }
    }
}

#[tokio::test]
async fn every_index_is_for_a_query_here() {
    let database = throw_away::database().await;
    let mut connection = connected(&database).await;
    let mut plans = String::new();
    let upkeep = upkeep::PRUNE.into_iter().chain([*upkeep::LOG_LINES, upkeep::PAYLOADS]);
    for sql in queries().chain(upkeep) {
        plans += &plan(&mut connection, sql).await;
    }
    let indexes = "SELECT indexname::TEXT FROM pg_indexes WHERE schemaname = 'public' AND indexname NOT LIKE '%key'";
    let indexes: Vec<String> = sqlx::query_scalar(indexes).fetch_all(&mut connection).await.unwrap();
    let unused: BTreeSet<_> =
        indexes.iter().filter(|index| !index.ends_with("_pkey") && !plans.contains(index.as_str())).collect();
    assert!(unused.is_empty(), "{unused:?}");
}
