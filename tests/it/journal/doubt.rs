//! Commits whose answer never comes: what became of them is found out, and what is late changes nothing.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_router::id::Position;
use agent_router::journal::postgres::{PostgresJournal, PostgresOptions};
use agent_router::journal::{Journal, JournalError};
use reqwest::Url;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::script::Script;
use crate::support::postgres::{Database, database};

const PASS: u8 = 0;
/// What the server says is lost, and the connection with it.
const MUTE: u8 = 1;
/// What the router says stays on its way; its connection is lost.
const DELAY: u8 = 2;

/// A network between a router and its database, that fails as it is told.
struct Network {
    url: Url,
    connections: Arc<Mutex<Vec<Arc<AtomicU8>>>>,
    /// What was on its way arrives.
    arrive: Arc<Notify>,
    /// Whether there can be new connections.
    takes_more: Arc<AtomicBool>,
}

impl Network {
    async fn before(database: &Database) -> Self {
        let mut url = Url::parse(database.url()).unwrap();
        let server = (url.host_str().unwrap().to_owned(), url.port().unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        url.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
        let connections = Arc::new(Mutex::new(Vec::new()));
        let arrive = Arc::new(Notify::new());
        let takes_more = Arc::new(AtomicBool::new(true));
        let (all, arriving, taking) = (Arc::clone(&connections), Arc::clone(&arrive), Arc::clone(&takes_more));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if !taking.load(Ordering::SeqCst) {
                    continue;
                }
                let server = TcpStream::connect(&server).await.unwrap();
                let mode = Arc::new(AtomicU8::new(PASS));
                all.lock().unwrap().push(Arc::clone(&mode));
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                let lost = Arc::new(Notify::new());
                tokio::spawn(requests(
                    from_client,
                    to_server,
                    Arc::clone(&mode),
                    Arc::clone(&lost),
                    Arc::clone(&arriving),
                ));
                tokio::spawn(answers(from_server, to_client, mode, lost));
            }
        });
        Self { url, connections, arrive, takes_more }
    }

    /// What becomes of the connections that there are.
    fn set(&self, mode: u8) {
        for connection in self.connections.lock().unwrap().iter() {
            connection.store(mode, Ordering::SeqCst);
        }
    }
}

async fn requests(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mode: Arc<AtomicU8>,
    lost: Arc<Notify>,
    arrive: Arc<Notify>,
) {
    let mut bytes = vec![0; 65_536];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        if mode.load(Ordering::SeqCst) == DELAY {
            lost.notify_one();
            arrive.notified().await;
        }
        if to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}

async fn answers(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mode: Arc<AtomicU8>,
    lost: Arc<Notify>,
) {
    let mut bytes = vec![0; 65_536];
    loop {
        let read = tokio::select! {
            read = from.read(&mut bytes) => read,
            () = lost.notified() => return,
        };
        let Ok(read @ 1..) = read else { return };
        if mode.load(Ordering::SeqCst) == MUTE || to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}

async fn open(url: &str) -> PostgresJournal {
    let journal = PostgresJournal::open(&PostgresOptions::new(url, "one")).await.unwrap();
    journal.restore().await.unwrap();
    journal.pass().await;
    journal
}

async fn commit(journal: &PostgresJournal, script: &mut Script) -> Result<Position, JournalError> {
    journal.commit(script.take().into()).await.map(|head| head.position)
}

/// Commits a batch with an event, and one that is not plain: the next on this connection finds its statement prepared.
async fn prepare(journal: &PostgresJournal, script: &mut Script) {
    script.started();
    assert_eq!(commit(journal, script).await.unwrap(), script.position);
    script.batch.feed_acknowledged = Some(script.position);
    assert_eq!(commit(journal, script).await.unwrap(), script.position);
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_found() {
    let database = database().await;
    let network = Network::before(&database).await;
    let journal = open(network.url.as_str()).await;
    let mut script = Script::new();
    prepare(&journal, &mut script).await;
    for with_event in [true, false] {
        network.set(MUTE);
        if with_event {
            script.started();
        }
        script.batch.feed_acknowledged = Some(script.position);
        assert_eq!(commit(&journal, &mut script).await.unwrap(), script.position);
        assert!(journal.begin().await.unwrap().is_none(), "its own commit is no news");
        // This connection is another.
        prepare(&journal, &mut script).await;
    }
    assert_eq!(journal.head().await.unwrap().position, Position(4));
}

#[tokio::test]
async fn a_commit_that_did_not_arrive_is_called_off_for_good() {
    let database = database().await;
    let network = Network::before(&database).await;
    let journal = open(network.url.as_str()).await;
    let mut script = Script::new();
    script.started();
    commit(&journal, &mut script).await.unwrap();
    network.set(DELAY);
    script.started();
    let lost = commit(&journal, &mut script).await;
    assert!(matches!(lost, Err(JournalError::Moved)), "{lost:?}");
    // It arrives after all, when nobody counts on it any more.
    network.arrive.notify_waiters();
    let direct = open(database.url()).await;
    for _ in 0..20 {
        assert_eq!(direct.head().await.unwrap().position, Position(1));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    journal.begin().await.unwrap();
    let mut script = Script::after(Position(1));
    script.started();
    assert_eq!(commit(&journal, &mut script).await.unwrap(), Position(2));
}

#[tokio::test]
async fn whoever_closes_meanwhile_is_told_that_nobody_knows() {
    let database = database().await;
    let network = Network::before(&database).await;
    let journal = Arc::new(open(network.url.as_str()).await);
    let mut script = Script::new();
    script.started();
    network.set(DELAY);
    // And there is no way back to the database.
    network.takes_more.store(false, Ordering::SeqCst);
    let closing = Arc::clone(&journal);
    let close = async move {
        tokio::time::sleep(Duration::from_millis(700)).await;
        closing.close().await;
    };
    let (uncertain, ()) = tokio::join!(commit(&journal, &mut script), close);
    assert!(matches!(uncertain, Err(JournalError::Uncertain(_))), "{uncertain:?}");
}
