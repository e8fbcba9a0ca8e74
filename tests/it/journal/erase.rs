//! What is erased is gone from everywhere, and the chain says that it was erased.

use agent_router::id::Position;
use agent_router::invocation::{IdempotencyKey, Invocation, Labels};
use agent_router::journal::audit::Audit;
use agent_router::journal::{
    Batch, Detail, EventKind, Head, HistoryFilter, Journal, JournalError, Lookup, Order, Report, Verification,
};
use agent_router::record::file;

use super::script::{Script, identity};
use super::store::{BackEnd, Store, exported, on_each_back_end};

on_each_back_end! {
    the_payloads_of_an_invocation_go_and_no_others,
    what_its_agent_logged_about_its_request_goes_too_wherever_it_is,
    a_log_line_that_somebody_emptied_is_damage_whoever_else_was_erased,
    an_invocation_of_no_request_takes_no_log_line_with_it,
    a_range_whose_log_lines_were_erased_verifies_once_the_invocation_is_pruned,
    what_comes_after_an_erasure_stays,
    a_key_of_an_erased_invocation_fits_no_payload_any_more,
    nothing_of_it_is_left_in_any_file,
    a_journal_that_is_closed_after_an_erasure_has_nothing_left_of_it,
    an_erasure_that_is_not_committed_erases_nothing,
}

/// Accepts and completes an invocation.
async fn finished(journal: &dyn Journal, script: &mut Script, body: &[u8], answer: &[u8]) -> Invocation {
    let mut invocation = script.invoked("agent", body);
    journal.commit(script.take().into()).await.unwrap();
    script.completed(&mut invocation, answer);
    journal.commit(script.take().into()).await.unwrap();
    invocation
}

async fn payloads_of(journal: &dyn Journal, invocation: &Invocation) -> Vec<Vec<u8>> {
    let filter = HistoryFilter { invocation: Some(invocation.id), ..HistoryFilter::default() };
    let events = journal.history(&filter, Order::Ascending, None, 1000).await.unwrap().events;
    events.into_iter().filter_map(|event| event.payload).map(|payload| payload.to_vec()).collect()
}

async fn the_payloads_of_an_invocation_go_and_no_others(back_end: BackEnd) {
    let store = Store::on(back_end);
    let journal = store.open().await;
    let mut script = Script::new();
    let erased = finished(&*journal, &mut script, b"{\"its\": 1}", b"{\"its\": 2}").await;
    let other = finished(&*journal, &mut script, b"{\"other\": 1}", b"{\"other\": 2}").await;
    // What came late, and what comes in the batch that erases, goes too.
    script.event(Detail::AnswerLate {}, Some(erased.id), Some("agent"), Some(b"[3]"));
    script.erased(&erased);
    let head = journal.commit(script.take().into()).await.unwrap();

    assert!(payloads_of(&*journal, &erased).await.is_empty());
    assert_eq!(payloads_of(&*journal, &other).await, [b"{\"other\": 1}", b"{\"other\": 2}"]);
    let record = journal.invocation(erased.id).await.unwrap().unwrap();
    assert_eq!((record.body, record.answer), (None, None));
    let report = |erased| Report { from: Position(1), events: 6, erased, unchecked: 0, pruned: Head::EMPTY, head };
    assert_eq!(journal.verify(None, None).await.unwrap(), Verification::Intact(report(3)));

    // In a range that ends before the event that explains it.
    for (to, erased) in [(1, 1), (2, 2), (4, 2), (5, 3)] {
        let verification = journal.verify(None, Some(Position(to))).await.unwrap();
        assert!(matches!(verification, Verification::Intact(Report { erased: found, .. }) if found == erased), "{to}");
    }
}

/// Log lines whose payload is there, of all there are.
async fn lines_left(journal: &dyn Journal) -> Vec<Position> {
    let filter = HistoryFilter { kinds: vec![EventKind::AgentLogged], ..HistoryFilter::default() };
    let lines = journal.history(&filter, Order::Ascending, None, 100_000).await.unwrap().events;
    lines.into_iter().filter(|line| line.payload.is_some() && line.salt.is_some()).map(|line| line.position).collect()
}

