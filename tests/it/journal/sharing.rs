//! What routers that share a Postgres database can rely on.

use std::time::{Duration, Instant};

use agent_router::id::{Position, SessionId};
use agent_router::journal::postgres::{PostgresJournal, PostgresOptions};
use agent_router::journal::{
    AgentRow, Beat, Dismissed, Journal, JournalError, NodeRow, NodeStanding, SessionRow, SessionStanding, Verification,
};
use bytes::Bytes;

use super::script::{Script, identity, second};
use crate::support::postgres::{Database, database};

async fn open(database: &Database, node: &str) -> PostgresJournal {
    PostgresJournal::open(&PostgresOptions::new(database.url(), node)).await.unwrap()
}

/// One that has read all there is, and holds up nobody.
async fn follower(database: &Database, node: &str) -> PostgresJournal {
    let journal = open(database, node).await;
    journal.restore().await.unwrap();
    journal.pass().await;
    journal
}

/// Commits an event of nobody's after a place, in a turn of its own.
async fn commit_after(journal: &PostgresJournal, position: Position) -> Result<Position, JournalError> {
    let mut script = Script::after(position);
    script.started();
    journal.commit(&script.take()).await.map(|head| head.position)
}

#[tokio::test]
async fn a_name_has_a_number_of_its_own_for_good() {
    let database = database().await;
    let names = ["a", "b's \\ %", "c"];
    let mut numbers = Vec::new();
    for name in names.iter().chain(&names) {
        let journal = open(&database, name).await;
        let restored = journal.restore().await.unwrap();
        assert_eq!((&*restored.node.name, restored.node.epoch, restored.alone), (*name, 0, false));
        numbers.push(restored.node.node.0);
        journal.close().await;
    }
    assert_eq!(numbers, [1, 2, 3, 1, 2, 3]);
}

#[tokio::test]
async fn nobody_commits_between_a_restore_and_its_commit() {
    let database = database().await;
    let (one, other) = (open(&database, "one").await, follower(&database, "other").await);
    one.restore().await.unwrap();
    let early = async {
        let committed = commit_after(&other, Position(0)).await;
        (committed, Instant::now())
    };
    let late = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = Instant::now();
        (commit_after(&one, Position(0)).await, now)
    };
    let ((early, had), (late, began)) = tokio::join!(early, late);
    assert!(matches!(early, Err(JournalError::Moved)), "{early:?}");
    assert!(had >= began, "it waited");
    assert_eq!(late.unwrap(), Position(1));
}

#[tokio::test]
async fn what_others_commit_is_read_again_as_it_stands() {
    let database = database().await;
    let (one, other) = (follower(&database, "one").await, follower(&database, "other").await);
    let mut script = Script::new();
    let mut invocation = script.accepted("agent", b"{}");
    script.batch.accepted.push(invocation.clone());
    let agent =
        AgentRow { agent: identity("a \"b\" {c,d}"), registered: Some(Position(1)), last_seen: Some(second(1)) };
    script.batch.agents.push(agent.clone());
    let session = |node| SessionRow {
        session: SessionId::generate(),
        identity: identity("agent"),
        registered: None,
        version: 2,
        connected_at: second(3),
        node,
        standing: SessionStanding::Live,
        max_in_flight: 7,
        sealed_credential: Some(Bytes::from_static(b"\0\xffsealed")),
    };
    let number = one.restore().await.unwrap().node.node;
    let (stays, ends) = (session(number), session(number));
    script.batch.sessions.extend([stays.clone(), ends.clone()]);
    one.commit(&script.take()).await.unwrap();

    // An invocation that changes without an event is news too; what became of rows in between is not.
    invocation.attempt = 3;
    script.batch.changed.push(invocation.clone());
    script.batch.ended.push(ends.session);
    let node = NodeRow {
        node: number,
        name: "one".into(),
        epoch: 4,
        standing: NodeStanding::Draining,
        version: "9".into(),
        started_at: second(5),
    };
    script.batch.nodes.push(node.clone());
    let dismissed = Dismissed { session: stays.session, position: Position(1) };
    script.batch.dismissed.push(dismissed);
    script.batch.feed_acknowledged = Some(Position(1));
    one.begin().await.unwrap();
    one.commit(&script.take()).await.unwrap();

    assert!(matches!(commit_after(&other, Position(0)).await, Err(JournalError::Moved)));
    let news = other.begin().await.unwrap().expect("there is something new");
    assert_eq!((news.head, news.whole), (Position(1), false));
    assert_eq!(news.invocations, [invocation]);
    assert_eq!(news.agents, [agent]);
    assert_eq!(news.sessions, [stays]);
    assert_eq!(news.ended, [ends.session]);
    assert_eq!(news.nodes, [node]);
    assert_eq!(news.dismissed, [dismissed]);
    assert_eq!((news.feed_acknowledged, news.pruned), (Position(1), Position(0)));
    // It holds the head now: nobody can be faster again.
    let (late, early) = tokio::join!(commit_after(&one, Position(1)), commit_after(&other, Position(1)));
    assert_eq!(early.unwrap(), Position(2));
    assert!(matches!(late, Err(JournalError::Moved)), "{late:?}");
}

