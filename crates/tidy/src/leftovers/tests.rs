use super::*;

type Rule = fn(&Tree) -> Vec<Violation>;

/// How often `rule` objects to a shipped file of `engine` with this text.
fn count(rule: Rule, text: &str) -> usize {
    rule(&Tree::of(&[("crates/engine/src/a.rs", text)])).len()
}

#[test]
fn notes_and_silenced_warnings_are_found_in_code_and_not_in_strings() {
    for note in NOTES {
        assert_eq!(count(are_gone, &format!("// {note}: later")), 1, "{note}");
        assert_eq!(count(are_gone, &format!("let x = \"{note}\";")), 0, "{note}");
    }
    for left in CODE {
        assert_eq!(count(are_gone, &format!("{left} x")), 1, "{left}");
        assert_eq!(count(are_gone, &format!("let x = \"{left}\";")), 0, "{left}");
    }
    assert_eq!(count(are_gone, "#[allow( dead_code )]"), 1);
    assert_eq!(count(are_gone, "#[cfg(test)]\nmod tests { #[ignore] fn f() {} }"), 1);
    let script = format!("echo\n# {}: faster\n", NOTES[0]);
    assert_eq!(are_gone(&Tree::of(&[(".ci/run", &script)]))[0].line, 2);
}

#[test]
fn names_that_say_second_or_new_are_found() {
    for text in [
        "struct PlanV2;",
        "fn plan_v2() {}",
        "fn plan_new() {}",
        "mod plan_old;",
        "type V4 = X; struct AV3;",
    ] {
        assert_eq!(count(names_have_no_version, text), 1, "{text}");
    }
    for text in [
        "fn new() {}",
        "fn renew() {}",
        "struct V2;",
        "fn is_newer() {}",
        "x_new()",
        "fn ipv4() {}",
    ] {
        assert_eq!(count(names_have_no_version, text), 0, "{text}");
    }
}

#[test]
fn modules_without_a_subject_are_found() {
    assert_eq!(count(modules_have_a_subject, "mod utils;"), 1);
    assert_eq!(count(modules_have_a_subject, "mod pages;"), 0);
    let tree = Tree::of(&[("crates/a/tests/common/mod.rs", ""), ("crates/a/src/helpers.rs", "")]);
    assert_eq!(modules_have_a_subject(&tree).len(), 2);
}

#[test]
fn negative_booleans_are_found() {
    assert_eq!(count(booleans_are_positive, "struct S { pub no_cache: bool }"), 1);
    assert_eq!(count(booleans_are_positive, "fn f(disable_cache: bool) {}"), 1);
    assert_eq!(count(booleans_are_positive, "struct S { cache: bool, note: u8 }"), 0);
}

#[test]
fn unwraps_are_found_outside_tests() {
    assert_eq!(count(nothing_is_unwrapped, "x.unwrap();"), 1);
    assert_eq!(count(nothing_is_unwrapped, "x.expect(\"\");"), 1);
    assert_eq!(count(nothing_is_unwrapped, "x.expect(\"set above\").unwrap_or(1);"), 0);
    assert_eq!(count(nothing_is_unwrapped, "/// x.unwrap()\nfn f() {}"), 0);
    assert_eq!(
        count(nothing_is_unwrapped, "#[cfg(test)]\nmod tests { fn f() { x.unwrap(); } }"),
        0
    );
}

#[test]
fn environment_switches_are_found() {
    assert_eq!(count(environment_is_not_read, "let x = std::env::var(\"FAST\");"), 1);
    assert_eq!(count(environment_is_not_read, "let x = env::var_os(\"FAST\");"), 1);
    assert_eq!(count(environment_is_not_read, "let x = env::args();"), 0);
    let (path, _) = READS_ENVIRONMENT[0];
    assert!(environment_is_not_read(&Tree::of(&[(path, "env::var_os(\"HOME\")")])).is_empty());
}

#[test]
fn the_time_of_day_is_found() {
    assert_eq!(count(wall_clock_only_stamps, "let x = SystemTime::now();"), 1);
    assert_eq!(count(wall_clock_only_stamps, "let x = Instant::now();"), 0);
    let (path, _) = READS_WALL_CLOCK[0];
    assert!(wall_clock_only_stamps(&Tree::of(&[(path, "SystemTime::now()")])).is_empty());
}

#[test]
fn sleeping_tests_are_found_where_time_can_be_faked() {
    let text = "#[cfg(test)]\nmod tests { fn f() { thread::sleep(x); } }";
    assert_eq!(count(tests_do_not_sleep, text), 1);
    assert!(tests_do_not_sleep(&Tree::of(&[("crates/server/tests/a.rs", "sleep(x)")])).is_empty());
}
