//! Sockets that say back what they are told, accepted, bounded and closed by the router's own code: what a suite that tests
//! how WebSockets are spoken can talk to. `scripts/autobahn` runs one against it.
//!
//! ```text
//! LISTEN_ADDR=127.0.0.1:9001 cargo run --release --example echo
//! ```

use std::error::Error;

use agent_router::app;
use agent_router::config::Config;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let config = Config::from_env()?;
    let listener = TcpListener::bind(config.listen_addr).await?;
    println!("echoing on ws://{}/", listener.local_addr()?);
    match app::echo(&config, &listener).await {}
}
