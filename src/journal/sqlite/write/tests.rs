//! How much of the log a commit is taken to need, beside what it does need.

use std::fs;
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use super::*;
use crate::clock::Timestamp;
use crate::id::{Identity, InvocationId, Position, SessionId};
use crate::invocation::{Invocation, Labels, Order, Origin, Terms};
use crate::journal::Detail;
use crate::journal::seal::Salts;
use crate::journal::sqlite::files::beside;
use crate::journal::sqlite::{commit, migration, open};

const AT: Timestamp = Timestamp::from_micros(1_767_322_985_000_000);

/// Events behind this place.
fn events(after: i64, count: i64, payload: Option<usize>) -> Vec<Event> {
    let event = |place| Event {
        position: Position(after + place),
        at: AT,
        invocation: Some(id(place)),
        agent: Some(name("agent")),
        caller: Some(name("caller")),
        detail: Detail::InvocationDelivered { attempt: 1, session: SessionId::generate(), plain: true },
        payload: payload.map(|length| Bytes::from(vec![b'x'; length])),
        labels: Labels::default(),
    };
    (1..=count).map(event).collect()
}

fn invocations(count: i64) -> Vec<Invocation> {
    let invocation = |place| {
        Invocation::new(Order {
            id: id(place),
            agent: name("agent"),
            caller: name("caller"),
            origin: Origin::Http,
            home: NodeId(1),
            additions: false,
            accepted: Position(place),
            accepted_at: AT,
            body_bytes: 47,
            terms: Terms {
                ttl: Duration::from_mins(1),
                ttl_given: false,
                deadline: AT + Duration::from_mins(15),
                max_attempts: 2,
            },
            key: None,
            labels: Labels { request_id: Some("0123456789".into()), session_id: Some("0123456789".into()) },
        })
    };
    (1..=count).map(invocation).collect()
}

/// The same, each sent to its agent.
fn delivered(count: i64) -> Vec<Invocation> {
    let mut invocations = invocations(count);
    for invocation in &mut invocations {
        invocation.deliver(SessionId::generate(), AT, true);
    }
    invocations
}

/// In the order of time, as ids are.
fn id(place: i64) -> InvocationId {
    InvocationId(Uuid::from_u128(u128::from(place.unsigned_abs()) << 80))
}

fn name(name: &str) -> Identity {
    Identity::new(name).unwrap()
}

#[tokio::test]
async fn what_a_commit_takes_of_the_log_is_known_about() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    let mut migrator = open::migrator(&path).await.unwrap();
    migration::apply(&mut migrator).await.unwrap();
    let (connection, code) = commit::connect(&path, "node").await.unwrap();
    open::close(migrator).await;
    let node = Node { name: "node".to_owned(), code, salts: Salts::Random };
    let start = Head { position: Position(0), hash: [0; 32] };
    let mut connected = Connected::new(connection, node, start, Tail::new(Vec::new()));
    let log = beside(&path, "-wal");
    let shapes = [
        ("small events", Batch { events: events(0, 1000, None), ..Batch::default() }),
        ("large events", Batch { events: events(1000, 20, Some(50_000)), ..Batch::default() }),
        ("new invocations", Batch { accepted: invocations(1000), ..Batch::default() }),
        ("changed invocations", Batch { changed: delivered(1000), ..Batch::default() }),
        ("both", Batch { events: events(1020, 1000, Some(100)), changed: delivered(1000), ..Batch::default() }),
    ];
    for (shape, batch) in shapes {
        let before = fs::metadata(&log).unwrap().len();
        let written = connected.commit(&batch).unwrap();
        let grown = usize::try_from(fs::metadata(&log).unwrap().len() - before).unwrap();
        assert!(
            (grown / 3..=grown * 3).contains(&written.bytes),
            "{shape}: {grown} bytes, and {} are counted",
            written.bytes
        );
    }
    connected.close(true).unwrap();
}
