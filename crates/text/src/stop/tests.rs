use proptest::prelude::*;

use super::*;

/// The definition, in the plainest form: text before the first stop, and which string it was.
fn naive(text: &str, strings: &[String]) -> (String, Option<usize>) {
    for end in (1..=text.len()).filter(|end| text.is_char_boundary(*end)) {
        let ended = (0..strings.len()).filter(|s| text[..end].ends_with(&strings[*s]));
        let longest = ended.max_by_key(|s| (strings[*s].len(), std::cmp::Reverse(*s)));
        if let Some(string) = longest {
            return (text[..end - strings[string].len()].to_owned(), Some(string));
        }
    }
    (text.to_owned(), None)
}

/// Streams `chunks`, checks the result against the definition, and gives what each push emitted.
fn check(chunks: &[&str], strings: &[&str]) -> Vec<String> {
    let strings: Vec<String> = strings.iter().map(|s| (*s).to_owned()).collect();
    let longest = strings.iter().map(String::len).max().unwrap_or(1);
    let mut matcher = StopMatcher::new(Arc::new(StopStrings::new(strings.clone())));
    let mut stopped = None;
    let mut emitted = Vec::new();
    for chunk in chunks {
        let output = matcher.push(chunk);
        assert!(stopped.is_none() || output == StopOutput::default(), "text after the stop");
        stopped = stopped.or(output.stopped);
        emitted.push(output.emit);
        assert!(matcher.held.len() < longest, "{:?} is held for {strings:?}", matcher.held);
    }
    let rest = matcher.finish();
    assert_eq!((emitted.concat() + &rest, stopped), naive(&chunks.concat(), &strings));
    emitted
}

#[test]
fn only_text_that_may_begin_a_stop_string_is_held() {
    assert_eq!(
        check(&["abc", "X", "YZ", "X", "Y!", "d"], &["XY!"]),
        ["abc", "", "XYZ", "", "", ""]
    );
    assert_eq!(check(&["a", "aa", "ab"], &["aab"]), ["", "a", "a", ""][..3].to_vec());
    assert_eq!(check(&["one\n", "\ntwo"], &["\n\n"]), ["one", ""]);
    assert_eq!(check(&["half a", " stop"], &["a stopped"]), ["half ", ""]);
}

#[test]
fn string_that_ends_first_wins_and_of_those_the_one_that_begins_first() {
    assert_eq!(check(&["xabcdy"], &["abcd", "bc"]), ["xa"]);
    assert_eq!(check(&["xabcy"], &["bc", "abc", "c"]), ["x"]);
    assert_eq!(check(&["xab", "abc"], &["abab", "b"]), ["xa", ""]);
    let matched = |strings: &[&str]| {
        let stops = StopStrings::new(strings.iter().map(|s| (*s).to_owned()).collect());
        StopMatcher::new(Arc::new(stops)).push("..stop").stopped
    };
    assert_eq!(matched(&["op", "stop", "top", "stop"]), Some(1));
    assert_eq!(matched(&["never"]), None);
}

#[test]
fn characters_of_several_bytes_are_held_whole() {
    assert_eq!(check(&["è", "é", "😀", "x"], &["é😀"]), ["è", "", "", ""]);
    assert_eq!(check(&["日", "本", "本語"], &["本語"]), ["日", "", "本"]);
}

#[test]
fn without_strings_everything_passes() {
    assert_eq!(check(&["a", "", "b"], &[]), ["a", "", "b"]);
}

#[test]
fn strings_are_kept_in_order() {
    let strings = vec!["b".to_owned(), "a".to_owned()];
    assert_eq!(StopStrings::new(strings.clone()).strings(), strings);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn any_chunking_gives_what_the_definition_says(
        chunks in prop::collection::vec("[ab\u{e9}\u{e8}]{0,4}", 0..8),
        strings in prop::collection::vec("[ab\u{e9}\u{e8}]{1,4}", 0..5),
    ) {
        let strings: Vec<&str> = strings.iter().map(String::as_str).collect();
        check(&chunks.iter().map(String::as_str).collect::<Vec<_>>(), &strings);
        let text = chunks.concat();
        let characters: Vec<String> = text.chars().map(String::from).collect();
        check(&characters.iter().map(String::as_str).collect::<Vec<_>>(), &strings);
        check(&[&text], &strings);
    }
}
