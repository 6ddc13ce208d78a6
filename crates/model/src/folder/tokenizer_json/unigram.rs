//! A unigram model as `tokenizer.json` has it.

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::Deserialize;
use serde_json::Value;
use text::{Normalization, Parts, UNKNOWN_PENALTY, UnigramSpec};

use super::steps::{Pattern, SPACE, cuts_at_spaces, flag, kind, replaced, space_prefix, unknown};
use super::unfit;
use crate::error::LoadError;

/// The model as the file has it: each token with its score, in the order of ids.
#[derive(Deserialize)]
pub(super) struct Unigram {
    #[serde(default)]
    pub unk_id: Option<u32>,
    #[serde(default)]
    pub byte_fallback: bool,
    vocab: Vec<(String, f64)>,
}

impl Unigram {
    /// Spellings and their ids.
    pub fn vocabulary(&self) -> impl Iterator<Item = (&str, u32)> {
        self.vocab.iter().zip(0..).map(|((token, _), id)| (token.as_str(), id))
    }
}

/// How a model with `vocabulary` tokens cuts text, with the steps before it: those that change text, and
/// those that cut it.
pub(super) fn merging(
    model: Unigram,
    (normalizers, cuts): (&[&Value], &[&Value]),
    vocabulary: usize,
) -> Result<UnigramSpec, LoadError> {
    let Some(unknown_id) = model.unk_id else {
        return Err(unfit("model.unk_id", "none", "the id of a token"));
    };
    let mut normalization = Vec::new();
    let mut spacing = Vec::new();
    for step in normalizers {
        match normal(step)? {
            Some(normal) if spacing.is_empty() => normalization.push(normal),
            Some(_) => return Err(unknown("normalizer", step, "before those that put `▁`")),
            None => spacing.push(*step),
        }
    }
    let space_prefix = space_prefix(&spacing, cuts)?;
    let least = model.vocab.iter().map(|&(_, score)| score).fold(f64::INFINITY, f64::min);
    let mut scores: Vec<f64> = model.vocab.into_iter().map(|(_, score)| score).collect();
    scores.resize(vocabulary, 0.0);
    Ok(UnigramSpec {
        scores,
        unknown: unknown_id,
        unknown_score: least - UNKNOWN_PENALTY,
        normalization,
        space_prefix,
        cuts_at_spaces: cuts.iter().any(|step| cuts_at_spaces(step)),
        bytes_are_text: true,
    })
}

/// What a step does to text before spaces are marked; none for a step that marks them.
fn normal(step: &Value) -> Result<Option<Normalization>, LoadError> {
    Ok(Some(match kind(step) {
        "Precompiled" => {
            let table = step.get("precompiled_charsmap").and_then(Value::as_str);
            let table = table.and_then(|table| BASE64_STANDARD.decode(table).ok());
            let expected = "a precompiled_charsmap in base64";
            let table = table.ok_or_else(|| unfit("normalizer", "Precompiled", expected))?;
            Normalization::Charsmap { table, parts: Parts::Clusters }
        }
        "NFC" => Normalization::Nfc,
        "NFKC" => Normalization::Nfkc,
        "Strip" => {
            let (left, right) = ("strip_left", "strip_right");
            Normalization::Strip { start: flag(step, left, true), end: flag(step, right, true) }
        }
        "Replace" => match replaced(step) {
            Some((Pattern::Regex(" {2,}"), to @ (" " | SPACE))) => {
                Normalization::MergeSpaces(to.to_string())
            }
            _ => return Ok(None),
        },
        _ => return Ok(None),
    }))
}
