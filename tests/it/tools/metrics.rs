//! `/metrics` as Prometheus reads it.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{AGENT, output, populated, tool};
use crate::support::{OPERATOR_KEY, Peer, Router, agent_id, not_active, printed};

#[derive(Deserialize)]
struct Family {
    #[serde(rename = "type")]
    kind: String,
    help: String,
    samples: Vec<(String, BTreeMap<String, String>, Value)>,
}

impl Family {
    /// The value of the sample with these labels among others.
    #[track_caller]
    fn value(&self, labels: &[(&str, &str)]) -> &Value {
        let fits = |found: &BTreeMap<String, String>| {
            labels.iter().all(|(name, value)| found.get(*name).is_some_and(|found| found == value))
        };
        let fitting: Vec<_> = self.samples.iter().filter(|(_, found, _)| fits(found)).collect();
        let [(_, _, value)] = fitting[..] else { panic!("{labels:?} fit {fitting:?} of {:?}", self.samples) };
        value
    }

    /// How often a histogram was told something.
    #[track_caller]
    fn count(&self) -> &Value {
        let (.., count) = self.samples.iter().find(|(name, ..)| name.ends_with("_count")).expect("a histogram");
        count
    }
}

async fn families(router: &Router) -> BTreeMap<String, Family> {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("metrics.txt");
    std::fs::write(&text, router.get_as(OPERATOR_KEY, "/metrics").await.text).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/http/metrics.py");
    let mut command = Command::new(tool("HTTP_PYTHON"));
    command.arg(script);
    let output = output(command, File::open(text).unwrap().into(), Duration::from_mins(1)).await;
    assert!(output.status.success(), "{}", printed(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_reads_every_family_and_the_numbers_are_right() {
    let (router, invocations) = populated(&[]).await;
    router.wait_for_state(invocations.last().unwrap(), "completed").await;
    let mut caller = Peer::agent(&router, &agent_id()).await;
    caller.invoke(&agent_id(), json!({})).await;
    assert_eq!(caller.recv().await, not_active());
    let families = families(&router).await;
    for (name, kind) in [
        ("agent_router_build_info", "gauge"),
        ("agent_router_connections", "gauge"),
        ("agent_router_invocations", "counter"),
        ("agent_router_invocations_refused", "counter"),
        ("agent_router_deliveries", "counter"),
        ("agent_router_redeliveries", "counter"),
        ("agent_router_queued", "gauge"),
        ("agent_router_queue_oldest_age_seconds", "gauge"),
        ("agent_router_in_flight", "gauge"),
        ("agent_router_commit_duration_seconds", "histogram"),
        ("agent_router_commit_events", "histogram"),
        ("agent_router_commit_failures", "counter"),
        ("agent_router_journal_position", "gauge"),
        ("agent_router_journal_available", "gauge"),
        ("agent_router_answer_latency_seconds", "histogram"),
        ("agent_router_waiters", "gauge"),
        ("agent_router_http_requests", "counter"),
        ("agent_router_http_request_duration_seconds", "histogram"),
        ("agent_router_sockets_closed", "counter"),
        ("process_resident_memory_bytes", "gauge"),
    ] {
        let family = families.get(name).unwrap_or_else(|| panic!("no {name} among {:?}", families.keys()));
        assert_eq!(family.kind, kind, "{name}");
        assert!(!family.help.is_empty(), "{name} has no help");
    }

    let family = |name: &str| &families[&format!("agent_router_{name}")];
    assert_eq!(*family("build_info").value(&[("version", env!("CARGO_PKG_VERSION"))]), 1.0);
    assert_eq!(*family("connections").value(&[("role", "agent")]), 2.0);
    for outcome in ["accepted", "completed"] {
        assert_eq!(*family("invocations").value(&[("outcome", outcome)]), 3.0, "{outcome}");
    }
    assert_eq!(*family("invocations").value(&[("outcome", "failed")]), 0.0);
    assert_eq!(*family("invocations_refused").value(&[("code", "agent_unknown")]), 1.0);
    assert_eq!(*family("deliveries").value(&[]), 3.0);
    assert_eq!(*family("answer_latency_seconds").count(), 3.0);
    assert_eq!([family("queued").value(&[]), family("in_flight").value(&[]), family("waiters").value(&[])], [0.0; 3]);
    assert_eq!(*family("journal_available").value(&[]), 1.0);
    assert!(family("journal_position").value(&[]).as_f64() >= Some(10.0));
    assert!(family("commit_duration_seconds").count().as_f64() >= Some(3.0));

    let labels = families.values().flat_map(|family| &family.samples).flat_map(|(_, labels, _)| labels.values());
    assert!(labels.clone().all(|label| label != AGENT && !label.contains(&invocations[0])), "a label tells a peer");
}
