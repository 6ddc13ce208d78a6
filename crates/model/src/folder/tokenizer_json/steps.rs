//! The steps that text takes on its way to ids, as `tokenizer.json` lists them.

use serde_json::Value;
use text::{Cutting, Merging, SpacePrefix, TextRules};

use super::{Bpe, Described, Merge, Model, unfit, unigram};
use crate::error::LoadError;
use crate::folder::config_json::shown;

/// What spells a space in SentencePiece's vocabularies.
pub(super) const SPACE: &str = "▁";
/// What the step `ByteLevel` cuts by. Source: `pre_tokenizers/byte_level.rs` of the tokenizers library.
const BYTE_LEVEL_PATTERN: &str =
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// Most steps, and longest pattern in bytes; those in use have 4, and a few hundred.
const STEPS_MAX: usize = 16;
const PATTERN_BYTES_MAX: usize = 4096;

/// How text of a model with `vocabulary` tokens is cut and merged; what is done to it before goes into `rules`.
pub(super) fn merging(
    described: Described,
    vocabulary: usize,
    rules: &mut TextRules,
) -> Result<Merging, LoadError> {
    let Described { normalizer, pre_tokenizer, decoder, model, .. } = described;
    let normalizers = flat("normalizer", "normalizers", &normalizer)?;
    let cuts = flat("pre_tokenizer", "pretokenizers", &pre_tokenizer)?;
    let decoders = flat("decoder", "decoders", &decoder)?;
    let is_byte_level = cuts.iter().any(|step| kind(step) == "ByteLevel");
    let known: &[&str] = match is_byte_level {
        true => &["ByteLevel"],
        false => &["Replace", "ByteFallback", "Fuse", "Strip", "Metaspace"],
    };
    for step in decoders {
        if !known.contains(&kind(step)) {
            return Err(unknown("decoder", step, &known.join(", ")));
        }
    }
    let model = match model {
        Model::Bpe(model) => model,
        Model::Unigram(model) => {
            return unigram::merging(model, (&normalizers, &cuts), vocabulary)
                .map(Merging::Unigram);
        }
    };
    let whole_pieces_first = model.ignore_merges;
    if is_byte_level {
        for step in normalizers {
            if kind(step) != "NFC" {
                return Err(unknown("normalizer", step, "NFC or none"));
            }
            rules.composes = true;
        }
        let cutting = Cutting::Patterns { patterns: patterns(&cuts)?, whole_pieces_first };
        return Ok(Merging::ByteLevel { merges: merges(model), pre_tokenizer: cutting });
    }
    if whole_pieces_first {
        let expected = "false where text is not cut by a step `ByteLevel`";
        return Err(unfit("model.ignore_merges", true, expected));
    }
    if let Some(step) = cuts.iter().find(|step| cuts_at_spaces(step)) {
        return Err(unknown("pre_tokenizer", step, "ByteLevel, or Metaspace without split"));
    }
    let space_prefix = space_prefix(&normalizers, &cuts)?;
    Ok(Merging::Characters { merges: merges(model), space_prefix })
}

/// The steps of a part of the file, those within sequences too.
fn flat<'a>(part: &str, list: &str, value: &'a Value) -> Result<Vec<&'a Value>, LoadError> {
    let mut steps = Vec::new();
    // The depth is bounded by the parser's.
    let mut open = vec![value];
    while let Some(step) = open.pop() {
        if step.is_null() {
            continue;
        }
        if kind(step) == "Sequence" {
            let inner = step.get(list).and_then(Value::as_array);
            let inner = inner.ok_or_else(|| unknown(part, step, &format!("a list `{list}`")))?;
            open.extend(inner.iter().rev());
        } else {
            steps.push(step);
        }
        if STEPS_MAX < steps.len() + open.len() {
            let expected = format!("at most {STEPS_MAX}");
            return Err(unfit(part, "a longer list of steps", &expected));
        }
    }
    Ok(steps)
}

pub(super) fn kind(step: &Value) -> &str {
    step.get("type").and_then(Value::as_str).unwrap_or_default()
}

pub(super) fn flag(step: &Value, key: &str, usual: bool) -> bool {
    step.get(key).and_then(Value::as_bool).unwrap_or(usual)
}

