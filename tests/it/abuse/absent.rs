//! A caller that has agents invoked that are not there, for as long as it likes: `ABUSE=long` sends a million.

use serde_json::json;
use tokio::time::Instant;

use super::{is_long, serves_others};
use crate::support::{BACKEND_KEY, Peer, Router, agent_id};

/// How many are sent before their answers are read.
const LOT: usize = 500;
/// By how much memory may differ between the end of the first tenth and that of the last.
const FLAT_KIB: u64 = 16 << 10;

#[tokio::test]
async fn any_number_of_invocations_of_absent_agents_is_refused_in_the_same_memory() {
    let count = if is_long() { 1_000_000 } else { 50_000 };
    let router = Router::with(&[("MAX_QUEUED", "100"), ("REFUSALS_PER_SECOND", "10")]).await;
    let away = agent_id();
    Peer::registered(&router, &away).await.leave(&router).await;
    let mut caller = Peer::invoke_socket(&router, BACKEND_KEY, &away).await;
    let mut own = Peer::agent(&router, &agent_id()).await;
    let text = "x".repeat(200);
    let options = json!({"ttl_ms": 3_600_000});
    let (mut unknown, mut full) = (0, 0);
    let (start, started) = (router.resident_kib(), Instant::now());
    let mut warm = start;
    for lot in 0..count / LOT {
        for _ in 0..LOT / 2 {
            own.invoke_with(&agent_id(), json!({"text": text}), options.clone()).await;
            caller.invoke_with(&away, json!({"text": text}), options.clone()).await;
        }
        for error in own.recv_many(LOT / 2).await {
            assert_eq!(error["error"]["code"], "agent_unknown");
            unknown += 1;
        }
        // The first hundred wait.
        let waiting = if lot == 0 { 100 } else { 0 };
        for error in caller.recv_many(LOT / 2 - waiting).await {
            assert_eq!((&error["error"]["code"], &error["error"]["queued"]), (&json!("queue_full"), &json!(100)));
            assert!(error["error"]["retry_after_ms"].is_u64());
            full += 1;
        }
        if lot + 1 == count / LOT / 10 {
            warm = router.resident_kib();
        }
    }
    let end = router.resident_kib();
    println!(
        "{count} invocations of absent agents in {:.1?}: {unknown} unknown, {full} found the queue full; \
         {start} KiB were resident at first, {warm} after a tenth, {end} at the end",
        started.elapsed()
    );
    assert_eq!(unknown + full + 100, count);
    assert!(end <= warm + FLAT_KIB, "{warm} KiB, and {end} KiB at the end");
    let journaled = router.history("kind=invocation.refused").await;
    let seconds = usize::try_from(started.elapsed().as_secs()).unwrap() + 2;
    assert!(journaled.len() <= 2 * 11 * seconds, "{} refusals are journaled one by one", journaled.len());
    serves_others(&router).await;
}
