//! What `--help` says.

use crate::process::millrace;

/// Options in a help page that nothing is said about: no text after two spaces on their own line,
/// none on the next line, indented deeper.
fn unexplained(page: &str) -> Vec<&str> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let lines: Vec<&str> = page.lines().chain([""]).collect();
    let is_bare = |pair: &&[&str]| {
        let (option, next) = (pair[0].trim_start(), pair[1]);
        let explained_below = indent(pair[0]) < indent(next) && !next.trim_start().starts_with('-');
        option.starts_with('-') && !option.contains("  ") && !explained_below
    };
    lines.windows(2).filter(is_bare).map(|pair| pair[0]).collect()
}

#[test]
fn every_option_has_a_help_text() {
    for (command, options) in [
        ("bench", ["--assert", "--resume", "--max-num-batched-tokens"]),
        ("serve", ["--memory-utilization", "--enable-web-page", "--shutdown-timeout"]),
        ("generate", ["--max-tokens", "--temperature", "--threads"]),
        ("perplexity", ["<FILE>", "--window", "--threads"]),
        ("pull", ["--help", "--version", "[NAME]"]),
        ("models", ["--help", "--version", "--json"]),
        ("check", ["--help", "--version", "[MODEL]"]),
        ("roofline", ["--model", "--context", "--json"]),
        ("plan", ["--device", "--length", "--device-model"]),
    ] {
        let ended = millrace([command, "--help"]);
        let page = ended.output();
        for option in options {
            assert!(page.contains(option), "{option} is not in the help of {command}: {page}");
        }
        assert_eq!(unexplained(page), [""; 0], "in the help of {command}");
    }
}

#[test]
fn the_help_of_a_bare_option_would_be_noticed() {
    let page = "Options:\n  --a <A>\n      Says a\n  --b  Says b\n  --c <C>\n  --d\n      Says d\n";
    assert_eq!(unexplained(page), ["  --c <C>"]);
}

#[test]
fn the_version_is_the_packages() {
    assert_eq!(
        millrace(["--version"]).output().trim_end(),
        concat!("millrace ", env!("CARGO_PKG_VERSION"))
    );
}