pub(super) fn unknown(part: &str, step: &Value, expected: &str) -> LoadError {
    unfit(part, shown(step), &format!("{expected}: other steps are not computed"))
}

/// The pairs as texts. A side with a space in it never occurs: no step leaves one in a text.
fn merges(model: Bpe) -> Vec<String> {
    let pair = |merge| match merge {
        Merge::Text(pair) => Some(pair),
        Merge::Pair(left, right) => {
            (!left.contains(' ') && !right.contains(' ')).then(|| format!("{left} {right}"))
        }
    };
    model.merges.into_iter().filter_map(pair).collect()
}

/// What byte-level text is cut by, one after the other.
fn patterns(steps: &[&Value]) -> Result<Vec<String>, LoadError> {
    let part = "pre_tokenizer";
    let mut patterns = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        match kind(step) {
            "Split" => patterns.push(split(step)?),
            "Digits" if flag(step, "individual_digits", false) => {
                patterns.push(r"\p{N}".to_string())
            }
            "Digits" => patterns.push(r"\p{N}+".to_string()),
            "ByteLevel" if index + 1 < steps.len() => {
                return Err(unknown(part, step, "as the last step"));
            }
            "ByteLevel" if flag(step, "add_prefix_space", true) => {
                return Err(unknown(part, step, "add_prefix_space false"));
            }
            "ByteLevel" if flag(step, "use_regex", true) => {
                patterns.push(BYTE_LEVEL_PATTERN.to_string());
            }
            "ByteLevel" => {}
            _ => return Err(unknown(part, step, "Split, Digits or ByteLevel")),
        }
    }
    Ok(patterns)
}

/// The pattern of a step that makes pieces of what it matches and of what lies between.
fn split(step: &Value) -> Result<String, LoadError> {
    let part = "pre_tokenizer";
    let behaviour = step.get("behavior").and_then(Value::as_str);
    if behaviour != Some("Isolated") || flag(step, "invert", false) {
        return Err(unknown(part, step, "the behavior `Isolated` without invert"));
    }
    let found = match pattern(step) {
        Some(Pattern::Regex(regex)) => regex.to_string(),
        Some(Pattern::Text(literal)) => escaped(literal),
        None => return Err(unknown(part, step, "a pattern `Regex` or `String`")),
    };
    if found.is_empty() || PATTERN_BYTES_MAX < found.len() {
        let found = format!("a pattern of {} bytes", found.len());
        return Err(unfit(part, found, &format!("1 to {PATTERN_BYTES_MAX}")));
    }
    Ok(found)
}

/// A regular expression that matches just this text.
fn escaped(literal: &str) -> String {
    let mut regex = String::new();
    for c in literal.chars() {
        if c.is_ascii_punctuation() {
            regex.push('\\');
        }
        regex.push(c);
    }
    regex
}

/// Where a space is put before a text whose spaces are spelt `▁`.
pub(super) fn space_prefix(
    normalizers: &[&Value],
    cuts: &[&Value],
) -> Result<SpacePrefix, LoadError> {
    let mut prefix = SpacePrefix::Nowhere;
    let mut is_marked = false;
    let mut steps = normalizers.iter().peekable();
    while let Some(step) = steps.next() {
        let prepended = step.get("prepend").and_then(Value::as_str);
        match kind(step) {
            "Prepend" if prepended == Some(SPACE) && !is_marked => prefix = SpacePrefix::EachText,
            "Replace" if replaces(step, &SPACES, SPACE) => is_marked = true,
            // `▁` at the start of each line, of which all but the first are taken away again.
            "Replace" if replaces(step, &[Pattern::Regex("^")], SPACE) && !is_marked => {
                let undone = steps.next_if(|next| replaces(next, &LINE_STARTS, "\n"));
                if undone.is_none() {
                    return Err(unknown("normalizer", step, "`▁` before lines taken away again"));
                }
                prefix = SpacePrefix::EachText;
            }
            _ => return Err(unknown("normalizer", step, "`▁` before a text and for a space")),
        }
    }
    for step in cuts {
        let is_plain = step.get("replacement").is_some_and(|with| with == SPACE);
        match kind(step) {
            // Where each space is spelt `▁` there is none to cut at.
            "Split" if is_marked && pattern(step).is_some_and(|p| SPACES.contains(&p)) => {}
            "Metaspace" if is_plain => {
                is_marked = true;
                prefix = match step.get("prepend_scheme").and_then(Value::as_str) {
                    Some("never") => prefix,
                    Some("first") => SpacePrefix::FirstText,
                    Some("always") => SpacePrefix::EachTextWithoutSpace,
                    None if !flag(step, "add_prefix_space", true) => prefix,
                    None => SpacePrefix::EachTextWithoutSpace,
                    _ => return Err(unknown("pre_tokenizer", step, "a known prepend_scheme")),
                };
            }
            _ => return Err(unknown("pre_tokenizer", step, "ByteLevel or Metaspace")),
        }
    }
    if is_marked { Ok(prefix) } else { Err(unfit("normalizer", "none", "`▁` for a space")) }
}

