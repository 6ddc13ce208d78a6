//! A tokenizer as `tokenizer.json` has it, with what `tokenizer_config.json` says of it.
//!
//! The file describes a chain of small steps. Those of byte-level BPE and of SentencePiece's models as the
//! tokenizers library writes them are understood, whatever their patterns, vocabularies and merges;
//! any other step is refused by name, since ids would be others than the model learnt.

mod steps;
mod unigram;

use std::collections::HashMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use text::{TextRules, TokenKind, TokenizerSpec};

use super::config_json::{flag, shown};
use super::files::{Files, TOKENIZER_BYTES_MAX};
use super::generation;
use crate::error::LoadError;

const TOKENIZER: &str = "tokenizer.json";
/// The file of settings beside it.
pub(super) const SETTINGS: &str = "tokenizer_config.json";
/// Most tokens that end an answer.
const END_TOKENS_MAX: usize = 64;

/// The file, as far as it is read.
#[derive(Deserialize)]
struct Described<M = Model> {
    #[serde(default)]
    added_tokens: Vec<Added>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    decoder: Value,
    model: M,
}

/// What makes tokens of a text.
enum Model {
    Bpe(Bpe),
    Unigram(unigram::Unigram),
}

impl Model {
    /// Spellings and their ids.
    fn vocabulary(&self) -> Box<dyn Iterator<Item = (&str, u32)> + '_> {
        match self {
            Self::Bpe(bpe) => Box::new(bpe.vocab.iter().map(|(token, &id)| (token.as_str(), id))),
            Self::Unigram(unigram) => Box::new(unigram.vocabulary()),
        }
    }

    fn has_byte_fallback(&self) -> bool {
        match self {
            Self::Bpe(bpe) => bpe.byte_fallback,
            Self::Unigram(unigram) => unigram.byte_fallback,
        }
    }

    /// The token for what no other spells.
    fn unknown(&self) -> Option<u32> {
        match self {
            Self::Bpe(bpe) => bpe.vocab.get(bpe.unk_token.as_ref()?).copied(),
            Self::Unigram(unigram) => unigram.unk_id,
        }
    }
}

/// A token that is found in text as a whole.
#[derive(Deserialize)]
struct Added {
    id: u32,
    content: String,
    #[serde(default)]
    special: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    single_word: bool,
}

#[derive(Deserialize)]
struct Bpe {
    #[serde(default)]
    dropout: Option<f64>,
    #[serde(default)]
    unk_token: Option<String>,
    #[serde(default)]
    continuing_subword_prefix: Option<String>,
    #[serde(default)]
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
    vocab: HashMap<String, u32>,
    merges: Vec<Merge>,
}

/// A pair as newer files have it, or as older ones do.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Pair(String, String),
    Text(String),
}

/// What kind of model a file describes.
#[derive(Deserialize)]
struct Outline {
    model: OutlineModel,
}

#[derive(Deserialize)]
struct OutlineModel {
    #[serde(default, rename = "type")]
    kind: Option<String>,
}

/// Reads the tokenizer of a model with `vocabulary` tokens, `config.json` and
/// `generation_config.json`.
pub(super) fn read(
    files: &Files,
    (config, generation): (&Map<String, Value>, &Map<String, Value>),
    vocabulary: usize,
) -> Result<TokenizerSpec, LoadError> {
    let text = files.text(TOKENIZER, TOKENIZER_BYTES_MAX)?.ok_or_else(|| {
        files.missing(
            TOKENIZER,
            "have the transformers library make it of other files of a tokenizer \
             (`AutoTokenizer.from_pretrained(FOLDER, use_fast=True).save_pretrained(FOLDER)`), \
             or give a GGUF file",
        )
    })?;
    let settings = files.object(SETTINGS)?.unwrap_or_default();
    let described = parse(&text).map_err(|error| error.in_file(TOKENIZER))?;
    let mut spec = spec(described, vocabulary).map_err(|error| error.in_file(TOKENIZER))?;
    put_around(&settings, &mut spec).map_err(|error| error.in_file(SETTINGS))?;
    let eos = named(&settings, "eos_token").map_err(|error| error.in_file(SETTINGS))?;
    let eos = eos.and_then(|eos| id_of(&spec, eos));
    let (file, ends) = match generation.get("eos_token_id") {
        None | Some(Value::Null) => ("config.json", config.get("eos_token_id")),
        ends => (generation::FILE, ends),
    };
    let ends = ends.unwrap_or(&Value::Null);
    let ends = end_tokens(ends, vocabulary).map_err(|error| error.in_file(file))?;
    for id in eos.into_iter().chain(ends) {
        if !spec.end_tokens.contains(&id) {
            spec.end_tokens.push(id);
        }
    }
    Ok(spec)
}

