//! What an operator can have the binary do.

mod postgres;

use std::net::TcpListener;

use crate::support::{Peer, Router, SECRET, agent_id, printed};

#[test]
fn help_teaches_what_there_is() {
    let router = Router::stopped(&[]);
    let help = router.run(&["--help"]);
    assert!(help.status.success());
    for command in ["serve", "migrate", "journal", "token", "healthcheck"] {
        assert!(printed(&help).contains(command), "{command} is not in {}", printed(&help));
    }
    assert!(!router.run(&["dance"]).status.success());
}

#[test]
fn migrations_are_listed_and_applied_once() {
    let router = Router::stopped(&[]);
    for arguments in [["migrate"].as_slice(), &["migrate", "status"], &["migrate"], &["journal", "verify"]] {
        let done = router.run(arguments);
        assert!(done.status.success(), "{arguments:?}: {}", printed(&done));
    }
}

#[tokio::test]
async fn a_token_lets_its_agent_in() {
    let mut router = Router::secured(&[]).await;
    let agent = agent_id();
    let made = router.run(&["token", "--agent", &agent]);
    assert!(made.status.success(), "{}", printed(&made));
    let token = String::from_utf8(made.stdout).unwrap();
    let mut peer = Peer::connect(&router, &[("x-custom-authorization", token.trim())]).await;
    peer.expect_nothing().await;
    assert_eq!(router.wait_for_event("kind=agent.connected").await["agent_id"], agent);

    router.set("SECRET_KEY", &format!("not {SECRET}"));
    let made = router.run(&["token", "--agent", &agent]);
    let token = String::from_utf8(made.stdout).unwrap();
    let mut peer = Peer::connect(&router, &[("x-custom-authorization", token.trim())]).await;
    peer.expect_close(4000).await;
    assert!(!router.run(&["token", "--agent", "weather"]).status.success());
}

#[tokio::test]
async fn a_healthcheck_tells_a_router_that_is_ready_from_none() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut router = Router::stopped(&[("LISTEN_ADDR", &free.to_string())]);
    assert!(!router.run(&["healthcheck"]).status.success());
    router.start_again().await;
    let ready = router.run(&["healthcheck"]);
    assert!(ready.status.success(), "{}", printed(&ready));
    let (status, _) = router.get("/health/ready").await;
    assert_eq!(status, 200);
    router.stop().await;
    assert!(!router.run(&["healthcheck"]).status.success());
}
