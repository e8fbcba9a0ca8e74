//! What an operator can have the binary do with a journal in a Postgres database.

use std::sync::Arc;
use std::thread;

use serde_json::json;

use crate::support::postgres::{Database, database};
use crate::support::{BACKEND_KEY, Peer, Router, agent_id, printed};

/// A database in which there is nothing.
async fn empty() -> Database {
    let database = database().await;
    database.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public").await;
    database
}

fn stopped(database: Database) -> Router {
    Router::stopped_on(Arc::new(database), "one", &[])
}

#[tokio::test]
async fn a_schema_that_is_behind_is_refused_with_what_to_run() {
    let router = stopped(empty().await);
    let refused = router.run(&["serve"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(printed(&refused).contains("schema is at 0, this version works with"), "{}", printed(&refused));
    assert!(printed(&refused).contains("run `agent-router migrate`"), "{}", printed(&refused));
    for reading in [["journal", "verify"], ["journal", "export"]] {
        assert_eq!(router.run(&reading).status.code(), Some(1));
    }

    let listed = printed(&router.run(&["migrate", "status"]));
    assert!(listed.starts_with("pending  0001  journal\n") && !listed.contains("applied"), "{listed}");
    let applied = printed(&router.run(&["migrate"]));
    assert_eq!(applied, listed.replace("pending", "applied"));
    assert_eq!(printed(&router.run(&["migrate", "status"])), applied);
    assert_eq!(printed(&router.run(&["migrate"])), "nothing to do: the schema is up to date\n");
}

#[tokio::test]
async fn serve_can_migrate_first() {
    let mut router = stopped(empty().await);
    assert_eq!(router.run(&["serve"]).status.code(), Some(1));
    router.start_with(&["serve", "--migrate"]).await;
    assert_eq!(router.get("/health/ready").await.0, 200);
    router.stop().await;
}

#[tokio::test]
async fn of_several_that_migrate_at_once_each_step_is_one_ones() {
    let database = Arc::new(empty().await);
    let routers: Vec<_> = (0..4).map(|_| Router::stopped_on(Arc::clone(&database), "one", &[])).collect();
    let said: Vec<_> = thread::scope(|scope| {
        let migrating: Vec<_> = routers.iter().map(|router| scope.spawn(|| router.run(&["migrate"]))).collect();
        let done = migrating.into_iter().map(|done| done.join().unwrap());
        done.inspect(|done| assert!(done.status.success(), "{}", printed(done))).map(|done| printed(&done)).collect()
    });
    let listed = printed(&routers[0].run(&["migrate", "status"]));
    assert!(!listed.contains("pending"), "{listed}");
    for step in listed.lines() {
        assert_eq!(said.concat().matches(step).count(), 1, "{said:?}");
    }
    assert!(routers[0].run(&["journal", "verify"]).status.success());
}

#[tokio::test]
async fn a_schema_that_is_ahead_is_refused_unless_it_says_that_this_version_may_go_on() {
    let database = database().await;
    let newest = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
        VALUES (9999, 'of a later version', true, '', 0)";
    database.execute(newest).await;
    database.execute("UPDATE compatibility SET oldest = 9999").await;
    let database = Arc::new(database);
    let mut router = Router::stopped_on(Arc::clone(&database), "one", &[]);
    for command in [["serve"].as_slice(), &["journal", "verify"], &["migrate"], &["serve", "--migrate"]] {
        let refused = router.run(command);
        assert_eq!(refused.status.code(), Some(1), "{command:?}");
        assert!(printed(&refused).contains("use the newer version of agent-router"), "{}", printed(&refused));
    }
    database.execute("UPDATE compatibility SET oldest = 1").await;
    assert_eq!(printed(&router.run(&["migrate"])), "nothing to do: the schema is up to date\n");
    router.start_with(&["serve", "--migrate"]).await;
    assert_eq!(router.get("/health/ready").await.0, 200);
    assert!(router.run(&["journal", "verify"]).status.success());
    router.stop().await;
}

#[tokio::test]
async fn what_another_program_keeps_there_is_left_alone() {
    let theirs = "CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY, description TEXT NOT NULL,
            installed_on TIMESTAMPTZ NOT NULL DEFAULT now(), success BOOLEAN NOT NULL, checksum BYTEA NOT NULL,
            execution_time BIGINT NOT NULL)";
    let step = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
        VALUES ('VERSION', 'of another program', true, '\\xbeef', 0)";
    let cases = [
        (vec![theirs.to_owned(), step.replace("VERSION", "20230101000000")], "use the newer version"),
        (vec![theirs.to_owned(), step.replace("VERSION", "1")], "not the one that this version knows"),
        (vec!["CREATE TABLE nodes (id INT)".to_owned()], "a database of its own"),
    ];
    for (there, what) in cases {
        let database = empty().await;
        for statement in there {
            database.execute(&statement).await;
        }
        let router = stopped(database);
        let is_taken_for_a_schema = !what.contains("of its own");
        for command in [["migrate"].as_slice(), &["serve"], &["migrate", "status"], &["journal", "verify"]] {
            let refused = router.run(command);
            if is_taken_for_a_schema || command == ["migrate"] {
                assert_eq!(refused.status.code(), Some(1), "{command:?}");
                assert!(printed(&refused).contains(what), "{command:?}: {}", printed(&refused));
            }
        }
    }
}

#[tokio::test]
async fn an_invocation_is_erased_while_routers_run_and_while_none_does() {
    let mut router = Router::on(Arc::new(database().await), "one", &[]).await;
    let target = agent_id();
    let mut agent = Peer::registered(&router, &target).await;
    let mut socket = Peer::invoke_socket(&router, BACKEND_KEY, &target).await;
    for (count, is_running) in [(1, true), (2, false)] {
        socket.invoke(&target, json!({"place": "a secret one"})).await;
        let delivery = agent.recv().await;
        agent.answer(&delivery, json!("a secret answer")).await;
        socket.recv().await;
        let answered = router.wait_for_events("kind=answer.delivered", count).await;
        let id = answered[count - 1]["invocation_id"].as_str().unwrap().to_owned();
        if !is_running {
            router.stop().await;
        }
        let erase = ["journal", "erase", "--invocation", &id, "--reason", "its subject asked for it"];
        for _again in [false, true] {
            let erased = router.run(&erase);
            assert!(erased.status.success(), "{}", printed(&erased));
            assert_eq!(printed(&erased), format!("erased: the payloads of invocation {id}\n"));
        }
        let verified = router.run(&["journal", "verify"]);
        assert!(verified.status.success(), "{}", printed(&verified));
    }
    let exported = printed(&router.run(&["journal", "export"]));
    assert!(exported.contains("payload.erased") && !exported.contains("a secret"), "{exported}");
    let nobody = router.run(&["journal", "erase", "--invocation", &agent_id(), "--reason", "asked for"]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(printed(&nobody).contains("there is no invocation"), "{}", printed(&nobody));
}

#[tokio::test]
async fn copies_are_left_to_the_tools_of_postgres() {
    let router = stopped(database().await);
    for command in [["backup", "--to", "copy.db"].as_slice(), &["journal", "backup", "--to", "copy.db"]] {
        let refused = router.run(command);
        assert_eq!(refused.status.code(), Some(2));
        assert!(printed(&refused).contains("pg_dump"), "{}", printed(&refused));
    }
}

#[tokio::test]
async fn no_password_is_printed() {
    let database = Arc::new(database().await);
    let password = database.url().split(['@']).next().unwrap().rsplit(':').next().unwrap().to_owned();
    assert!(!password.is_empty());
    let mut router = Router::stopped_on(Arc::clone(&database), "one", &[("RUST_LOG", "debug")]);
    router.start_again().await;
    let said = router.stop().await.join("\n");
    assert!(said.contains("journal: postgres://"), "{said}");
    assert!(!said.contains(&password) && !router.log().contains(&password), "{said}");

    router.set("DATABASE_URL", &database.url().replace(&password, "another-password"));
    let refused = printed(&router.run(&["migrate"]));
    assert!(refused.contains("postgres://") && !refused.contains("another-password"), "{refused}");
    router.set("DATABASE_URL", "postgres://router:hush@127.0.0.1:1/journal");
    for command in [["serve"].as_slice(), &["migrate"], &["journal", "verify"]] {
        let refused = router.run(command);
        assert_eq!(refused.status.code(), Some(1));
        assert!(!printed(&refused).contains("hush"), "{}", printed(&refused));
    }
}
