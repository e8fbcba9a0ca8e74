//! The scanner held to `CPython`'s, and to its own promises.

mod generator;

use std::io::Write;
use std::process::{Command, Stdio};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

use super::*;
use crate::protocol::to_strict;

fn object(text: &str) -> Object<'_> {
    Object::parse(text.as_bytes()).unwrap()
}

fn shown(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap()
}

/// What the scanner makes of a text, for the oracle to judge.
fn findings(text: &str) -> serde_json::Value {
    let first = Members::new().number("first", 1);
    let last = Members::new().text("last", "\u{1}");
    let verdict = match Object::parse(text.as_bytes()) {
        Ok(_) => "object".to_owned(),
        Err(error) => error.to_string(),
    };
    let fields = generator::NAMES.map(|name| {
        let Ok(object) = Object::parse(text.as_bytes()) else {
            return (name, json!(null));
        };
        let Some(value) = object.get(name) else {
            return (name, json!(null));
        };
        let spliced = object.splice(&[name], &first, &last);
        assert_eq!(spliced.len(), object.spliced_len(&[name], &first, &last));
        let elements = value.elements().map(|all| all.map(|one| shown(one.bytes())).collect::<Vec<_>>());
        let found = json!({
            "raw": shown(value.bytes()),
            "falsy": value.is_falsy(),
            "text": value.as_text(),
            "number": value.as_u64(),
            "elements": elements,
            "cut": shown(&object.without(&[name])),
            "spliced": shown(&spliced),
        });
        (name, found)
    });
    let strict = to_strict(text.as_bytes());
    if verdict != "not JSON" {
        serde_json::from_slice::<serde_json::Value>(&strict).unwrap();
    }
    let fields: serde_json::Map<_, _> = fields.into_iter().map(|(name, found)| (name.to_owned(), found)).collect();
    json!({ "text": text, "verdict": verdict, "fields": fields, "strict": shown(&strict) })
}

