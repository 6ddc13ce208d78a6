//! Random templates and vocabularies, made of the parts of good ones: each is used or refused, and nothing
//! panics.

use proptest::prelude::*;
use text::{
    ChatTemplate, Cutting, Merging, Message, SpacePrefix, TemplateError, TextRules, TokenKind,
    Tokenizer, TokenizerSpec, UnigramSpec, decode,
};

/// Names, constants and operations; `@` is another expression.
const EXPRESSIONS: &str = "messages;m;m.content;m['role'];m.nope;bos_token;add_generation_prompt;x;1;0;-1;\
2.5;10**9;'a';'';'<|im_end|>';none;true;[];{};range(5);range(10**6);loop.index0;(@);[@, @];\
{'a': @};{@: @};@ + @;@ - @;@ * @;@ // @;@ % @;@ ** @;@ ~ @;@ == @;@ < @;@ in @;@ and @;not @;\
@ if @ else @;@[@];@[@:];@[::-1];@.x;@|length;@|tojson;@|join;@|join(@);@|list;@|trim;@|upper;\
@|replace(@, @);@|default(@);@|first;@|sort;@|map('upper')|list;@ is defined;@ is string;@.split(@);\
@.strip();@.startswith('a');@.items();@.get('a');f(@);raise_exception(@)";

/// Statements; `@` is an expression and `#` more statements.
const STATEMENTS: &str = "text;<|im_start|>;{{ @ }};{{- @ -}};{% if @ %}#{% endif %};\
{% if @ %}#{% elif @ %}#{% else %}#{% endif %};{% for m in messages %}#{% endfor %};\
{% for x in @ %}#{% break %}{% endfor %};{% for x in @ if @ %}#{% else %}#{% endfor %};{% set x = @ %};\
{% set x %}#{% endset %};{% set n = namespace(x=@) %}{% set n.x = @ %};{% macro f(x) %}#{% endmacro %};\
{# @ #};{% raw %}#{% endraw %};{% continue %};{{ @;{% endif %}";

/// The choices by which a template is written, until there are none: then the simplest.
struct Writer {
    choices: std::vec::IntoIter<u16>,
}

impl Writer {
    fn next(&mut self) -> usize {
        self.choices.next().map_or(0, usize::from)
    }

    /// One of the forms of `list`, filled in.
    fn any(&mut self, list: &'static str) -> String {
        let forms: Vec<&str> = list.split(';').collect();
        let form = forms[self.next() % forms.len()];
        let mut text = String::new();
        for letter in form.chars() {
            match letter {
                '@' => text += &self.any(EXPRESSIONS),
                '#' => text += &self.statements(),
                letter => text.push(letter),
            }
        }
        text
    }

    fn statements(&mut self) -> String {
        (0..1 + self.next() % 3).map(|_| self.any(STATEMENTS)).collect()
    }
}

/// GPT-2's character for a byte.
fn letter(byte: u8) -> char {
    let is_printable = |byte: u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let before = (0..byte).filter(|byte| !is_printable(*byte)).count() as u32;
    match is_printable(byte) {
        true => char::from(byte),
        false => char::from_u32(256 + before).expect("a character"),
    }
}

/// Ids 0 to 255 are bytes, two control tokens follow, then what merges make.
fn byte_level() -> TokenizerSpec {
    let mut tokens: Vec<String> = (0..=255).map(|byte| letter(byte).to_string()).collect();
    tokens.extend(["<|im_start|>", "<|im_end|>", "ab", "abc", "Ġa"].map(str::to_owned));
    let mut kinds = vec![TokenKind::Normal; tokens.len()];
    kinds[256..258].fill(TokenKind::Control);
    TokenizerSpec {
        tokens,
        kinds,
        merging: Merging::ByteLevel {
            merges: ["a b", "ab c", "Ġ a"].map(str::to_owned).to_vec(),
            pre_tokenizer: Cutting::Named("gpt-2".to_owned()),
        },
        rules: TextRules::default(),
        bos: Some(256),
        add_bos: false,
        add_eos: false,
        end_tokens: vec![257],
    }
}

/// The same ids, spelt as SentencePiece does.
fn sentence_piece() -> TokenizerSpec {
    let mut spec = byte_level();
    for byte in 0..=255 {
        spec.tokens[byte] = format!("<0x{byte:02X}>");
        spec.kinds[byte] = TokenKind::Byte;
    }
    for letter in "abc▁".chars() {
        spec.tokens.push(letter.to_string());
        spec.kinds.push(TokenKind::Normal);
    }
    spec.tokens[260] = "▁a".to_owned();
    let scores = (0..spec.tokens.len()).map(|id| -(id as f32)).collect();
    spec.merging = Merging::SentencePiece { scores, space_prefix: true };
    spec
}

