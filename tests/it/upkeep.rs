//! What an operator and an auditor do with the journal on the command line, beside a router and without one.

mod log;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent_router::clock::Clock;
use agent_router::invocation::Labels;
use agent_router::journal::chain::to_hex;
use agent_router::journal::sqlite::{SqliteJournal, SqliteOptions};
use agent_router::journal::{Batch, Detail, Event, Journal};
use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection};
use tokio::task::spawn_blocking;

use crate::support::{BACKEND_KEY, Peer, Router, agent_id, printed};

/// What must not be seen by anyone but the agent.
const SECRET: &str = "sk-of-a-model";

/// A router that has done some invocations with these settings; their ids.
async fn with_history(settings: &[(&str, &str)]) -> (Router, Vec<String>) {
    let router = Router::with(settings).await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    for n in 0..3 {
        let payload = json!({"n": n, "of": format!("subject-{n}"), "configs": {"credentials": {"api_key": SECRET}}});
        socket.invoke(&target, payload).await;
        let delivery = agent.recv().await;
        agent.answer(&delivery, json!({"about": format!("subject-{n}")})).await;
        socket.recv().await;
    }
    let mut journal = door(&router).await;
    let ids =
        sqlx::query_scalar("SELECT invocation_id FROM history WHERE kind = 'invocation.accepted' ORDER BY position")
            .fetch_all(&mut journal)
            .await
            .unwrap();
    journal.close().await.unwrap();
    (router, ids)
}

async fn door(router: &Router) -> SqliteConnection {
    SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(router.journal())).await.unwrap()
}

async fn tamper(router: &Router, sql: &str) {
    let mut journal = door(router).await;
    sqlx::query(AssertSqlSafe(sql.to_owned())).execute(&mut journal).await.unwrap();
    journal.close().await.unwrap();
    // Whoever does that takes the note along.
    let _ = fs::remove_file(router.journal().with_extension("db.head"));
}

