//! Ways to a database: through a transaction pooler, with TLS; and a schema that is not there yet.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use crate::support::postgres::{Cluster, Database, database};
use crate::support::{BACKEND_KEY, Peer, Router, agent_id, answered, printed};

/// pgbouncer before a database, which lends its connections for a transaction each.
struct Pooler {
    process: Child,
    url: String,
    _folder: TempDir,
}

impl Pooler {
    async fn start(database: &Database) -> Self {
        let folder = TempDir::new().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let (user, rest) = database.url().split_once("://").unwrap().1.split_once('@').unwrap();
        let (name, password) = user.split_once(':').unwrap();
        let (server, dbname) = rest.split_once('/').unwrap();
        let (host, server_port) = server.split_once(':').unwrap();
        let users = folder.path().join("users");
        std::fs::write(&users, format!("\"{name}\" \"{password}\"\n")).unwrap();
        let settings = folder.path().join("pgbouncer.ini");
        std::fs::write(
            &settings,
            format!(
                "[databases]\n{dbname} = host={host} port={server_port} dbname={dbname}\n\
                 [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
                 auth_type = plain\nauth_file = {}\npool_mode = transaction\ndefault_pool_size = 4\n\
                 ignore_startup_parameters = extra_float_digits\n",
                users.display()
            ),
        )
        .unwrap();
        // It ends with this process, and as root it does not run.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if is_root() {
            command.args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]);
            make_readable(folder.path());
        }
        let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin";
        let process = command.arg("pgbouncer").arg("--quiet").arg(&settings).env("PATH", path);
        let process = process.stdin(Stdio::null()).spawn().expect("there is pgbouncer: run scripts/prerequisites");
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
        let url = format!("postgres://{user}@127.0.0.1:{port}/{dbname}?statement-cache-capacity=0");
        Self { process, url, _folder: folder }
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|process| std::os::unix::fs::MetadataExt::uid(&process) == 0)
}

fn make_readable(folder: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// An agent at one router, a caller at the other, and answers that come back.
async fn works_across(one: &Router, other: &Router) {
    let target = agent_id();
    let mut agent = Peer::registered(other, &target).await;
    let mut caller = Peer::invoke_socket(one, BACKEND_KEY, &target).await;
    for n in 0..20 {
        caller.invoke(&target, json!({"n": n})).await;
    }
    for n in 0..20 {
        let delivery = agent.recv().await;
        assert_eq!(delivery["request_payload"]["n"], n);
        agent.answer(&delivery, json!(n)).await;
    }
    for n in 0..20 {
        assert_eq!(caller.recv().await, answered(json!(n)));
    }
    one.wait_for_events(&format!("kind=invocation.completed&agent_id={target}"), 20).await;
}

#[tokio::test]
async fn routers_work_behind_a_transaction_pooler() {
    let database = Arc::new(database().await);
    let pooler = Pooler::start(&database).await;
    for direct in [None, Some(database.url().to_owned())] {
        let behind_it = |node: &str| {
            let mut router = Router::stopped_on(Arc::clone(&database), node, &[]);
            router.set("DATABASE_URL", &pooler.url);
            if let Some(direct) = &direct {
                router.set("NOTIFY_DATABASE_URL", direct);
            }
            router
        };
        let (mut one, mut other) = (behind_it("one"), behind_it("other"));
        one.start_again().await;
        other.start_again().await;
        works_across(&one, &other).await;
        one.stop().await;
        let verified = one.run(&["journal", "verify"]);
        assert!(verified.status.success(), "{}", printed(&verified));
    }
}

/// The start of a router that does not start; returns what it says.
fn refused(router: &Router) -> String {
    let said = router.run(&[]);
    assert!(!said.status.success(), "it starts: {}", printed(&said));
    printed(&said)
}

#[tokio::test]
async fn the_way_to_the_database_is_encrypted_and_its_end_is_checked() {
    let (cluster, stranger) = (Cluster::start_with_tls(), Cluster::start_with_tls());
    let database = Arc::new(cluster.database());
    let url = |mode: &str, ca: PathBuf| format!("{}?sslmode={mode}&sslrootcert={}", database.url(), ca.display());
    let mut router = Router::stopped_on(Arc::clone(&database), "one", &[]);
    for mode in ["verify-ca", "verify-full"] {
        router.set("DATABASE_URL", &url(mode, stranger.ca().to_owned()));
        let said = refused(&router);
        assert!(said.to_lowercase().contains("certificate"), "{said}");

        router.set("DATABASE_URL", &url(mode, cluster.ca().to_owned()));
        router.start_again().await;
        let target = agent_id();
        let mut agent = Peer::registered(&router, &target).await;
        router.post_as(BACKEND_KEY, "/v1/invocations", json!({"agent_id": target})).await.expect(202);
        agent.recv().await;
        let clear = "EXISTS (SELECT FROM pg_stat_ssl WHERE pg_stat_ssl.pid = pg_stat_activity.pid AND NOT ssl)";
        assert_eq!(database.terminate(clear).await, 0, "a connection is not encrypted");
        router.stop().await;
    }
}

#[tokio::test]
async fn a_database_without_the_schema_is_refused_until_it_is_migrated() {
    let database = Arc::new(Database::empty());
    let mut router = Router::stopped_on(Arc::clone(&database), "one", &[]);
    let said = refused(&router);
    assert!(said.contains("agent-router migrate"), "{said}");
    let status = router.run(&["migrate", "status"]);
    assert!(printed(&status).contains("0001"), "{}", printed(&status));
    let migrated = router.run(&["migrate"]);
    assert!(migrated.status.success(), "{}", printed(&migrated));
    router.start_again().await;
    router.stop().await;

    // As one that is newer would have left it, for those that are at least as new.
    database.execute("INSERT INTO _sqlx_migrations VALUES (999, 'later', now(), true, '\\x00', 0)").await;
    database.execute("UPDATE compatibility SET oldest = 999").await;
    assert!(refused(&router).contains("999"), "{}", refused(&router));
    database.execute("UPDATE compatibility SET oldest = 3").await;
    router.start_again().await;
    works_across(&router, &router).await;

    database.execute("UPDATE compatibility SET oldest = 999").await;
    router.failed().await;
    assert!(router.log().contains("999"), "{}", router.log());
}

#[tokio::test]
async fn routers_that_migrate_at_once_do_not_disturb_each_other() {
    let database = Arc::new(Database::empty());
    let routers: Vec<_> =
        ["one", "other", "third"].map(|node| Router::stopped_on(Arc::clone(&database), node, &[])).into();
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let migrating: Vec<_> = routers.iter().map(|router| scope.spawn(|| router.run(&["migrate"]))).collect();
        migrating.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for outcome in &outcomes {
        assert!(outcome.status.success(), "{}", printed(outcome));
    }
    let mut router = routers.into_iter().next().unwrap();
    router.start_again().await;
}
