//! `/docs` in a browser that can reach nothing but the router.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::{output, tool};
use crate::support::{Router, printed};

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_every_operation_and_asks_nobody_but_the_router() {
    let router = Router::secured(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("net.json");
    let mut command = Command::new(tool("CHROMIUM"));
    command
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server"])
        .arg("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
        .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
        .arg(format!("--log-net-log={}", log.display()))
        .args(["--virtual-time-budget=20000", "--dump-dom", &router.url("/docs/")])
        .env("HOME", folder.path());
    let output = output(command, Stdio::null(), Duration::from_mins(2)).await;
    assert!(output.status.success(), "{}", printed(&output));
    let dom = String::from_utf8_lossy(&output.stdout).into_owned();

    let description: Value = router.get_as("", "/openapi.json").await.expect(200);
    for (path, methods) in description["paths"].as_object().unwrap() {
        assert!(dom.contains(&format!("data-path=\"{path}\"")), "{path} is not on the page:\n{dom}");
        for operation in methods.as_object().unwrap().values() {
            let summary = operation["summary"].as_str().unwrap();
            assert!(dom.contains(summary), "{path}: {summary:?} is not on the page");
        }
    }

    let origin = router.url("");
    let asked = asked_by(&origin, &fs::read_to_string(log).unwrap());
    for part in ["/docs/swagger-ui-bundle.js", "/openapi.json"] {
        assert!(asked.contains(&router.url(part)), "{asked:?}");
    }
    let others: Vec<_> = asked.iter().filter(|url| !url.starts_with(&origin) && !url.starts_with("data:")).collect();
    assert!(others.is_empty(), "the page asked others: {others:?}");
}

/// What pages of this origin asked for. What the browser wants by itself is in the log too, and has no origin.
fn asked_by(origin: &str, log: &str) -> BTreeSet<String> {
    let log: Value = serde_json::from_str(log).unwrap();
    let requests = log["events"].as_array().unwrap().iter().map(|event| &event["params"]);
    requests
        .filter(|request| request["initiator"] == origin)
        .filter_map(|request| request["url"].as_str().map(str::to_owned))
        .collect()
}
