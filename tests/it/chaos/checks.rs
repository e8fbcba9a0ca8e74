//! What must hold between the journal and what those who played received.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::actors::Notes;
use crate::support::{Journal, Router};

const ENDS: [&str; 5] =
    ["invocation.completed", "invocation.failed", "invocation.expired", "invocation.timed_out", "invocation.cancelled"];

/// Everything ends within this: attempts, deadlines, and leases between them.
const END: Duration = Duration::from_mins(1);

/// How much was received.
pub(crate) struct Seen {
    pub(crate) receipts: usize,
    pub(crate) ends: usize,
    pub(crate) deliveries: usize,
}

fn kind(event: &Value) -> &str {
    event["kind"].as_str().expect("a kind")
}

fn invocation(event: &Value) -> &str {
    event["invocation_id"].as_str().unwrap_or_default()
}

/// The name that the caller gave the call, from wherever it stands in the payload.
fn call(event: &Value) -> String {
    let payload = event["payload"].to_string();
    let (_, name) = payload.split_once(r#""call":""#).expect("every call has a name");
    name.chars().take_while(|&sign| sign != '"').collect()
}

/// Reads the journal on to where each invocation has an end.
pub(crate) async fn ended(router: &Router, journal: &mut Journal) {
    let deadline = Instant::now() + END;
    loop {
        router.read_on("", journal).await;
        let events = &journal.events;
        let accepted: BTreeSet<_> =
            events.iter().filter(|event| kind(event) == "invocation.accepted").map(invocation).collect();
        let ended: BTreeSet<_> = events.iter().filter(|event| ENDS.contains(&kind(event))).map(invocation).collect();
        if accepted.is_subset(&ended) {
            return;
        }
        let open = accepted.difference(&ended).collect::<Vec<_>>();
        assert!(Instant::now() < deadline, "{} have no end: {open:?}", open.len());
        sleep(Duration::from_millis(200)).await;
    }
}

/// The events of each invocation, in order.
struct Lives<'a>(BTreeMap<&'a str, Vec<&'a Value>>);

impl<'a> Lives<'a> {
    fn of(journal: &'a [Value]) -> Self {
        let mut lives: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
        for event in journal.iter().filter(|event| !invocation(event).is_empty()) {
            lives.entry(invocation(event)).or_default().push(event);
        }
        Self(lives)
    }

    fn events(&self, id: &str, wanted: &str) -> impl Iterator<Item = &'a Value> {
        self.0.get(id).into_iter().flatten().copied().filter(move |event| kind(event) == wanted)
    }

    fn count(&self, id: &str, wanted: &str) -> usize {
        self.events(id, wanted).count()
    }
}

/// All of it: the journal is one, and what was received is in it.
pub(crate) fn all(journal: &[Value], notes: &[Notes]) -> Seen {
    for (index, event) in journal.iter().enumerate() {
        assert_eq!(event["position"], index + 1);
    }
    let lives = Lives::of(journal);
    each_life_is_sound(&lives);
    first_deliveries_are_in_order(journal, &lives);
    what_was_received_is_in_it(journal, &lives, notes)
}

fn each_life_is_sound(lives: &Lives<'_>) {
    for (id, events) in &lives.0 {
        let Some(accepted) = lives.events(id, "invocation.accepted").next() else { continue };
        let ends: Vec<_> = events.iter().map(|event| kind(event)).filter(|kind| ENDS.contains(kind)).collect();
        assert_eq!(ends.len(), 1, "{id} has the ends {ends:?}");
        let started: BTreeSet<_> =
            lives.events(id, "invocation.started").map(|event| event["detail"]["attempt"].as_u64()).collect();
        let most = usize::try_from(accepted["detail"]["max_attempts"].as_u64().expect("a number")).expect("a few");
        assert!(started.len() <= most, "{id} was started {} times, and may be {most} times", started.len());
    }
}

/// For each agent and caller, whatever is delivered is delivered for the first time in the order of acceptance.
fn first_deliveries_are_in_order(journal: &[Value], lives: &Lives<'_>) {
    let mut newest: BTreeMap<(&str, &str), i64> = BTreeMap::new();
    let mut delivered = BTreeSet::new();
    for event in journal.iter().filter(|event| kind(event) == "invocation.delivered") {
        if !delivered.insert(invocation(event)) {
            continue;
        }
        let accepted = lives.events(invocation(event), "invocation.accepted").next().expect("it was accepted");
        let text = |field: &str| accepted[field].as_str().expect("text");
        let newest = newest.entry((text("agent_id"), text("caller"))).or_default();
        let position = accepted["position"].as_i64().expect("a number");
        assert!(position > *newest, "{} is delivered before an older one: {event}", invocation(event));
        *newest = position;
    }
}

fn what_was_received_is_in_it(journal: &[Value], lives: &Lives<'_>, notes: &[Notes]) -> Seen {
    let accepted = journal.iter().filter(|event| kind(event) == "invocation.accepted");
    let calls: BTreeMap<_, _> = accepted.map(|event| (call(event), event)).collect();
    let call_of = |call: &String| *calls.get(call).unwrap_or_else(|| panic!("{call} was delivered and never accepted"));
    let mut seen = Seen { receipts: 0, ends: 0, deliveries: 0 };
    for note in notes {
        for id in &note.receipts {
            assert_eq!(lives.count(id, "invocation.accepted"), 1, "the receipt of {id} is in the journal");
            seen.receipts += 1;
        }
        for (id, end, response) in &note.ends {
            let count = |kind| lives.count(id, kind);
            let of_its_kind = match end.as_str() {
                "" => count("invocation.completed"),
                "Agent has been unregistered" | "on purpose" => count("invocation.failed"),
                "Agent is NOT active" => count("invocation.expired") + count("invocation.refused"),
                "Request timed out" => count("invocation.timed_out"),
                other => panic!("{id} ended with {other:?}"),
            };
            assert_eq!(of_its_kind, 1, "{id} ended with {end:?}, its events are {:?}", lives.0.get(id.as_str()));
            if let (Some(response), Some(completed)) =
                (response.as_str(), lives.events(id, "invocation.completed").next())
            {
                let answer = completed["payload"].to_string();
                assert!(answer.contains(response), "{id} was answered with {response}, the journal has {answer}");
            }
            seen.ends += 1;
        }
        for (call, deliveries) in &note.deliveries {
            let id = invocation(call_of(call));
            let journaled = lives.count(id, "invocation.delivered");
            assert!(*deliveries <= journaled, "{id} was delivered {deliveries} times, the journal has {journaled}");
            seen.deliveries += 1;
        }
        assert!(note.falsely_first.is_empty(), "delivered as first more than once: {:?}", note.falsely_first);
        for order in &note.orders {
            let mut newest: BTreeMap<&str, i64> = BTreeMap::new();
            for call in order {
                let accepted = call_of(call);
                let newest = newest.entry(accepted["caller"].as_str().expect("a caller")).or_default();
                let position = accepted["position"].as_i64().expect("a number");
                assert!(position > *newest, "{call} came before an older one from its caller");
                *newest = position;
            }
        }
    }
    seen
}
