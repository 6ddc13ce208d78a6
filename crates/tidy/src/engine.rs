//! What keeps `engine` pure: the same events for the same commands, on any machine, at any speed.

use crate::source::{Source, find_path, is_name, words};
use crate::tree::{Tree, Violation};

/// Something that `engine` does without.
struct Ban {
    /// A path, matched as whole words; with a `*` at its end, all names that begin so.
    path: &'static str,
    /// Modules that are excepted, with all below them.
    except: &'static [&'static str],
    reason: &'static str,
}

const TIME: &str = "time comes from a `Clock`, so that the simulation can make it";
const OWNER: &str =
    "one thread owns the engine; only `worker`, its door, and the fake clock are shared";
const INTEGERS: &str = "floats belong behind `Device` (but for the ratios in `budget` and `stats`)";
const OUTSIDE: &str =
    "the engine knows no files, network or environment: its configuration is data";

const BANS: &[Ban] = &[
    Ban { path: "Instant::now", except: &["clock", "worker"], reason: TIME },
    Ban { path: "SystemTime", except: &["clock"], reason: TIME },
    Ban { path: "thread::sleep", except: &["worker"], reason: TIME },
    Ban { path: "Mutex", except: &["worker"], reason: OWNER },
    Ban { path: "RwLock", except: &["worker"], reason: OWNER },
    Ban { path: "Atomic*", except: &["clock", "worker"], reason: OWNER },
    Ban { path: "async", except: &[], reason: OWNER },
    Ban { path: "f32", except: &[], reason: INTEGERS },
    Ban { path: "f64", except: &["budget", "stats"], reason: INTEGERS },
    Ban { path: "env::var*", except: &[], reason: OUTSIDE },
    Ban { path: "std::fs", except: &[], reason: OUTSIDE },
    Ban { path: "std::net", except: &[], reason: OUTSIDE },
];

const ORDER: &str = "the order of a hash map differs from run to run: walk a `BTreeMap` or a `Vec`";

/// `engine` has none of what would make a run differ from its replay.
pub fn is_pure(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (file, source) in tree.shipped_rust() {
        let Some(inner) = file.path.strip_prefix("crates/engine/src/") else { continue };
        let module = inner.split(['/', '.']).next().unwrap_or_default();
        let mut add = |line, what| violations.push(Violation::new(&file.path, line, what));
        for (number, line) in source.shipped() {
            for ban in BANS.iter().filter(|ban| !ban.except.contains(&module)) {
                if has(&line.code, ban.path) {
                    add(number, format!("`{}`: {}", ban.path, ban.reason));
                }
            }
            if !matches!(module, "budget" | "stats") && has_float(&line.code) {
                add(number, format!("a floating-point number: {INTEGERS}"));
            }
        }
        for (number, name) in hash_walks(source) {
            add(number, format!("walks the hash map `{name}`: {ORDER}"));
        }
    }
    violations
}

fn has(code: &str, path: &str) -> bool {
    match path.strip_suffix('*') {
        None => find_path(code, path).is_some(),
        Some(start) => code.match_indices(start).any(|(at, _)| !code[..at].ends_with(is_name)),
    }
}

/// Whether `code` holds a literal such as `0.5`; `0..5` and `pair.0.1` are none.
fn has_float(code: &str) -> bool {
    let chars: Vec<char> = code.chars().collect();
    let digit = |at: usize| chars.get(at).is_some_and(char::is_ascii_digit);
    (1..chars.len()).any(|dot| {
        let first = chars[..dot].iter().rposition(|&c| !is_name(c)).map_or(0, |before| before + 1);
        let is_field = first.checked_sub(1).is_some_and(|before| chars[before] == '.');
        chars[dot] == '.' && digit(dot + 1) && digit(first) && !is_field
    })
}

/// Where a hash map or set is walked in an order that is not its own to give, with its name.
fn hash_walks(source: &Source) -> Vec<(usize, String)> {
    let mut maps: Vec<&str> = Vec::new();
    for (_, line) in source.shipped() {
        if let Some(at) = ["HashMap", "HashSet"].iter().find_map(|kind| find_path(&line.code, kind))
        {
            // `name: HashMap<…>` or `name = HashMap::new()`, with or without a path before it.
            let before = line.code[..at].trim_end_matches(|c: char| is_name(c) || c == ':');
            let full = &line.code[..at];
            let declares =
                full[before.len()..].starts_with(':') || before.trim_end().ends_with([':', '=']);
            if let Some(name) = words(before).last().filter(|_| declares) {
                maps.push(name);
            }
        }
    }
    let walks = [
        "iter",
        "iter_mut",
        "into_iter",
        "keys",
        "values",
        "values_mut",
        "drain",
        "retain",
        "into_keys",
        "into_values",
    ];
    let mut found = Vec::new();
    for (number, line) in source.shipped() {
        for name in &maps {
            let method = walks.iter().any(|walk| has(&line.code, &format!("{name}.{walk}(*")));
            let looped = line.code.split_once(" in ").is_some_and(|(head, rest)| {
                let rest = rest.trim_start_matches('&').trim_start_matches("mut ");
                let rest = rest.trim_start_matches("self.").trim_start();
                head.trim_start().starts_with("for ")
                    && rest
                        .strip_prefix(name)
                        .is_some_and(|rest| rest.trim_start().starts_with('{'))
            });
            if method || looped {
                found.push((number, (*name).to_owned()));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(file: &str, text: &str) -> usize {
        is_pure(&Tree::of(&[(&format!("crates/engine/src/{file}"), text)])).len()
    }

    #[test]
    fn every_ban_is_found_but_where_it_is_excepted() {
        for ban in BANS {
            let text = format!("let x = {};\n", ban.path.replace('*', "64"));
            assert_eq!(count("schedule.rs", &text), 1, "{text}");
            for module in ban.except {
                assert_eq!(count(&format!("{module}.rs"), &text), 0, "{text}");
            }
            assert_eq!(count("schedule.rs", &format!("// {text}")), 0);
            assert_eq!(count("schedule.rs", &format!("#[cfg(test)]\nfn f() {{ {text} }}\n")), 0);
        }
        assert_eq!(count("worker/command.rs", "use std::sync::Mutex;"), 0);
        assert_eq!(is_pure(&Tree::of(&[("crates/server/src/a.rs", "f64")])).len(), 0);
    }

    #[test]
    fn float_literals_are_found_and_ranges_and_fields_are_not() {
        assert_eq!(count("schedule.rs", "let x = y * 0.5;"), 1);
        assert_eq!(count("schedule.rs", "for x in 0..5 { pair.0.1 + a.0 }"), 0);
    }

    #[test]
    fn walks_over_hash_maps_are_found_and_look_ups_are_not() {
        let map = "struct S { by_hash: HashMap<u64, u32> }\n";
        for walk in
            ["self.by_hash.values().max()", "for x in &self.by_hash {}", "self.by_hash.retain(f)"]
        {
            assert_eq!(count("prefix.rs", &format!("{map}{walk}")), 1, "{walk}");
        }
        for look in
            ["self.by_hash.get(&1)", "self.by_hash.len()", "for x in self.other.values() {}"]
        {
            assert_eq!(count("prefix.rs", &format!("{map}{look}")), 0, "{look}");
        }
        let local = "let mut seen = std::collections::HashSet::new();\nfor x in seen {}";
        assert_eq!(count("prefix.rs", local), 1);
    }
}
