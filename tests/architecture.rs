//! The rules of the house that a compiler does not know: who may import whom, how long a file may be, and that
//! every module says what it is for.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Longer files hold two things.
const LINES_MAX: usize = 600;

/// For each module the modules of this crate that it may import (itself is always allowed). What is not listed may
/// not exist: a new module has to find its place here first.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    // crates of the workspace; their manifests say the same to the compiler
    ("vocabulary", &[]),
    ("core", &["vocabulary"]),
    ("jail", &[]),
    ("sandbox", &["jail", "vocabulary"]),
    // modules of the package
    ("tls", &[]),
    ("runner", &["jail", "protocol", "sandbox", "vocabulary"]),
    ("compiler", &["core", "jail", "sandbox", "vocabulary"]),
    ("receipt", &["core", "vocabulary"]),
    ("protocol", &["core", "receipt", "store", "vocabulary"]),
    // what a handshake that failed means
    ("agent", &["compiler", "core", "protocol", "receipt", "runner", "sandbox", "tls", "vocabulary"]),
    ("store", &["core", "receipt", "vocabulary"]),
    ("blobs", &["core", "store", "vocabulary"]),
    (
        "coordinator",
        &[
            "agent",
            "blobs",
            "compiler",
            "core",
            "protocol",
            "receipt",
            "sandbox",
            "store",
            "tls",
            "vocabulary",
        ],
    ),
    ("config", &["core", "vocabulary"]),
    // `worker` and `verify --replay` start an agent as `serve` starts a coordinator
    (
        "cli",
        &[
            "agent",
            "compiler",
            "config",
            "coordinator",
            "protocol",
            "receipt",
            "sandbox",
            "tls",
            "vocabulary",
        ],
    ),
    ("main", &["agent", "cli", "compiler", "config", "coordinator", "runner"]),
    ("lib", &[]),
];

/// The modules of `vocabulary`, which `lib.rs` shows under their own names.
const VOCABULARY: &[&str] = &["class", "digest", "id", "network", "result", "spec", "tree", "units"];

/// Words that must not occur in a module's code: the absences that make it what it is.
const MUST_NOT_MENTION: &[(&str, &[&str])] = &[
    (
        "core",
        &[
            "tokio",
            "std::time",
            "serde",
            "tracing",
            "getrandom",
            "std::fs",
            "std::net",
            "RandomState",
            "async ",
        ],
    ),
    ("coordinator/http", &["crate::store::Store;", "dyn Store", "rusqlite", "wasmtime"]),
    ("store", &["axum", "wasmtime"]),
    ("protocol", &["axum", "rusqlite", "wasmtime", "tokio"]),
];

/// Every source file of the workspace: its path without `src`, as `core/pool.rs` or `agent/mod.rs`, and its text.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    collect(&root.join("src"), "", &mut found);
    for entry in fs::read_dir(root.join("crates")).expect("crates can be read") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().into_string().expect("a plain name");
        collect(&entry.path().join("src"), &format!("{name}/"), &mut found);
    }
    // tests beside a module may use anything
    found.retain(|(name, _)| {
        !name.ends_with("tests.rs")
            && !name.ends_with("testing.rs")
            && !name.contains("tests/")
            && !name.contains("conformance")
    });
    found.sort();
    assert!(found.len() > 20, "the walk finds the sources");
    found
}

fn collect(root: &Path, prefix: &str, found: &mut Vec<(String, String)>) {
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder of sources can be read") {
            let path: PathBuf = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let name = path.strip_prefix(root).expect("below its root").to_string_lossy();
                found.push((format!("{prefix}{name}"), fs::read_to_string(&path).expect("a source file")));
            }
        }
    }
}

/// The module, or the crate of the workspace, that a file belongs to.
fn module_of(name: &str) -> &str {
    let first = name.split('/').next().expect("a path has a part");
    first.strip_suffix(".rs").unwrap_or(first)
}

/// The code without comments and without the tests at its end: both may name anything.
fn code_of(text: &str) -> String {
    let code = text.split("#[cfg(test)]").next().expect("split gives a part");
    code.lines()
        .map(|line| line.split("//").next().expect("split gives a part"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Modules and crates that the code of a file of `module` names.
fn imports<'a>(module: &str, code: &'a str) -> Vec<&'a str> {
    let is_crate = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates").join(module).is_dir();
    let mut found = Vec::new();
    for path in ["crate::", "vocabulary::", "lockstep_core::", "sandbox::", "jail::"] {
        for rest in code.split(path).skip(1) {
            let next = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("");
            found.push(match path {
                // inside a crate of the workspace these are its own modules
                "crate::" if is_crate => continue,
                "crate::" if VOCABULARY.contains(&next) => "vocabulary",
                "crate::" => next,
                "lockstep_core::" => "core",
                other => other.trim_end_matches(':'),
            });
        }
    }
    found
}

#[test]
fn modules_import_only_what_they_may() {
    let allowed: BTreeMap<_, _> = MAY_IMPORT.iter().copied().collect();
    let mut wrong = Vec::new();
    for (name, text) in sources() {
        let module = module_of(&name);
        let Some(may) = allowed.get(module) else {
            wrong.push(format!("{name}: module `{module}` has no row in MAY_IMPORT"));
            continue;
        };
        for import in imports(module, &code_of(&text)) {
            let is_known = allowed.contains_key(import);
            if module != "lib" && is_known && import != module && !may.contains(&import) {
                wrong.push(format!("{name}: `{module}` may not import `{import}`"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_the_sandbox_knows_the_engine_and_only_the_store_the_database() {
    let owners = [
        ("wasmtime::", "sandbox"),
        ("rusqlite::", "store"),
        ("object_store::", "blobs"),
        ("axum::", "coordinator"),
        ("rcgen::", "tls"),
        // who trusts whom is decided in one place
        (".dangerous()", "tls"),
    ];
    let mut wrong = Vec::new();
    for (name, text) in sources() {
        let code = code_of(&text);
        for (word, owner) in owners {
            if code.contains(word) && module_of(&name) != owner {
                wrong.push(format!("{name}: only `{owner}` may use `{word}`"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn modules_do_not_mention_what_they_must_not_know() {
    let mut wrong = Vec::new();
    for (name, text) in sources() {
        let code = code_of(&text);
        for (place, words) in MUST_NOT_MENTION {
            if name.starts_with(place) {
                let found = words.iter().filter(|word| code.contains(**word));
                wrong.extend(found.map(|word| format!("{name}: must not mention `{word}`")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_module_says_what_it_is_for_and_stays_short() {
    let mut wrong = Vec::new();
    for (name, text) in sources() {
        if !text.starts_with("//!") {
            wrong.push(format!("{name}: begins without `//!`"));
        }
        let lines = text.split("#[cfg(test)]").next().expect("split gives a part").lines().count();
        if lines > LINES_MAX {
            wrong.push(format!("{name}: {lines} lines of code, at most {LINES_MAX}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nothing_unfinished_is_left_in_the_sources() {
    // put together, so that this file does not find itself
    let marks = [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["XX", "X"].concat(), ["todo", "!"].concat()];
    let mut wrong = Vec::new();
    for (name, text) in sources() {
        wrong
            .extend(marks.iter().filter(|mark| text.contains(*mark)).map(|mark| format!("{name}: `{mark}`")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
