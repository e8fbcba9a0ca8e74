//! What the backend is told, and from where to go on.

use agent_router::id::{Position, SessionId};
use agent_router::journal::{Journal, Notice};

use super::script::{Script, second};
use super::store::{BackEnd, Store, on_each_back_end};

on_each_back_end! {
    the_backend_is_told_of_others_what_it_has_to_know,
}

const BACKEND: &str = "master_server_be";
const ML: &str = "master_server_ml";

/// What is told after a place, in words, and the place to go on from.
async fn told(journal: &dyn Journal, after: Position, since: i64, limit: usize) -> (Vec<String>, Position) {
    let (events, looked_at) = journal.feed(after, second(since), limit).await.unwrap();
    let words = events.iter().map(|event| {
        let what = match &event.notice {
            Notice::Registered { payload, .. } => format!("registered {}", String::from_utf8_lossy(payload)),
            Notice::Logged { body } => format!("logged {}", String::from_utf8_lossy(body)),
            Notice::Unregistered => "unregistered".to_owned(),
        };
        format!("{} {} {what}", event.position, event.agent)
    });
    (words.collect(), looked_at)
}

async fn the_backend_is_told_of_others_what_it_has_to_know(back_end: BackEnd) {
    let store = Store::on(back_end);
    let journal = store.open().await;
    let mut script = Script::new();
    let session = SessionId::generate();
    script.registered("agent", session, b"{}"); // 1
    script.logged("agent", b"one"); // 2
    script.registered(BACKEND, SessionId::generate(), b"{}");
    script.logged(BACKEND, b"its own");
    script.registered(ML, SessionId::generate(), b"{}");
    script.logged(ML, b"two"); // 6
    script.invoked("agent", b"{}");
    script.disconnected("agent", false);
    script.disconnected(BACKEND, true);
    script.disconnected(ML, true); // 10
    script.disconnected("agent", true); // 11
    script.started(); // 12
    journal.commit(script.take().into()).await.unwrap();
    let journal = journal.as_ref();

    let all = [
        "1 agent registered {}",
        "2 agent logged one",
        "6 master_server_ml logged two",
        "10 master_server_ml unregistered",
        "11 agent unregistered",
    ];
    let (events, looked_at) = told(journal, Position(0), 0, 100).await;
    assert_eq!(events, all);
    assert_eq!(looked_at, Position(12), "the end: what is not told is passed by too");

    let (first, _) = journal.feed(Position(0), second(0), 1).await.unwrap();
    assert!(matches!(&first[0].notice, Notice::Registered { session: told, .. } if *told == session));

    assert_eq!(
        told(journal, Position(0), 0, 2).await,
        (all[..2].iter().map(ToString::to_string).collect(), Position(2))
    );
    assert_eq!(told(journal, Position(2), 0, 1).await.1, Position(6));
    assert_eq!(told(journal, Position(6), 0, 2).await.1, Position(11), "as many as asked for: go on from the last");
    assert_eq!(told(journal, Position(11), 0, 2).await, (Vec::new(), Position(12)));
    assert_eq!(told(journal, Position(12), 0, 2).await, (Vec::new(), Position(12)));
    assert_eq!(told(journal, Position(0), 10, 100).await.0, all[3..], "what is older than asked for is passed by");
    assert_eq!(told(journal, Position(0), 0, 0).await, (Vec::new(), Position(0)));
}