/// The same again, as a unigram model.
fn unigram() -> TokenizerSpec {
    let mut spec = sentence_piece();
    let Merging::SentencePiece { scores, .. } = &spec.merging else { unreachable!("it is one") };
    spec.merging = Merging::Unigram(UnigramSpec {
        scores: scores.iter().copied().map(f64::from).collect(),
        unknown: 0,
        unknown_score: -1e3,
        normalization: Vec::new(),
        space_prefix: SpacePrefix::EachText,
        cuts_at_spaces: false,
        bytes_are_text: false,
    });
    spec
}

/// What, where, to what.
type Change = (u8, u16, u16, String);

/// Makes one change, which may or may not leave the vocabulary good.
fn change(spec: &mut TokenizerSpec, (what, at, to, text): &Change) {
    use TokenKind::{Byte, Control, Normal, Unknown, Unused, UserDefined};
    let (len, id) = (spec.tokens.len().min(spec.kinds.len()), u32::from(*at) % 300);
    if len == 0 {
        return;
    }
    let (at, to) = (usize::from(*at) % len, usize::from(*to) % len);
    match what % 8 {
        0 => spec.tokens[at] = text.clone(),
        1 => spec.kinds[at] = [Normal, Unknown, Control, UserDefined, Unused, Byte][to % 6],
        2 => spec.tokens.swap(at, to),
        3 => spec.end_tokens.push(id),
        4 => spec.bos = Some(id),
        5 => (spec.add_bos, spec.add_eos) = (at % 2 == 0, to % 2 == 0),
        6 => {
            spec.tokens.truncate(at);
            spec.kinds.truncate(to);
        }
        _ => {
            let pair = format!("{} {}", spec.tokens[at], spec.tokens[to]);
            match &mut spec.merging {
                Merging::ByteLevel { merges, .. } | Merging::Characters { merges, .. } => {
                    merges.push(if at % 2 == 0 { pair } else { text.clone() });
                }
                Merging::SentencePiece { scores, .. } => {
                    let special = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, 1e38];
                    let count = scores.len();
                    scores[at % count] = special[to % special.len()];
                }
                Merging::Unigram(model) => {
                    let special = [f64::NAN, f64::INFINITY, f64::MIN, 0.0, 1e300];
                    let count = model.scores.len();
                    model.scores[at % count] = special[to % special.len()];
                }
            }
        }
    }
}

/// What is encoded are ids of the vocabulary; a vocabulary that is as it was gives the text back.
fn check(tokenizer: &Tokenizer, text: &str, is_good: bool) -> Result<(), TestCaseError> {
    let ids = match tokenizer.encode_prompt(text) {
        Ok(ids) => ids,
        Err(error) => return Err(TestCaseError::fail(format!("{text:?}: {error}"))),
    };
    prop_assert!(ids.iter().all(|id| (*id as usize) < tokenizer.vocabulary_len()));
    let decoded = decode(tokenizer, &ids, false);
    prop_assert!(!is_good || decoded.trim_start() == text.trim_start(), "{text:?}: {decoded:?}");
    Ok(())
}

#[test]
fn a_template_renders_or_is_refused() {
    let choices = prop::collection::vec(any::<u16>(), 1..60);
    let contents = prop::collection::vec(".{0,20}", 1..4);
    let tokenizer = Tokenizer::new(byte_level()).expect("it is good");
    fuzz::check(512, &(choices, contents), |(choices, contents)| {
        let source = Writer { choices: choices.into_iter() }.statements();
        let messages: Vec<Message> =
            contents.iter().map(|content| Message::new("user", content)).collect();
        let rendered = ChatTemplate::new(&source, &tokenizer)
            .and_then(|template| template.render(&messages, &[], true));
        match rendered {
            Ok(segments) => prop_assert!(tokenizer.encode_segments(&segments).is_ok(), "{source}"),
            Err(TemplateError::Engine(message)) => prop_assert!(false, "{source}: {message}"),
            Err(_) => {}
        }
        Ok(())
    });
}

#[test]
fn a_vocabulary_encodes_any_text_or_is_refused() {
    let form = prop::sample::select(vec![byte_level, sentence_piece, unigram]);
    let change_of_any_sort = (any::<u8>(), any::<u16>(), any::<u16>(), ".{0,6}");
    let changes = prop::collection::vec(change_of_any_sort, 0..6);
    fuzz::check(512, &(form, changes, "[abc ]{0,8}.{0,30}"), |(form, changes, text)| {
        let mut spec = form();
        changes.iter().for_each(|one| change(&mut spec, one));
        match Tokenizer::new(spec) {
            Ok(tokenizer) => check(&tokenizer, &text, changes.is_empty()),
            Err(error) => {
                prop_assert!(!changes.is_empty(), "{error}");
                Ok(())
            }
        }
    });
}
