//! Where `unsafe` may stand, and what must stand above it.

use crate::source::{Line, Source, find_path, words};
use crate::tree::{Tree, Violation};

/// The one crate with `unsafe` in it.
const HOME: &str = "crates/kernels/";

/// Every other crate forbids `unsafe`, and has none in its tests either.
pub fn stays_in_kernels(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (root, source) in tree.crate_roots().filter(|(root, _)| !root.path.starts_with(HOME)) {
        if !source.code().contains("#![forbid(unsafe_code)]") {
            violations.push(Violation::new(&root.path, 1, "lacks `#![forbid(unsafe_code)]`"));
        }
    }
    for (file, source) in tree.rust().filter(|(file, _)| !file.path.starts_with(HOME)) {
        for (number, _) in source.numbered().filter(|(_, line)| has_unsafe(line)) {
            violations.push(Violation::new(&file.path, number, "`unsafe` outside `kernels`"));
        }
    }
    violations
}

/// Each `unsafe` block, `impl` and attribute has a `// SAFETY:` comment above it, and each `unsafe fn`
/// and `unsafe trait` a `# Safety` section in its docs.
pub fn is_explained(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (file, source) in tree.rust() {
        for (number, line) in source.numbered().filter(|(_, line)| has_unsafe(line)) {
            let what = match kind(source, number - 1, line) {
                Kind::Contract if !is_above(source, number - 1, "# Safety") => {
                    "no `# Safety` section in the docs above: what must the caller see to?"
                }
                Kind::Use if !is_above(source, number - 1, "SAFETY:") => {
                    "no `// SAFETY:` comment above: which check makes this sound?"
                }
                _ => continue,
            };
            violations.push(Violation::new(&file.path, number, what));
        }
    }
    violations
}

fn has_unsafe(line: &Line) -> bool {
    find_path(&line.code, "unsafe").is_some()
}

enum Kind {
    /// Says that callers have something to see to.
    Contract,
    /// Does what is unsafe.
    Use,
    /// The type of a pointer to a function.
    Type,
}

fn kind(source: &Source, index: usize, line: &Line) -> Kind {
    let start = find_path(&line.code, "unsafe").expect("only lines with it are asked about");
    let mut after = line.code[start..].trim_start_matches("unsafe").trim_start().to_owned();
    if after.is_empty() {
        after =
            source.lines.get(index + 1).map(|next| next.code.trim().to_owned()).unwrap_or_default();
    }
    let declares = |word: &str| words(&after).next() == Some(word);
    let function = find_path(&after, "fn").map(|at| after[at + 2..].trim_start());
    match function {
        _ if after.starts_with('{') || declares("impl") => Kind::Use,
        _ if declares("trait") => Kind::Contract,
        Some(rest) if rest.starts_with('(') => Kind::Type,
        Some(_) if declares("fn") || declares("extern") => Kind::Contract,
        _ => Kind::Use,
    }
}

/// Whether `mark` is in a comment on this line or above it, with nothing between but comments,
/// attributes and the beginning of the same statement.
fn is_above(source: &Source, index: usize, mark: &str) -> bool {
    if source.lines[index].comment.contains(mark) {
        return true;
    }
    for line in source.lines[..index].iter().rev() {
        let code = line.code.trim();
        let ends_another = code.ends_with([';', '{', '}', ',']);
        if ends_another || (code.is_empty() && line.comment.is_empty()) {
            return false;
        }
        if line.comment.contains(mark) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(text: &str) -> bool {
        is_explained(&Tree::of(&[("crates/kernels/src/a.rs", text)])).is_empty()
    }

    #[test]
    fn a_crate_that_does_not_forbid_it_and_a_use_elsewhere_are_found() {
        let tree = Tree::of(&[
            ("crates/kernels/src/lib.rs", "unsafe {}"),
            ("crates/a/src/lib.rs", "// #![forbid(unsafe_code)]\n"),
            ("crates/b/src/main.rs", "#![forbid(unsafe_code)]\n"),
            ("crates/b/tests/x.rs", "fn f() {\n    unsafe { g() }\n}\n// unsafe\n"),
        ]);
        let found: Vec<String> = stays_in_kernels(&tree).iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "crates/a/src/lib.rs:1: lacks `#![forbid(unsafe_code)]`",
                "crates/b/tests/x.rs:2: `unsafe` outside `kernels`"
            ]
        );
    }

    #[test]
    fn blocks_without_a_reason_are_found() {
        assert!(!explained("let x = unsafe { f() };"));
        assert!(!explained("// SAFETY: checked.\n\nunsafe { f() };"));
        assert!(!explained("// SAFETY: checked.\nunsafe { f() };\nunsafe { f() };"));
        assert!(!explained("// It is fine.\nunsafe impl Send for X {}"));
        assert!(!explained("/// Adds.\npub unsafe fn f() {}"));
        assert!(!explained("// SAFETY: this is no contract.\nunsafe fn f() {}"));
        assert!(!explained(
            "match x {\n    // SAFETY: a.\n    A => unsafe { f() },\n    B => unsafe { g() },\n}"
        ));
    }

    #[test]
    fn explained_ones_pass() {
        assert!(explained("// SAFETY: checked above,\n// twice.\nlet x = unsafe { f() };"));
        assert!(explained("// SAFETY: a.\nlet x =\n    unsafe { f() };"));
        assert!(explained("unsafe { f() } // SAFETY: a."));
        assert!(explained(
            "/// # Safety\n/// Callers see to it.\n#[target_feature(enable = \"\")]\npub unsafe fn f() {}"
        ));
        assert!(explained("type F = unsafe fn(u8) -> u8;"));
        assert!(explained("// SAFETY: X has no pointers.\nunsafe impl Send for X {}"));
        assert!(explained("let s = \"unsafe {}\"; // unsafe {}"));
    }
}
