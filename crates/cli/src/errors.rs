//! How errors are said: on one line, each cause once.

use anyhow::Error;

/// An error and its causes, from the outermost to the first.
///
/// A message that quotes its cause already is not followed by it.
pub fn line(error: &Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if line.is_empty() {
            line = cause;
        } else if !line.contains(&cause) {
            line += &format!(": {cause}");
        }
    }
    line
}

/// What is wrong with a command line, without the usage that clap shows after it.
pub fn usage_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let said = text.trim_start_matches("error: ");
    let end = said.find("\n\nUsage:").or_else(|| said.find("\n\nFor more information"));
    let words: Vec<&str> = said[..end.unwrap_or(said.len())].split_whitespace().collect();
    format!("{}; see --help", words.join(" "))
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn a_cause_that_was_quoted_is_not_said_again() {
        let inner = anyhow!("no such file");
        assert_eq!(
            line(&inner.context("cannot open a").context("top")),
            "top: cannot open a: no such file"
        );
        let quoting = anyhow!("no such file").context("cannot open a: no such file").context("top");
        assert_eq!(line(&quoting), "top: cannot open a: no such file");
    }

    #[test]
    fn a_usage_error_is_one_line_with_its_tip() {
        let command = clap::Command::new("x").arg(clap::arg!(--port <N>)).arg(clap::arg!(<FILE>));
        let error = |arguments: &[&str]| {
            let error = command.clone().try_get_matches_from(arguments).expect_err("it is wrong");
            usage_line(&error)
        };
        assert_eq!(
            error(&["x", "--prt", "1"]),
            "unexpected argument '--prt' found tip: a similar argument exists: '--port'; see --help"
        );
        assert_eq!(
            error(&["x"]),
            "the following required arguments were not provided: <FILE>; see --help"
        );
    }
}
