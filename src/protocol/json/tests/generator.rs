//! Random texts that are JSON, or nearly.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// Keys that texts are made of, and looked up by.
pub(super) const NAMES: [&str; 5] = ["a", "agent_uuid", "é😀", "a\n\"", ""];

const SPELLINGS: [&str; 12] = [
    "a",
    r"\u0061",
    "agent_uuid",
    r"agent\u005Fuuid",
    "é😀",
    r"\u00e9\ud83d\ude00",
    r"é\uD83D\uDE00",
    r#"a\n\""#,
    r"a\u000a\u0022",
    "",
    r"a\ud800",
    "other",
];

const WHITESPACE: [&str; 8] = ["", "", "", " ", "\n", "\t", "\r\n", "  "];

const SCALARS: [&str; 22] = [
    "0",
    "-0",
    "1",
    "-1",
    "18446744073709551615",
    "18446744073709551616",
    "123456789012345678901234567890",
    "1.5",
    "1e5",
    "1E-400",
    "1e+400",
    "-1E400",
    "0.0",
    "-0.0e3",
    "10",
    "NaN",
    "Infinity",
    "-Infinity",
    "true",
    "false",
    "null",
    "\"\"",
];

const NO_SCALARS: [&str; 17] = [
    "01",
    "1.",
    "1.e5",
    ".5",
    "-",
    "+1",
    "nul",
    "nan",
    "Inf",
    "-NaN",
    "1e",
    "1e+",
    "0x1",
    "\u{feff}0",
    "'a'",
    "\"",
    "--1",
];

const FRAGMENTS: [&str; 17] = [
    "plain text of some length",
    "x",
    "é",
    "😀",
    "\u{7f}",
    "\u{2028}",
    r"\n",
    r"\\",
    r#"\""#,
    r"\/",
    r"\b\f\r\t",
    r"\u0000",
    r"\u0041",
    r"\ud83d\ude00",
    r"\uD800",
    r"\udc00\ud800",
    r"\udc00\udfff",
];

const NO_FRAGMENTS: [&str; 9] = ["\n", "\t", "\0", "\u{1f}", r"\x", r"\u12g4", r"\u123", r"\U00000041", r"\ud800\u12"];

const STRAY: [&str; 14] = ["{", "}", "[", "]", ",", ":", "\"", "\\", " ", "\u{a0}", "0", "u", "\u{b}", "\u{c}"];

/// One text.
pub(super) fn text(rng: &mut StdRng) -> String {
    let mut text = String::new();
    space(rng, &mut text);
    if rng.random_bool(0.9) {
        object(rng, 0, &mut text);
    } else {
        value(rng, 0, &mut text);
    }
    space(rng, &mut text);
    if rng.random_bool(0.25) {
        mutate(rng, &mut text);
    }
    text
}

fn mutate(rng: &mut StdRng, text: &mut String) {
    let at = text.floor_char_boundary(rng.random_range(0..=text.len()));
    if rng.random_bool(0.5) && at < text.len() {
        text.remove(at);
    }
    if rng.random_bool(0.5) {
        text.insert_str(at, pick(rng, &STRAY));
    }
}

fn pick<'a>(rng: &mut StdRng, from: &[&'a str]) -> &'a str {
    from.choose(rng).copied().unwrap_or_default()
}

fn space(rng: &mut StdRng, out: &mut String) {
    out.push_str(pick(rng, &WHITESPACE));
}

fn value(rng: &mut StdRng, depth: u32, out: &mut String) {
    match rng.random_range(0..if depth < 4 { 10 } else { 6 }) {
        0..3 => {
            let scalars: &[&str] = if rng.random_bool(0.01) { &NO_SCALARS } else { &SCALARS };
            out.push_str(pick(rng, scalars));
        }
        3..6 => string(rng, out),
        6..8 => array(rng, depth + 1, out),
        _ => object(rng, depth + 1, out),
    }
}

fn string(rng: &mut StdRng, out: &mut String) {
    out.push('"');
    for _ in 0..rng.random_range(0..4) {
        let fragments: &[&str] = if rng.random_bool(0.01) { &NO_FRAGMENTS } else { &FRAGMENTS };
        out.push_str(pick(rng, fragments));
    }
    out.push('"');
}

fn array(rng: &mut StdRng, depth: u32, out: &mut String) {
    out.push('[');
    space(rng, out);
    for index in 0..rng.random_range(0..4) {
        if index > 0 {
            out.push(',');
            space(rng, out);
        }
        value(rng, depth, out);
        space(rng, out);
    }
    out.push(']');
}

fn object(rng: &mut StdRng, depth: u32, out: &mut String) {
    out.push('{');
    space(rng, out);
    for index in 0..rng.random_range(0..5) {
        if index > 0 {
            out.push(',');
            space(rng, out);
        }
        out.push('"');
        out.push_str(pick(rng, &SPELLINGS));
        out.push('"');
        space(rng, out);
        out.push(':');
        space(rng, out);
        value(rng, depth, out);
        space(rng, out);
    }
    out.push('}');
}
