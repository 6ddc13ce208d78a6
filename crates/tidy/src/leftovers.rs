//! What must not stay in code: notes to oneself, silenced warnings, second versions, panics on input.

use crate::source::{find_path, words};
use crate::tree::{Tree, Violation};

/// Marks in comments that say the work is not done.
const NOTES: &[&str] = &["TODO", "FIXME", "XXX"];

/// Code that is not meant to stay, spaces left out.
const CODE: &[&str] = &[
    "dbg!(",
    "todo!(",
    "unimplemented!(",
    "allow(dead_code",
    "expect(dead_code",
    "allow(unused",
    "allow(clippy::too_many_lines",
    "allow(clippy::too_many_arguments",
    "#[ignore",
];

/// Names that say nothing of what is in a module.
const EMPTY_NAMES: &[&str] =
    &["utils", "util", "common", "misc", "helpers", "helper", "shared", "stuff"];

/// Files that read environment variables, with the reason.
const READS_ENVIRONMENT: &[(&str, &str)] = &[
    ("crates/catalogue/src/cache.rs", "where caches belong is an outside convention (XDG)"),
    ("crates/catalogue/src/hub/settings.rs", "all clients of the hub read the same variables"),
    ("crates/fuzz/src/lib.rs", "arguments of a test binary are its harness's"),
];

/// Files that ask for the time of day, with the reason.
const READS_WALL_CLOCK: &[(&str, &str)] = &[
    ("crates/bench/src/arrival.rs", "a load test says when it began"),
    ("crates/cli/src/bench.rs", "a seed, where none is given and the server is not ours"),
    ("crates/server/src/unix_time.rs", "`created` and `timestamp` of replies"),
];

/// Crates whose tests have a fake clock or need none; the others meet real sockets and processes.
const TIMELESS: &[&str] = &["engine", "kernels", "text", "sampling", "model", "workload", "tidy"];

/// No notes of unfinished work and no silenced warnings, in tests neither.
pub fn are_gone(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (file, source) in tree.rust() {
        for (number, line) in source.numbered() {
            let note = NOTES.iter().find(|note| find_path(&line.comment, note).is_some());
            let code: String = line.code.split_whitespace().collect();
            let left = CODE.iter().find(|left| code.contains(*left));
            for what in [note, left].into_iter().flatten() {
                violations.push(Violation::new(&file.path, number, format!("`{what}`")));
            }
        }
    }
    for file in tree.files.iter().filter(|file| is_script(&file.path)) {
        for (index, line) in file.text.lines().enumerate() {
            let comment = line.split_once('#').map_or("", |(_, comment)| comment);
            if let Some(note) = NOTES.iter().find(|note| find_path(comment, note).is_some()) {
                violations.push(Violation::new(&file.path, index + 1, format!("`{note}`")));
            }
        }
    }
    violations
}

fn is_script(path: &str) -> bool {
    [".toml", ".sh", ".ci/run"].iter().any(|end| path.ends_with(end))
}

/// No name says that it is the second or the new one: the new way replaces the old one.
pub fn names_have_no_version(tree: &Tree) -> Vec<Violation> {
    let kinds = ["fn", "struct", "enum", "trait", "type", "mod", "const", "static"];
    each_shipped_name(tree, &kinds, |name| {
        let is_version = |mark: char| {
            name.rsplit_once(mark).is_some_and(|(before, number)| {
                !before.is_empty() && matches!(number, "2" | "3" | "4" | "5")
            })
        };
        let is_old = ["_new", "_old", "New", "Old"].iter().any(|end| name.ends_with(end));
        let is_numbered = is_version('V') || (name.contains("_v") && is_version('v'));
        (is_old || is_numbered)
            .then(|| format!("`{name}`: say what it does differently, or replace the old one"))
    })
}

