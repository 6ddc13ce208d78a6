//! The order of modules: each uses only those declared before it, so there are no cycles.

use crate::source::{Source, is_name, words};
use crate::tree::{Tree, Violation};

/// A module uses only modules that the root of its crate declares before it.
///
/// Looks at `crate::NAME` and, in the file of a module itself, at `super::NAME`, in `use` and
/// elsewhere. A name that the root re-exports counts as its module. Test code is free.
pub fn use_only_earlier_ones(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (root_file, root_source) in tree.crate_roots() {
        let root = Root::new(root_source);
        let folder = root_file.path.trim_end_matches("lib.rs").trim_end_matches("main.rs");
        for (file, source) in tree.shipped_rust() {
            let Some(inner) = file.path.strip_prefix(folder) else { continue };
            let (user, is_top) = match inner.split_once('/') {
                Some((module, _)) => (module, false),
                None => (inner.trim_end_matches(".rs"), true),
            };
            if let Some(user) = root.index(user) {
                for (line, name) in names_used(source, is_top) {
                    if let Some(what) = root.objection(user, &name) {
                        violations.push(Violation::new(&file.path, line, what));
                    }
                }
            }
        }
    }
    // `use crate::m::{a, b}` is two names, and one thing to mend.
    violations.dedup();
    violations
}

/// Every module lies where its name says: no `#[path = …]`.
pub fn are_in_their_place(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (file, source) in tree.rust() {
        for (number, _) in source.numbered().filter(|(_, line)| line.code.contains("#[path")) {
            let what = "puts a module elsewhere: give the file the module's name";
            violations.push(Violation::new(&file.path, number, what));
        }
    }
    violations
}

/// What the root of a crate declares.
struct Root {
    /// Its modules, in order.
    modules: Vec<String>,
    /// The names it re-exports, each with its module.
    exports: Vec<(String, String)>,
    /// The names it defines itself.
    defines: Vec<String>,
}

impl Root {
    fn new(source: &Source) -> Self {
        let mut root = Self { modules: Vec::new(), exports: Vec::new(), defines: Vec::new() };
        for (_, line) in source.shipped() {
            // Items inside a body or an inline module are indented.
            if !line.code.starts_with(|c: char| c.is_alphabetic()) {
                continue;
            }
            let words: Vec<&str> = words(&line.code).collect();
            let kinds = ["mod", "fn", "struct", "enum", "trait", "type", "const", "static"];
            let Some(kind) = words.iter().position(|word| kinds.contains(word)) else { continue };
            if let Some(name) = words.get(kind + 1).map(|name| (*name).to_owned()) {
                if words[kind] == "mod" { root.modules.push(name) } else { root.defines.push(name) }
            }
        }
        let code: String = source.shipped().map(|(_, line)| format!("{} ", line.code)).collect();
        for (start, _) in code.match_indices("use ") {
            let tree = code[start + "use ".len()..].split(';').next().unwrap_or_default();
            for path in flatten(tree).iter().filter(|_| !code[..start].ends_with(is_name)) {
                let parts = path.split("::").map(str::trim);
                let parts: Vec<&str> =
                    parts.filter(|part| !matches!(*part, "self" | "crate")).collect();
                if let [module, .., last] = parts[..] {
                    let name = last.rsplit(" as ").next().unwrap_or(last).trim();
                    root.exports.push((name.to_owned(), module.to_owned()));
                }
            }
        }
        root
    }

    fn index(&self, module: &str) -> Option<usize> {
        self.modules.iter().position(|declared| declared == module)
    }

    /// Why the module at index `user` must not use `name` of the root, if so.
    fn objection(&self, user: usize, name: &str) -> Option<String> {
        let export = self.exports.iter().find(|(export, _)| export == name);
        let through = export.map(|(_, module)| module.as_str());
        if let Some(used) = self.index(name).or_else(|| self.index(through?)) {
            let (user_name, used_name) = (&self.modules[user], &self.modules[used]);
            return (user < used).then(|| {
                format!("`{user_name}` uses `{used_name}`, which the root declares after it")
            });
        }
        self.defines.iter().any(|defined| defined == name).then(|| {
            format!(
                "`{}` uses `{name}`, which the root defines for those above it",
                self.modules[user]
            )
        })
    }
}

