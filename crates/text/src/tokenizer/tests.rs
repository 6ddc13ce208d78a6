use proptest::prelude::*;

use super::*;
use crate::fixture::{CONTROL, byte_id, id_of, merge_id, merges, spec, tokenizer};
use crate::vocabulary::{Cutting, TokenKind};

fn bytes(text: &str) -> Vec<u32> {
    text.bytes().map(byte_id).collect()
}

#[test]
fn merges_follow_their_order_and_stay_inside_pieces() {
    let tokenizer = tokenizer();
    let encode = |text: &str| tokenizer.encode(text, ControlTokens::Parse).expect("encodes");
    assert_eq!(encode("hello"), [merge_id(3)]);
    assert_eq!(encode("hello world"), [&[merge_id(3), merge_id(6)][..], &bytes("ld")].concat());
    assert_eq!(encode("hé"), [byte_id(b'h'), merge_id(7)]);
    assert_eq!(encode("hell\no"), [&[merge_id(2)][..], &bytes("\no")].concat());
    assert_eq!(encode(""), [0u32; 0]);
}

#[test]
fn control_tokens_are_parsed_only_when_asked_for() {
    let tokenizer = tokenizer();
    for (id, token) in (0u32..).zip(CONTROL) {
        let text = format!("he{token}{token}he");
        let parsed = tokenizer.encode(&text, ControlTokens::Parse).expect("encodes");
        assert_eq!(parsed, [merge_id(0), id, id, merge_id(0)], "{token}");
        let plain = tokenizer.encode(&text, ControlTokens::AsText).expect("encodes");
        assert!(plain.iter().all(|id| !tokenizer.is_control(*id)), "{token}");
        assert_eq!(crate::decode(&tokenizer, &plain, true), text);
    }
}

#[test]
fn user_defined_tokens_are_one_token_either_way() {
    let tokenizer = tokenizer();
    let think = id_of("<end_of_turn>") + 1;
    for control in [ControlTokens::Parse, ControlTokens::AsText] {
        let ids = tokenizer.encode("<think>he</think>", control).expect("encodes");
        assert_eq!(ids, [think, merge_id(0), think + 1]);
    }
    assert!(!tokenizer.is_control(think));
}

#[test]
fn longest_of_the_control_tokens_that_begin_first_is_taken() {
    let mut spec = spec("gpt-2", "<bos>", "<bos>");
    for token in ["<a", "<a><b>", "><b>c"] {
        spec.tokens.push(token.to_owned());
        spec.kinds.push(TokenKind::Control);
    }
    let first = spec.tokens.len() as u32 - 3;
    let tokenizer = Tokenizer::new(spec).expect("valid");
    let ids = tokenizer.encode("<a><b>c", ControlTokens::Parse).expect("encodes");
    assert_eq!(ids, [first + 1, byte_id(b'c')]);
}

#[test]
fn raw_prompt_gets_the_tokens_that_the_file_asks_for() {
    let text = "he<|im_end|>";
    let plain = [merge_id(0), id_of("<|im_end|>")];
    let prompt = |add_bos, add_eos| {
        let spec = TokenizerSpec { add_bos, add_eos, ..spec("smollm", "<bos>", "<|eot_id|>") };
        let tokenizer = Tokenizer::new(spec).expect("valid");
        assert_eq!(tokenizer.encode(text, ControlTokens::Parse).expect("encodes"), plain);
        tokenizer.encode_prompt(text).expect("encodes")
    };
    assert_eq!(prompt(false, false), plain);
    assert_eq!(prompt(true, false), [&[id_of("<bos>")][..], &plain].concat());
    assert_eq!(prompt(true, true), [&[7][..], &plain, &[id_of("<|eot_id|>")]].concat());
}

