//! Two routers on one journal in Postgres that want the same turn, or the same name.

use std::sync::Arc;
use std::time::{Duration, Instant};

use agent_router::id::Position;
use agent_router::journal::postgres::{PostgresJournal, PostgresOptions};
use agent_router::journal::{Batch, HistoryFilter, Journal, JournalError, News, NodeRow, NodeStanding, Order};

use super::script::{Script, second};
use crate::support::postgres::Database;

/// Two routers on one journal.
struct Two {
    database: Database,
    one: Arc<PostgresJournal>,
    other: Arc<PostgresJournal>,
}

async fn open(database: &Database, node: &str) -> Arc<PostgresJournal> {
    Arc::new(PostgresJournal::open(&PostgresOptions::new(database.url(), node)).await.unwrap())
}

/// Both have restored; the first has not heard of the second, and none has begun a turn.
async fn two() -> Two {
    let database = Database::create();
    let (one, other) = (open(&database, "node-1").await, open(&database, "node-2").await);
    for journal in [&one, &other] {
        let restored = journal.restore().await.unwrap();
        assert!(!restored.alone);
        journal.commit(Arc::new(Batch { nodes: vec![up(restored.node)], ..Batch::default() })).await.unwrap();
    }
    Two { database, one, other }
}

fn up(row: NodeRow) -> NodeRow {
    NodeRow { epoch: row.epoch + 1, standing: NodeStanding::Up, started_at: second(1), version: "1".into(), ..row }
}

/// A batch without an event.
fn told(position: Position) -> Batch {
    Batch { feed_acknowledged: Some(position), ..Batch::default() }
}

fn log_line(after: Position) -> Batch {
    let mut script = Script::after(after);
    script.logged("agent", b"line");
    script.take()
}

/// Begins a turn in which the commit will not fail for another's sake.
async fn begin_again(journal: &dyn Journal, batch: &Batch) -> News {
    assert!(matches!(journal.commit(Arc::new(batch.clone())).await, Err(JournalError::Moved)));
    journal.begin().await.unwrap().expect("somebody else has committed")
}