/// What a step looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pattern<'a> {
    /// Just this.
    Text(&'a str),
    /// What this regular expression matches.
    Regex(&'a str),
}

/// Both are a space.
const SPACES: [Pattern<'_>; 2] = [Pattern::Text(" "), Pattern::Regex(" ")];
/// All are a line end with `▁` behind it.
const LINE_STARTS: [Pattern<'_>; 3] =
    [Pattern::Text("\n▁"), Pattern::Regex("\n▁"), Pattern::Regex("\\n▁")];

fn pattern(step: &Value) -> Option<Pattern<'_>> {
    let pattern = step.get("pattern")?;
    let text = |key: &str| pattern.get(key).and_then(Value::as_str);
    text("String").map(Pattern::Text).or_else(|| text("Regex").map(Pattern::Regex))
}

/// What a step looks for, and what it puts in its place.
pub(super) fn replaced(step: &Value) -> Option<(Pattern<'_>, &str)> {
    Some((pattern(step)?, step.get("content")?.as_str()?))
}

fn replaces(step: &Value, patterns: &[Pattern<'_>], with: &str) -> bool {
    replaced(step).is_some_and(|(pattern, content)| patterns.contains(&pattern) && content == with)
}

/// Whether a step makes a piece of each word with the space before it.
pub(super) fn cuts_at_spaces(step: &Value) -> bool {
    kind(step) == "Metaspace" && flag(step, "split", true)
}

/// The token before a text, whether there is one, and the token behind.
type Around = (Option<u32>, bool, Option<u32>);

/// What is put around a prompt.
pub(super) fn around_prompts(processor: &Value, vocabulary: usize) -> Result<Around, LoadError> {
    let part = "post_processor";
    let mut around = (None, false, None);
    for step in flat(part, "processors", processor)? {
        match kind(step) {
            "ByteLevel" => {}
            "TemplateProcessing" => around = template(step, vocabulary)?,
            _ => return Err(unknown(part, step, "TemplateProcessing or ByteLevel")),
        }
    }
    Ok(around)
}

fn template(step: &Value, vocabulary: usize) -> Result<Around, LoadError> {
    let refuse = || unknown("post_processor", step, "at most one token before and behind the text");
    let pieces = step.get("single").and_then(Value::as_array).ok_or_else(refuse)?;
    let (mut before, mut behind, mut is_behind) = (None, None, false);
    for piece in pieces {
        let Some(token) = piece.get("SpecialToken") else {
            if is_behind || piece.get("Sequence").is_none() {
                return Err(refuse());
            }
            is_behind = true;
            continue;
        };
        let name = token.get("id").and_then(Value::as_str).ok_or_else(refuse)?;
        let ids = step.get("special_tokens").and_then(|all| all.get(name)?.get("ids")?.as_array());
        let id = match ids.map(Vec::as_slice) {
            Some([id]) => id.as_u64().filter(|&id| id < vocabulary as u64).ok_or_else(refuse)?,
            _ => return Err(refuse()),
        };
        let place = if is_behind { &mut behind } else { &mut before };
        if place.replace(id as u32).is_some() {
            return Err(refuse());
        }
    }
    Ok((before, before.is_some(), behind))
}