/// What the settings say of the tokens before and behind a prompt. Those are the post-processor's: where it
/// puts others than the settings name, it is not clear which the model learnt.
fn put_around(settings: &Map<String, Value>, spec: &mut TokenizerSpec) -> Result<(), LoadError> {
    let prefix = spec.bos.filter(|_| spec.add_bos);
    let key = "bos_token";
    let bos = named(settings, key)?.and_then(|bos| Some((bos, id_of(spec, bos)?)));
    spec.bos = bos.map(|(_, id)| id).or(spec.bos);
    if let Some(add) = flag(settings, "add_bos_token")? {
        spec.add_bos = add && spec.bos.is_some();
    }
    if let (Some((bos, id)), Some(prefix)) = (bos, prefix)
        && spec.add_bos
        && id != prefix
    {
        let spelling = &spec.tokens[prefix as usize];
        let expected = format!(
            "{spelling:?} ({prefix}), which the post-processor of {TOKENIZER} puts before prompts"
        );
        return Err(unfit(key, format!("{bos:?} ({id})"), &expected));
    }
    let key = "add_eos_token";
    if flag(settings, key)? == Some(true) && !spec.add_eos {
        let expected =
            format!("false, as the post-processor of {TOKENIZER} puts none behind prompts");
        return Err(unfit(key, true, &expected));
    }
    Ok(())
}

/// The token that is spelt so, which is not empty.
fn id_of(spec: &TokenizerSpec, spelling: &str) -> Option<u32> {
    spec.tokens.iter().position(|token| token == spelling).map(|id| id as u32)
}

fn parse(text: &str) -> Result<Described, LoadError> {
    let json = |cause| LoadError::Json { place: "the description".to_string(), cause };
    let outline: Outline = serde_json::from_str(text).map_err(json)?;
    match outline.model.kind.as_deref() {
        None | Some("BPE") => described(text, Model::Bpe),
        Some("Unigram") => described(text, Model::Unigram),
        Some(kind) => {
            let found = format!("`{}`", kind.escape_debug());
            return Err(unfit("model.type", found, "`BPE` or `Unigram`"));
        }
    }
    .map_err(json)
}

fn described<M: DeserializeOwned>(
    text: &str,
    model: fn(M) -> Model,
) -> serde_json::Result<Described> {
    let found: Described<M> = serde_json::from_str(text)?;
    Ok(Described {
        added_tokens: found.added_tokens,
        normalizer: found.normalizer,
        pre_tokenizer: found.pre_tokenizer,
        post_processor: found.post_processor,
        decoder: found.decoder,
        model: model(found.model),
    })
}

