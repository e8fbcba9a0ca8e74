//! Sockets over a router in this process, so that what happens to a session's own task can be decided by the test.

use std::sync::Arc;

use agent_router::auth::{Authenticator, Principal};
use agent_router::config::Config;
use agent_router::id::Identity;
use agent_router::journal::{EventKind, HistoryFilter, Journal, Order};
use agent_router::router::Router;
use agent_router::session::{self, SocketSettings};
use axum::extract::ws::WebSocketUpgrade;
use axum::routing::any;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Duration, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::support::PATIENCE;
use crate::support::stage::Stage;
use crate::support::unreliable::Unreliable;

type Client = WebSocketStream<MaybeTlsStream<TcpStream>>;

const AGENT: &str = "agent";

fn settings() -> SocketSettings {
    SocketSettings {
        ping_interval: Duration::from_secs(20),
        slow_reader_timeout: Duration::from_secs(10),
        max_frame_bytes: 1 << 20,
        feed_ack_timeout: Duration::from_secs(5),
        secured: false,
    }
}

/// An agent's socket, and the end of the task that serves it.
async fn connect(router: &Router) -> (Client, AbortHandle) {
    let (serving, mut served) = mpsc::channel(1);
    let router = router.clone();
    let handler = move |upgrade: WebSocketUpgrade| {
        let (router, serving) = (router.clone(), serving.clone());
        async move {
            session::configure(upgrade, &settings()).on_upgrade(|socket| async move {
                let principal = Principal::Own { identity: Identity::new(AGENT).unwrap(), credential: None };
                let task = tokio::spawn(async move {
                    let authenticator = Authenticator::new(&Config::from_lookup(|_| None).unwrap());
                    session::run(Box::new(socket), principal, router, &authenticator, settings()).await
                });
                serving.send(task.abort_handle()).await.unwrap();
            })
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, axum::Router::new().route("/ws", any(handler))).into_future());
    let (client, _) = connect_async(format!("ws://{address}/ws")).await.unwrap();
    (client, served.recv().await.unwrap())
}

async fn send(client: &mut Client, frame: Value) {
    client.send(Message::text(frame.to_string())).await.unwrap();
}

/// The facts of the first event of this kind.
async fn event(journal: &Arc<Unreliable>, kind: EventKind) -> Option<Value> {
    let filter = HistoryFilter { kinds: vec![kind], ..HistoryFilter::default() };
    let events = journal.history(&filter, Order::Ascending, None, 1).await.unwrap().events;
    events.first().map(|event| serde_json::from_str(&event.detail).unwrap())
}

#[tokio::test]
async fn an_agent_whose_session_breaks_off_does_not_stay_connected() {
    let stage = Stage::start().await;
    let (_client, task) = connect(&stage.router).await;
    stage.until(async || stage.router.workload().await.unwrap().connections == 1).await;
    task.abort();
    stage.until(async || stage.router.workload().await.unwrap().connections == 0).await;
    assert_eq!(event(&stage.journal, EventKind::AgentDisconnected).await.unwrap()["reason"], "failed");
    assert!(stage.router.metrics().render().contains("agent_router_sockets_closed_total{reason=\"failed\"} 1\n"));
}

#[tokio::test]
async fn an_operator_disconnects_an_agent_and_what_it_had_sent_is_counted() {
    let stage = Stage::start().await;
    let (mut client, _task) = connect(&stage.router).await;
    stage.until(async || stage.router.workload().await.unwrap().connections == 1).await;
    for line in 0..20 {
        send(&mut client, json!({"message_type": "agent_log", "log_message": line})).await;
    }
    let agent = Identity::new(AGENT).unwrap();
    assert_eq!(stage.router.disconnect(agent).await, Ok(1));
    let told = async {
        loop {
            if let Message::Close(Some(close)) = client.next().await.unwrap().unwrap() {
                return (u16::from(close.code), close.reason.to_string());
            }
        }
    };
    let told = timeout(PATIENCE, told).await.expect("it is told");
    assert_eq!(told, (1008, "Disconnected by an operator".to_owned()));
    stage.until(async || stage.router.workload().await.unwrap().connections == 0).await;
    assert_eq!(event(&stage.journal, EventKind::AgentDisconnected).await.unwrap()["reason"], "operator");
    let history = stage.history().await;
    assert_eq!(history.iter().filter(|kind| **kind == EventKind::AgentLogged).count(), 20);
}
