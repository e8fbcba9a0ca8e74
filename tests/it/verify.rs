//! `journal verify`: the chain holds, and a change by hand is found where it was made.

use serde_json::json;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection, Row};

use crate::support::{BACKEND_KEY, Peer, Router, agent_id, printed};

/// A stopped router with some history.
async fn with_history() -> Router {
    let mut router = Router::start().await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    for n in 0..5 {
        socket.invoke(&target, json!({"n": n})).await;
        let delivery = agent.recv().await;
        agent.answer(&delivery, json!(n)).await;
        socket.recv().await;
    }
    router.stop().await;
    router
}

/// Opens the journal as an intruder would: around the router, with its guards taken down.
async fn tampering(router: &Router) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(router.journal());
    let mut journal = SqliteConnection::connect_with(&options).await.unwrap();
    let triggers = sqlx::query("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetch_all(&mut journal).await;
    for trigger in triggers.unwrap() {
        let drop = format!("DROP TRIGGER \"{}\"", trigger.get::<String, _>(0));
        sqlx::query(AssertSqlSafe(drop)).execute(&mut journal).await.unwrap();
    }
    journal
}

/// Changes the last byte, or the number, of one event in that column; returns the event's position.
async fn change(router: &Router, column: &str) -> i64 {
    let mut journal = tampering(router).await;
    let select = format!(
        "SELECT position, typeof({column}), hex({column}) FROM journal WHERE {column} IS NOT NULL \
         ORDER BY position LIMIT 1 OFFSET 2"
    );
    let row = sqlx::query(AssertSqlSafe(select)).fetch_one(&mut journal).await.unwrap();
    let (position, kind, mut hex) = (row.get::<i64, _>(0), row.get::<String, _>(1), row.get::<String, _>(2));
    let changed = if kind == "integer" {
        format!("{column} + 1")
    } else {
        let other = if hex.ends_with('1') { "3" } else { "1" };
        hex.replace_range(hex.len() - 1.., other);
        format!("CAST(x'{hex}' AS {kind})")
    };
    let update = format!("UPDATE journal SET {column} = {changed} WHERE position = ?");
    let updated = sqlx::query(AssertSqlSafe(update)).bind(position).execute(&mut journal).await.unwrap();
    assert_eq!(updated.rows_affected(), 1);
    journal.close().await.unwrap();
    position
}

#[tokio::test]
async fn an_untouched_journal_verifies() {
    let router = with_history().await;
    let verified = router.run(&["journal", "verify"]);
    assert!(verified.status.success(), "{}", printed(&verified));
}

#[tokio::test]
async fn one_changed_byte_of_one_event_is_found_at_its_position() {
    for column in ["at", "kind", "agent_id", "detail", "payload", "hash"] {
        let router = with_history().await;
        let position = change(&router, column).await;
        let verified = router.run(&["journal", "verify"]);
        let printed = printed(&verified);
        assert!(!verified.status.success(), "a change of {column} goes unnoticed: {printed}");
        let mut numbers = printed.split(|sign: char| !sign.is_ascii_digit());
        assert!(numbers.any(|number| number == position.to_string()), "{column} at {position}: {printed}");
    }
}

#[tokio::test]
async fn an_event_that_is_missing_is_found() {
    let router = with_history().await;
    let mut journal = tampering(&router).await;
    sqlx::query("DELETE FROM journal WHERE position = 3").execute(&mut journal).await.unwrap();
    journal.close().await.unwrap();
    let verified = router.run(&["journal", "verify"]);
    assert!(!verified.status.success(), "{}", printed(&verified));
}
