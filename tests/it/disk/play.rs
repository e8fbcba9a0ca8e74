//! What must hold while a disk fails, and afterwards.

use rand::rngs::StdRng;
use serde_json::json;
use tokio::time::{Duration, Instant, sleep};

use crate::faults::Length;
use crate::faults::checker::{Seen, check_all};
use crate::faults::load::{self, Load, Pace};
use crate::faults::record::Record;
use crate::support::{BACKEND_KEY, PATIENCE, Router, agent_id};

/// Those of the load; but no agent is sent anything before it has registered, however long that takes.
pub(super) const SETTINGS: [(&str, &str); 6] = {
    let [one, two, three, four, five] = load::SETTINGS;
    [one, two, three, four, five, ("DRAIN_DELAY", "10s")]
};

/// Clients of a router.
pub(super) fn begin(router: &Router, length: Length, random: &mut StdRng) -> Load {
    Load::start(vec![router.address()], length.scale, &Pace::default(), random)
}

/// Everything that was noted is in the router's journal, which is sound.
pub(super) async fn check(router: &Router, load: Load) -> Seen {
    let findings = check_all(router, &mut Record::default(), &load.stop().await).await;
    findings.expect_none();
    findings.seen
}

/// Waits until the router says that its journal takes commits, or that it takes none.
pub(super) async fn wait_until_ready(router: &Router, ready: bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = router.get_as("", "/health/ready").await;
        if (answer.status == 200) == ready {
            assert!(ready || answer.text.contains("journal_unavailable"), "{}", answer.text);
            return;
        }
        assert!(Instant::now() < deadline, "{}", answer.text);
        sleep(Duration::from_millis(20)).await;
    }
}

/// While the journal takes no commits, an invocation is refused and the history is read.
pub(super) async fn only_reads_are_served(router: &Router) {
    let invocation = json!({"agent_id": agent_id(), "payload": {}, "ttl_ms": 1000});
    let refused = router.post_as(BACKEND_KEY, "/v1/invocations", invocation).await;
    assert_eq!(refused.problem(503), "journal_unavailable");
    assert_eq!(router.get("/v1/history?limit=1").await.0, 200);
}
