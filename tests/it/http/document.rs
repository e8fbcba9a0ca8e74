//! The description of the interface, and the page that shows it.

use std::path::Path;

use crate::support::Router;

/// `AGENT_ROUTER_WRITE_DOCS=1 cargo test --test it http::document` writes it anew.
#[test]
fn the_description_that_is_checked_in_is_what_the_code_says() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
    let described = agent_router::http::openapi();
    if std::env::var_os("AGENT_ROUTER_WRITE_DOCS").is_some() {
        std::fs::write(&file, described).unwrap();
    }
    let checked_in = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        checked_in == described,
        "docs/openapi.json is not what the code says: write it anew with AGENT_ROUTER_WRITE_DOCS=1 cargo test --test it \
         http::document"
    );
}

#[tokio::test]
async fn the_description_and_its_page_are_served_to_anybody() {
    let router = Router::start().await;
    let served = reqwest::get(router.url("/openapi.json")).await.unwrap().text().await.unwrap();
    assert_eq!(served, agent_router::http::openapi());
}
