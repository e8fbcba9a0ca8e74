//! What the database is set to must not matter to routers; and of what peers and people entrust to them, no more gets there, or
//! into their logs, than must.

use std::sync::Arc;

use serde_json::json;

use crate::support::postgres::database;
use crate::support::{BACKEND_KEY, Peer, Router, SECRET, agent_id, agent_token, answered, printed};

/// As far from what a router expects as a database can be set.
const ODD: &[(&str, &str)] = &[
    ("synchronous_commit", "off"),
    ("default_transaction_isolation", "serializable"),
    ("statement_timeout", "1s"),
    ("lock_timeout", "10ms"),
    ("idle_in_transaction_session_timeout", "100ms"),
    ("bytea_output", "escape"),
    ("standard_conforming_strings", "off"),
    ("backslash_quote", "on"),
    ("datestyle", "German"),
    ("intervalstyle", "iso_8601"),
    ("timezone", "Asia/Kathmandu"),
    ("extra_float_digits", "-5"),
    ("search_path", "\"a schema\""),
];

#[tokio::test]
async fn what_the_database_is_set_to_does_not_matter() {
    let database = database().await;
    let settings = ODD.iter().map(|(name, value)| {
        format!(
            "EXECUTE format('ALTER DATABASE %I SET {name} = %L', current_database(), '{}');",
            value.replace('"', "")
        )
    });
    database.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA \"a schema\"").await;
    database.execute(&format!("DO $$ BEGIN {} END $$", settings.collect::<String>())).await;
    let mut one = Router::stopped_on(Arc::new(database), "it's \"one\"; \\", &[]);
    one.start_with(&["serve", "--migrate"]).await;
    let mut other = one.another_node("other").await;
    let labels = json!({"request_id": "a'\\'\"; \0 DROP TABLE journal --", "session_id": "$1 $$ \u{1f600}\\u0000"});
    let mut pairs = Vec::new();
    for (near, far) in [(&one, &other), (&other, &one)] {
        let target = agent_id();
        let agent = Peer::registered(near, &target).await;
        pairs.push((agent, Peer::invoke_socket(far, BACKEND_KEY, &target).await, target));
    }
    // Both routers commit at the same time.
    futures_util::future::join_all(pairs.iter_mut().map(async |(agent, caller, target)| {
        for n in 0..30 {
            let frame = json!({"message_type": "agent_invoke", "agent_uuid": target, "request_payload": {"n": n},
                "request_metadata": labels, "idempotency_key": format!("'{n}\\")});
            caller.send(frame).await;
            let delivery = agent.recv().await;
            assert_eq!(delivery["request_metadata"], labels);
            agent.answer(&delivery, json!(n)).await;
            assert_eq!(caller.recv().await["response"], answered(json!(n))["response"]);
        }
    }))
    .await;
    for (_, _, target) in &pairs {
        let done = one.wait_for_events(&format!("kind=answer.delivered&agent_id={target}"), 30).await;
        assert_eq!(done.len(), 30);
        let erase = ["journal", "erase", "--invocation", done[0]["invocation_id"].as_str().unwrap(), "--reason", "'\\"];
        let erased = one.run(&erase);
        assert!(erased.status.success(), "{}", printed(&erased));
    }
    let verified = other.run(&["journal", "verify"]);
    assert!(verified.status.success(), "{}", printed(&verified));
    for router in [&mut one, &mut other] {
        router.stop().await;
        assert!(!router.log().contains("away") && !router.log().contains("ERROR"), "{}", router.log());
    }
}

#[tokio::test]
async fn a_database_that_cannot_keep_every_text_is_refused() {
    let database = database().await;
    let narrow = format!("narrow_{}", agent_id().replace('-', ""));
    let create =
        format!("CREATE DATABASE {narrow} ENCODING 'LATIN1' LOCALE_PROVIDER libc LOCALE 'C' TEMPLATE template0");
    database.execute(&create).await;
    let mut router = Router::stopped_on(Arc::new(database), "one", &[]);
    let (server, _) = router.database().url().rsplit_once('/').unwrap();
    let url = format!("{server}/{narrow}");
    router.set("DATABASE_URL", &url);
    for command in [["migrate"].as_slice(), &["serve"], &["serve", "--migrate"]] {
        let refused = router.run(command);
        assert_eq!(refused.status.code(), Some(1));
        assert!(printed(&refused).contains("encoding is not UTF8"), "{}", printed(&refused));
    }
    router.database().execute(&format!("DROP DATABASE {narrow}")).await;
}

#[tokio::test]
async fn a_token_is_in_no_table_and_in_no_log() {
    let settings = [("SECRET_KEY", SECRET), ("RUST_LOG", "trace")];
    let mut one = Router::on(Arc::new(database().await), "one", &settings).await;
    let mut other = one.another_node("other").await;
    let mut backend = Peer::master_be(&one).await;
    let (here, there) = (agent_id(), agent_id());
    let _here = Peer::registered(&one, &here).await;
    let _there = Peer::registered(&other, &there).await;
    backend.recv_many(2).await;
    let mut secrets = vec![SECRET.to_owned(), BACKEND_KEY.to_owned()];
    for token in [agent_token(&here, SECRET), agent_token(&there, SECRET)] {
        secrets.extend(token.split('.').skip(1).map(str::to_owned));
    }
    for secret in &secrets {
        let quoted = secret.replace('\'', "''");
        let look = format!(
            "DO $$ DECLARE name REGCLASS; found BIGINT; BEGIN
                SET LOCAL bytea_output = 'escape';
                FOR name IN SELECT oid FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::REGNAMESPACE LOOP
                    EXECUTE format('SELECT count(*) FROM %s AS row WHERE strpos(row::TEXT, %L) > 0', name, '{quoted}') INTO found;
                    IF found > 0 THEN RAISE EXCEPTION 'it is in %', name; END IF;
                END LOOP;
                SELECT count(*) INTO found FROM sessions WHERE sealed_credential IS NULL AND identity IN ('{here}', '{there}');
                IF found > 0 THEN RAISE EXCEPTION 'it is not kept at all'; END IF;
            END $$"
        );
        one.database().execute(&look).await;
    }
    let password = one.database().url().split('@').next().unwrap().rsplit(':').next().unwrap().to_owned();
    secrets.push(password);
    for router in [&mut one, &mut other] {
        router.stop().await;
        for secret in &secrets {
            assert!(!router.log().contains(secret), "a secret is in the log of a router");
        }
    }
}