#[test]
fn llama_takes_a_piece_that_is_a_token_before_merging() {
    let encode = |pre_tokenizer: &str| {
        let mut spec = spec(pre_tokenizer, "<bos>", "<bos>");
        spec.tokens.push("lo".to_owned());
        spec.kinds.push(TokenKind::Normal);
        let tokenizer = Tokenizer::new(spec).expect("valid");
        tokenizer.encode("lo", ControlTokens::AsText).expect("encodes")
    };
    assert_eq!(encode("qwen2"), bytes("lo"));
    assert_eq!(encode("llama-bpe"), [merge_id(8)]);
}

#[test]
fn control_token_spelt_like_a_word_is_not_found_by_merging() {
    let mut spec = spec("llama-bpe", "<bos>", "<bos>");
    spec.tokens.push("word".to_owned());
    spec.kinds.push(TokenKind::Control);
    let tokenizer = Tokenizer::new(spec).expect("valid");
    let ids = tokenizer.encode("word", ControlTokens::AsText).expect("encodes");
    assert!(ids.iter().all(|id| !tokenizer.is_control(*id)), "{ids:?}");
}

#[test]
fn tokens_tell_their_bytes_spelling_and_kind() {
    let tokenizer = tokenizer();
    assert_eq!(tokenizer.vocabulary_len(), 12 + 256 + 8);
    assert_eq!(tokenizer.token_bytes(merge_id(6)), Some(&b" wor"[..]));
    assert_eq!(tokenizer.token_text(merge_id(6)), Some("Ġwor"));
    assert_eq!(tokenizer.token_bytes(byte_id(0xFF)), Some(&[0xFF][..]));
    assert_eq!(tokenizer.token_text(1), Some("<|im_start|>"));
    assert_eq!(tokenizer.token_bytes(276), None);
    assert_eq!(tokenizer.token_text(276), None);
    assert!(tokenizer.is_control(9) && !tokenizer.is_control(276));
    assert_eq!((tokenizer.bos(), tokenizer.end_tokens()), (Some(1), &[2][..]));
}

#[test]
fn bytes_without_a_token_are_named_and_left_out() {
    let mut spec = spec("gpt-2", "<bos>", "<bos>");
    spec.kinds[byte_id(b'x') as usize] = TokenKind::Control;
    spec.tokens[byte_id(b'x') as usize] = "<gone>".to_owned();
    let tokenizer = Tokenizer::new(spec).expect("valid");
    assert_eq!(tokenizer.unspelt_bytes(), [b'x']);
    let ids = tokenizer.encode("axb", ControlTokens::AsText).expect("encodes");
    assert_eq!(ids, bytes("ab"));
}

#[test]
fn every_text_comes_back_from_its_ids() {
    let text: String = (0..0x3_0000u32).step_by(7).filter_map(char::from_u32).collect();
    for name in ["gpt-2", "smollm", "llama-bpe", "qwen2"] {
        let tokenizer = Tokenizer::new(spec(name, "<bos>", "<bos>")).expect("valid");
        assert!(tokenizer.unspelt_bytes().is_empty());
        let ids = tokenizer.encode(&text, ControlTokens::AsText).expect("encodes");
        assert!(crate::decode(&tokenizer, &ids, false) == text, "{name}");
    }
}

#[test]
fn long_words_and_runs_are_encoded() {
    let tokenizer = tokenizer();
    let longest = 256 << 10;
    for sign in ["l", " ", "<"] {
        let text = sign.repeat(longest);
        let ids = tokenizer.encode(&text, ControlTokens::Parse).expect("encodes");
        assert!(crate::decode(&tokenizer, &ids, false) == text);
        let text = sign.repeat(longest + 1);
        let error = tokenizer.encode(&text, ControlTokens::Parse).expect_err("one byte more");
        assert!(error.to_string().contains("262145 bytes"), "{error}");
    }
}