/// An invocation of this agent and request.
async fn finished_of(journal: &dyn Journal, script: &mut Script, agent: &str, request_id: &str) -> Invocation {
    let mut invocation = script.accepted(agent, b"{}");
    invocation.order_mut().labels = Labels { request_id: Some(request_id.into()), session_id: None };
    script.label(invocation.labels.clone());
    script.keep(&invocation);
    journal.commit(script.take().into()).await.unwrap();
    script.logged_about(agent, request_id, b"THE-SECRET it was asked");
    script.completed(&mut invocation, b"{}");
    journal.commit(script.take().into()).await.unwrap();
    invocation
}

async fn what_its_agent_logged_about_its_request_goes_too_wherever_it_is(back_end: BackEnd) {
    // All in the tail; the index of one era and the tail; several eras.
    for between in [0, 1500, 2500, 9000] {
        let store = Store::on(back_end);
        let journal = store.open().await;
        let mut script = Script::new();
        let before = script.logged_about("agent \"é\"", "r é", b"about an earlier call");
        let invocation = finished_of(&*journal, &mut script, "agent \"é\"", "r é").await;
        let mut stays = vec![before];
        for number in 0..between {
            stays.push(script.logged_about("agent \"é\"", &format!("r {}", number % 7), b"about others"));
            if number % 1000 == 500 {
                script.logged_about("agent \"é\"", "r é", b"THE-SECRET again");
                journal.commit(script.take().into()).await.unwrap();
            }
        }
        stays.push(script.logged_about("another", "r é", b"of another agent"));
        stays.push(script.logged_about("agent \"é\"", "r", b"about another request"));
        stays.push(script.logged("agent \"é\"", b"about none"));
        journal.commit(script.take().into()).await.unwrap();
        // What is logged in the batch that erases, before and after.
        script.logged_about("agent \"é\"", "r é", b"THE-SECRET at last");
        let erasure = script.erased(&invocation);
        stays.push(script.logged_about("agent \"é\"", "r é", b"what comes later"));
        journal.commit(script.take().into()).await.unwrap();

        assert_eq!(lines_left(&*journal).await, stays, "{between} between");
        journal.scrub().await.unwrap();
        let left = store.places_of(b"THE-SECRET").await;
        assert!(left.is_empty(), "{between} between: still in {left:?}");
        let gone = 4 + u64::try_from((between + 499) / 1000).unwrap();
        for to in [None, Some(erasure), Some(Position(erasure.0 - 1))] {
            let verification = journal.verify(None, to).await.unwrap();
            assert!(
                matches!(verification, Verification::Intact(Report { erased, .. }) if erased == gone),
                "{between} between, to {to:?}: {verification:?}"
            );
        }
        let export = file::verify(&exported(&*journal).await[..], Audit::of_export()).unwrap();
        assert!(matches!(export, Verification::Intact(Report { erased, .. }) if erased == gone), "{export:?}");

        journal.close().await;
        let wrong = *stays.last().unwrap();
        store.tamper(&format!("UPDATE journal SET payload = NULL, salt = NULL WHERE position = {wrong}")).await;
        let journal = store.open().await;
        let verification = journal.verify(None, None).await.unwrap();
        assert!(matches!(verification, Verification::Broken { position, .. } if position == wrong), "{verification:?}");
    }
}

async fn a_log_line_that_somebody_emptied_is_damage_whoever_else_was_erased(back_end: BackEnd) {
    for line in ["agent", "another", "nothing"] {
        let store = Store::on(back_end);
        let journal = store.open().await;
        let mut script = Script::new();
        let invocation = finished_of(&*journal, &mut script, "agent", "r").await;
        let wrong = match line {
            "agent" => script.logged_about("agent", "r 2", b"another request"),
            "another" => script.logged_about("another", "r", b"another agent"),
            _ => script.logged("agent", b"no request"),
        };
        script.erased(&invocation);
        journal.commit(script.take().into()).await.unwrap();
        journal.close().await;
        store.tamper(&format!("UPDATE journal SET payload = NULL, salt = NULL WHERE position = {wrong}")).await;
        let journal = store.open().await;
        for to in [None, Some(wrong)] {
            let verification = journal.verify(None, to).await.unwrap();
            let is_found = matches!(verification, Verification::Broken { position, .. } if position == wrong);
            assert!(is_found, "{line}: {verification:?}");
        }
        let export = file::verify(&exported(&*journal).await[..], Audit::of_export()).unwrap();
        assert!(matches!(export, Verification::Broken { position, .. } if position == wrong), "{line}: {export:?}");
    }
}

