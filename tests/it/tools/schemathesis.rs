//! schemathesis makes requests of all kinds from `/openapi.json`, right and wrong ones, and checks whether what comes
//! back is as described.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::{AGENT, output, populated, tool};
use crate::support::{AUDITOR_KEY, BACKEND_KEY, OPERATOR_KEY, Router, printed};

/// Long enough for some ten thousand requests on a slow machine.
const PATIENCE: Duration = Duration::from_mins(20);

const EXAMPLES: u32 = 50;

/// An operation that has everything else refused while it lasts; it is tried by itself.
const DRAIN: &str = "/v1/drain";

const KEYS: [(&str, &str); 3] = [("master", BACKEND_KEY), ("auditor", AUDITOR_KEY), ("operator", OPERATOR_KEY)];

/// What is tried, with whose keys.
struct Run<'a> {
    router: &'a Router,
    invocations: &'a [String],
    /// The key for an operation, given the roles that may use it.
    key: &'a dyn Fn(&[&str]) -> &'static str,
    only_drain: bool,
}

impl Run<'_> {
    /// Nothing is found wrong.
    async fn finds_nothing(&self) {
        let folder = tempfile::tempdir().unwrap();
        let description: Value = self.router.get_as("", "/openapi.json").await.expect(200);
        let seed = std::env::var("SEED").map_or(4711, |seed| seed.parse().unwrap());
        println!("SEED={seed}");
        let (config, operations) = self.config(&description, seed);
        fs::write(folder.path().join("schemathesis.toml"), &config).unwrap();

        let mut command = Command::new(Path::new(&tool("HTTP_PYTHON")).with_file_name("schemathesis"));
        let examples = EXAMPLES.to_string();
        command
            .args(["run", &self.router.url("/openapi.json"), "--checks", "all", "--max-examples", &examples])
            .args(["--phases", "examples,coverage,fuzzing,stateful", "--warnings", "off"])
            .args(if self.only_drain { ["--include-path", DRAIN] } else { ["--exclude-path", DRAIN] })
            .current_dir(folder.path())
            .env("SCHEMATHESIS_HOOKS", "hooks")
            .env("PYTHONPATH", Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/http"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("CURSORS", self.cursors(&description).await)
            .env("NO_COLOR", "1")
            .env("NO_PROXY", "127.0.0.1");
        let output = output(command, Stdio::null(), PATIENCE).await;
        let said = printed(&output);
        assert!(output.status.success(), "SEED={seed}\n{said}");
        assert!(said.contains(&format!("Tested: {operations}")), "{operations} operations were to be tested\n{said}");
        println!("{said}");
    }

    /// The tool's settings, and how many operations it is to try.
    fn config(&self, description: &Value, seed: u64) -> (String, usize) {
        let invocations = json!(self.invocations);
        let mut config = format!(
            "seed = {seed}\ncontinue-on-failure = true\nmax-stream-events = 20\nrequest-timeout = 30\n\
             [cache]\nenabled = false\n\
             [generation]\ndatabase = \"none\"\n\
             [dictionaries.agents]\nvalues = [\"{AGENT}\", \"master_server_ml\"]\n\
             [dictionaries.invocations]\nvalues = {invocations}\n\
             [parameters]\n\"query.wait\" = 0\n\
             \"query.agent_id\" = {{dictionary = \"agents\", probability = 0.3}}\n\
             \"query.invocation_id\" = {{dictionary = \"invocations\", probability = 0.3}}\n"
        );
        let mut operations = 0;
        for (path, methods) in description["paths"].as_object().unwrap() {
            for operation in methods.as_object().unwrap().values() {
                operations += usize::from((path == DRAIN) == self.only_drain);
                self.configure(path, operation, &mut config);
            }
        }
        (config, operations)
    }

    /// The settings for one operation.
    fn configure(&self, path: &str, operation: &Value, config: &mut String) {
        let name = operation["operationId"].as_str().unwrap();
        let key = self.key_for(path, operation);
        writeln!(config, "[[operations]]\ninclude-operation-id = \"{name}\"").unwrap();
        writeln!(config, "headers = {{\"api-key\" = \"{key}\"}}").unwrap();
        if path.contains("{id}") {
            let ids = if path.starts_with("/v1/agents") { "agents" } else { "invocations" };
            writeln!(config, "parameters = {{\"path.id\" = {{dictionary = \"{ids}\", probability = 0.5}}}}").unwrap();
        }
        if name == "invoke" {
            // What was asked for can be right, and the idempotency key used, or the agent just disconnected.
            *config += "checks.positive_data_acceptance.expected-statuses = [\"2xx\", 401, 403, 404, 409, 422, 429, 503]\n\
                        checks.not_a_server_error.expected-statuses = [\"2xx\", \"4xx\", 503]\n";
        }
    }

    fn key_for(&self, path: &str, operation: &Value) -> &'static str {
        let roles: Vec<_> = operation["x-roles"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        (self.key)(if path == "/invoke-agent" { &["master"] } else { &roles })
    }

    /// For each list that may be read, a cursor that it gave out.
    async fn cursors(&self, description: &Value) -> String {
        let mut cursors = json!({});
        for path in ["/v1/history", "/v1/invocations", "/v1/agents"] {
            let key = self.key_for(path, &description["paths"][path]["get"]);
            let page = self.router.get_as(key, &format!("{path}?limit=1")).await;
            if page.status == 200 {
                cursors[path] = page.json()["next"].clone();
            }
        }
        cursors.to_string()
    }
}

async fn a_router() -> (Router, Vec<String>) {
    populated(&[("STREAM_LIFETIME", "200ms"), ("MAX_ATTEMPTS_LIMIT", "10000"), ("REFUSALS_PER_SECOND", "10")]).await
}

/// Every operation with the key of somebody who may use it.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_is_answered_as_described() {
    let (router, invocations) = a_router().await;
    let key = |roles: &[&str]| {
        let holds = |(role, _): &&(&str, &str)| roles.contains(role);
        KEYS.iter().find(holds).map_or(BACKEND_KEY, |(_, key)| key)
    };
    Run { router: &router, invocations: &invocations, key: &key, only_drain: false }.finds_nothing().await;
}

/// Draining, by itself.
#[tokio::test(flavor = "multi_thread")]
async fn draining_is_answered_as_described() {
    let (router, invocations) = a_router().await;
    let key = |_: &[&str]| OPERATOR_KEY;
    Run { router: &router, invocations: &invocations, key: &key, only_drain: true }.finds_nothing().await;
}

/// Every operation with the key of one role, which may use some of them.
async fn with_one_role(key: &'static str) {
    let (router, invocations) = a_router().await;
    let key = |_: &[&str]| key;
    Run { router: &router, invocations: &invocations, key: &key, only_drain: false }.finds_nothing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_is_answered_as_described() {
    with_one_role(BACKEND_KEY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_auditor_is_answered_as_described() {
    with_one_role(AUDITOR_KEY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_is_answered_as_described() {
    with_one_role(OPERATOR_KEY).await;
}