#[tokio::test]
async fn a_batch_that_changes_what_is_not_there_changes_nothing() {
    let database = database().await;
    let journal = follower(&database, "one").await;
    let mut script = Script::new();
    let invocation = script.accepted("agent", b"{}");
    script.batch.changed.push(invocation);
    let refused = journal.commit(&script.take()).await;
    assert!(matches!(refused, Err(JournalError::Unavailable(_))), "{refused:?}");
    assert_eq!(journal.head().await.unwrap().position, Position(0));
    journal.begin().await.unwrap();
    assert_eq!(commit_after(&journal, Position(0)).await.unwrap(), Position(1));
}

#[tokio::test]
async fn a_router_that_stands_still_in_its_turn_is_cut_off() {
    let database = database().await;
    let (one, other) = (follower(&database, "one").await, follower(&database, "other").await);
    commit_after(&other, Position(0)).await.unwrap();
    assert!(matches!(commit_after(&one, Position(0)).await, Err(JournalError::Moved)));
    one.begin().await.unwrap();
    // It holds the head, and does no more.
    let began = Instant::now();
    other.begin().await.unwrap();
    commit_after(&other, Position(1)).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    // It finds out, and nothing of its turn is there.
    let lost = commit_after(&one, Position(1)).await;
    assert!(matches!(lost, Err(JournalError::Moved | JournalError::Unavailable(_))), "{lost:?}");
    assert_eq!(one.begin().await.unwrap().expect("there is something new").head, Position(2));
    commit_after(&one, Position(2)).await.unwrap();
}

#[tokio::test]
async fn busy_routers_share_the_journal_and_lose_no_turn_twice() {
    const EACH: usize = 40;
    let database = database().await;
    let busy = |node: &'static str| {
        let database = &database;
        async move {
            let journal = open(database, node).await;
            let mut head = journal.restore().await.unwrap().head.position;
            journal.pass().await;
            let (mut committed, mut lost) = (0, 0);
            while committed < EACH {
                if let Some(news) = journal.begin().await.unwrap() {
                    head = news.head;
                }
                let mut script = Script::after(head);
                let invocation = script.accepted("agent", b"{}");
                script.batch.accepted.push(invocation);
                match journal.commit(&script.take()).await {
                    Ok(new) => (head, committed, lost) = (new.position, committed + 1, 0),
                    Err(JournalError::Moved) => lost += 1,
                    Err(error) => panic!("{error}"),
                }
                assert!(lost < 2, "a turn was lost twice");
            }
            journal
        }
    };
    let (one, _, _) = tokio::join!(busy("one"), busy("two"), busy("three"));
    let verified = one.verify(None, None).await.unwrap();
    let events = 3 * EACH as u64;
    assert!(matches!(&verified, Verification::Intact(report) if report.events == events), "{verified:?}");
}

#[tokio::test]
async fn another_journal_in_its_place_is_no_journal_to_go_on_with() {
    let database = database().await;
    let journal = follower(&database, "one").await;
    commit_after(&journal, Position(0)).await.unwrap();
    // As after a failover to a copy that had not everything.
    database
        .execute("UPDATE journal_head SET revision = 0, position = 0, hash = decode(repeat('00', 32), 'hex')")
        .await;
    assert!(matches!(commit_after(&journal, Position(1)).await, Err(JournalError::Moved)));
    let begun = journal.begin().await;
    assert!(matches!(begun, Err(JournalError::Damaged { table: "journal_head", .. })), "{begun:?}");
}

#[tokio::test]
async fn leases_count_on_beside_the_turns_and_a_later_life_counts_alone() {
    let database = database().await;
    let (one, other) = (open(&database, "one").await, follower(&database, "other").await);
    let node = one.restore().await.unwrap().node.node;
    // Its turn goes on, and holds up nothing of this.
    let beat = |epoch, count| Beat { node, epoch, count };
    assert_eq!(one.renew(1).await.unwrap(), [beat(1, 1)]);
    assert_eq!(one.renew(1).await.unwrap(), [beat(1, 2)]);
    assert_eq!(one.renew(2).await.unwrap(), [beat(2, 3)]);
    assert_eq!(one.renew(1).await.unwrap(), [beat(2, 3)], "of a life that is over");
    assert_eq!(other.beats().await.unwrap(), [beat(2, 3)]);
    other.probe().await.unwrap();
    assert_eq!(other.beats().await.unwrap()[0], beat(2, 3));
    let (before, after) = (other.time().await.unwrap().unwrap(), one.time().await.unwrap().unwrap());
    assert!(before < after);
}