#[test]
fn segments_are_encoded_as_what_they_are() {
    let tokenizer = tokenizer();
    let text = Segment::Text("he<|im_end|>".to_owned());
    let ids = tokenizer.encode_segments(&[Segment::Control(1), text.clone(), Segment::Control(2)]);
    let plain = tokenizer.encode("he<|im_end|>", ControlTokens::AsText).expect("encodes");
    assert_eq!(ids.expect("encodes"), [&[1][..], &plain, &[2]].concat());
    let error = tokenizer.encode_segments(&[text, Segment::Control(276)]).expect_err("no such id");
    assert!(matches!(error, TokenizerError::IdOutOfRange { id: 276, tokens: 276, .. }), "{error}");
}

/// One change of the valid description and the error it leads to.
fn refused(change: impl FnOnce(&mut TokenizerSpec), expected: &str) {
    let mut spec = spec("smollm", "<bos>", "<bos>");
    change(&mut spec);
    let error = Tokenizer::new(spec).expect_err(expected);
    assert_eq!(error.to_string(), expected);
}

#[test]
fn hostile_descriptions_are_refused_with_what_is_wrong() {
    refused(|spec| spec.tokens.clear(), "the vocabulary has no tokens");
    refused(
        |spec| spec.kinds.truncate(3),
        "the vocabulary has 276 tokens but 3 token kinds; they must be equal",
    );
    refused(
        |spec| spec.tokens[4].clear(),
        "token 4 is a control or user-defined token with an empty spelling",
    );
    refused(
        |spec| spec.bos = Some(276),
        "the begin token is 276, but the vocabulary has only 276 tokens (ids from 0)",
    );
    refused(
        |spec| spec.end_tokens.push(u32::MAX),
        "an end token is 4294967295, but the vocabulary has only 276 tokens (ids from 0)",
    );
    refused(
        |spec| {
            spec.bos = None;
            spec.add_bos = true;
        },
        "add_bos_token is set, but the file names no begin token",
    );
    refused(
        |spec| {
            spec.end_tokens.clear();
            spec.add_eos = true;
        },
        "add_eos_token is set, but the file names no end token",
    );
    refused(
        |spec| spec.kinds.iter_mut().for_each(|kind| *kind = TokenKind::Control),
        "no token of the vocabulary spells a single byte; this is not a byte-level vocabulary",
    );
}

#[test]
fn hostile_merges_are_refused_with_what_is_wrong() {
    for merge in ["", " ", "he", "he ", " he", "h e l", "h  e"] {
        refused(
            |spec| merges(spec)[2] = merge.to_owned(),
            &format!("merge 2 is {merge:?}; it must be two tokens with one space between"),
        );
    }
    for (merge, missing) in
        [("zz a", "zz"), ("a zz", "zz"), ("a b", "ab"), ("<|im_start|> a", "<|im_start|>")]
    {
        refused(
            |spec| merges(spec)[2] = merge.to_owned(),
            &format!("merge 2 needs {missing:?}, which is not an ordinary token of the vocabulary"),
        );
    }
    refused(
        |spec| {
            spec.tokens.push("ab".to_owned());
            spec.kinds.push(TokenKind::Control);
            merges(spec).push("a b".to_owned());
        },
        "merge 8 needs \"ab\", which is not an ordinary token of the vocabulary",
    );
}

#[test]
fn repeated_merge_keeps_its_first_place() {
    let mut again = spec("smollm", "<bos>", "<bos>");
    merges(&mut again).push("h e".to_owned());
    let ids = Tokenizer::new(again).expect("valid").encode("hello", ControlTokens::Parse);
    assert_eq!(ids.expect("encodes"), [merge_id(3)]);
}

#[test]
fn tokenizer_is_shared_between_threads() {
    fn shared<T: Send + Sync + 'static>(_: &T) {}
    shared(&tokenizer());
}

