//! Cutting text into the pieces that are merged on their own.

use fancy_regex::Regex;

use crate::vocabulary::{Cutting, TokenizerError};

/// GPT-2's pieces: contractions, words, numbers and signs with the space before them, and space
/// up to the last one before a word.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// Llama 3's pieces: contractions in either case, words with one sign before them, numbers of up to three
/// digits, line ends kept with the signs or spaces before them.
const LLAMA3: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|",
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);

/// Qwen 2's pieces: as Llama 3's, but each digit on its own.
const QWEN2: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|",
    r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);

/// Seed-Coder's: as Qwen 2's, but signs do not keep line ends.
const SEED_CODER: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|",
    r"\p{N}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+",
);

/// Mistral's (Tekken): words are also cut before a capital behind a small letter, marks belong to
/// letters, each digit on its own, and `/` behind signs is kept with them as line ends are.
const TEKKEN: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|",
    r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);

/// GPT-4o's: as Mistral's, with contractions at the end of words and numbers of up to three digits.
const GPT4O: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|",
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);

/// DeepSeek-Coder's, one after another.
const DEEPSEEK_CODER: [&str; 5] =
    [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", r"\p{N}"];

/// DeepSeek-LLM's, one after another: letters of scripts with two cases, signs of ASCII and their wide forms,
/// Chinese, Korean, and each digit on its own.
const DEEPSEEK_LLM: [&str; 6] = [
    r"[\r\n]",
    concat!(
        r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\x{1F7D}",
        r"ᾀ-ᾴᾶ-ᾼ\x{1FBE}ῂ-ῄῆ-ῌῐ-\x{1FD3}ῖ-\x{1FDB}ῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\x{2126}ℨ\x{212A}-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮ",
        r"ⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+",
    ),
    r"\s?[!-/:-~！-／：-～‘-‟\x{3000}-。]+",
    r"\s+$",
    "[一-龥ࠀ-一가-퟿]+",
    r"\p{N}",
];

/// DeepSeek-V3's, one after another: numbers of up to three digits, Chinese and Japanese, and words with
/// their marks.
const DEEPSEEK: [&str; 3] = [
    r"\p{N}{1,3}",
    "[一-龥\u{3040}-ゟ゠-ヿ]+",
    concat!(
        r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|"##,
        r" ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
];

/// Viking's: what is neither space nor one of some signs, with the space before it; each digit on its own.
const VIKING: [&str; 2] = [r" ?[^(\s|.,!?…。，、।۔،)]+", r"\p{N}"];

/// llama.cpp's for files of a time before pre-tokenizers were named: signs, then GPT-2's, then numbers in
/// threes.
const DEFAULT: [&str; 4] = [r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"];

/// One way of cutting text.
struct Rule {
    /// Under which GGUF files name it, the one it is best known by first.
    names: &'static [&'static str],
    /// Applied one after the other, each to the pieces of the one before.
    patterns: &'static [&'static str],
    /// A piece that is a token as a whole is not merged up from its bytes.
    whole_pieces_first: bool,
    /// A prompt begins with the begin token unless the file says otherwise.
    begin_token: bool,
}

impl Rule {
    const fn new(names: &'static [&'static str], patterns: &'static [&'static str]) -> Self {
        Rule { names, patterns, whole_pieces_first: false, begin_token: false }
    }

    fn find(name: &str) -> Option<&'static Rule> {
        RULES.iter().find(|rule| rule.names.contains(&name))
    }
}

/// The rules known here. Names, `whole_pieces_first` (there `ignore_merges`) and `begin_token` (there
/// `add_bos`) are those of llama.cpp's table of pre-tokenizers, `src/llama-vocab.cpp`; patterns are those of
/// the models' own `tokenizer.json`, by which `fixtures/tokenizers/pre_tokenizers.json` was made.
static RULES: [Rule; 13] = [
    Rule::new(
        &[
            "gpt-2",
            "phi-2",
            "olmo",
            "mpt",
            "jais",
            "trillion",
            "granite-docling",
            "exaone4",
            "mellum",
            "a.x-4.0",
        ],
        &[GPT2],
    ),
    Rule::new(
        &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"],
        &[r"\p{N}", GPT2],
    ),
    Rule {
        whole_pieces_first: true,
        begin_token: true,
        ..Rule::new(
            &["llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral", "midm-2.0"],
            &[LLAMA3],
        )
    },
    Rule::new(&["dbrx", "smaug-bpe"], &[LLAMA3]),
    Rule::new(&["qwen2", "deepseek-r1-qwen", "stablelm2", "megrez", "f2llmv2", "kormo"], &[QWEN2]),
    Rule { whole_pieces_first: true, begin_token: true, ..Rule::new(&["tekken"], &[TEKKEN]) },
    Rule::new(&["gpt-4o", "llama4"], &[GPT4O]),
    Rule::new(&["deepseek-coder"], &DEEPSEEK_CODER),
    Rule::new(&["deepseek-llm"], &DEEPSEEK_LLM),
    Rule::new(&["deepseek-v3", "hunyuan-dense"], &DEEPSEEK),
    Rule::new(&["viking"], &VIKING),
    Rule::new(&["seed-coder"], &[SEED_CODER]),
    Rule::new(&["default"], &DEFAULT),
];

