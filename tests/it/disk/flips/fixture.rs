//! A journal with something of everything in it.

use std::fs;
use std::path::Path;

use rand::Rng;
use rand::rngs::StdRng;
use serde_json::json;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, Row as _};
use tempfile::TempDir;

use super::opened;
use super::served::{Questions, served};
use crate::support::{AUDITOR_KEY, OPERATOR_KEY, Peer, Router, agent_id};

pub(super) const NODE: &str = "the-node";

/// Log lines, so many that the index of events is written.
const LINES: usize = 2100;

/// What is beside the journal, and is copied with it.
const FILES: [&str; 3] = ["journal.db", "journal.db-wal", "journal.db.head"];

pub(super) struct Fixture {
    dir: TempDir,
    /// Where each page of the database belongs.
    pages: Vec<(String, i64)>,
    pub(super) questions: Questions,
    pub(super) served: Vec<Option<String>>,
}

impl Fixture {
    /// All of it in the database.
    pub(super) async fn folded() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let router = killed().await;
        copy(router.dir(), dir.path());
        let path = dir.path().join("journal.db");
        let mut connection = SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await.unwrap();
        let pages = sqlx::query("SELECT name, pageno FROM dbstat").fetch_all(&mut connection).await.unwrap();
        let pages = pages.iter().map(|row| (row.get(0), row.get(1))).collect();
        connection.close().await.unwrap();
        Self::of(dir, pages).await
    }

    /// Most of it in the write-ahead log.
    pub(super) async fn with_log() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let router = killed().await;
        copy(router.dir(), dir.path());
        Self::of(dir, Vec::new()).await
    }

    async fn of(dir: TempDir, pages: Vec<(String, i64)>) -> Self {
        let mut fixture = Self { dir, pages, questions: Questions::default(), served: Vec::new() };
        let copy = fixture.copy();
        let (journal, mut shown) = opened(&copy.path().join("journal.db")).await.unwrap();
        fixture.questions = Questions::about(&journal).await;
        shown.extend(served(&journal, &fixture.questions).await);
        fixture.served = shown;
        fixture
    }

    pub(super) fn copy(&self) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        copy(self.dir.path(), dir.path());
        dir
    }

    /// Somewhere in the file, and what is there. In the database each table and index is as likely as another, however small.
    pub(super) fn place(&self, file: &str, random: &mut StdRng) -> (usize, String) {
        let length = usize::try_from(fs::metadata(self.dir.path().join(file)).unwrap().len()).unwrap();
        if self.pages.is_empty() || random.random_bool(0.3) {
            return (random.random_range(0..length), "anywhere".to_owned());
        }
        let mut names: Vec<_> = self.pages.iter().map(|(name, _)| name).collect();
        names.dedup();
        let name = names[random.random_range(0..names.len())];
        let pages: Vec<_> = self.pages.iter().filter(|(of, _)| of == name).collect();
        let page = usize::try_from(pages[random.random_range(0..pages.len())].1).unwrap();
        ((page - 1) * 4096 + random.random_range(0..4096), name.clone())
    }
}

fn copy(from: &Path, to: &Path) {
    for file in FILES {
        if from.join(file).exists() {
            fs::copy(from.join(file), to.join(file)).unwrap();
        }
    }
}

/// A router that was killed when all this had happened.
async fn killed() -> Router {
    let mut router = Router::on_a_file(&[("NODE_ID", NODE)]).await;
    let ids: Vec<_> = (0..4).map(|_| agent_id()).collect();
    let backend = Peer::master_be(&router).await;
    let mut first = Peer::registered(&router, &ids[0]).await;
    let (mut second, _) = Peer::registered_v2(&router, &ids[1], json!({"max_in_flight": 7})).await;
    let away = Peer::registered(&router, &ids[2]).await;
    let mut caller = Peer::registered(&router, &ids[3]).await;
    for line in 0..LINES {
        let log = json!({"message_type": "agent_log", "log_message": line, "log_level": "info",
            "request_id": format!("request {}", line % 50), "session_id": "a session"});
        first.send(log).await;
    }
    for call in 0..6 {
        let options = json!({"request_metadata": {"request_id": format!("request {call}"), "session_id": "a session"},
            "idempotency_key": format!("key {call}"), "ttl_ms": 3_600_000, "deadline_ms": 3_600_000, "max_attempts": 2});
        caller.accepted(&ids[0], json!({"call": call}), options).await;
        let delivery = first.recv().await;
        match call {
            0..3 => first.answer(&delivery, json!({"answer": call})).await,
            3 => first.fail(&delivery, "on purpose").await,
            _ => continue,
        }
        caller.recv().await;
    }
    let erased = caller.accepted(&ids[1], json!({"secret": 1}), json!({})).await;
    let delivery = second.recv().await;
    second.answer(&delivery, json!("a secret")).await;
    second.recv().await;
    caller.recv().await;
    let erasure = format!("/v1/invocations/{erased}/erase");
    assert_eq!(router.post_as(OPERATOR_KEY, &erasure, json!({"reason": "asked for"})).await.status / 100, 2);
    let cancelled = caller.accepted(&ids[1], json!({}), json!({})).await;
    second.recv().await;
    caller.send(json!({"message_type": "agent_cancel", "invocation_id": cancelled})).await;
    caller.recv_many(2).await;
    away.leave(&router).await;
    caller.accepted(&ids[2], json!({"waits": true}), json!({"ttl_ms": 3_600_000})).await;
    caller.accepted(&ids[2], json!({"waits": false}), json!({"ttl_ms": 1})).await;
    router.wait_for_event("kind=invocation.expired").await;
    router.wait_for_event("kind=invocation.cancelled").await;
    router.wait_for_events("kind=agent.logged", LINES).await;
    assert_eq!(router.get_as(AUDITOR_KEY, "/v1/agents").await.status, 200);
    router.kill();
    drop((backend, first, second, caller));
    router
}
