//! How long files may be.

use crate::tree::{Tree, Violation};

/// Lines of a Rust file, beyond which it needs a reason.
pub const FILE_LINES: usize = 500;

/// Lines of tests within a file, beyond which they belong in a file of their own.
pub const INLINE_TEST_LINES: usize = 150;

/// Bytes of any file of the repository.
pub const FILE_BYTES: u64 = 1 << 20;

/// Files that are longer, each with the reason why one file is easier to read than two.
pub const LONG_FILES: &[(&str, &str)] = &[];

/// No file has more than 500 lines but those with a reason; tests and benchmarks are exempt.
pub fn files_are_short(tree: &Tree, long_files: &[(&str, &str)]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (file, source) in tree.shipped_rust() {
        let lines = source.lines.len();
        let is_listed = long_files.iter().any(|(path, _)| *path == file.path);
        if lines > FILE_LINES && !is_listed {
            let what = format!("{lines} lines, where {FILE_LINES} is the limit");
            violations.push(Violation::new(&file.path, 0, what));
        } else if lines <= FILE_LINES && is_listed {
            let what = "is short again: take it off the list of long files";
            violations.push(Violation::new(&file.path, 0, what));
        }
    }
    violations
}

/// Tests of more than 150 lines have a file of their own.
pub fn tests_within_files_are_short(tree: &Tree) -> Vec<Violation> {
    tree.shipped_rust()
        .filter_map(|(file, source)| {
            let lines = source.lines.iter().filter(|line| line.is_test).count();
            let first = source.numbered().find(|(_, line)| line.is_test)?.0;
            let what = format!(
                "{lines} lines of tests: past {INLINE_TEST_LINES} they belong in a file of their own"
            );
            (INLINE_TEST_LINES < lines).then(|| Violation::new(&file.path, first, what))
        })
        .collect()
}

/// No file is larger than one mebibyte.
pub fn files_are_small(tree: &Tree) -> Vec<Violation> {
    tree.files
        .iter()
        .filter(|file| FILE_BYTES < file.bytes)
        .map(|file| {
            let what = format!("{} bytes, where {FILE_BYTES} is the limit", file.bytes);
            Violation::new(&file.path, 0, what)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_file_is_found_and_a_listed_one_that_is_short_again_too() {
        let long = "fn f();\n".repeat(FILE_LINES + 1);
        let limit = "fn f();\n".repeat(FILE_LINES);
        let tree = Tree::of(&[
            ("crates/a/src/long.rs", &long),
            ("crates/a/src/limit.rs", &limit),
            ("crates/a/src/table.rs", &long),
            ("crates/a/src/short.rs", ""),
            ("crates/a/tests/long.rs", &long),
        ]);
        let listed = [("crates/a/src/table.rs", "a table"), ("crates/a/src/short.rs", "once long")];
        let found: Vec<String> =
            files_are_short(&tree, &listed).iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "crates/a/src/long.rs: 501 lines, where 500 is the limit",
                "crates/a/src/short.rs: is short again: take it off the list of long files"
            ]
        );
    }

    #[test]
    fn long_tests_within_a_file_are_found() {
        let tests = |lines: usize| {
            format!("fn f() {{}}\n#[cfg(test)]\nmod tests {{\n{}}}\n", "x();\n".repeat(lines - 3))
        };
        let (over, limit) = (tests(INLINE_TEST_LINES + 1), tests(INLINE_TEST_LINES));
        let tree = Tree::of(&[("crates/a/src/a.rs", &over), ("crates/a/src/b.rs", &limit)]);
        let found = tests_within_files_are_short(&tree);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].file.as_str(), found[0].line), ("crates/a/src/a.rs", 2));
    }

    #[test]
    fn a_large_file_is_found() {
        let large = "x".repeat(FILE_BYTES as usize + 1);
        assert_eq!(files_are_small(&Tree::of(&[("a", &large), ("b", "x")])).len(), 1);
    }
}