#[test]
fn random_texts_are_read_as_python_reads_them() {
    let seed = std::env::var("SEED").map_or_else(|_| rand::rng().random(), |seed| seed.parse().unwrap());
    println!("SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let cases = 5_000;
    let mut lines = String::new();
    for _ in 0..cases {
        lines += &findings(&generator::text(&mut rng)).to_string();
        lines.push('\n');
    }

    let mut python = Command::new("python3")
        .args(["-X", "utf8", "-c", include_str!("oracle.py")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the tests need python3");
    let mut input = python.stdin.take().unwrap();
    let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()));
    let output = python.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{cases}\n"), "SEED={seed}");
}

#[test]
fn arbitrary_bytes_are_judged_and_never_panic() {
    let mut rng = StdRng::seed_from_u64(1);
    for _ in 0..50_000 {
        let length = rng.random_range(0..24);
        let text: Vec<u8> =
            (0..length)
                .map(|_| {
                    if rng.random_bool(0.9) {
                        br#"{}[]":,\u0d8 aNI-1e."#[rng.random_range(0..20)]
                    } else {
                        rng.random()
                    }
                })
                .collect();
        let _ = to_strict(&text);
        if let Ok(object) = Object::parse(&text) {
            assert!(Object::parse(&object.without(&["a"])).is_ok());
        }
    }
}

#[test]
fn nesting_is_counted_as_deep_as_an_agent_reads() {
    for levels in [31, 32, 33, 64, 65, 255, 256] {
        let (open, close) = (r#"[{"a":"#.repeat(levels), "}]".repeat(levels));
        let text = format!(r#"{{"deep":{open}1{close},"b":2}}"#);
        assert_eq!(object(&text).get("b").unwrap().as_u64(), Some(2));
        assert_eq!(shown(&object(&text).without(&["deep"])), r#"{"b":2}"#);
        let crossed = format!(r#"{{"deep":{open}1]{}}}"#, &close[1..]);
        assert_eq!(Object::parse(crossed.as_bytes()).err(), Some(ParseError::NotJson));
    }
}

#[test]
fn what_no_agent_survives_is_told_apart() {
    let deep = |levels: usize| format!(r#"{{"a":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
    let long = |digits: usize| format!(r#"{{"a":-{}}}"#, "9".repeat(digits));
    assert!(Object::parse(deep(513).as_bytes()).is_ok(), "an empty array opens nothing more");
    assert_eq!(Object::parse(deep(514).as_bytes()).err(), Some(ParseError::TooDeep));
    assert_eq!(Object::parse(deep(1_000_000).as_bytes()).err(), Some(ParseError::TooDeep));
    assert!(Object::parse(long(4300).as_bytes()).is_ok());
    assert_eq!(Object::parse(long(4301).as_bytes()).err(), Some(ParseError::TooManyDigits));
    assert!(Object::parse(format!(r#"{{"a":0.{}}}"#, "9".repeat(5000)).as_bytes()).is_ok());
}

#[test]
fn cutting_leaves_every_other_byte_as_it_was() {
    let text = " { \"a\" : NaN ,\t\"b\": [1, 2 ]\n, \"c\":\"\\ud800\", \"b\" :123456789012345678901234567890 } ";
    assert_eq!(shown(&object(text).without(&["d"])), text);
    assert_eq!(shown(&object(text).without(&["b"])), " { \"a\" : NaN\n, \"c\":\"\\ud800\" } ");
    assert_eq!(
        shown(&object(text).without(&["a"])),
        " { \"b\": [1, 2 ]\n, \"c\":\"\\ud800\", \"b\" :123456789012345678901234567890 } "
    );
    assert_eq!(shown(&object(text).without(&["a", "b", "c"])), " {  } ");
}

#[test]
fn putting_in_works_wherever_there_are_no_fields() {
    let (first, last) = (Members::new().number("f", 1), Members::new().number("l", 2));
    let splice = |text: &str, cut: &[&str]| {
        let both = object(text).splice(cut, &first, &last);
        let behind = object(text).splice(cut, &Members::new(), &last);
        (shown(&both).to_owned(), shown(&behind).to_owned())
    };
    let made = |both: &str, behind: &str| (both.to_owned(), behind.to_owned());
    assert_eq!(splice("{}", &[]), made(r#"{"f":1,"l":2}"#, r#"{"l":2}"#));
    assert_eq!(splice(r#"{"a":0}"#, &[]), made(r#"{"f":1,"a":0,"l":2}"#, r#"{"a":0,"l":2}"#));
    assert_eq!(splice(r#"{"a":0}"#, &["a"]), made(r#"{"f":1,"l":2}"#, r#"{"l":2}"#));
    assert_eq!(splice(r#"{"a":0, "b":1}"#, &["a"]), made(r#"{"f":1, "b":1,"l":2}"#, r#"{"b":1,"l":2}"#));
}

#[test]
fn the_last_of_several_fields_counts() {
    let frame = object(r#"{"a": 1, "\u0061": "x\ud83d\ude00", "b\ud800": 2}"#);
    assert_eq!(frame.get("a").unwrap().as_text().as_deref(), Some("x😀"));
    assert_eq!(shown(&frame.without(&["a"])), r#"{"b\ud800": 2}"#);
}

#[test]
fn what_is_no_object_is_told_apart() {
    let verdict = |text: &[u8]| Object::parse(text).err();
    for other in ["[]", "1", " NaN ", "\"{}\"", "null"] {
        assert_eq!(verdict(other.as_bytes()), Some(ParseError::NotAnObject), "{other}");
    }
    for broken in ["", " ", "{", "{}{}", "[] x", "\u{feff}{}", "{\"a\":1,}", "{\"a\" 1}", "{'a':1}", "{\"\x1f\":1}"] {
        assert_eq!(verdict(broken.as_bytes()), Some(ParseError::NotJson), "{broken}");
    }
    assert_eq!(verdict(b"{\"\xff\":1}"), Some(ParseError::NotUtf8));
}

#[test]
fn the_end_of_a_string_is_found_wherever_it_is() {
    for special in [0, 0x1f, b'"', b'\\'] {
        for plain in [0x20, b'!', b'#', b'[', b']', 0x7f, 0x80, 0x9f, 0xa2, 0xdc, 0xff] {
            for place in 0..20 {
                let mut text = [plain; 21];
                text[place] = special;
                text[20] = special;
                assert_eq!(string::first_special(&text, 0), Some(place));
                assert_eq!(string::first_special(&text[..20], place + 1), None);
            }
        }
    }
}

#[test]
fn written_strings_are_read_back() {
    let text: String = (0..0x250).filter_map(char::from_u32).chain("😀\u{2028}".chars()).collect();
    let written = Members::new().text(&text, &text).texts("all", [&text, "x"]).into_object();
    let strict: serde_json::Value = serde_json::from_slice(&written).unwrap();
    assert_eq!(strict[&text], text);
    assert_eq!(strict["all"], json!([text, "x"]));
    assert_eq!(Object::parse(&written).unwrap().get(&text).unwrap().as_text().as_deref(), Some(&*text));
}