async fn an_invocation_of_no_request_takes_no_log_line_with_it(back_end: BackEnd) {
    for request_id in [None, Some("")] {
        let store = Store::on(back_end);
        let journal = store.open().await;
        let mut script = Script::new();
        let mut invocation = script.accepted("agent", b"{}");
        invocation.order_mut().labels.request_id = request_id.map(Into::into);
        script.label(invocation.labels.clone());
        script.keep(&invocation);
        let lines = [script.logged("agent", b"line"), script.logged_about("agent", "", b"line")];
        journal.commit(script.take().into()).await.unwrap();
        script.completed(&mut invocation, b"{}");
        script.erased(&invocation);
        journal.commit(script.take().into()).await.unwrap();
        assert_eq!(lines_left(&*journal).await, lines);
        let filter = HistoryFilter { kinds: vec![EventKind::PayloadErased], ..HistoryFilter::default() };
        let erasure = journal.history(&filter, Order::Ascending, None, 1).await.unwrap().events.remove(0);
        assert_eq!(erasure.detail, "{\"reason\":\"asked for\"}");
        assert!(matches!(journal.verify(None, None).await.unwrap(), Verification::Intact(Report { erased: 2, .. })));
    }
}

async fn a_range_whose_log_lines_were_erased_verifies_once_the_invocation_is_pruned(back_end: BackEnd) {
    let store = Store::on(back_end);
    let journal = store.open().await;
    let mut script = Script::new();
    let invocation = finished_of(&*journal, &mut script, "agent", "r").await;
    let line = script.logged_about("agent", "r", b"line");
    script.erased(&invocation);
    journal.commit(script.take().into()).await.unwrap();
    let through = Position(line.0 - 1);
    let hash = journal.hash_at(through).await.unwrap().unwrap();
    script.pruned(Head { position: through, hash });
    journal.commit(script.take().into()).await.unwrap();
    journal.close().await;
    let journal = store.open().await;
    for to in [None, Some(line)] {
        let verification = journal.verify(None, to).await.unwrap();
        assert!(matches!(verification, Verification::Intact(Report { erased: 1, .. })), "{verification:?}");
    }
}

async fn what_comes_after_an_erasure_stays(back_end: BackEnd) {
    let store = Store::on(back_end);
    let journal = store.open().await;
    let mut script = Script::new();
    let invocation = finished(&*journal, &mut script, b"{}", b"{}").await;
    script.erased(&invocation);
    journal.commit(script.take().into()).await.unwrap();
    let late = script.event(Detail::AnswerLate {}, Some(invocation.id), Some("agent"), Some(b"[late]"));
    journal.commit(script.take().into()).await.unwrap();
    assert_eq!(payloads_of(&*journal, &invocation).await, [b"[late]"]);
    journal.close().await;

    store.tamper(&format!("UPDATE journal SET payload = NULL, salt = NULL WHERE position = {late}")).await;
    let journal = store.open().await;
    let verification = journal.verify(None, None).await.unwrap();
    assert!(matches!(&verification, Verification::Broken { position, .. } if *position == late), "{verification:?}");
    let to = journal.verify(None, Some(late)).await.unwrap();
    assert!(matches!(to, Verification::Broken { .. }), "no later event explains it: {to:?}");
}

async fn a_key_of_an_erased_invocation_fits_no_payload_any_more(back_end: BackEnd) {
    let store = Store::on(back_end);
    let journal = store.open().await;
    let mut script = Script::new();
    let mut invocation = script.accepted("agent", b"{}");
    let digest = [7; 32];
    invocation.order_mut().key = Some(Box::new(IdempotencyKey { key: "key".into(), digest }));
    script.keep(&invocation);
    journal.commit(script.take().into()).await.unwrap();
    script.completed(&mut invocation, b"{}");
    script.erased(&invocation);
    journal.commit(script.take().into()).await.unwrap();
    let lookup = Lookup { ids: Vec::new(), keys: vec![(identity("caller"), identity("agent"), "key".into())] };
    let found = journal.lookup(&lookup).await.unwrap().remove(0);
    assert_eq!(found.id, invocation.id);
    assert_ne!(found.key.as_ref().unwrap().digest, digest);
    assert!(!store.places_of(b"journal").await.is_empty(), "the search finds what is there");
    journal.scrub().await.unwrap();
    assert!(store.places_of(&digest).await.is_empty());
}