/// Whether a prompt begins with the begin token where a file with this pre-tokenizer does not say.
pub fn begins_prompts(pre_tokenizer: &str) -> bool {
    Rule::find(pre_tokenizer).is_some_and(|rule| rule.begin_token)
}

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
        let Some(rule) = Rule::find(name) else {
            let names = RULES.iter().flat_map(|rule| rule.names);
            let known = names.copied().collect::<Vec<_>>().join(", ");
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
    use std::collections::{HashMap, HashSet};

    use super::*;

    fn named(name: &str) -> PreTokenizer {
        PreTokenizer::new(&Cutting::Named(name.to_owned())).expect("known")
    }

    fn pieces<'t>(rule: &PreTokenizer, text: &'t str) -> Result<Vec<&'t str>, TokenizerError> {
        let mut pieces = Vec::new();
        let mut keep = |piece| {
            pieces.push(piece);
            Ok(())
        };
        rule.each_piece(text, &mut keep)?;
        Ok(pieces)
    }

    fn check(name: &str, text: &str, expected: &[&str]) {
        let pieces = pieces(&named(name), text).expect("cut");
        assert_eq!(pieces, expected, "{name} on {text:?}");
    }

    /// Texts, and by rule the pieces of each, as the tokenizers library cuts them.
    #[derive(serde::Deserialize)]
    struct Reference {
        texts: Vec<String>,
        pieces: HashMap<String, Vec<Vec<String>>>,
    }

    fn reference() -> Reference {
        let json = include_str!("../../../fixtures/tokenizers/pre_tokenizers.json");
        serde_json::from_str(json).expect("the fixture is JSON")
    }

    #[test]
    fn each_rule_cuts_as_the_tokenizers_library_does() {
        let Reference { texts, pieces: expected } = reference();
        for rule in &RULES {
            // Of two rules with the same patterns one is recorded.
            let recorded = RULES.iter().find(|other| {
                other.patterns == rule.patterns && expected.contains_key(other.names[0])
            });
            let recorded = recorded.unwrap_or_else(|| panic!("{} is not recorded", rule.names[0]));
            let expected = &expected[recorded.names[0]];
            assert_eq!(texts.len(), expected.len());
            for name in rule.names {
                let rule = named(name);
                for (text, expected) in texts.iter().zip(expected) {
                    assert_eq!(&pieces(&rule, text).expect("cut"), expected, "{name} on {text:?}");
                }
            }
        }
    }

    #[test]
    fn recorded_pieces_tell_the_rules_apart() {
        let pieces: Vec<_> = reference().pieces.into_iter().collect();
        for (index, (name, of)) in pieces.iter().enumerate() {
            for (other_name, of_other) in &pieces[..index] {
                assert_ne!(of, of_other, "{name} and {other_name}");
            }
        }
    }

    #[test]
    fn spaces_before_a_word_keep_the_last_one_for_it() {
        for rule in &RULES {
            check(rule.names[0], "   a  ", &["  ", " a", "  "]);
            check(rule.names[0], "", &[]);
        }
    }

    #[test]
    fn long_run_of_spaces_is_cut_and_one_beyond_the_limit_is_refused() {
        for name in ["gpt-2", "llama-bpe", "tekken"] {
            let rule = named(name);
            let text = " ".repeat(900_000) + "x";
            let cut = pieces(&rule, &text).expect("cut");
            assert_eq!(cut.iter().map(|p| p.len()).collect::<Vec<_>>(), [899_999, 2]);
            let text = " ".repeat(1_100_000) + "x";
            let error = pieces(&rule, &text).expect_err("long");
            assert!(matches!(error, TokenizerError::RunTooLong(_)), "{error}");
        }
    }

    #[test]
    fn names_are_given_once_and_an_unknown_one_is_refused_with_them() {
        let names: Vec<_> = RULES.iter().flat_map(|rule| rule.names).copied().collect();
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
        let unknown = Cutting::Named("kimi-k2".to_owned());
        let error = PreTokenizer::new(&unknown).expect_err("unknown").to_string();
        let known = names.join(", ");
        assert_eq!(error, format!("pre-tokenizer \"kimi-k2\" is not known; known are: {known}"));
    }

    #[test]
    fn begin_tokens_are_usual_with_some() {
        for (name, expected) in
            [("llama3", true), ("tekken", true), ("dbrx", false), ("qwen2", false), ("x", false)]
        {
            assert_eq!(begins_prompts(name), expected, "{name}");
        }
    }
}
