//! What each crate may depend on, and what each must declare.

use crate::manifest::dependencies;
use crate::tree::{Tree, Violation};

/// Which of our crates each crate may use, by folder; dependencies of tests alone are free.
const MAY_USE: &[(&str, &[&str])] = &[
    ("kernels", &[]),
    ("engine", &[]),
    ("text", &[]),
    ("sampling", &[]),
    ("grammar", &[]),
    ("workload", &[]),
    ("catalogue", &[]),
    ("chromium", &[]),
    ("fuzz", &[]),
    ("mock_hub", &[]),
    ("tidy", &[]),
    ("model", &["kernels", "engine", "text", "sampling", "grammar"]),
    ("server", &["engine", "text", "sampling", "grammar"]),
    ("bench", &["workload", "page"]),
    ("page", &["workload"]),
    ("plan", &["engine", "workload", "page", "model"]),
    (
        ASSEMBLER,
        &[
            "kernels",
            "engine",
            "text",
            "sampling",
            "grammar",
            "workload",
            "catalogue",
            "model",
            "server",
            "bench",
            "page",
            "plan",
        ],
    ),
];

/// The crate that puts the others together.
const ASSEMBLER: &str = "cli";

/// Crates of others that `engine` may use.
const ENGINE_MAY_USE: &[&str] = &["thiserror"];

/// Each crate uses only those of our crates that its row in the table names.
pub fn know_only_their_row(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for folder in tree.crate_folders() {
        let path = format!("crates/{folder}/Cargo.toml");
        let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == folder) else {
            let what = format!("crate `{folder}` has no row in the table of who may use whom");
            violations.push(Violation::new(&path, 0, what));
            continue;
        };
        for dependency in tree.get(&path).map(|f| dependencies(&f.text)).unwrap_or_default() {
            let name = dependency.name.as_str();
            let is_ours = MAY_USE.iter().any(|(ours, _)| *ours == name);
            if is_ours && !dependency.is_dev && !allowed.contains(&name) {
                let what = format!("`{folder}` must not know `{name}`");
                violations.push(Violation::new(&path, dependency.line, what));
            }
        }
    }
    violations
}

/// Every version is chosen once, in the workspace.
pub fn take_versions_from_the_workspace(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for folder in tree.crate_folders() {
        let path = format!("crates/{folder}/Cargo.toml");
        for dependency in tree.get(&path).map(|f| dependencies(&f.text)).unwrap_or_default() {
            if !dependency.is_workspace {
                let what = format!("`{}` does not say `workspace = true`", dependency.name);
                violations.push(Violation::new(&path, dependency.line, what));
            }
        }
    }
    violations
}

/// `engine` uses nothing but what is pinned here.
pub fn engine_uses_only_what_is_pinned(tree: &Tree) -> Vec<Violation> {
    let path = "crates/engine/Cargo.toml";
    let found = tree.get(path).map(|file| dependencies(&file.text)).unwrap_or_default();
    found
        .iter()
        .filter(|found| !found.is_dev && !ENGINE_MAY_USE.contains(&found.name.as_str()))
        .map(|found| {
            let what = format!("`{}` is not among {ENGINE_MAY_USE:?}", found.name);
            Violation::new(path, found.line, what)
        })
        .collect()
}

/// Every crate takes the workspace's lints, which hold the limits on functions and the need of docs.
pub fn take_the_lints_of_the_workspace(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for folder in tree.crate_folders() {
        let path = format!("crates/{folder}/Cargo.toml");
        let text = tree.get(&path).map_or("", |file| &file.text);
        if !text.contains("[lints]\nworkspace = true") {
            violations.push(Violation::new(&path, 0, "lacks `[lints]` with `workspace = true`"));
        }
    }
    for (path, line) in [
        ("Cargo.toml", "too_many_lines = \"warn\""),
        ("Cargo.toml", "too_many_arguments = \"warn\""),
        ("Cargo.toml", "missing_docs = \"warn\""),
        ("Cargo.toml", "unsafe_op_in_unsafe_fn = \"deny\""),
        ("clippy.toml", "too-many-lines-threshold = 70"),
        ("clippy.toml", "too-many-arguments-threshold = 6"),
        ("rustfmt.toml", "max_width = 100"),
        ("rustfmt.toml", "reorder_modules = false"),
    ] {
        if !tree.get(path).is_some_and(|file| file.text.lines().any(|found| found == line)) {
            violations.push(Violation::new(path, 0, format!("lacks the line `{line}`")));
        }
    }
    violations
}

