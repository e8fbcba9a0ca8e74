//! A journal in Postgres, as it is used behind a pooler that gives each transaction another connection.

use agent_router::journal::postgres::{PostgresJournal, PostgresOptions};
use agent_router::journal::{HistoryFilter, Journal, Order, Verification};

use super::script::{Script, identity};
use crate::support::postgres::Database;

#[tokio::test]
async fn without_anything_kept_on_a_connection_it_works_the_same() {
    let database = Database::create();
    let mark = if database.url().contains('?') { '&' } else { '?' };
    let url = format!("{}{mark}statement-cache-capacity=0", database.url());
    let journal = PostgresJournal::open(&PostgresOptions::new(url, "node-1")).await.unwrap();
    journal.restore().await.unwrap();
    let mut script = Script::new();
    let mut head = None;
    for _ in 0..20 {
        let mut invocation = script.invoked("agent", b"{}");
        journal.commit(script.take().into()).await.unwrap();
        script.completed(&mut invocation, b"[]");
        head = Some(journal.commit(script.take().into()).await.unwrap());
        let filter = HistoryFilter { agent: Some(identity("agent")), ..HistoryFilter::default() };
        let events = journal.history(&filter, Order::Descending, None, 3).await.unwrap().events;
        assert_eq!(events[0].position, script.position);
        let record = journal.invocation(invocation.id).await.unwrap().unwrap();
        assert_eq!(record.answer.as_deref(), Some(&b"[]"[..]));
    }
    assert_eq!(journal.head().await.unwrap(), head.unwrap());
    assert!(matches!(journal.verify(None, None).await.unwrap(), Verification::Intact(_)));
    journal.close().await;
}