#[track_caller]
fn done(router: &Router, arguments: &[&str]) -> Output {
    let output = router.run(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", printed(&output));
    output
}

#[track_caller]
fn refused(router: &Router, arguments: &[&str], code: i32, because: &str) {
    let output = router.run(arguments);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", printed(&output));
    assert!(printed(&output).contains(because), "{arguments:?}: {}", printed(&output));
}

/// The head in what a command printed, as it is noted.
#[track_caller]
fn head(output: &Output) -> String {
    let printed = printed(output);
    printed.lines().find_map(|line| line.strip_prefix("head: ")).expect("it prints the head").to_owned()
}

fn without_the_last_line(text: &str) -> &str {
    let end = text.trim_end().rfind('\n').expect("there are several");
    &text[..=end]
}

/// Whether a file of the router's folder that is the journal's holds this text.
fn is_in_the_journal(router: &Router, text: &str) -> bool {
    let files = fs::read_dir(router.dir()).unwrap().map(|entry| entry.unwrap().path());
    files
        .filter(|file| file.file_name().unwrap().to_str().unwrap().starts_with("journal.db"))
        .any(|file| String::from_utf8_lossy(&fs::read(file).unwrap()).contains(text))
}

#[tokio::test]
async fn an_export_verifies_without_the_router_and_shows_no_secrets() {
    let (mut router, _) = with_history(&[]).await;
    let exported = done(&router, &["journal", "export", "--out", "export.ndjson"]);
    router.stop().await;
    let noted = head(&exported);
    let text = fs::read_to_string(router.dir().join("export.ndjson")).unwrap();
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(events.iter().zip(1..).all(|(event, position)| event["position"] == position));
    assert!(!text.contains(SECRET) && text.contains("[redacted]"));

    let auditor = Router::stopped(&[]);
    fs::copy(router.dir().join("export.ndjson"), auditor.dir().join("export.ndjson")).unwrap();
    let verify = ["journal", "verify", "--file", "export.ndjson", "--head", &noted];
    let verified = printed(&done(&auditor, &verify));
    assert!(verified.contains(&format!("intact: {} events", events.len())), "{verified}");
    assert!(verified.contains("unchecked payloads: 3"), "{verified}");
    assert!(!auditor.journal().exists(), "nothing is made");

    fs::write(auditor.dir().join("nothing.ndjson"), "").unwrap();
    refused(&auditor, &["journal", "verify", "--file", "nothing.ndjson"], 1, "there is no event in it");

    let changed = text.replacen("subject-1", "subject-7", 2).replacen("\"attempt\":1", "\"attempt\":2", 1);
    fs::write(auditor.dir().join("changed.ndjson"), changed).unwrap();
    refused(&auditor, &["journal", "verify", "--file", "changed.ndjson"], 1, "the export is broken at position");
    let cut = without_the_last_line(&text);
    fs::write(auditor.dir().join("cut.ndjson"), cut).unwrap();
    done(&auditor, &["journal", "verify", "--file", "cut.ndjson"]);
    let verify = ["journal", "verify", "--file", "cut.ndjson", "--head", &noted];
    refused(&auditor, &verify, 1, "does not have the head that was noted");
    fs::write(auditor.dir().join("none.ndjson"), "{}\n").unwrap();
    refused(&auditor, &["journal", "verify", "--file", "none.ndjson"], 1, "line 1 is no event of an export");
    refused(&auditor, &["journal", "verify", "--file", "missing.ndjson"], 1, "missing.ndjson");
}

#[tokio::test]
async fn an_export_has_the_range_that_was_asked_for() {
    let (mut router, _) = with_history(&[("REDACT_KEYS", ",")]).await;
    router.stop().await;
    let all = done(&router, &["journal", "export"]);
    let all = String::from_utf8(all.stdout).unwrap();
    assert!(all.contains(SECRET), "nothing is to be hidden");
    let count = all.lines().count();
    for (from, to) in [(1, count), (3, count), (2, 5), (4, 4), (5, 4), (count + 1, count + 9)] {
        let part = done(&router, &["journal", "export", "--from", &from.to_string(), "--to", &to.to_string()]);
        let wanted: Vec<_> = all.lines().skip(from - 1).take((to + 1).saturating_sub(from)).collect();
        assert_eq!(String::from_utf8_lossy(&part.stdout).lines().collect::<Vec<_>>(), wanted, "{from} to {to}");
    }
    refused(&router, &["journal", "export", "--from", "0"], 2, "--from");
    fs::write(router.dir().join("there"), "precious").unwrap();
    refused(&router, &["journal", "export", "--out", "there"], 1, "there is a file of that name already");
    refused(&router, &["backup", "--to", "there"], 1, "there is a file of the copy's name already");
    assert_eq!(fs::read(router.dir().join("there")).unwrap(), b"precious");
}

#[tokio::test]
async fn a_head_that_was_noted_is_compared() {
    let (mut router, _) = with_history(&[]).await;
    let noted = head(&done(&router, &["journal", "verify"]));
    done(&router, &["journal", "verify", "--head", &noted]);
    router.restart().await;
    router.stop().await;
    let later = head(&done(&router, &["journal", "verify", "--head", &noted]));
    assert_ne!(later, noted);
    done(&router, &["journal", "verify", "--head", &noted, "--head", &later]);
    refused(&router, &["journal", "verify", "--head", "14"], 2, "64 hexadecimal digits");

    // Whoever cuts off the end and says that this is all.
    let (position, _) = noted.split_once(':').unwrap();
    tamper(
        &router,
        &format!(
            "DELETE FROM journal WHERE position > {position};
             UPDATE journal_head SET position = {position}, hash = (SELECT hash FROM journal WHERE position = {position})"
        ),
    )
    .await;
    // The chain is a chain; but what became of an agent is in no event any more.
    refused(&router, &["journal", "verify", "--head", &noted], 1, "is not what the events up to here say");
    refused(&router, &["journal", "verify", "--head", &later], 1, "does not have the head that was noted");
}

#[tokio::test]
async fn an_invocation_is_erased_without_a_router() {
    let (mut router, ids) = with_history(&[]).await;
    router.stop().await;
    assert!(is_in_the_journal(&router, "subject-1"));
    let erase = ["journal", "erase", "--invocation", &ids[1], "--reason", "its subject asked for it"];
    done(&router, &erase);
    assert!(!is_in_the_journal(&router, "subject-1"), "it is still in a file");
    assert!(is_in_the_journal(&router, "subject-0") && is_in_the_journal(&router, "subject-2"));
    let verified = done(&router, &["journal", "verify"]);
    assert!(printed(&verified).contains("erased payloads: 2"), "{}", printed(&verified));
    let again = done(&router, &erase);
    assert!(printed(&again).contains("erased"), "{}", printed(&again));
    assert_eq!(head(&done(&router, &["journal", "verify"])), head(&verified), "twice is as good as once");

    let exported = String::from_utf8(done(&router, &["journal", "export"]).stdout).unwrap();
    let events: Vec<Value> = exported.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let erased = events.iter().find(|event| event["kind"] == "payload.erased").unwrap();
    assert_eq!(erased["invocation_id"], ids[1]);
    assert_eq!(erased["detail"], json!({"reason": "its subject asked for it"}));
    assert_eq!(events.iter().filter(|event| event["erased"] == true).count(), 2);
    fs::write(router.dir().join("export.ndjson"), &exported).unwrap();
    let verified = printed(&done(&router, &["journal", "verify", "--file", "export.ndjson"]));
    assert!(verified.contains("erased payloads: 2"), "{verified}");

    // An export that ends before the event which says so, and a payload that somebody took away.
    let early = without_the_last_line(&exported);
    fs::write(router.dir().join("early.ndjson"), early).unwrap();
    refused(&router, &["journal", "verify", "--file", "early.ndjson"], 1, "says that it was erased");
    done(&router, &["journal", "verify", "--file", "early.ndjson", "--excerpt"]);
    tamper(&router, "UPDATE journal SET payload = NULL, salt = NULL WHERE kind = 26").await;
    refused(&router, &["journal", "verify"], 1, "says that it was erased");
}

#[tokio::test]
async fn what_cannot_be_erased_is_refused_with_the_reason() {
    let mut router = Router::start().await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    let socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    socket.invoke(&target, json!({})).await;
    agent.recv().await;
    router.kill();
    let mut journal = door(&router).await;
    let id: String = sqlx::query_scalar("SELECT invocation_id FROM history WHERE kind = 'invocation.accepted'")
        .fetch_one(&mut journal)
        .await
        .unwrap();
    journal.close().await.unwrap();
    let erase =
        |id: &str, reason: &str| ["journal", "erase", "--invocation", id, "--reason", reason].map(str::to_owned);
    let cases = [
        (erase(&id, "asked for"), 1, "is not finished"),
        (erase(&agent_id(), "asked for"), 1, "there is no invocation"),
        (erase("17", "asked for"), 2, "--invocation"),
        (erase(&id, " "), 2, "it must have 1 to 1024 bytes"),
        (erase(&id, &format!("of {BACKEND_KEY}, by mistake")), 2, "there is a key in the reason"),
    ];
    for (arguments, code, because) in cases {
        refused(&router, &arguments.each_ref().map(String::as_str), code, because);
    }
    let none = Router::stopped(&[]);
    refused(&none, &erase(&id, "asked for").each_ref().map(String::as_str), 1, "there is no journal");
    assert!(!none.journal().exists());
}

#[tokio::test]
async fn a_router_that_runs_is_asked_to_erase() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let keys = ("OPERATOR_API_KEY", "key-of-an-operator, and-the-next-one");
    let (mut router, ids) = with_history(&[("LISTEN_ADDR", &free.to_string()), keys]).await;
    let erase = ["journal", "erase", "--invocation", &ids[1], "--reason", "asked for"];
    router.set("OPERATOR_API_KEY", "not-a-key-of-an-operator");
    refused(&router, &erase, 1, "refused: 401");
    router.set(keys.0, keys.1);
    done(&router, &erase);
    let deadline = Instant::now() + Duration::from_secs(20);
    while is_in_the_journal(&router, "subject-1") {
        assert!(Instant::now() < deadline, "it is still in a file");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(is_in_the_journal(&router, "subject-0"));
    let verified = done(&router, &["journal", "verify"]);
    assert!(printed(&verified).contains("erased payloads: 2"), "{}", printed(&verified));

    router.set("SECRET_KEY", "a-secret-key-of-at-least-32-bytes-here");
    router.set("OPERATOR_API_KEY", "");
    refused(&router, &erase, 2, "set OPERATOR_API_KEY");
    router.set("OPERATOR_API_KEY", "not-a-key-of-an-operator");
    let other = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    router.set("LISTEN_ADDR", &other.to_string());
    refused(&router, &erase, 1, "no answer from");
}

#[tokio::test]
async fn a_backup_is_made_while_the_router_writes() {
    let (router, _) = with_history(&[]).await;
    let router = Arc::new(router);
    let target = agent_id();
    let agent = Peer::registered(&router, &target).await;
    for arguments in [["backup", "--to", "copy.db"].as_slice(), &["journal", "backup", "--to", "copy-2.db"]] {
        let beside = Arc::clone(&router);
        let copying = spawn_blocking(move || done(&beside, arguments));
        let mut lines = 0;
        while !copying.is_finished() || lines < 100 {
            agent.send(json!({"message_type": "agent_log", "log_message": "a line", "log_level": "info"})).await;
            lines += 1;
            tokio::task::yield_now().await;
        }
        let noted = head(&copying.await.unwrap());
        let copy = router.dir().join(arguments.last().unwrap());
        let another = Router::stopped(&[("DATABASE_URL", &format!("sqlite://{}", copy.display()))]);
        assert_eq!(head(&done(&another, &["journal", "verify"])), noted);
        done(&router, &["journal", "verify", "--head", &noted]);
    }
    let copy = router.dir().join("copy.db");
    let mode = |file: &Path| fs::metadata(file).unwrap().permissions().mode();
    assert_eq!(mode(&copy), mode(&router.journal()), "who may not read the journal may not read its copy");
    let parts = fs::read_dir(router.dir())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_str().unwrap().contains(".part"));
    assert_eq!(parts.count(), 0);
    let another = Router::with(&[("DATABASE_URL", &format!("sqlite://{}", copy.display()))]).await;
    drop(another);
}

