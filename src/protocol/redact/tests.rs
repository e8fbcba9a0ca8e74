use std::fmt::Write;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

const KEYS: [&str; 3] = ["api_key", "password", "Straße"];

fn redactor() -> Redactor {
    Redactor::new(&KEYS.map(str::to_owned))
}

#[track_caller]
fn becomes(text: &str, expected: &str) {
    let redacted = redactor().redact(text.as_bytes()).into_owned();
    assert_eq!(String::from_utf8_lossy(&redacted), expected);
}

#[track_caller]
fn stays(text: &str) {
    assert!(matches!(redactor().redact(text.as_bytes()), Cow::Borrowed(_)), "{text}");
}

#[test]
fn the_value_of_a_secret_field_is_hidden_whatever_its_type() {
    for value in [r#""sk-1""#, "null", "true", "-1.5e3", "NaN", "-Infinity", "[1, [2]]", r#"{"a": {"b": "}\""}}"#, "{}"]
    {
        becomes(
            &format!(r#"{{"a":  1.50, "api_key" : {value} , "b": [{{"password":{value}}}]}}"#),
            r#"{"a":  1.50, "api_key" : "[redacted]" , "b": [{"password":"[redacted]"}]}"#,
        );
    }
}

#[test]
fn case_hyphens_and_underscores_of_a_name_do_not_count_and_escapes_are_read() {
    for name in ["API_KEY", "apiKey", "api-key", "-apikey_", r"\u0061pi\u005fkey", "STRAßE", r"stra\u00DFe"] {
        becomes(&format!(r#"{{"{name}":0}}"#), &format!(r#"{{"{name}":"[redacted]"}}"#));
    }
    for name in ["api_keys", "my_api_key", "api key", "", "-", r"api\\u005fkey", r"api_key\ud800", "STRASSE"] {
        stays(&format!(r#"{{"{name}":0}}"#));
    }
}

#[test]
fn a_secrets_name_alone_is_no_secret() {
    stays(r#"{"name": "api_key", "names": ["password", "api_key"], "n": "password: x"}"#);
    stays(r#""api_key""#);
}

#[test]
fn every_field_of_a_name_is_hidden() {
    becomes(r#"{"api_key":1,"x":2,"api_key":[3]}"#, r#"{"api_key":"[redacted]","x":2,"api_key":"[redacted]"}"#);
}

#[test]
fn pythons_own_json_survives() {
    becomes(
        r#" {"n": [NaN, -Infinity, 123456789012345678901234567890], "s": "\ud800", "api_key": "\udc00" }"#,
        r#" {"n": [NaN, -Infinity, 123456789012345678901234567890], "s": "\ud800", "api_key": "[redacted]" }"#,
    );
}

#[test]
fn json_in_strings_is_gone_through_and_keeps_its_spelling() {
    becomes(
        r#"{"s": "{ \"a\": \u0031, \"\u0061pi_key\": \"x\\n\", \"b\\u0062\": NaN}"}"#,
        r#"{"s": "{ \"a\": \u0031, \"\u0061pi_key\": \"[redacted]\", \"b\\u0062\": NaN}"}"#,
    );
    becomes(r#"["\ud800 ", "\n[{\"api_key\":\"\ud83d\ude00\ud800é\"} ] "]"#, {
        r#"["\ud800 ", "\n[{\"api_key\":\"[redacted]\"} ] "]"#
    });
    becomes(r#""\u007b\u0022password\u0022: 1\u007d""#, r#""\u007b\u0022password\u0022: \"[redacted]\"\u007d""#);
    becomes(r#"{"{\"api_key\": \"x\"}": 1}"#, r#"{"{\"api_key\": \"[redacted]\"}": 1}"#);
    let twice = |value: &str| json!(json!(json!({"s": json!({"api_key": value}).to_string()}).to_string()).to_string());
    becomes(&twice("x").to_string(), &twice("[redacted]").to_string());
}

#[test]
fn json_nested_too_often_is_hidden_whole() {
    let nested = |innermost: Value| (0..MAX_LEVEL).fold(innermost, |value, _| json!([value.to_string()])).to_string();
    let inside = json!({"api_key": 1, "b": 2});
    becomes(&nested(inside.clone()), &nested(json!({"api_key": "[redacted]", "b": 2})));
    becomes(&nested(json!([inside.to_string(), "[x", "y"])), &nested(json!(["[redacted]", "[x", "y"])));
}

#[test]
fn what_is_no_json_is_left_alone() {
    for text in ["", "api_key=1", r#"{"api_key": 1"#, r#"{"api_key": "x}"#, r#"{"api_key": 1} x"#, r#"{"api_key": }"#] {
        stays(text);
        stays(&json!([text]).to_string());
    }
    stays("{\"s\": \"{\\\"api_key\\\": \\\"a\nb\\\"}\"}");
}

#[test]
fn no_depth_is_too_deep_and_nothing_is_hidden_if_nothing_is_asked_for() {
    let deep = |value: &str| [&"[".repeat(200_000), r#"{"api_key":"#, value, "}", &"]".repeat(200_000)].concat();
    let balanced = [&"[".repeat(100_000)[..], &"]".repeat(100_000)].concat();
    let hidden = |text: &str| redactor().redact(text.as_bytes()).into_owned();
    assert!(hidden(&deep(&balanced)) == deep(r#""[redacted]""#).as_bytes());
    let quoted = |text: String| json!([text]).to_string();
    assert!(hidden(&quoted(deep("1"))) == quoted(deep(r#""[redacted]""#)).as_bytes());
    assert!(matches!(Redactor::default().redact(br#"{"api_key":1}"#), Cow::Borrowed(_)));
}

/// The same by way of values, for texts that are written as they are read.
fn redacted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .map(|(name, value)| {
                    let plain = name.to_lowercase().replace(['-', '_'], "");
                    let hidden = KEYS.iter().any(|key| key.to_lowercase().replace('_', "") == plain);
                    (name.clone(), if hidden { "[redacted]".into() } else { redacted(value) })
                })
                .collect(),
        ),
        Value::Array(elements) => elements.iter().map(redacted).collect(),
        Value::String(text) => match serde_json::from_str(text) {
            Ok(inside @ (Value::Object(_) | Value::Array(_) | Value::String(_))) => {
                redacted(&inside).to_string().into()
            }
            _ => value.clone(),
        },
        _ => value.clone(),
    }
}

/// Values that survive being read and written, with JSON in strings among them.
fn values() -> impl Strategy<Value = Value> {
    let name = prop_oneof![
        prop::sample::select(vec!["api_key", "apiKey", "PASSWORD", "pass-word", "straße", "a", "", "é\n\"\\"])
            .prop_map(str::to_owned),
        any::<String>(),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        prop::sample::select(vec!["api_key", "{\"api_key\":", "[]", "\"", "{\"a\":1}x", "\\\"api_key\\\":1"])
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 48, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name.clone(), inner.clone()), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>())),
            inner.prop_map(|value| value.to_string().into()),
        ]
    })
}

/// The same text with some of its characters escaped and whitespace around its punctuation: another spelling.
fn respelled(text: &str, choices: &[u8]) -> String {
    let mut choices = choices.iter().cycle();
    let mut chance = |of: u8| choices.next().is_some_and(|choice| choice % of == 0);
    let (mut out, mut inside, mut escaping) = (String::new(), false, false);
    for character in text.chars() {
        let plain = inside && !escaping && !matches!(character, '"' | '\\');
        if plain && chance(3) {
            character.encode_utf16(&mut [0; 2]).iter().for_each(|unit| write!(out, "\\u{unit:04X}").unwrap());
        } else if !inside && matches!(character, ',' | ':' | '{' | '}' | '[' | ']') && chance(2) {
            out.extend([' ', character, '\t']);
        } else {
            out.push(character);
        }
        inside ^= character == '"' && !escaping;
        escaping = inside && character == '\\' && !escaping;
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_does_what_one_would_do_with_values(value in values()) {
        let (text, expected) = (value.to_string(), redacted(&value).to_string());
        let made = redactor().redact(text.as_bytes()).into_owned();
        prop_assert_eq!(String::from_utf8(made).unwrap(), expected);
    }

    #[test]
    fn the_spelling_makes_no_difference(value in values(), choices in prop::collection::vec(any::<u8>(), 1..64)) {
        let text = respelled(&value.to_string(), &choices);
        let made = redactor().redact(text.as_bytes()).into_owned();
        let made: Value = serde_json::from_slice(&made).unwrap();
        prop_assert_eq!(made, redacted(&value));
    }

    #[test]
    fn no_bytes_make_it_fail(text in prop::collection::vec(prop::sample::select(br#"{}[]":,\u01 apiKeyN-"#.to_vec()), 0..64)) {
        let _ = redactor().redact(&text);
    }
}