async fn nothing_of_it_is_left_in_any_file(back_end: BackEnd) {
    let large = b"LARGE-SECRET-".repeat(20_000);
    let cases: [(&str, &[u8], &[u8]); 3] = [
        ("in a page", b"{\"a\": \"SMALL-SECRET\"}", b"SMALL-SECRET"),
        ("half in a page", &b"MIDDLE-SECRET".repeat(200), b"MIDDLE-SECRET"),
        ("in pages of its own", &large, b"LARGE-SECRET-"),
    ];
    for (which, payload, secret) in cases {
        for events_behind in [0, 3, 2000] {
            let store = Store::on(back_end);
            let journal = store.open().await;
            let mut script = Script::new();
            let invocation = finished(&*journal, &mut script, payload, payload).await;
            for _ in 0..events_behind {
                script.logged("agent", b"Every leaf that fills up and every root that grows moves what it had.");
            }
            journal.commit(script.take().into()).await.unwrap();
            assert!(!store.places_of(secret).await.is_empty(), "{which}, {events_behind} behind");

            script.erased(&invocation);
            journal.commit(script.take().into()).await.unwrap();
            journal.scrub().await.unwrap();
            let left = store.places_of(secret).await;
            assert!(left.is_empty(), "{which}, {events_behind} behind: still in {left:?}");
            let verification = journal.verify(None, None).await.unwrap();
            assert!(matches!(verification, Verification::Intact(Report { erased: 2, .. })), "{verification:?}");
            assert!(!exported(&*journal).await.windows(secret.len()).any(|window| window == secret));
        }
    }
}

async fn a_journal_that_is_closed_after_an_erasure_has_nothing_left_of_it(back_end: BackEnd) {
    let store = Store::on(back_end);
    let journal = store.open().await;
    let mut script = Script::new();
    let invocation = finished(&*journal, &mut script, b"[\"SECRET-OF-MINE\"]", b"{}").await;
    script.erased(&invocation);
    journal.commit(script.take().into()).await.unwrap();
    journal.close().await;
    assert!(store.places_of(b"SECRET-OF-MINE").await.is_empty());
    assert!(matches!(journal.scrub().await, Err(JournalError::Unavailable(_))), "it is closed");
}

#[tokio::test]
async fn a_reader_that_looks_at_the_past_keeps_it_from_being_scrubbed_and_no_more() {
    let store = Store::new();
    let journal = store.open().await;
    let mut script = Script::new();
    let invocation = finished(&*journal, &mut script, b"[\"SECRET-OF-MINE\"]", b"{}").await;
    let mut reader = store.back_door().await;
    sqlx::query("BEGIN").execute(&mut reader).await.unwrap();
    sqlx::query("SELECT count(*) FROM journal").execute(&mut reader).await.unwrap();

    script.erased(&invocation);
    journal.commit(script.take().into()).await.unwrap();
    let refused = journal.scrub().await;
    assert!(matches!(refused, Err(JournalError::Unavailable(_))), "{refused:?}");
    assert!(!store.places_of(b"SECRET-OF-MINE").await.is_empty());
    script.started();
    journal.commit(script.take().into()).await.expect("commits go on");

    sqlx::query("ROLLBACK").execute(&mut reader).await.unwrap();
    journal.scrub().await.unwrap();
    assert!(store.places_of(b"SECRET-OF-MINE").await.is_empty());
}

async fn an_erasure_that_is_not_committed_erases_nothing(back_end: BackEnd) {
    let store = Store::on(back_end);
    let journal = store.open().await;
    let mut script = Script::new();
    let invocation = finished(&*journal, &mut script, b"[1]", b"[2]").await;
    let position = script.position;
    script.erased(&invocation);
    script.batch.changed.push(Script::after(position).accepted("stranger", b"{}"));
    assert!(matches!(journal.commit(script.take().into()).await, Err(JournalError::Unavailable(_))));
    assert_eq!(payloads_of(&*journal, &invocation).await, [b"[1]", b"[2]"]);
    // The rows of a batch that erases are written as ever.
    let mut script = Script::after(position);
    script.erased(&invocation);
    let mut next = script.invoked("agent", b"{}");
    journal.commit(script.take().into()).await.unwrap();
    script.erased(&invocation);
    script.completed(&mut next, b"{}");
    journal.commit(script.take().into()).await.unwrap();
    let Batch { erased, .. } = script.take();
    assert!(erased.is_empty());
    assert!(matches!(journal.verify(None, None).await.unwrap(), Verification::Intact(Report { erased: 2, .. })));
}
