use proptest::prelude::*;

use super::*;
use crate::fixture::{byte_id, id_of, merge_id, tokenizer};

/// Streams `ids` and checks it against the decoding of all at once; gives the text.
fn check(tokenizer: &Arc<Tokenizer>, ids: &[u32], skip_control: bool) -> String {
    let whole = decode(tokenizer, ids, skip_control);
    let mut decoder = Decoder::new(Arc::clone(tokenizer), skip_control);
    let mut streamed = String::new();
    for id in ids {
        streamed.push_str(&decoder.push(*id));
        assert!(decoder.pending.len() <= 3, "{ids:?}");
    }
    streamed.push_str(&decoder.finish());
    assert_eq!(streamed, whole, "{ids:?}");
    assert!(decoder.pending.is_empty());
    whole
}

#[test]
fn every_pair_of_bytes_streams_as_it_decodes() {
    let tokenizer = tokenizer();
    for first in 0..=u8::MAX {
        for second in 0..=u8::MAX {
            let text = check(&tokenizer, &[byte_id(first), byte_id(second)], true);
            assert_eq!(text, String::from_utf8_lossy(&[first, second]));
        }
    }
}

#[test]
fn character_appears_with_its_last_byte_and_not_before() {
    let mut decoder = Decoder::new(tokenizer(), true);
    let pushed = "é😀".bytes().map(|byte| decoder.push(byte_id(byte))).collect::<Vec<_>>();
    assert_eq!(pushed, ["", "é", "", "", "", "😀"]);
    assert_eq!(decoder.finish(), "");
}

#[test]
fn text_that_stops_inside_a_character_ends_with_one_replacement() {
    let mut decoder = Decoder::new(tokenizer(), true);
    assert_eq!([0xF0, 0x9F, 0x98].map(|byte| decoder.push(byte_id(byte))), ["", "", ""]);
    assert_eq!(decoder.finish(), "\u{FFFD}");
    assert_eq!(decoder.push(byte_id(b'a')), "a");
}

#[test]
fn control_tokens_are_shown_or_skipped_and_do_not_part_characters_when_skipped() {
    let tokenizer = tokenizer();
    let ids = [merge_id(3), byte_id(0xC3), id_of("<|im_end|>"), byte_id(0xA9)];
    assert_eq!(check(&tokenizer, &ids, true), "helloé");
    assert_eq!(check(&tokenizer, &ids, false), "hello\u{FFFD}<|im_end|>\u{FFFD}");
}

#[test]
fn id_outside_the_vocabulary_gives_nothing() {
    let tokenizer = tokenizer();
    assert_eq!(check(&tokenizer, &[merge_id(0), 276, u32::MAX, merge_id(1)], false), "hell");
}

proptest! {
    #[test]
    fn bytes_of_any_kind_stream_as_they_decode(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let ids: Vec<u32> = bytes.iter().map(|byte| byte_id(*byte)).collect();
        prop_assert_eq!(check(&tokenizer(), &ids, true), String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn text_cut_anywhere_streams_as_it_decodes(text in any::<String>(), ids in prop::collection::vec(0u32..300, 0..40)) {
        let tokenizer = tokenizer();
        let bytes: Vec<u32> = text.bytes().map(byte_id).collect();
        prop_assert_eq!(&check(&tokenizer, &bytes, true), &text);
        for cut in 0..bytes.len() {
            prop_assert_eq!(
                check(&tokenizer, &bytes[..cut], true),
                String::from_utf8_lossy(&text.as_bytes()[..cut])
            );
        }
        check(&tokenizer, &ids, true);
        check(&tokenizer, &ids, false);
    }
}