/// The tokenizer, without what other files say of it.
fn spec(described: Described, vocabulary: usize) -> Result<TokenizerSpec, LoadError> {
    let Described { added_tokens, model, .. } = &described;
    if let Model::Bpe(bpe) = model {
        check_bpe(bpe)?;
    }
    let mut tokens = vec![String::new(); vocabulary];
    let mut kinds = vec![TokenKind::Unused; vocabulary];
    for (spelling, id) in model.vocabulary() {
        let Some(place) = tokens.get_mut(id as usize) else {
            let expected = format!("an id below {vocabulary}, the vocab_size of config.json");
            return Err(unfit(&format!("model.vocab: {spelling:?}"), id, &expected));
        };
        if !place.is_empty() {
            let found = format!("{id}, as {place:?} is");
            return Err(unfit(&format!("model.vocab: {spelling:?}"), found, "an id of its own"));
        }
        *place = spelling.to_owned();
        kinds[id as usize] = match model.has_byte_fallback() && is_spelt_byte(spelling) {
            true => TokenKind::Byte,
            false => TokenKind::Normal,
        };
    }
    if let Some(kind) = model.unknown().and_then(|id| kinds.get_mut(id as usize)) {
        *kind = TokenKind::Unknown;
    }
    let mut rules = TextRules::default();
    for added in added_tokens {
        // Some models have tokens for what only a larger model of the family sees.
        let Some(place) = tokens.get_mut(added.id as usize) else { continue };
        check_added(added, place)?;
        place.clone_from(&added.content);
        kinds[added.id as usize] =
            if added.special { TokenKind::Control } else { TokenKind::UserDefined };
        if added.rstrip {
            rules.eats_space.push(added.id);
        }
    }
    let (bos, add_bos, add_eos) = steps::around_prompts(&described.post_processor, vocabulary)?;
    let merging = steps::merging(described, vocabulary, &mut rules)?;
    Ok(TokenizerSpec {
        tokens,
        kinds,
        merging,
        rules,
        bos,
        add_bos: add_bos && bos.is_some(),
        end_tokens: add_eos.into_iter().collect(),
        add_eos: add_eos.is_some(),
    })
}

fn check_bpe(model: &Bpe) -> Result<(), LoadError> {
    if let Some(dropout) = model.dropout.filter(|&dropout| dropout != 0.0) {
        return Err(unfit("model.dropout", dropout, "none: ids would differ from time to time"));
    }
    let affixes = [
        ("model.continuing_subword_prefix", &model.continuing_subword_prefix),
        ("model.end_of_word_suffix", &model.end_of_word_suffix),
    ];
    for (key, affix) in affixes {
        if let Some(affix) = affix.as_ref().filter(|affix| !affix.is_empty()) {
            return Err(unfit(key, format!("{affix:?}"), "none"));
        }
    }
    Ok(())
}

fn check_added(added: &Added, place: &str) -> Result<(), LoadError> {
    let name = format!("added_tokens: {:?}", added.content);
    if added.content.is_empty() {
        return Err(unfit(&name, "empty", "a token's spelling"));
    }
    if !place.is_empty() && place != added.content {
        let found = format!("{}, as {place:?} is", added.id);
        return Err(unfit(&name, found, "an id of its own"));
    }
    if added.lstrip || added.single_word {
        let found = if added.lstrip { "of lstrip true" } else { "of single_word true" };
        return Err(unfit(&name, found, "false"));
    }
    Ok(())
}

/// The spelling of a token that `tokenizer_config.json` names: a text, or an object around it. An empty one
/// names none.
fn named<'a>(settings: &'a Map<String, Value>, key: &str) -> Result<Option<&'a str>, LoadError> {
    let spelling = match settings.get(key) {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.as_str()),
        Some(other) => {
            let content = other.get("content").and_then(Value::as_str);
            Some(content.ok_or_else(|| unfit(key, shown(other), "a text"))?)
        }
    };
    Ok(spelling.filter(|spelling| !spelling.is_empty()))
}

/// One id or a list of them.
fn end_tokens(value: &Value, vocabulary: usize) -> Result<Vec<u32>, LoadError> {
    let list = match value {
        Value::Null => &[],
        Value::Array(list) => &list[..],
        one => std::slice::from_ref(one),
    };
    let key = "eos_token_id";
    if END_TOKENS_MAX < list.len() {
        let found = format!("a list of {}", list.len());
        return Err(unfit(key, found, &format!("at most {END_TOKENS_MAX}")));
    }
    let id = |id: &Value| {
        let known = id.as_u64().filter(|&id| id < vocabulary as u64);
        let expected = format!("an id below {vocabulary}, the number of tokens");
        known.map(|id| id as u32).ok_or_else(|| unfit(key, shown(id), &expected))
    };
    list.iter().map(id).collect()
}

/// Whether a token stands for a byte that no other token spells.
fn is_spelt_byte(spelling: &str) -> bool {
    let digits = spelling.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|d| d.len() == 2 && d.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

fn unfit(place: &str, found: impl ToString, expected: &str) -> LoadError {
    LoadError::Unfit {
        place: place.to_string(),
        found: found.to_string(),
        expected: expected.to_string(),
    }
}

#[cfg(test)]
mod tests;
