//! What an agent logged of an invocation is erased with it.

use std::fs;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent_router::clock::Clock;
use agent_router::id::InvocationId;
use agent_router::journal::sqlite::{SqliteJournal, SqliteOptions};
use agent_router::journal::{Batch, Detail, Erased, Event, Journal, Lookup};
use serde_json::{Value, json};

use super::{done, head, is_in_the_journal, refused, tamper, verified_by_the_documentation};
use crate::support::{BACKEND_KEY, Peer, Router, agent_id, printed};

/// A router whose agent has done two invocations as the existing libraries do: it logs all that it is asked and all that
/// it answers, with the request's id. Gives back the ids of the invocations of `request-0` and `request-1`.
async fn with_log(settings: &[(&str, &str)]) -> (Router, Vec<String>) {
    let router = Router::with(settings).await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    let other = Peer::registered(&router, &agent_id()).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    for n in 0..2 {
        let (request, subject) = (format!("request-{n}"), format!("subject-{n}"));
        let metadata = json!({"request_metadata": {"request_id": request, "session_id": "s"}});
        socket.invoke_with(&target, json!({ "of": subject }), metadata).await;
        let delivery = agent.recv().await;
        let line = |said: &str, subject: &str| {
            let said = format!("{said} {}", json!({ "of": subject }));
            let (level, session) = ("info", "s");
            json!({
                "message_type": "agent_log", "log_message": said, "log_level": level, "request_id": request,
                "session_id": session,
            })
        };
        agent.send(line("Agent input:", &subject)).await;
        agent.send(line("Agent output:", &subject)).await;
        other.send(line("Heard of:", &format!("beside-{n}"))).await;
        agent.answer(&delivery, json!({ "about": subject })).await;
        socket.recv().await;
    }
    agent.send(json!({"message_type": "agent_log", "log_message": "nameless", "log_level": "info"})).await;
    router.wait_for_events("kind=agent.logged", 7).await;
    let accepted = router.history("kind=invocation.accepted").await;
    let mut ids: Vec<_> = accepted
        .iter()
        .map(|event| (event["detail"]["request_id"].to_string(), event["invocation_id"].clone()))
        .collect();
    ids.sort_by(|one, other| one.0.cmp(&other.0));
    (router, ids.into_iter().map(|(_, id)| id.as_str().unwrap().to_owned()).collect())
}

/// Of the invocation of `request-1` and what its agent logged, and of nothing else, the payloads are gone and said to be.
#[track_caller]
fn is_erased_with_its_log(router: &Router) {
    for stays in ["subject-0", "beside-0", "beside-1", "nameless"] {
        assert!(is_in_the_journal(router, stays), "{stays} is gone");
    }
    assert!(!is_in_the_journal(router, "subject-1"), "it is still in a file");
    let verified = printed(&done(router, &["journal", "verify"]));
    assert!(verified.contains("erased payloads: 4"), "{verified}");
    let exported = String::from_utf8(done(router, &["journal", "export"]).stdout).unwrap();
    let events: Vec<Value> = exported.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let erased: Vec<_> = events.iter().filter(|event| event["erased"] == true).map(|event| &event["kind"]).collect();
    assert_eq!(erased, ["invocation.accepted", "agent.logged", "agent.logged", "invocation.completed"]);
    let erasure = events.iter().find(|event| event["kind"] == "payload.erased").unwrap();
    assert_eq!(erasure["detail"], json!({"reason": "asked for", "request_id": "request-1"}));
    let line = events.iter().find(|event| event["erased"] == true && event["kind"] == "agent.logged").unwrap();
    assert_eq!(erasure["agent_id"], line["agent_id"]);
    let file = router.dir().join("with-log.ndjson");
    fs::write(&file, &exported).unwrap();
    let verified = printed(&done(router, &["journal", "verify", "--file", "with-log.ndjson"]));
    assert!(verified.contains("erased payloads: 4"), "{verified}");
    // Without the lines that follow the erasure, and the erasure.
    let early = exported.split_inclusive('\n').take(events.iter().position(|event| event == erasure).unwrap());
    fs::write(&file, early.collect::<String>()).unwrap();
    refused(router, &["journal", "verify", "--file", "with-log.ndjson"], 1, "says that it was erased");
    done(router, &["journal", "verify", "--file", "with-log.ndjson", "--excerpt"]);
}

#[tokio::test]
async fn what_its_agent_logged_is_erased_with_an_invocation_without_a_router() {
    let (mut router, ids) = with_log(&[]).await;
    router.stop().await;
    assert!(is_in_the_journal(&router, "subject-1"));
    let erase = ["journal", "erase", "--invocation", &ids[1], "--reason", "asked for"];
    done(&router, &erase);
    is_erased_with_its_log(&router);
    let before = head(&done(&router, &["journal", "verify"]));
    done(&router, &erase);
    assert_eq!(head(&done(&router, &["journal", "verify"])), before, "twice is as good as once");
    assert!(verified_by_the_documentation(&router).status.success());

    let sound = fs::read(router.journal()).unwrap();
    for line in ["payload LIKE '%subject-0%'", "payload LIKE '%beside-1%'", "payload LIKE '%nameless%'"] {
        tamper(&router, &format!("UPDATE journal SET payload = NULL, salt = NULL WHERE kind = 14 AND {line}")).await;
        refused(&router, &["journal", "verify"], 1, "the payload is gone");
        let theirs = verified_by_the_documentation(&router);
        assert!(!theirs.status.success(), "{line}: {}", printed(&theirs));
        fs::write(router.journal(), &sound).unwrap();
    }
}

#[tokio::test]
async fn what_an_erasure_left_of_the_log_is_erased_when_it_is_done_again() {
    let (mut router, ids) = with_log(&[]).await;
    router.stop().await;
    // As a router did that took no log lines.
    let journal = SqliteJournal::open(&SqliteOptions::new(router.journal(), "n")).await.unwrap();
    let id = InvocationId(ids[1].parse().unwrap());
    let found = journal.lookup(&Lookup { ids: vec![id], keys: Vec::new() }).await.unwrap().remove(0);
    let event = Event {
        position: journal.head().await.unwrap().position.next(),
        at: Clock::start().now(),
        invocation: Some(id),
        agent: Some(found.agent.clone()),
        caller: Some(found.caller.clone()),
        detail: Detail::PayloadErased { reason: "of old".to_owned(), request_id: None },
        payload: None,
        labels: found.labels.clone(),
    };
    let erased = vec![Erased { invocation: id, logs: None }];
    journal.commit(Arc::new(Batch { events: vec![event], erased, ..Batch::default() })).await.unwrap();
    journal.close().await;
    assert!(is_in_the_journal(&router, "subject-1"), "in the log");
    done(&router, &["journal", "erase", "--invocation", &ids[1], "--reason", "asked for"]);
    assert!(!is_in_the_journal(&router, "subject-1"), "it is still in a file");
    let verified = printed(&done(&router, &["journal", "verify"]));
    assert!(verified.contains("erased payloads: 4"), "{verified}");
}

#[tokio::test]
async fn a_router_that_runs_erases_what_the_agent_logged_too() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (router, ids) = with_log(&[("LISTEN_ADDR", &free.to_string())]).await;
    done(&router, &["journal", "erase", "--invocation", &ids[1], "--reason", "asked for"]);
    let deadline = Instant::now() + Duration::from_secs(20);
    while is_in_the_journal(&router, "subject-1") {
        assert!(Instant::now() < deadline, "it is still in a file");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    is_erased_with_its_log(&router);
}
