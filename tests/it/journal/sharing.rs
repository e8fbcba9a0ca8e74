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
    journal.commit(script.take().into()).await.map(|head| head.position)
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
    one.commit(script.take().into()).await.unwrap();

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
    one.commit(script.take().into()).await.unwrap();

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
    let refused = journal.commit(script.take().into()).await;
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
                match journal.commit(script.take().into()).await {
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
async fn a_schema_that_is_for_newer_routers_alone_is_written_to_no_more() {
    let database = database().await;
    let (one, other) = (follower(&database, "one").await, follower(&database, "other").await);
    commit_after(&other, Position(0)).await.unwrap();
    database.execute("UPDATE compatibility SET oldest = 999").await;
    assert!(matches!(commit_after(&one, Position(0)).await, Err(JournalError::Moved)));
    let begun = one.begin().await;
    assert!(matches!(begun, Err(JournalError::Schema { found: 999, .. })), "{begun:?}");
}

/// As docs/postgres.md has migrations do it.
#[tokio::test]
async fn a_migration_that_is_for_newer_routers_alone_costs_older_ones_their_next_commit() {
    let database = database().await;
    let one = follower(&database, "one").await;
    let raised = "UPDATE compatibility SET oldest = 999; UPDATE journal_head SET revision = revision + 1";
    database.execute(raised).await;
    assert!(matches!(commit_after(&one, Position(0)).await, Err(JournalError::Moved)));
    let begun = one.begin().await;
    assert!(matches!(begun, Err(JournalError::Schema { found: 999, .. })), "{begun:?}");
    assert_eq!(one.head().await.unwrap().position, Position(0));
}

/// What others commit while a router reads everything at its start, it knows when its turn begins.
#[tokio::test]
async fn a_router_starts_from_what_there_is_when_its_turn_begins() {
    let database = database().await;
    let one = follower(&database, "one").await;
    let mut position = Position(0);
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let busy = async {
        let mut open = Vec::new();
        while stopped.try_recv().is_err() {
            let mut script = Script::after(position);
            let invocation = script.accepted("agent", b"{}");
            script.batch.accepted.push(invocation.clone());
            one.begin().await.unwrap();
            match one.commit(script.take().into()).await {
                Ok(head) => {
                    position = head.position;
                    open.push(invocation.id);
                }
                Err(JournalError::Moved) => {}
                Err(error) => panic!("{error}"),
            }
        }
        open
    };
    let starting = async {
        let mut restored = Vec::new();
        for node in ["a", "b", "c", "d"] {
            let journal = open(&database, node).await;
            restored.push(journal.restore().await.unwrap());
            journal.pass().await;
        }
        stop.send(()).unwrap();
        restored
    };
    let (accepted, restored) = tokio::join!(busy, starting);
    for restored in restored {
        let there: Vec<_> = restored.unsettled.iter().map(|invocation| invocation.id).collect();
        assert_eq!(there, accepted[..there.len()], "in the order of acceptance");
        assert_eq!(restored.head.position.0, i64::try_from(there.len()).unwrap());
    }
}

/// The ring forgets each commit here, so that whoever is behind has to read everything, which takes longer than a commit.
#[tokio::test]
async fn however_fast_others_commit_a_router_that_is_far_behind_gets_its_turn() {
    let database = database().await;
    let (one, other) = (follower(&database, "one").await, follower(&database, "other").await);
    let forgetful = "CREATE FUNCTION forget() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE TRIGGER forgetful BEFORE INSERT ON changes FOR EACH ROW EXECUTE FUNCTION forget();
        INSERT INTO agents (agent_id) SELECT 'agent-' || n FROM generate_series(1, 20000) AS n";
    database.execute(forgetful).await;
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let busy = async {
        let mut position = Position(0);
        while stopped.try_recv().is_err() {
            if let Some(news) = one.begin().await.unwrap() {
                position = news.head;
            }
            match commit_after(&one, position).await {
                Ok(head) => position = head,
                Err(JournalError::Moved) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    let behind = async {
        let third = open(&database, "third").await;
        let restored = third.restore().await.unwrap();
        commit_after(&third, restored.head.position).await.unwrap();
        let mut position = Position(0);
        for turn in 1.. {
            if let Some(news) = other.begin().await.unwrap() {
                position = news.head;
            }
            match commit_after(&other, position).await {
                Ok(_) => break,
                Err(JournalError::Moved) => assert!(turn < 8, "it never gets its turn"),
                Err(error) => panic!("{error}"),
            }
        }
        stop.send(()).unwrap();
    };
    tokio::join!(busy, behind);
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
    assert_eq!(one.renew(1).await.unwrap(), [beat(2, 4)], "of a life whose successor has not begun");
    one.pass().await;
    database.execute(&format!("UPDATE nodes SET epoch = 2 WHERE code = {}", node.0)).await;
    assert_eq!(one.renew(1).await.unwrap(), [beat(2, 4)], "of a life that is over");
    assert_eq!(one.renew(2).await.unwrap(), [beat(2, 5)]);
    assert_eq!(other.beats().await.unwrap(), [beat(2, 5)]);
    other.probe().await.unwrap();
    assert_eq!(other.beats().await.unwrap()[0], beat(2, 5));
    let (before, after) = (other.time().await.unwrap().unwrap(), one.time().await.unwrap().unwrap());
    assert!(before < after);
}
