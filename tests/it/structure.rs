//! The map in `ARCHITECTURE.md` is true: imports point downward, and each outside library is named where it belongs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each module of the crate, and what it may import of the others.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("id", &[]),
    ("clock", &[]),
    ("code", &[]),
    ("metrics", &[]),
    ("new_file", &[]),
    ("config", &["id"]),
    ("telemetry", &["config"]),
    ("auth", &["config", "clock", "id"]),
    ("protocol", &["code", "id"]),
    ("invocation", &["clock", "code", "id"]),
    ("journal", &["invocation", "new_file", "clock", "code", "id"]),
    ("record", &["journal", "invocation", "protocol", "clock", "code", "id"]),
    ("router", &["journal", "metrics", "protocol", "auth", "invocation", "clock", "code", "id"]),
    ("session", &["router", "journal", "protocol", "auth", "clock", "code", "id"]),
    (
        "http",
        &[
            "record",
            "metrics",
            "session",
            "router",
            "journal",
            "protocol",
            "invocation",
            "auth",
            "config",
            "clock",
            "code",
            "id",
        ],
    ),
    ("app", &["http", "session", "router", "journal", "invocation", "auth", "config", "clock"]),
    (
        "cli",
        &[
            "record",
            "protocol",
            "app",
            "journal",
            "auth",
            "config",
            "telemetry",
            "new_file",
            "invocation",
            "clock",
            "id",
        ],
    ),
];

/// Libraries that only some modules may name.
const BELONGS_TO: &[(&str, &[&str])] = &[
    ("sqlx", &["journal"]),
    ("rusqlite", &["journal"]),
    ("rustix", &["journal"]),
    ("axum", &["http", "session"]),
    ("utoipa", &["http", "record"]),
    ("utoipa_axum", &["http"]),
    ("utoipa_swagger_ui", &["http"]),
    ("prometheus", &["metrics"]),
    ("csv", &["record"]),
    ("subtle", &["config"]),
    ("jsonwebtoken", &["auth"]),
    ("chacha20poly1305", &["auth"]),
    ("hkdf", &["auth"]),
    ("clap", &["cli"]),
];

#[test]
fn imports_point_downward() {
    let mut wrong = Vec::new();
    for (module, file, text) in sources() {
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == module) else {
            panic!("src/{module} is not on the map: say in {} what it may import", file!());
        };
        for imported in crate_paths(&text) {
            if imported != module && !allowed.contains(&imported.as_str()) {
                wrong.push(format!("{} imports {imported}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "imports that do not point downward:\n{}", wrong.join("\n"));
}

#[test]
fn each_library_is_named_where_it_belongs() {
    let mut wrong = Vec::new();
    for (module, file, text) in sources() {
        for (library, homes) in BELONGS_TO {
            let named = text.contains(&format!("{library}::")) || text.contains(&format!("use {library};"));
            if named && !homes.contains(&module.as_str()) {
                wrong.push(format!("{} names {library}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "libraries named outside their place:\n{}", wrong.join("\n"));
}

/// Whatever compares a key goes through the one file that does so in constant time: nobody else can see what is in one.
#[test]
fn keys_are_compared_in_one_place_and_in_constant_time() {
    let secret =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/secret.rs")).expect("a source");
    let code = secret.split("#[cfg(test)]").next().expect("it has code");
    for fields in ["pub struct ApiKey([u8; 32]);", "pub struct SecretKey(Box<[u8]>);"] {
        assert!(code.contains(fields), "what is in a key is private: {fields}");
    }
    let comparisons = code.lines().filter(|line| line.contains("ct_eq(")).count();
    assert_eq!(comparisons, 4, "each way to compare keys: two `eq`, `matches` and `is_one_of`");
    assert!(!code.contains(".0 =="), "no key is compared byte by byte");
    let elsewhere: Vec<_> = sources()
        .into_iter()
        .filter(|(_, file, text)| text.contains("ct_eq(") && !file.ends_with("config/secret.rs"))
        .map(|(_, file, _)| file)
        .collect();
    assert!(elsewhere.is_empty(), "{elsewhere:?}");
}

/// The modules that a file names by `crate::…`, in lists too.
fn crate_paths(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        let names = rest.strip_prefix('{').map_or(rest, |list| list.split_once('}').map_or(list, |(list, _)| list));
        let several = rest.starts_with('{');
        for name in names.split(if several { ',' } else { ':' }).take(if several { usize::MAX } else { 1 }) {
            let name: String = name.trim().chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
            if MAY_IMPORT.iter().any(|(module, _)| *module == name) {
                found.insert(name);
            }
        }
    }
    found
}

/// Every source file: the module of the crate that it belongs to, its path, and its code without comments.
fn sources() -> Vec<(String, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files
        .into_iter()
        .filter_map(|path| {
            let inside = path.strip_prefix(&root).expect("below the root");
            let module = inside.components().next()?.as_os_str().to_str()?.trim_end_matches(".rs").to_owned();
            let text = fs::read_to_string(&path).expect("a source");
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
            (module != "lib" && module != "main").then_some((module, path, code))
        })
        .collect()
}
