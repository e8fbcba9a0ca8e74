//! What waits is in the journal, not in memory.

use serde_json::json;

use crate::support::{Peer, Router, agent_id};

const AGENTS: usize = 100;
const EACH: usize = 1000;
const RESIDENT_LIMIT_KIB: u64 = 256 * 1024;

#[tokio::test]
async fn a_thousand_invocations_wait_for_each_of_a_hundred_absent_agents_in_bounded_memory() {
    let router = Router::start().await;
    let mut ids = Vec::new();
    for _ in 0..AGENTS {
        let id = agent_id();
        Peer::registered(&router, &id).await.leave(&router).await;
        ids.push(id);
    }
    let mut callers = Vec::new();
    for _ in 0..4 {
        callers.push(Peer::agent(&router, &agent_id()).await);
    }
    let options = json!({"ttl_ms": 3_600_000, "deadline_ms": 3_600_000, "receipt": true});
    let text = "x".repeat(200);
    for round in 0..EACH {
        for (index, id) in ids.iter().enumerate() {
            callers[index % 4].invoke_with(id, json!({"round": round, "text": text}), options.clone()).await;
        }
        for (index, _) in ids.iter().enumerate() {
            let receipt = callers[index % 4].recv().await;
            assert_eq!(receipt["state"], "queued", "{receipt}");
        }
    }
    let resident = router.resident_kib();
    assert!(resident < RESIDENT_LIMIT_KIB, "{resident} KiB are resident");

    for id in &ids {
        callers[0].invoke_with(id, json!({}), options.clone()).await;
        let full = callers[0].recv().await;
        assert_eq!(full["error"]["code"], "queue_full");
        assert_eq!(full["error"]["queued"], EACH);
    }
    let mut agent = Peer::registered(&router, &ids[0]).await;
    for round in 0..EACH {
        assert_eq!(agent.recv().await["request_payload"]["round"], round);
    }
    let resident = router.resident_kib();
    assert!(resident < RESIDENT_LIMIT_KIB, "{resident} KiB are resident");
}