/// No module is a place for whatever has no place.
pub fn modules_have_a_subject(tree: &Tree) -> Vec<Violation> {
    let advice = "says nothing of what is in it: name it for that";
    let mut violations: Vec<Violation> = tree
        .rust()
        .filter(|(file, _)| {
            let stems = file.path.split('/').map(|part| part.trim_end_matches(".rs"));
            stems.skip(1).any(|stem| EMPTY_NAMES.contains(&stem))
        })
        .map(|(file, _)| Violation::new(&file.path, 0, format!("its path {advice}")))
        .collect();
    violations.extend(each_shipped_name(tree, &["mod"], |name| {
        EMPTY_NAMES.contains(&name).then(|| format!("module `{name}` {advice}"))
    }));
    violations
}

/// Booleans are positive: `prefix_cache`, never its opposite.
pub fn booleans_are_positive(tree: &Tree) -> Vec<Violation> {
    let negative = ["no_", "not_", "disable_", "without_", "skip_no_"];
    let mut violations = Vec::new();
    for (file, source) in tree.shipped_rust() {
        for (number, line) in source.shipped() {
            for (at, _) in line.code.match_indices(": bool") {
                let name = words(&line.code[..at]).last().unwrap_or_default();
                if negative.iter().any(|start| name.starts_with(start)) {
                    let what =
                        format!("`{name}: bool` is negative: name what is so when it is true");
                    violations.push(Violation::new(&file.path, number, what));
                }
            }
        }
    }
    violations
}

/// No `unwrap()` outside tests: `expect` says why it holds.
pub fn nothing_is_unwrapped(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (file, source) in tree.shipped_rust() {
        let raw: Vec<&str> = file.text.lines().collect();
        for (number, line) in source.shipped() {
            let is_empty = raw[number - 1].contains(".expect(\"\")");
            if line.code.contains(".unwrap()") || (line.code.contains(".expect(") && is_empty) {
                let what = "unwraps: give an error, or `expect(\"why this holds\")`";
                violations.push(Violation::new(&file.path, number, what));
            }
        }
    }
    violations
}

/// No switches from the environment: an option is typed, documented and tested.
pub fn environment_is_not_read(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (file, source) in tree.shipped_rust() {
        if READS_ENVIRONMENT.iter().any(|(path, _)| *path == file.path) {
            continue;
        }
        for (number, line) in source.shipped() {
            if ["env::var", "env::vars", "env::var_os"]
                .iter()
                .any(|p| find_path(&line.code, p).is_some())
            {
                let what = "reads an environment variable: make it a command-line option";
                violations.push(Violation::new(&file.path, number, what));
            }
        }
    }
    violations
}

/// Nothing is measured with the time of day, which may jump.
pub fn wall_clock_only_stamps(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (file, source) in tree.shipped_rust() {
        if READS_WALL_CLOCK.iter().any(|(path, _)| *path == file.path) {
            continue;
        }
        for (number, line) in source.shipped() {
            if find_path(&line.code, "SystemTime::now").is_some() {
                let what = "asks for the time of day, which may jump: `Instant` and `Clock` do not";
                violations.push(Violation::new(&file.path, number, what));
            }
        }
    }
    violations
}

/// Tests do not sleep where time can be faked.
pub fn tests_do_not_sleep(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (file, source) in tree.rust() {
        let folder = file.path.split('/').nth(1).unwrap_or_default();
        if !TIMELESS.contains(&folder) {
            continue;
        }
        for (number, line) in source.numbered() {
            if (line.is_test || file.is_test) && find_path(&line.code, "sleep").is_some() {
                let what = "sleeps: use the fake clock, or wait for the event itself";
                violations.push(Violation::new(&file.path, number, what));
            }
        }
    }
    violations
}

/// Asks `judge` about every name that shipped code defines with one of the keywords `kinds`.
fn each_shipped_name(
    tree: &Tree,
    kinds: &[&str],
    judge: impl Fn(&str) -> Option<String>,
) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (file, source) in tree.shipped_rust() {
        for (number, line) in source.shipped() {
            let words: Vec<&str> = words(&line.code).collect();
            for pair in words.windows(2).filter(|pair| kinds.contains(&pair[0])) {
                if let Some(what) = judge(pair[1]) {
                    violations.push(Violation::new(&file.path, number, what));
                }
            }
        }
    }
    violations
}

#[cfg(test)]
mod tests;
