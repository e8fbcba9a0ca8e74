//! An export is checked by itself, without the journal that it is of.

use agent_router::id::{Position, SessionId};
use agent_router::journal::audit::Audit;
use agent_router::journal::{Detail, Head, Report, Verification};
use agent_router::protocol::Redactor;
use agent_router::record::file::{self, FileError};

use super::script::Script;
use super::store::{BackEnd, Store, exported, on_each_back_end};

on_each_back_end! {
    what_was_erased_and_pruned_is_told_from_damage,
    every_change_of_a_line_is_found_where_it_is,
    lines_that_are_removed_inserted_or_out_of_order_are_found,
    a_redacted_payload_is_counted_and_the_chain_checked_all_the_same,
    a_line_that_is_no_event_is_named,
}

/// Seven events and their heads: 2 accepts an invocation, 4 completes it, 5 is a log line, 6 erases the invocation, and 1 is
/// pruned by 7.
async fn written(back_end: BackEnd) -> (Vec<String>, Vec<Head>) {
    let store = Store::on(back_end);
    let journal = store.open().await;
    let mut script = Script::new();
    script.started();
    let mut invocation = script.invoked("agent", b"{\"a\": 1}");
    let detail = Detail::InvocationDelivered { attempt: 1, session: SessionId::generate(), plain: true };
    script.event(detail, Some(invocation.id), Some("agent"), None);
    journal.commit(script.take().into()).await.unwrap();
    script.completed(&mut invocation, b"{\"response\": 2}");
    script.logged("agent \"of\" \\ é", b"{\"log\":  [1.50, \"\\u00e9\"]}");
    journal.commit(script.take().into()).await.unwrap();
    let first = Head { position: Position(1), hash: journal.hash_at(Position(1)).await.unwrap().unwrap() };
    script.erased(&invocation);
    script.pruned(first);
    journal.commit(script.take().into()).await.unwrap();
    let mut heads = Vec::new();
    for position in 1..=7 {
        let position = Position(position);
        heads.push(Head { position, hash: journal.hash_at(position).await.unwrap().unwrap() });
    }
    let lines = String::from_utf8(exported(&*journal).await).unwrap();
    (lines.lines().map(str::to_owned).collect(), heads)
}

fn verified(lines: &[String], audit: Audit) -> Result<Verification, FileError> {
    file::verify(lines.join("\n").as_bytes(), audit)
}

async fn what_was_erased_and_pruned_is_told_from_damage(back_end: BackEnd) {
    let (lines, heads) = written(back_end).await;
    let report = Report { from: Position(2), events: 6, erased: 2, unchecked: 0, pruned: heads[0], head: heads[6] };
    assert_eq!(verified(&lines, Audit::of_export()).unwrap(), Verification::Intact(report.clone()));
    assert_eq!(verified(&lines, Audit::of_export().noting(heads)).unwrap(), Verification::Intact(report));
}

/// The position that the line with this index should have.
fn position_of(index: usize) -> i64 {
    i64::try_from(index).unwrap() + 2
}

/// What is done to a line.
type Change = fn(&str) -> String;

async fn every_change_of_a_line_is_found_where_it_is(back_end: BackEnd) {
    let (lines, heads) = written(back_end).await;
    let cases: [(usize, Change); 15] = [
        (0, |line| line.replacen("\"at\":\"2026", "\"at\":\"2025", 1)),
        (1, |line| line.replacen("invocation.delivered", "invocation.started", 1)),
        (1, |line| line.replacen("node-1", "node-2", 1)),
        (1, |line| line.replacen("\"agent_id\":\"agent\"", "\"agent_id\":null", 1)),
        (1, |line| line.replacen("\"caller\":\"caller\"", "\"caller\":\"Caller\"", 1)),
        (1, |line| line.replacen("\"attempt\":1", "\"attempt\":2", 1)),
        (1, |line| line.replacen("\"attempt\":1", "\"attempt\": 1", 1)),
        (3, |line| line.replacen("1.50", "1.5", 1)),
        (3, |line| line.replacen("\\u00e9", "é", 1)),
        (3, |line| {
            line.replacen("\"salt\":\"", "\"salt\":\"00\"", 1).replacen("00\"", "", 1).replacen(
                "\"salt\":\"",
                "\"salt\":\"ffffffff",
                1,
            )
        }),
        (3, |line| line.replacen("\"payload\":{\"log\":  [1.50, \"\\u00e9\"]}", "\"payload\":null", 1)),
        (4, |line| line.replacen("asked for", "not asked for", 1)),
        (5, |line| line.replacen("\"events\":1", "\"events\":0", 1)),
        (5, |line| line.replacen("\"through\":1", "\"through\":0", 1)),
        (2, |line| {
            let at = line.find("\"hash\":\"").unwrap() + "\"hash\":\"".len();
            let other = if line[at..].starts_with('0') { "1" } else { "0" };
            format!("{}{other}{}", &line[..at], &line[at + 1..])
        }),
    ];
    for (number, (index, change)) in cases.into_iter().enumerate() {
        let mut changed = lines.clone();
        changed[index] = change(&lines[index]);
        assert_ne!(changed[index], lines[index], "change {number}");
        let position = position_of(index);
        match verified(&changed, Audit::of_export().noting(heads.clone())) {
            Ok(Verification::Broken { position: found, what }) => {
                // What the first event is made of is only known to be wrong when the next one does not follow.
                let allowed = if index == 0 { 2..=3 } else { position..=position };
                assert!(allowed.contains(&found.0), "change {number} at {position} is found at {found}: {what}");
            }
            Err(FileError::Line { line, .. }) => assert_eq!(line, index as u64 + 1, "change {number}"),
            other => panic!("change {number}: {other:?}"),
        }
    }
}

