//! A web page that opens a socket to the router of whoever visits it (cross-site WebSocket hijacking).

use serde_json::json;

use crate::support::{BACKEND_KEY, NotOpened, Peer, Router, Socket, agent_id};

#[tokio::test]
async fn no_page_from_elsewhere_opens_a_socket_whatever_it_knows() {
    for router in [Router::start().await, Router::secured(&[("ALLOWED_ORIGINS", "https://console.example")]).await] {
        let own = format!("http://{}", router.address());
        let credential = router.agent_credential(&agent_id());
        let mut refused = 0;
        for origin in [
            "https://evil.example",
            "http://localhost.evil.example",
            "http://127.0.0.1.evil.example",
            "http://127.0.0.1",
            "https://console.example.evil.example",
            "https://console.example:444",
            "https://console.example@evil.example",
            "null",
            "file://",
            "chrome-extension://abcdefgh",
            "",
        ] {
            for credential in [("api-key", BACKEND_KEY), ("x-custom-authorization", &*credential)] {
                let opened = Socket::open(router.address(), &[credential, ("Origin", origin)]).await;
                assert!(matches!(opened, Err(NotOpened::Status(403))), "{origin:?}: {opened:?}");
                refused += 1;
            }
        }
        let two = [("api-key", BACKEND_KEY), ("Origin", own.as_str()), ("Origin", "https://evil.example")];
        let opened = Socket::open(router.address(), &two).await;
        assert!(matches!(opened, Err(NotOpened::Status(403))), "one of two: {opened:?}");
        let events = router.wait_for_events("kind=connection.refused", refused + 1).await;
        assert!(events.iter().all(|event| event["detail"]["reason"] == "origin not allowed"));
        Peer::connect(&router, &[("api-key", BACKEND_KEY), ("Origin", &own)]).await.expect_nothing().await;
        assert_eq!(router.history("kind=agent.connected").await.len(), 1, "{}", json!(events.len()));
    }
}