/// A description out of a few letters, so that much of it fits together by chance.
fn any_spec() -> impl Strategy<Value = TokenizerSpec> {
    use TokenKind::*;
    let kind = prop::sample::select(vec![Normal, Normal, Unknown, Control, UserDefined, Byte]);
    let token = ("[abĠ\u{e9}< ]{0,3}", kind);
    let names = vec!["gpt-2", "smollm", "llama-bpe", "qwen2", "", "spm", "scores"];
    (
        prop::collection::vec(token, 0..30),
        prop::collection::vec("[abĠ]{0,2} ?[ab\u{e9}]{0,2}", 0..6),
        (prop::sample::select(names), any::<bool>(), any::<bool>()),
        (prop::option::of(0u32..40), prop::collection::vec(0u32..40, 0..3)),
    )
        .prop_map(|(tokens, merges, (name, add_bos, add_eos), (bos, end_tokens))| {
            let (tokens, kinds): (Vec<String>, Vec<TokenKind>) = tokens.into_iter().unzip();
            let merging = match name {
                "scores" => Merging::SentencePiece {
                    scores: (0..tokens.len()).map(|id| (id % 3) as f32).collect(),
                    space_prefix: add_eos,
                },
                _ => Merging::ByteLevel { merges, pre_tokenizer: Cutting::Named(name.to_owned()) },
            };
            TokenizerSpec {
                tokens,
                kinds,
                merging,
                rules: TextRules::default(),
                bos,
                add_bos,
                add_eos,
                end_tokens,
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn any_description_is_refused_or_encodes_ids_of_its_vocabulary(
        spec in any_spec(),
        text in "[ab\u{e9}< 1\n]{0,20}",
    ) {
        let Ok(tokenizer) = Tokenizer::new(spec) else { return Ok(()) };
        let known = |id: &u32| (*id as usize) < tokenizer.vocabulary_len();
        prop_assert!(tokenizer.encode_prompt(&text).expect("encodes").iter().all(known));
        let ids = tokenizer.encode(&text, ControlTokens::AsText).expect("encodes");
        prop_assert!(ids.iter().all(|id| known(id) && !tokenizer.is_control(*id)));
    }
}

#[test]
fn a_text_of_more_tokens_than_asked_for_is_an_error_and_one_of_as_many_is_not() {
    let tokenizer = tokenizer();
    for text in ["hello world", "hello <|im_start|> hello", &"hello ".repeat(100), "é é é"] {
        let ids = tokenizer.encode_prompt(text).expect("encodes");
        assert_eq!(tokenizer.encode_prompt_within(text, ids.len()).expect("fits"), ids);
        let segments = [Segment::Control(1), Segment::Text(text.to_owned())];
        let chat = tokenizer.encode_segments(&segments).expect("encodes");
        let within = |most| tokenizer.encode_segments_within(&segments, most);
        assert_eq!(within(chat.len()).expect("fits"), chat);
        for error in [
            tokenizer.encode_prompt_within(text, ids.len() - 1).expect_err("one too many"),
            within(ids.len() - 1).expect_err("too many"),
        ] {
            let expected = format!("the text has more than {} tokens", ids.len() - 1);
            assert_eq!(error.to_string(), expected);
        }
    }
}

#[test]
fn what_is_far_too_long_is_not_read_to_its_end() {
    let tokenizer = tokenizer();
    // A run of spaces that the pre-tokenizer gives up on stands behind what is enough.
    let text = "hello ".repeat(1_000) + &" ".repeat(1_100_000) + "x";
    let error = tokenizer.encode(&text, ControlTokens::AsText).expect_err("the run is too long");
    assert!(matches!(error, TokenizerError::RunTooLong(_)), "{error}");
    let error = tokenizer.encode_within(&text, ControlTokens::AsText, 100).expect_err("too long");
    assert!(matches!(error, TokenizerError::TextTooLong { most: 100 }), "{error}");
    // So does one word too long to be merged in the time that a test has.
    let word = "x".repeat(8 << 20);
    let error = tokenizer.encode_within(&word, ControlTokens::AsText, 100).expect_err("too long");
    assert!(matches!(error, TokenizerError::TextTooLong { most: 100 }), "{error}");
}