async fn lines_that_are_removed_inserted_or_out_of_order_are_found(back_end: BackEnd) {
    let (lines, heads) = written(back_end).await;
    let broken = |lines: &[String], noted: &[Head]| match verified(lines, Audit::of_export().noting(noted.to_vec())) {
        Ok(Verification::Broken { position, what }) => (position.0, what),
        other => panic!("{other:?}"),
    };
    for index in 1..5 {
        let mut removed = lines.clone();
        removed.remove(index);
        assert_eq!(broken(&removed, &[]).0, position_of(index));
        let mut doubled = lines.clone();
        doubled.insert(index, lines[index - 1].clone());
        assert_eq!(broken(&doubled, &[]).0, position_of(index));
        let mut swapped = lines.clone();
        swapped.swap(index - 1, index);
        broken(&swapped, &[]);
    }

    let (position, what) = broken(&lines[..5], &heads[6..]);
    assert_eq!(position, 7, "{what}");
    assert!(what.contains("does not have the head that was noted"), "{what}");
    // Without the event that says so, what was erased is missing.
    let (position, what) = broken(&lines[..4], &[]);
    assert_eq!(position, 2, "{what}");
    assert!(matches!(verified(&lines[..4], Audit::of_excerpt()), Ok(Verification::Intact(Report { erased: 2, .. }))));
}

async fn a_redacted_payload_is_counted_and_the_chain_checked_all_the_same(back_end: BackEnd) {
    let store = Store::on(back_end);
    let journal = store.open().await;
    let mut script = Script::new();
    script.logged("agent", b"{\"api_key\": \"sk-1\"}");
    script.logged("agent", b"{\"n\": NaN}");
    script.logged("agent", b"null");
    script.logged("agent", b"{}");
    journal.commit(script.take().into()).await.unwrap();
    let events = journal
        .history(&agent_router::journal::HistoryFilter::default(), agent_router::journal::Order::Ascending, None, 10)
        .await
        .unwrap()
        .events;
    let redactor = Redactor::new(&["api_key".to_owned()]);
    let lines: Vec<_> = events
        .iter()
        .map(|event| String::from_utf8(agent_router::record::event_line(event, &redactor)).unwrap())
        .collect();
    let verification = verified(&lines, Audit::of_export()).unwrap();
    assert!(matches!(verification, Verification::Intact(Report { events: 4, unchecked: 2, .. })), "{verification:?}");
    let mut changed = lines.clone();
    changed[0] = lines[0].replacen("\"agent_id\":\"agent\"", "\"agent_id\":\"other\"", 1);
    assert!(matches!(verified(&changed, Audit::of_export()), Ok(Verification::Broken { position: Position(1), .. })));
}

async fn a_line_that_is_no_event_is_named(back_end: BackEnd) {
    let (lines, _) = written(back_end).await;
    let wrong: [(&str, Change); 10] = [
        ("nothing", |_| String::new()),
        ("a number", |_| "1".to_owned()),
        ("cut off", |line| line[..line.len() - 1].to_owned()),
        ("two", |line| format!("{line}{line}")),
        ("another field", |line| line.replacen('{', "{\"more\":1,", 1)),
        ("a missing field", |line| line.replacen("\"node_id\":\"node-1\",", "", 1)),
        ("a time without decimals", |line| line.replacen(".000000Z", "Z", 1)),
        ("a kind that is none", |line| line.replacen("agent.logged", "agent.danced", 1)),
        ("a hash that is none", |line| line.replacen("\"hash\":\"", "\"hash\":\"g", 1)),
        ("a contradiction", |line| line.replacen('{', "{\"erased\":true,", 1)),
    ];
    for (which, change) in wrong {
        let mut changed = lines.clone();
        changed[3] = change(&lines[3]);
        match verified(&changed, Audit::of_export()) {
            Err(FileError::Line { line: 4, what }) => assert!(!what.contains('\n'), "{which}: {what}"),
            other => panic!("{which}: {other:?}"),
        }
    }
    let long = vec![b' '; (16 << 20) + 1];
    assert!(matches!(file::verify(&long[..], Audit::of_export()), Err(FileError::Line { line: 1, .. })));
}