/// The names behind `crate::` (and `super::` outside all braces, if that is the root) in shipped code.
fn names_used(source: &Source, super_is_root: bool) -> Vec<(usize, String)> {
    let mut used = Vec::new();
    let prefixes: &[&str] = if super_is_root { &["crate::", "super::"] } else { &["crate::"] };
    for (line, tree) in use_trees(source, prefixes) {
        for path in flatten(&tree) {
            let first = path.split("::").next().unwrap_or_default();
            let first = first.split(" as ").next().unwrap_or_default().trim();
            if !first.is_empty() {
                used.push((line, first.to_owned()));
            }
        }
    }
    used
}

/// The path or tree of paths after each of `prefixes`, with its line, in shipped code.
fn use_trees(source: &Source, prefixes: &[&str]) -> Vec<(usize, String)> {
    let code = source.code();
    let mut found = Vec::new();
    for prefix in prefixes {
        for (start, _) in code.match_indices(prefix) {
            let before = &code[..start];
            let line = before.matches('\n').count();
            // `$crate` is for macros; `super` inside braces may belong to an inline module.
            let is_inside = before.matches('{').count() != before.matches('}').count();
            if before.ends_with(|c| is_name(c) || c == '$' || c == ':')
                || source.lines[line].is_test
                || (*prefix == "super::" && is_inside)
            {
                continue;
            }
            found.push((line + 1, tree_text(&code[start + prefix.len()..])));
        }
    }
    found
}

/// The start of `code` that is a path, or a tree of paths with its braces.
fn tree_text(code: &str) -> String {
    let mut depth = 0_usize;
    let end = code.find(|c: char| {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return true,
            '}' => depth -= 1,
            _ => {}
        }
        let belongs = is_name(c) || c == ':' || c == '*' || c == '{' || c == '}';
        depth == 0 && !belongs
    });
    code[..end.unwrap_or(code.len())].split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The paths of a tree of paths: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn flatten(tree: &str) -> Vec<String> {
    let Some((prefix, rest)) = tree.split_once('{') else { return vec![tree.trim().to_owned()] };
    let inner = rest.rsplit_once('}').map_or(rest, |(inner, _)| inner);
    let mut depth = 0_usize;
    let parts = inner.split(|c: char| {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    });
    parts
        .filter(|part| !part.trim().is_empty())
        .flat_map(flatten)
        .map(|path| format!("{}{path}", prefix.trim()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[(&str, &str)]) -> Vec<String> {
        let root = (
            "crates/x/src/lib.rs",
            "mod a;\npub mod b;\nmod c;\npub use c::{D, e::F as G};\npub use c::H as I;\n\npub fn go() {}\n",
        );
        let files: Vec<_> = files.iter().copied().chain([root]).collect();
        use_only_earlier_ones(&Tree::of(&files)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_module_that_uses_a_later_one_is_found_in_every_spelling() {
        for text in [
            "use crate::b;",
            "use crate::{a::X, b::{Y, Z}};",
            "use crate::{\n    a::X,\n    b,\n};",
            "use super::b::Y;",
            "fn f() { crate::b::y() }",
            "use crate::D;",
            "use crate::G;",
            "use crate::I;",
            "use crate::go;",
        ] {
            assert_eq!(check(&[("crates/x/src/a.rs", text)]).len(), 1, "{text}");
        }
        assert_eq!(
            check(&[("crates/x/src/b/inner.rs", "\nuse crate::c::E;")]),
            ["crates/x/src/b/inner.rs:2: `b` uses `c`, which the root declares after it"]
        );
    }

    #[test]
    fn earlier_modules_the_own_one_tests_and_macros_are_free() {
        for text in [
            "use crate::a::X;",
            "use crate::b::inner;",
            "use crate::{a, b};",
            "#[cfg(test)]\nmod tests {\n    use crate::c;\n}",
            "macro_rules! m { () => { $crate::c::x() } }",
            "// use crate::c;",
            "mod inner { use super::c; }",
            "use other::crate_c;",
        ] {
            assert!(check(&[("crates/x/src/b.rs", text)]).is_empty(), "{text}");
        }
    }

    #[test]
    fn a_module_in_a_file_of_another_name_is_found() {
        let text = "#[cfg(test)]\n#[path = \"b_tests.rs\"]\nmod tests;";
        let found = are_in_their_place(&Tree::of(&[("crates/x/src/b.rs", text)]));
        assert_eq!(found.iter().map(|found| found.line).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn trees_of_paths_are_taken_apart() {
        assert_eq!(flatten("a::{b, c::{d, e as f}}"), ["a::b", "a::c::d", "a::c::e as f"]);
        assert_eq!(tree_text("a::{b, c}; rest"), "a::{b, c}");
        assert_eq!(tree_text("a::b(1)"), "a::b");
    }
}