/// Waits until so many wait for a lock in the database.
async fn waiting(database: &Database, routers: i64) {
    use sqlx::{Connection, PgConnection};
    let mut door = PgConnection::connect(database.url()).await.unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut door).await.unwrap() != routers {
        assert!(Instant::now() < until, "nobody waits");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_batch_that_came_too_late_has_changed_nothing() {
    let Two { one, other, database: _database } = two().await;
    let head = other.commit(log_line(Position(0)).into()).await.unwrap();
    let mut script = Script::new();
    script.invoked("agent", b"{}");
    script.batch.feed_acknowledged = Some(Position(1));
    assert!(matches!(one.commit(script.take().into()).await, Err(JournalError::Moved)));
    assert_eq!(one.head().await.unwrap(), head);
    let restored = one.restore().await.unwrap();
    assert_eq!((restored.head, restored.feed_acknowledged), (head, Position(0)));
    assert!(restored.unsettled.is_empty() && restored.agents.is_empty());
}

#[tokio::test]
async fn while_a_turn_is_held_others_wait_and_then_find_it_over() {
    let Two { one, other, database } = two().await;
    let head = other.commit(log_line(Position(0)).into()).await.unwrap();
    begin_again(&*one, &told(head.position)).await;
    let late = tokio::spawn({
        let (other, batch) = (Arc::clone(&other), log_line(head.position));
        async move { other.commit(batch.clone().into()).await }
    });
    waiting(&database, 1).await;
    let head = one.commit(log_line(head.position).into()).await.unwrap();
    assert!(matches!(late.await.unwrap(), Err(JournalError::Moved)));

    // Without a commit it is as if there had been no turn.
    let news = other.begin().await.unwrap().unwrap();
    assert_eq!(news.head, head.position);
    let patient = tokio::spawn({
        let (one, batch) = (Arc::clone(&one), log_line(head.position));
        async move { one.commit(batch.clone().into()).await }
    });
    waiting(&database, 1).await;
    other.pass().await;
    let head = patient.await.unwrap().unwrap();
    assert_eq!(other.head().await.unwrap(), head);
}

#[tokio::test]
async fn small_bodies_that_may_have_to_be_sent_come_with_the_news() {
    let Two { one, other, database: _database } = two().await;
    begin_again(&*one, &told(Position(0))).await;
    let mut script = Script::new();
    let mut small = script.invoked("agent", b"small");
    script.invoked("agent", &vec![b' '; 5000]);
    let head = one.commit(script.take().into()).await.unwrap();
    let news = begin_again(&*other, &told(Position(0))).await;
    assert_eq!(news.invocations.len(), 2);
    assert_eq!(news.bodies, [(small.accepted, "small".into())], "what another router has accepted");
    other.pass().await;

    let mut script = Script::after(head.position);
    let answered = script.completed(&mut small, b"answer");
    let head = other.commit(script.take().into()).await.unwrap();
    let news = begin_again(&*one, &told(Position(0))).await;
    assert_eq!(news.bodies, [(answered, "answer".into())], "what answers a caller of this one");
    one.pass().await;

    let mut script = Script::after(head.position);
    script.invoked("agent", b"among many");
    for _ in 0..2048 {
        script.logged("agent", b"line");
    }
    one.commit(script.take().into()).await.unwrap();
    let news = begin_again(&*other, &told(Position(0))).await;
    assert_eq!((news.invocations.len(), news.bodies.len()), (1, 0), "whoever is far behind asks for them");
}

#[tokio::test]
async fn a_router_whose_name_another_process_has_taken_finds_its_own_row_changed() {
    let Two { one, database, .. } = two().await;
    let successor = open(&database, "node-1").await;
    let restored = successor.restore().await.unwrap();
    assert_eq!(restored.node.epoch, 1);
    let row = up(restored.node);
    successor.commit(Arc::new(Batch { nodes: vec![row.clone()], ..Batch::default() })).await.unwrap();
    let news = begin_again(&*one, &told(Position(0))).await;
    assert_eq!(news.nodes.iter().find(|node| &*node.name == "node-1"), Some(&row));
    assert_eq!(row.epoch, 2);
}

#[tokio::test]
async fn a_turn_is_confirmed_unless_another_has_committed_since_it_began() {
    let Two { one, other, database } = two().await;
    begin_again(&*one, &told(Position(0))).await;
    one.confirm().await.unwrap();
    one.pass().await;
    assert!(one.begin().await.unwrap().is_none());
    one.confirm().await.unwrap();
    one.pass().await;

    let head = other.commit(log_line(Position(0)).into()).await.unwrap();
    assert!(matches!(one.confirm().await, Err(JournalError::Moved)));
    let news = one.begin().await.unwrap().expect("it is told what it did not know");
    assert_eq!(news.head, head.position);
    one.confirm().await.unwrap();

    assert!(database.terminate_all().await > 0);
    assert!(matches!(one.confirm().await, Err(JournalError::Moved)), "the turn was lost with its connection");
    assert!(one.begin().await.unwrap().is_none());
    one.confirm().await.unwrap();
    one.commit(log_line(head.position).into()).await.unwrap();
}

#[tokio::test]
async fn whoever_gives_up_reading_leaves_nobody_a_look_at_the_past() {
    let Two { database: _database, one, other: _ } = two().await;
    for pause in (0..300).map(|pause| Duration::from_micros(10 * pause)) {
        let everything = HistoryFilter::default();
        let _ = tokio::time::timeout(pause, one.history(&everything, Order::Ascending, None, 10)).await;
    }
    let head = one.head().await.unwrap();
    one.begin().await.unwrap();
    let head = match one.commit(log_line(head.position).into()).await {
        Err(JournalError::Moved) => {
            one.begin().await.unwrap();
            one.commit(log_line(head.position).into()).await.unwrap()
        }
        committed => committed.unwrap(),
    };
    for _ in 0..32 {
        let newest = one.history(&HistoryFilter::default(), Order::Descending, None, 1).await.unwrap().events;
        assert_eq!(newest.first().map(|event| event.position), Some(head.position));
    }
}
