//! Cutting text into the pieces that are merged on their own.

use fancy_regex::Regex;

use crate::vocabulary::{Cutting, TokenizerError};

/// GPT-2's pieces: contractions, words, numbers and signs with the space before them, and space
/// up to the last one before a word.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// Llama 3's pieces: contractions in either case, numbers of up to three digits, line ends kept
/// with the signs or spaces before them.
const LLAMA3: &str = concat!(
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|",
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);

/// Qwen 2's pieces: as Llama 3's, but each digit on its own.
const QWEN2: &str = concat!(
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|",
    r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);

/// One way of cutting text, under the name that GGUF files use for it.
struct Rule {
    name: &'static str,
    /// Applied one after the other, each to the pieces of the one before.
    patterns: &'static [&'static str],
    /// A piece that is a token as a whole is not merged up from its bytes.
    whole_pieces_first: bool,
}

/// The rules known here. Names, patterns and `whole_pieces_first` (there `ignore_merges`) are
/// those of llama.cpp's table of pre-tokenizers, `src/llama-vocab.cpp`.
const RULES: [Rule; 4] = [
    Rule { name: "gpt-2", patterns: &[GPT2], whole_pieces_first: false },
    Rule { name: "smollm", patterns: &[r"\p{N}", GPT2], whole_pieces_first: false },
    Rule { name: "llama-bpe", patterns: &[LLAMA3], whole_pieces_first: true },
    Rule { name: "qwen2", patterns: &[QWEN2], whole_pieces_first: false },
];

/// Cuts text into pieces; what no pattern matches is a piece of its own.
#[derive(Debug)]
pub(crate) struct PreTokenizer {
    patterns: Vec<Regex>,
    whole_pieces_first: bool,
}

impl PreTokenizer {
    /// Finds the rule that is named, or builds the one that is described.
    pub(crate) fn new(cutting: &Cutting) -> Result<Self, TokenizerError> {
        let name = match cutting {
            Cutting::Named(name) => name,
            Cutting::Patterns { patterns, whole_pieces_first } => {
                let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
                return Self::build(&patterns, *whole_pieces_first);
            }
        };
        let Some(rule) = RULES.iter().find(|rule| rule.name == name) else {
            let known = RULES.map(|rule| rule.name).join(", ");
            return Err(TokenizerError::UnknownPreTokenizer { name: name.to_owned(), known });
        };
        Self::build(rule.patterns, rule.whole_pieces_first)
    }

    fn build(patterns: &[&str], whole_pieces_first: bool) -> Result<Self, TokenizerError> {
        let build = |pattern: &&str| {
            Regex::new(pattern).map_err(|error| TokenizerError::MalformedPattern {
                pattern: (*pattern).to_owned(),
                cause: error.to_string(),
            })
        };
        let patterns = patterns.iter().map(build).collect::<Result<_, _>>()?;
        Ok(Self { patterns, whole_pieces_first })
    }

    /// Whether a piece that is a token as a whole is taken as it is.
    pub(crate) fn whole_pieces_first(&self) -> bool {
        self.whole_pieces_first
    }

    /// Calls `visit` with each piece of `text` in order, until it fails; joined the pieces are
    /// `text`, and none is empty.
    ///
    /// A run of about a million spaces is an error: the regex crate keeps a place to step back to
    /// for each of them, and has a limit.
    pub(crate) fn each_piece<'t>(
        &self,
        text: &'t str,
        visit: &mut dyn FnMut(&'t str) -> Result<(), TokenizerError>,
    ) -> Result<(), TokenizerError> {
        cut(&self.patterns, text, visit)
    }
}

/// Cuts `text` by the first of `patterns`, and what comes of it by the others.
fn cut<'t>(
    patterns: &[Regex],
    text: &'t str,
    visit: &mut dyn FnMut(&'t str) -> Result<(), TokenizerError>,
) -> Result<(), TokenizerError> {
    if text.is_empty() {
        return Ok(());
    }
    let Some((pattern, finer)) = patterns.split_first() else { return visit(text) };
    let mut done = 0;
    for found in pattern.find_iter(text) {
        let found = found.map_err(|error| TokenizerError::RunTooLong(error.to_string()))?;
        cut(finer, &text[done..found.start()], visit)?;
        cut(finer, found.as_str(), visit)?;
        done = found.end();
    }
    cut(finer, &text[done..], visit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces<'t>(name: &str, text: &'t str) -> Result<Vec<&'t str>, TokenizerError> {
        let mut pieces = Vec::new();
        let mut keep = |piece| {
            pieces.push(piece);
            Ok(())
        };
        PreTokenizer::new(&Cutting::Named(name.to_owned()))
            .expect("known")
            .each_piece(text, &mut keep)?;
        Ok(pieces)
    }

    fn check(name: &str, text: &str, expected: &[&str]) {
        let pieces = pieces(name, text).expect("cut");
        assert_eq!(pieces, expected, "{name} on {text:?}");
    }

    #[test]
    fn each_rule_cuts_as_its_table_says() {
        let text = "I'LL pay  1234,5\n\n it's\u{a0}é!";
        let check = |name: &str, expected: &str| {
            check(name, text, &expected.split('|').collect::<Vec<_>>())
        };
        check("gpt-2", "I|'|LL| pay| | 1234|,|5|\n\n| it|'s|\u{a0}|é|!");
        check("smollm", "I|'|LL| pay|  |1|2|3|4|,|5|\n\n| it|'s|\u{a0}|é|!");
        check("llama-bpe", "I|'LL| pay| | |123|4|,|5|\n\n| it|'s|\u{a0}é|!");
        check("qwen2", "I|'LL| pay| | |1|2|3|4|,|5|\n\n| it|'s|\u{a0}é|!");
    }

    #[test]
    fn spaces_before_a_word_keep_the_last_one_for_it() {
        for rule in RULES {
            check(rule.name, "   a  ", &["  ", " a", "  "]);
            check(rule.name, "", &[]);
        }
    }

    #[test]
    fn signs_keep_line_ends_only_in_the_later_rules() {
        check("gpt-2", "a;\n\nb", &["a", ";", "\n", "\n", "b"]);
        check("llama-bpe", "a;\n\nb", &["a", ";\n\n", "b"]);
        check("qwen2", "a;\n\nb", &["a", ";\n\n", "b"]);
    }

    #[test]
    fn long_run_of_spaces_is_cut_and_one_beyond_the_limit_is_refused() {
        for rule in RULES {
            let text = " ".repeat(900_000) + "x";
            let cut = pieces(rule.name, &text).expect("cut");
            assert_eq!(cut.iter().map(|p| p.len()).collect::<Vec<_>>(), [899_999, 2]);
            let text = " ".repeat(1_100_000) + "x";
            let error = pieces(rule.name, &text).expect_err("long");
            assert!(matches!(error, TokenizerError::RunTooLong(_)), "{error}");
        }
    }

    #[test]
    fn unknown_name_is_refused_with_the_known_ones() {
        let error = PreTokenizer::new(&Cutting::Named("deepseek-llm".to_owned()))
            .expect_err("unknown")
            .to_string();
        assert_eq!(
            error,
            "pre-tokenizer \"deepseek-llm\" is not known; known are: gpt-2, smollm, llama-bpe, qwen2"
        );
    }
}