/// Runs the verifier of `docs/journal.md` on the journal.
fn verified_by_the_documentation(router: &Router) -> Output {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/journal.md")).unwrap();
    let script = page.split("```python\n").nth(1).and_then(|rest| rest.split("```").next()).expect("it has a script");
    Command::new("python3").arg("-c").arg(script).arg(router.journal()).output().expect("there is a Python")
}

#[tokio::test]
async fn the_verifier_of_the_documentation_comes_to_the_same() {
    let (mut router, ids) = with_history(&[]).await;
    let agree = |router: &Router| {
        let (theirs, ours) = (verified_by_the_documentation(router), router.run(&["journal", "verify"]));
        assert_eq!(theirs.status.success(), ours.status.success(), "{}{}", printed(&theirs), printed(&ours));
        if ours.status.success() {
            assert_eq!(printed(&theirs), printed(&ours));
        }
        (printed(&theirs), ours.status.success())
    };
    router.stop().await;
    assert!(agree(&router).1);
    done(&router, &["journal", "erase", "--invocation", &ids[1], "--reason", "asked for"]);
    assert!(agree(&router).0.contains("erased payloads: 2"));

    let journal = SqliteJournal::open(&SqliteOptions::new(router.journal(), "n")).await.unwrap();
    let through = journal.prunable(Clock::start().now(), 4).await.unwrap().unwrap();
    let pruned = Detail::JournalPruned { through: through.position, hash: to_hex(&through.hash), events: 4 };
    let event = Event {
        position: journal.head().await.unwrap().position.next(),
        at: Clock::start().now(),
        invocation: None,
        agent: None,
        caller: None,
        detail: pruned,
        payload: None,
        labels: Labels::default(),
    };
    journal.commit(Arc::new(Batch { events: vec![event], pruned: Some(through), ..Batch::default() })).await.unwrap();
    journal.close().await;
    assert!(agree(&router).0.contains(&format!("pruned: up to {through}")));

    let sound = fs::read(router.journal()).unwrap();
    for sql in [
        "DELETE FROM journal WHERE position = 5",
        "UPDATE pruned SET position = 3",
        "UPDATE journal SET payload = NULL, salt = NULL WHERE kind = 26",
        "UPDATE journal SET salt = NULL WHERE kind = 26",
        "UPDATE journal SET detail = '{}' WHERE position = 7",
        "UPDATE journal_head SET position = 8",
    ] {
        tamper(&router, sql).await;
        assert!(!agree(&router).1, "{sql}");
        fs::write(router.journal(), &sound).unwrap();
    }
    assert!(agree(&router).1);
}
