//! The configuration as an operator meets it: `.env.example` holds to the code, and what is wrong is said at the start.

use std::io::Read;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use agent_router::config::{Config, VARIABLES};

const EXAMPLE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/.env.example"));

/// A setting of the example: the words above it, its name and its value. Settings are commented out as `#NAME=value`.
struct Setting {
    help: String,
    name: String,
    value: String,
}

fn example() -> Vec<Setting> {
    let mut settings = Vec::new();
    let mut help = Vec::new();
    for line in EXAMPLE.lines() {
        match line.strip_prefix('#') {
            Some(words) if words.is_empty() || words.starts_with(' ') => help.push(words.trim()),
            Some(setting) => {
                let (name, value) = setting.split_once('=').unwrap_or_else(|| panic!("no setting: {line}"));
                let help = std::mem::take(&mut help).join(" ");
                settings.push(Setting { help, name: name.to_owned(), value: value.to_owned() });
            }
            None => {
                assert_eq!(line, "", "the example sets nothing");
                help.clear();
            }
        }
    }
    settings
}

#[test]
fn the_example_lists_what_the_code_reads_with_its_help_and_default() {
    let listed: Vec<_> = example().into_iter().map(|setting| (setting.name, setting.value, setting.help)).collect();
    let read: Vec<_> = VARIABLES
        .iter()
        .map(|variable| {
            let default = variable.default.unwrap_or_default();
            (variable.name.to_owned(), default.to_owned(), variable.help.to_owned())
        })
        .collect();
    assert_eq!(listed, read);
}

#[test]
fn the_example_with_every_line_taken_in_is_the_same_as_nothing_set() {
    let example = example();
    let lookup = |name: &str| example.iter().find(|setting| setting.name == name).map(|setting| setting.value.clone());
    assert_eq!(Config::from_lookup(lookup).unwrap(), Config::from_lookup(|_| None).unwrap());
}

/// Runs the router where it must not start, with this `.env` and environment; what it says on standard error.
fn refusal(dotenv: &str, environment: &[(&str, &str)]) -> (ExitStatus, String) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(".env"), dotenv).unwrap();
    let mut router = Command::new(env!("CARGO_BIN_EXE_agent-router"))
        .current_dir(folder.path())
        .env_clear()
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = router.stderr.take().unwrap();
    let (ended, end) = mpsc::channel();
    std::thread::spawn(move || {
        let mut said = String::new();
        let read = stderr.read_to_string(&mut said);
        ended.send(read.map(|_| said))
    });
    let Ok(said) = end.recv_timeout(Duration::from_secs(20)) else {
        router.kill().unwrap();
        router.wait().unwrap();
        panic!("the router started");
    };
    (router.wait().unwrap(), said.unwrap())
}

#[test]
fn the_router_says_everything_that_is_wrong_and_does_not_start() {
    let (status, said) = refusal(
        "DATABASE_URL=postgres://router:hush@db\nLOG_FORMAT=xml\n",
        &[("LISTEN_ADDR", "0.0.0.0:0"), ("LOG_FORMAT", "text"), ("MAX_QUEUED", "none")],
    );
    assert!(!status.success());
    for part in [
        "SECRET_KEY is not set",
        "MASTER_BE_API_KEY is the published example",
        "MASTER_AGENT_API_KEY is the published example",
        "DATABASE_URL names no database",
        "MAX_QUEUED is \"none\": it must be a whole number",
    ] {
        assert!(said.contains(part), "{part} is not in: {said}");
    }
    assert!(!said.contains("hush"), "{said}");
    assert!(!said.contains("LOG_FORMAT"), "the environment wins over .env: {said}");
}

#[test]
fn a_malformed_env_file_is_named_with_its_line() {
    let (status, said) = refusal("# settings\nSECRET_KEY 'hush\n", &[("LISTEN_ADDR", "127.0.0.1:0")]);
    assert!(!status.success());
    assert!(said.contains(".env, line 2:"), "{said}");
    assert!(!said.contains("hush"), "{said}");
}
