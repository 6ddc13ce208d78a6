//! What every file of the repository, text or code, must name or must not.

use crate::tree::{File, Tree, Violation};

/// Folders at the root of somebody's machine.
const MACHINE_FOLDERS: &[&str] = &["work", "root", "home", "tmp", "Users"];

/// Hosts that packages or models come from, in two parts so that this file does not name them.
const REGISTRIES: &[(&str, &str)] = &[
    ("pypi", "org"),
    ("pythonhosted", "org"),
    ("crates", "io"),
    ("huggingface", "co"),
    ("modelscope", "cn"),
    ("npmjs", "org"),
    ("debian", "org"),
    ("golang", "org"),
];

/// The one file that names one, with the reason.
const NAMES_REGISTRY: (&str, &str) =
    ("crates/catalogue/src/hub/settings.rs", "what HF_ENDPOINT is if it is not set");

/// `ARCHITECTURE.md` names every crate.
pub fn architecture_names_every_crate(tree: &Tree) -> Vec<Violation> {
    let path = "ARCHITECTURE.md";
    let Some(file) = tree.get(path) else { return vec![Violation::new(path, 0, "is missing")] };
    tree.crate_folders()
        .into_iter()
        .filter(|folder| !file.text.contains(&format!("`{folder}`")))
        .map(|folder| Violation::new(path, 0, format!("does not name the crate `{folder}`")))
        .collect()
}

/// No file names a folder of one machine, but in test code, where any path may be an example.
pub fn no_machine_is_named(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in tree.files.iter().filter(|file| !file.is_test) {
        for (index, line) in file.text.lines().enumerate() {
            let found = MACHINE_FOLDERS.iter().find(|folder| names_folder(line, folder));
            if let Some(folder) = found.filter(|_| !is_test_line(file, index)) {
                let what = format!("an absolute path below `/{folder}`");
                violations.push(Violation::new(&file.path, index + 1, what));
            }
        }
    }
    violations
}

fn is_test_line(file: &File, index: usize) -> bool {
    let line = file.rust.as_ref().and_then(|source| source.lines.get(index));
    line.is_some_and(|line| line.is_test)
}

/// Whether `line` holds an absolute path below `folder`, and not a path that goes on to one of its name.
fn names_folder(line: &str, folder: &str) -> bool {
    line.match_indices(&format!("/{folder}/")).any(|(at, _)| {
        !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-/~})*".contains(c))
    })
}

/// No file names the host of a registry: the package clients' own configuration does.
pub fn no_registry_is_named(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    // The lock file is written by cargo, which names the default registry by its usual address.
    let free = ["Cargo.lock", NAMES_REGISTRY.0];
    for file in tree.files.iter().filter(|file| !free.contains(&file.path.as_str())) {
        for (index, line) in file.text.lines().enumerate() {
            for (name, domain) in REGISTRIES {
                let host = format!("{name}.{domain}");
                if line.contains(&host) {
                    violations.push(Violation::new(&file.path, index + 1, format!("names {host}")));
                }
            }
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_that_the_architecture_leaves_out_is_found() {
        let crates = [("crates/a/Cargo.toml", ""), ("crates/b/Cargo.toml", "")];
        let with = |text| {
            let files: Vec<_> = crates.into_iter().chain([("ARCHITECTURE.md", text)]).collect();
            architecture_names_every_crate(&Tree::of(&files)).len()
        };
        assert_eq!(with("`a` and `b`"), 0);
        assert_eq!(with("`a` and b"), 1);
        assert_eq!(architecture_names_every_crate(&Tree::of(&crates)).len(), 1);
    }

    #[test]
    fn paths_of_a_machine_are_found() {
        let count = |path: &str, text: &str| no_machine_is_named(&Tree::of(&[(path, text)])).len();
        for folder in MACHINE_FOLDERS {
            assert_eq!(count("README.md", &format!("run `/{folder}/x`")), 1);
            assert_eq!(count("a.rs", &format!("open(\"/{folder}/x\")")), 1);
            assert_eq!(count("a.rs", &format!("open(\"src/{folder}/x\")")), 0);
            assert_eq!(
                count("a.rs", &format!("#[cfg(test)]\nfn f() {{ open(\"/{folder}/x\") }}")),
                0
            );
            assert_eq!(count("crates/a/tests/b.rs", &format!("open(\"/{folder}/x\")")), 0);
        }
    }

    #[test]
    fn hosts_of_registries_are_found_in_tests_too() {
        for (name, domain) in REGISTRIES {
            let text = format!("get files.{name}.{domain}");
            let files = [("crates/a/tests/b.rs", text.as_str()), ("Cargo.lock", text.as_str())];
            assert_eq!(no_registry_is_named(&Tree::of(&files)).len(), 1);
        }
    }
}