/// The docs at the top of each `lib.rs` say what the crate does not know.
pub fn say_what_they_do_not_know(tree: &Tree) -> Vec<Violation> {
    let says = ["does not know", "knows no", "knows none", "knows nothing"];
    tree.crate_roots()
        .filter(|(file, _)| file.path.ends_with("/lib.rs"))
        .filter(|(_, source)| {
            let docs = source.lines.iter().map(|line| line.comment.trim());
            let docs: Vec<&str> = docs.filter_map(|line| line.strip_prefix("//!")).collect();
            let text = docs.join(" ").split_whitespace().collect::<Vec<_>>().join(" ");
            !says.iter().any(|words| text.contains(words))
        })
        .map(|(file, _)| {
            Violation::new(&file.path, 1, "has no sentence “this crate does not know …”")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(violations: &[Violation]) -> Vec<String> {
        violations.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_forbidden_dependency_is_found_and_one_of_tests_is_not() {
        let tree = Tree::of(&[
            ("crates/server/Cargo.toml", "[dependencies]\nengine.workspace = true\nmodel = {}\n"),
            ("crates/text/Cargo.toml", "[dev-dependencies]\ncatalogue.workspace = true\n"),
            ("crates/novel/Cargo.toml", ""),
        ]);
        assert_eq!(
            lines(&know_only_their_row(&tree)),
            [
                "crates/novel/Cargo.toml: crate `novel` has no row in the table of who may use whom",
                "crates/server/Cargo.toml:3: `server` must not know `model`",
            ]
        );
    }

    #[test]
    fn a_version_of_its_own_is_found() {
        let manifest = "[dependencies]\na.workspace = true\nb = \"1\"\n";
        let tree = Tree::of(&[("crates/text/Cargo.toml", manifest)]);
        assert_eq!(
            lines(&take_versions_from_the_workspace(&tree)),
            ["crates/text/Cargo.toml:3: `b` does not say `workspace = true`"]
        );
    }

    #[test]
    fn a_new_dependency_of_the_engine_is_found() {
        let manifest = "[dependencies]\nthiserror.workspace = true\ntokio.workspace = true\n\
                        [dev-dependencies]\nproptest.workspace = true\n";
        let tree = Tree::of(&[("crates/engine/Cargo.toml", manifest)]);
        assert_eq!(
            lines(&engine_uses_only_what_is_pinned(&tree)),
            ["crates/engine/Cargo.toml:3: `tokio` is not among [\"thiserror\"]"]
        );
    }

    #[test]
    fn a_crate_without_lints_and_a_loosened_limit_are_found() {
        let tree = Tree::of(&[
            ("crates/text/Cargo.toml", "[package]\n"),
            ("clippy.toml", "too-many-lines-threshold = 700\n"),
        ]);
        let found = lines(&take_the_lints_of_the_workspace(&tree));
        assert!(found[0].starts_with("crates/text/Cargo.toml: lacks `[lints]`"), "{found:?}");
        assert!(found.iter().any(|line| line.contains("too-many-lines-threshold = 70`")));
    }

    #[test]
    fn a_crate_that_does_not_say_what_it_does_not_know_is_found() {
        let tree = Tree::of(&[
            ("crates/a/src/lib.rs", "//! Does all. It does\n//! not know files.\n"),
            ("crates/b/src/lib.rs", "//! Does all.\n// It does not know files.\n"),
        ]);
        let found = say_what_they_do_not_know(&tree);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].file, "crates/b/src/lib.rs");
    }
}
