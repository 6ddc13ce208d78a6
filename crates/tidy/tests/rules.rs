//! The rules of this repository, one test each: what must hold, and why.

use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use tidy::tree::{Tree, Violation};
use tidy::{crates, documents, engine, leftovers, licences, modules, sizes, unsafety};

static TREE: LazyLock<Tree> = LazyLock::new(Tree::read);

/// Fails with the reason of the rule and every place where it does not hold.
#[track_caller]
fn hold(why: &str, violations: Vec<Violation>) {
    let list: Vec<String> = violations.iter().map(|found| format!("  {found}")).collect();
    assert!(list.is_empty(), "{why}\n{}\n", list.join("\n"));
}

#[test]
fn the_rules_see_the_workspace() {
    assert!(TREE.get("Cargo.toml").is_some() && TREE.get("crates/engine/src/lib.rs").is_some());
    assert!(TREE.crate_roots().count() >= TREE.crate_folders().len());
    assert!(TREE.shipped_rust().any(|(_, source)| source.lines.iter().any(|line| line.is_test)));
}

#[test]
fn unsafe_code_stays_in_kernels() {
    let why =
        "Memory errors can come from one crate only, which is small and read with that in mind.";
    hold(why, unsafety::stays_in_kernels(&TREE));
}

#[test]
fn unsafe_code_is_explained() {
    let why = "Whoever changes an unsafe block must know which check it leans on.";
    hold(why, unsafety::is_explained(&TREE));
}

#[test]
fn modules_use_only_earlier_ones() {
    let why = "Without cycles a crate can be read from its first module to its last. Move the \
               declaration up in `lib.rs`, or move what both need into a module before them.";
    hold(why, modules::use_only_earlier_ones(&TREE));
}

#[test]
fn modules_are_in_their_place() {
    let why = "The name of a module is the name of its file; tests are in `NAME/tests.rs`.";
    hold(why, modules::are_in_their_place(&TREE));
}

#[test]
fn crates_know_only_their_row() {
    let why = "The crates are cut by what each must not know (ARCHITECTURE.md).";
    hold(why, crates::know_only_their_row(&TREE));
}

#[test]
fn crates_take_versions_from_the_workspace() {
    let why = "One version of a dependency, chosen in one place: `[workspace.dependencies]`.";
    hold(why, crates::take_versions_from_the_workspace(&TREE));
}

#[test]
fn crates_take_the_lints_of_the_workspace() {
    let why =
        "Functions of at most 70 lines and 6 arguments, 100 columns, docs on all that is public.";
    hold(why, crates::take_the_lints_of_the_workspace(&TREE));
}

#[test]
fn crates_say_what_they_do_not_know() {
    let why = "The sentence “this crate does not know …” is where a reader learns what to look for \
               elsewhere, and a writer what to leave out.";
    hold(why, crates::say_what_they_do_not_know(&TREE));
}

#[test]
fn engine_uses_only_what_is_pinned() {
    let why = "The engine runs in a simulation: a dependency may read clocks, start threads or draw \
               random numbers.";
    hold(why, crates::engine_uses_only_what_is_pinned(&TREE));
}

#[test]
fn engine_is_pure() {
    let why = "A seed must replay: the engine's events are a function of its commands alone.";
    hold(why, engine::is_pure(&TREE));
}

#[test]
fn files_are_short() {
    let why = "A file is read once, from top to bottom. Split it by subject, or add it to \
               `tidy::sizes::LONG_FILES` with the reason.";
    hold(why, sizes::files_are_short(&TREE, sizes::LONG_FILES));
}

#[test]
fn tests_within_files_are_short() {
    let why = "Long tests hide the code above them: `#[cfg(test)] mod tests;` and `NAME/tests.rs`.";
    hold(why, sizes::tests_within_files_are_short(&TREE));
}

#[test]
fn files_are_small() {
    let why = "Everybody clones every version of every file; large data is fetched (`catalogue`) or \
               made from a seed.";
    hold(why, sizes::files_are_small(&TREE));
}

#[test]
fn leftovers_are_gone() {
    let why = "What is not done goes into an issue; what warns is mended; what is dead is deleted.";
    hold(why, leftovers::are_gone(&TREE));
}

#[test]
fn names_have_no_version() {
    let why = "The new way replaces the old one in the same commit, under its name.";
    hold(why, leftovers::names_have_no_version(&TREE));
}

#[test]
fn modules_have_a_subject() {
    let why = "A newcomer finds a concept in one guess; nobody looks for one in `utils`.";
    hold(why, leftovers::modules_have_a_subject(&TREE));
}

#[test]
fn booleans_are_positive() {
    let why = "`if !no_cache` takes two thoughts, `if cache` takes one.";
    hold(why, leftovers::booleans_are_positive(&TREE));
}

#[test]
fn nothing_is_unwrapped_outside_tests() {
    let why = "Input gives an error, not a panic; where a panic cannot happen, the code says why.";
    hold(why, leftovers::nothing_is_unwrapped(&TREE));
}

#[test]
fn environment_is_not_read() {
    let why = "A switch that is not in `--help` is not found, not tested and not removed.";
    hold(why, leftovers::environment_is_not_read(&TREE));
}

#[test]
fn the_wall_clock_only_stamps() {
    let why = "A clock that is set must not end a request, or count one of a negative length.";
    hold(why, leftovers::wall_clock_only_stamps(&TREE));
}

#[test]
fn tests_do_not_sleep() {
    let why = "A sleep is too short on a busy machine and too long on all others.";
    hold(why, leftovers::tests_do_not_sleep(&TREE));
}

#[test]
fn architecture_names_every_crate() {
    let why = "The map shows the whole land; change both in one commit.";
    hold(why, documents::architecture_names_every_crate(&TREE));
}

#[test]
fn no_machine_is_named() {
    let why = "What works only where it was written does not work.";
    hold(why, documents::no_machine_is_named(&TREE));
}

#[test]
fn no_registry_is_named() {
    let why = "Where packages come from is for the package clients' configuration to say.";
    hold(why, documents::no_registry_is_named(&TREE));
}

#[test]
fn licences_of_dependencies_are_allowed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let host = Command::new(&cargo).args(["-vV"]).output().expect("cargo can be run");
    let host = String::from_utf8(host.stdout).expect("cargo writes UTF-8");
    let host = host.lines().find_map(|line| line.strip_prefix("host: ")).expect("a host line");
    // What other platforms need is not on this disk.
    let output = Command::new(&cargo)
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", host])
        .current_dir(root)
        .output()
        .expect("cargo can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");

    let allowed = licences::allowed(&TREE.get("deny.toml").expect("deny.toml is there").text);
    let packages = metadata["packages"].as_array().expect("a list of packages");
    assert!(packages.len() > 50, "the dependencies are among them");
    let refused: Vec<String> = packages
        .iter()
        .filter(|package| !licences::is_met(package["license"].as_str().unwrap_or(""), &allowed))
        .map(|package| {
            format!("{} {}: {}", package["name"], package["version"], package["license"])
        })
        .collect();
    assert!(
        refused.is_empty(),
        "Millrace is Apache-2.0 and ships its dependencies in one binary; a new licence is allowed in \
         deny.toml, by a person who has read it:\n{}",
        refused.join("\n")
    );
}
