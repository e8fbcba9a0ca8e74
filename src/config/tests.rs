use std::cell::RefCell;
use std::collections::BTreeSet;

use super::*;

fn config(set: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    Config::from_lookup(|name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
}

/// The variables that are complained about, and the whole report.
fn problems(set: &[(&str, &str)]) -> (Vec<&'static str>, String) {
    let errors = config(set).unwrap_err();
    (errors.problems().iter().map(Problem::variable).collect(), errors.to_string())
}

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const REACHABLE: [(&str, &str); 4] = [
    ("LISTEN_ADDR", "0.0.0.0:8080"),
    ("SECRET_KEY", SECRET),
    ("MASTER_BE_API_KEY", "backend-0123456789"),
    ("MASTER_AGENT_API_KEY", "ml-0123456789abcdef"),
];

#[test]
fn nothing_set_is_development_mode_on_loopback() {
    let config = config(&[]).unwrap();
    assert_eq!(config.listen_addr, ([127, 0, 0, 1], 8080).into());
    assert_eq!(config.database, Database::Sqlite { path: "agent-router.db".into() });
    assert!(config.node_id.ends_with("/127.0.0.1:8080"), "{}", config.node_id);
    assert_eq!(config.node_id_at(config.listen_addr), config.node_id);
    assert_eq!(config.mode, Mode::Development);
    assert_eq!(config.limits.default_ttl, Duration::from_mins(1));
    assert_eq!(config.limits.max_queued_bytes, 64 << 20);
    assert_eq!(config.socket.max_frame_bytes, 1 << 20);
    assert_eq!(config.log_format, LogFormat::Text);
    let warned: Vec<_> = config.warnings().iter().map(|warning| warning.split(' ').next().unwrap()).collect();
    assert_eq!(
        warned,
        ["SECRET_KEY", "MASTER_BE_API_KEY", "MASTER_AGENT_API_KEY", "AUDITOR_API_KEY", "OPERATOR_API_KEY"]
    );
    assert!(config.keys.is_auditor(b"local-auditor") && config.keys.is_operator(b"local-operator"));
    assert_eq!(config.redact_keys, ["api_key", "password", "secret", "token", "authorization", "credentials"]);
    assert_eq!(config.retention, None);
    assert_eq!([config.socket.max_http_connections, config.socket.max_streams], [16_384, 64]);
    assert_eq!(config.socket.stream_lifetime, Duration::from_hours(1));
}

#[test]
fn two_routers_on_any_port_are_not_of_the_same_name() {
    let bound = ([127, 0, 0, 1], 4321).into();
    let named = |pairs: &[(&str, &str)]| config(pairs).unwrap().node_id_at(bound);
    assert!(named(&[("LISTEN_ADDR", "127.0.0.1:0")]).ends_with("/127.0.0.1:4321"));
    assert_eq!(named(&[("LISTEN_ADDR", "127.0.0.1:0"), ("NODE_ID", "one")]), "one");
    assert!(named(&[("LISTEN_ADDR", "127.0.0.1:8080")]).ends_with("/127.0.0.1:8080"));
}

#[test]
fn an_empty_value_is_none() {
    let empty: Vec<_> = VARIABLES.iter().map(|variable| (variable.name, "")).collect();
    assert_eq!(config(&empty), config(&[]));
}

#[test]
fn exactly_the_listed_variables_are_read() {
    let asked = RefCell::new(BTreeSet::new());
    let lookup = |name: &str| {
        asked.borrow_mut().insert(name.to_owned());
        None
    };
    Config::from_lookup(lookup).unwrap();
    assert_eq!(asked.into_inner(), VARIABLES.iter().map(|variable| variable.name.to_owned()).collect());
}

#[test]
fn every_problem_is_reported_at_once_with_variable_value_and_what_is_allowed() {
    let (variables, report) = problems(&[
        ("LISTEN_ADDR", "8080"),
        ("DATABASE_URL", "postgres://router:hush@db"),
        ("ALLOWED_ORIGINS", "*"),
        ("DEFAULT_TTL", "soon"),
        ("MAX_IN_FLIGHT", "0"),
        ("MAX_FRAME_BYTES", "1GiB"),
        ("LOG_FORMAT", "xml"),
        ("RUST_LOG", "a=b=c"),
    ]);
    assert_eq!(
        variables,
        [
            "LISTEN_ADDR",
            "DATABASE_URL",
            "ALLOWED_ORIGINS",
            "DEFAULT_TTL",
            "MAX_IN_FLIGHT",
            "MAX_FRAME_BYTES",
            "LOG_FORMAT",
            "RUST_LOG"
        ]
    );
    for line in [
        "\n  LISTEN_ADDR is \"8080\": it must be an IP address and a port, such as 127.0.0.1:8080",
        "\n  DATABASE_URL names no database, as postgres://user:password@host:port/database does",
        "\n  DEFAULT_TTL is \"soon\": it must be a duration from 0s to 7d, such as",
        "\n  MAX_IN_FLIGHT is \"0\": it must be a whole number from 1 to 100000",
        "\n  MAX_FRAME_BYTES is \"1GiB\": it must be a size from 16KiB to 16MiB, such as",
        "\n  LOG_FORMAT is \"xml\": it must be text or json",
    ] {
        assert!(report.contains(line), "{line} not in {report}");
    }
    assert!(!report.contains("hush"), "{report}");
}

#[test]
fn a_long_or_strange_value_is_shown_cut_and_escaped() {
    let (_, report) = problems(&[("LOG_FORMAT", &format!("\n{}", "x".repeat(1_000)))]);
    assert!(report.len() < 250 && report.contains("\"\\nxxx") && report.contains("\"…"), "{report}");
}

#[cfg(unix)]
#[test]
fn a_value_that_is_no_text_is_a_problem() {
    use std::os::unix::ffi::OsStringExt;

    let lookup = |name: &str| (name == "NODE_ID").then(|| OsString::from_vec(vec![0xff]));
    let errors = Config::read(&lookup).unwrap_err();
    assert_eq!(errors.problems()[0].to_string(), "NODE_ID is not valid UTF-8");
}

#[test]
fn defaults_stay_within_the_bounds_that_are_set() {
    let short = config(&[("MAX_DEADLINE", "30s")]).unwrap().limits;
    assert_eq!([short.default_ttl, short.default_deadline], [Duration::from_secs(30); 2]);
    let (variables, _) = problems(&[
        ("MAX_DEADLINE", "30s"),
        ("DEFAULT_TTL", "31s"),
        ("DEFAULT_DEADLINE", "1m"),
        ("MAX_ATTEMPTS_LIMIT", "2"),
        ("DEFAULT_MAX_ATTEMPTS", "3"),
    ]);
    assert_eq!(variables, ["DEFAULT_TTL", "DEFAULT_DEADLINE", "DEFAULT_MAX_ATTEMPTS"]);
}

#[test]
fn a_rate_that_is_set_counts_for_everybody_and_the_default_for_agents_whose_tokens_are_verified() {
    let limits = |set: &[(&str, &str)]| config(set).unwrap().rate_limits;
    let secret = ("SECRET_KEY", SECRET);
    let (some, by_default) = (RateLimit { per_second: 3, burst: 7 }, RateLimit { per_second: 1_000, burst: 5_000 });
    assert_eq!(limits(&[]), RateLimits { masters: None, others: None });
    assert_eq!(limits(&[secret]), RateLimits { masters: None, others: Some(by_default) });
    for mode in [&[][..], &[secret]] {
        let set = |rate| limits(&[mode, &[("RATE_LIMIT", rate)]].concat());
        assert_eq!(set("3:7"), RateLimits { masters: Some(some), others: Some(some) });
        assert_eq!(set("off"), RateLimits { masters: None, others: None });
    }
    assert_eq!(problems(&[("RATE_LIMIT", "many")]).0, ["RATE_LIMIT"]);
}

#[test]
fn loopback_has_several_names() {
    for (text, expected) in [
        ("localhost:0", "127.0.0.1:0"),
        ("[::1]:0", "[::1]:0"),
        ("127.1.2.3:9", "127.1.2.3:9"),
        ("[::ffff:127.0.0.1]:9", "[::ffff:127.0.0.1]:9"),
    ] {
        assert_eq!(config(&[("LISTEN_ADDR", text)]).unwrap().listen_addr.to_string(), expected);
    }
    for text in ["example.com:80", "localhost", ":80", "127.0.0.1:65536", "127.0.0.1:80 "] {
        assert_eq!(problems(&[("LISTEN_ADDR", text)]).0, ["LISTEN_ADDR"], "{text}");
    }
}

#[test]
fn any_other_address_needs_secrets_of_ones_own() {
    for addr in ["0.0.0.0:8080", "[::]:8080", "192.0.2.1:80"] {
        let (variables, report) = problems(&[("LISTEN_ADDR", addr)]);
        assert_eq!(variables, ["SECRET_KEY", "MASTER_BE_API_KEY", "MASTER_AGENT_API_KEY"], "{addr}");
        assert!(report.contains(addr), "{report}");
    }
    let config = config(&REACHABLE).unwrap();
    assert!(config.mode.is_secured());
    assert!(config.warnings().is_empty());
}

#[test]
fn weak_secrets_stay_on_loopback() {
    let reachable = [&REACHABLE[..], &[("AUDITOR_API_KEY", "auditor-0123456789"), ("OPERATOR_API_KEY", "")]].concat();
    for (variable, weak) in [
        ("SECRET_KEY", "0123456789abcdef0123456789abcde"),
        ("MASTER_BE_API_KEY", "0123456789abcde"),
        ("MASTER_BE_API_KEY", v::MASTER_AGENT_API_KEY.default.unwrap()),
        ("AUDITOR_API_KEY", "0123456789abcde"),
        ("AUDITOR_API_KEY", "auditor-0123456789,0123456789abcde"),
        ("OPERATOR_API_KEY", "local-operator"),
        ("OPERATOR_API_KEY", "local-auditor"),
    ] {
        let mut set: Vec<_> =
            reachable.iter().map(|&(name, value)| (name, if name == variable { weak } else { value })).collect();
        let (variables, report) = problems(&set);
        assert_eq!(variables, [variable]);
        assert!(!report.contains(weak), "{report}");
        set[0].1 = "127.0.0.1:0";
        let config = config(&set).unwrap();
        assert_eq!(config.warnings().len(), 1);
        assert!(config.warnings()[0].starts_with(variable) && !config.warnings()[0].contains(weak));
    }
}

#[test]
fn master_keys_fit_in_a_header_and_differ() {
    for wrong in ["with space-0123456789", "tab\t-0123456789abcdef", "schlüssel-0123456789"] {
        let (variables, report) = problems(&[("MASTER_BE_API_KEY", wrong)]);
        assert_eq!(variables, ["MASTER_BE_API_KEY"]);
        assert!(!report.contains("0123456789"), "{report}");
    }
    let (variables, report) = problems(&[("MASTER_BE_API_KEY", SECRET), ("MASTER_AGENT_API_KEY", SECRET)]);
    assert_eq!(variables, ["MASTER_AGENT_API_KEY"]);
    assert!(!report.contains(SECRET), "{report}");
}

#[test]
fn several_keys_of_a_role_count_while_they_are_rotated() {
    let secured = [&REACHABLE[..], &[("AUDITOR_API_KEY", "auditor-0123456789, auditor-9876543210,")]].concat();
    let keys = config(&secured).unwrap().keys;
    assert!(keys.is_auditor(b"auditor-0123456789") && keys.is_auditor(b"auditor-9876543210"));
    assert_eq!([keys.auditors.len(), keys.operators.len()], [2, 0]);
    for wrong in [",", " , ", &"k-0123456789abcdef,".repeat(9), "two words-0123456789", "schlüssel-0123456789"] {
        let (variables, report) = problems(&[("OPERATOR_API_KEY", wrong)]);
        assert_eq!(variables, ["OPERATOR_API_KEY"], "{wrong}");
        assert!(!report.contains("0123456789"), "{report}");
    }
}

#[test]
fn in_secured_mode_nobody_audits_or_operates_unless_a_key_is_set() {
    for addr in ["127.0.0.1:0", "0.0.0.0:0"] {
        let mut set = REACHABLE;
        set[0].1 = addr;
        let keys = config(&set).unwrap().keys;
        assert!(keys.auditors.is_empty() && keys.operators.is_empty());
        assert!(!keys.is_auditor(b"local-auditor") && !keys.is_operator(b"local-operator"));
    }
}

#[test]
fn a_key_has_one_role() {
    let names = ["MASTER_BE_API_KEY", "MASTER_AGENT_API_KEY", "AUDITOR_API_KEY", "OPERATOR_API_KEY"];
    for (index, second) in names.iter().enumerate() {
        for first in &names[..index] {
            let (variables, report) = problems(&[(first, SECRET), (second, SECRET)]);
            assert_eq!(variables, [*second]);
            assert!(report.contains(first) && !report.contains(SECRET), "{report}");
        }
    }
    let lists =
        [("AUDITOR_API_KEY", "a-0123456789abcdef,shared-0123456789"), ("OPERATOR_API_KEY", "shared-0123456789")];
    assert_eq!(problems(&lists).0, ["OPERATOR_API_KEY"]);
}

#[test]
fn fields_to_hide_are_names_and_one_comma_hides_none() {
    let redact_keys = |text| config(&[("REDACT_KEYS", text)]).unwrap().redact_keys;
    assert_eq!(redact_keys(" API-Key ,PIN,, Kennwort"), ["api-key", "pin", "kennwort"]);
    assert!(redact_keys(",").is_empty());
    for wrong in ["-", "pin,_-_", &"k".repeat(129), &"k,".repeat(65)] {
        assert_eq!(problems(&[("REDACT_KEYS", wrong)]).0, ["REDACT_KEYS"], "{wrong}");
    }
}

#[test]
fn retention_and_the_bounds_of_http_are_whole_and_in_range() {
    assert_eq!(config(&[("RETENTION_DAYS", "1")]).unwrap().retention, Some(Duration::from_hours(24)));
    assert_eq!(config(&[("RETENTION_DAYS", "36500")]).unwrap().retention, Some(Duration::from_hours(876_000)));
    assert_eq!(config(&[("STREAM_LIFETIME", "200ms")]).unwrap().socket.stream_lifetime, Duration::from_millis(200));
    for (variable, wrong) in [
        ("RETENTION_DAYS", ["0", "36501", "1.5", "30d"]),
        ("MAX_HTTP_CONNECTIONS", ["15", "1000001", "-1", "many"]),
        ("MAX_STREAMS", ["0", "10001", "1k", " 1"]),
        ("STREAM_LIFETIME", ["99ms", "0", "25h", "2w"]),
    ] {
        for wrong in wrong {
            let (variables, report) = problems(&[(variable, wrong)]);
            assert_eq!(variables, [variable], "{wrong}");
            assert!(report.contains(&format!("is {wrong:?}: it must be")), "{report}");
        }
    }
}

#[test]
fn a_postgres_database_may_have_a_way_past_its_pooler() {
    let pooled = ("DATABASE_URL", "postgres://router:hush@pooler:6432/journal?statement-cache-capacity=0");
    let direct = ("NOTIFY_DATABASE_URL", "postgres://router:hush@db/journal");
    for (set, past) in [(&[pooled, direct][..], Some("postgres://router@db/journal")), (&[pooled], None)] {
        let Database::Postgres { url, notify_url } = config(set).unwrap().database else { panic!("{set:?}") };
        assert_eq!(url.to_string(), "postgres://router@pooler:6432/journal");
        assert_eq!(notify_url.map(|url| url.to_string()).as_deref(), past);
    }
    let alone = problems(&[direct]);
    assert_eq!(alone.0, ["NOTIFY_DATABASE_URL"]);
    let (variables, report) = problems(&[pooled, ("NOTIFY_DATABASE_URL", "router:hush@db/journal")]);
    assert_eq!(variables, ["NOTIFY_DATABASE_URL"]);
    assert!(!report.contains("hush") && !alone.1.contains("hush"), "{report}");
}

#[test]
fn nothing_secret_is_printed() {
    let roles = [
        ("AUDITOR_API_KEY", "auditor-0123456789"),
        ("OPERATOR_API_KEY", "operator-0123456789"),
        ("DATABASE_URL", "postgres://router:hush@db/journal"),
    ];
    let set = [&REACHABLE[..], &roles].concat();
    let printed = format!("{:?}", config(&set).unwrap());
    assert!(!printed.contains("hush"), "{printed}");
    for (_, secret) in &set[1..] {
        assert!(!printed.contains(secret), "{printed}");
    }
}
