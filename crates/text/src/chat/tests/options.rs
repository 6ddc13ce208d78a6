//! Open endings and clients' variables.

use super::super::*;
use super::{CHATML, chatml, messages, plain};

fn render(source: &str, chat: &[(&str, &str)], options: &RenderOptions<'_>) -> String {
    let tokenizer = chatml();
    let template = ChatTemplate::new(source, &tokenizer).expect("compiles");
    let segments = template.render_with(&messages(chat), &[], options).expect("renders");
    plain(&tokenizer, &segments)
}

const OPEN: RenderOptions<'_> = RenderOptions { ending: Ending::LastMessageOpen, variables: &[] };

#[test]
fn an_open_message_ends_behind_its_content() {
    let chat = [("user", "x"), ("assistant", "The answer\n is ")];
    assert_eq!(
        render(CHATML, &chat, &OPEN),
        "<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\nThe answer\n is "
    );
    // Where the template trims, so is what is continued.
    let trims = "{% for m in messages %}[{{ m.content | trim }}]{% endfor %}";
    assert_eq!(render(trims, &chat, &OPEN), "[x][The answer\n is");
    assert_eq!(render(trims, &[("user", "x"), ("assistant", "")], &OPEN), "[x][");
    // Of a message that is shown twice the last place counts.
    let twice = "{{ messages[-1].content }}|{{ messages[-1].content }}|";
    assert_eq!(render(twice, &[("user", "a\u{100001}")], &OPEN), "a\u{100001} |a\u{100001}");
}

#[test]
fn a_message_whose_end_is_not_shown_cannot_be_continued() {
    let tokenizer = chatml();
    for source in ["{{ messages[0].content }}", "{{ messages[-1].content[:3] }}"] {
        let template = ChatTemplate::new(source, &tokenizer).expect("compiles");
        let chat = messages(&[("user", "x"), ("assistant", "long")]);
        let error = template.render_with(&chat, &[], &OPEN).expect_err("the end is not there");
        assert!(matches!(error, TemplateError::NotContinued), "{error}");
    }
}

#[test]
fn a_template_sees_the_variables_of_clients() {
    let source = "{{ a }},{{ b + 1 }},{{ c }},{{ d }},{{ e is defined }}";
    let variables = [
        ("a", Variable::Switch(true)),
        ("b", Variable::Whole(41)),
        ("c", Variable::Number(0.5)),
        ("d", Variable::Text("<|im_end|>\u{100000}".to_owned())),
    ]
    .map(|(name, value)| (name.to_owned(), value));
    let options = RenderOptions { ending: Ending::Closed, variables: &variables };
    let tokenizer = chatml();
    let template = ChatTemplate::new(source, &tokenizer).expect("compiles");
    let segments = template.render_with(&messages(&[("user", "x")]), &[], &options);
    let segments = segments.expect("renders");
    assert!(segments.iter().all(|segment| matches!(segment, Segment::Text(_))), "{segments:?}");
    assert_eq!(plain(&tokenizer, &segments), "True,42,0.5,<|im_end|>\u{100000},False");
}

#[test]
fn a_name_with_a_meaning_of_its_own_is_not_taken() {
    let template = ChatTemplate::new(CHATML, &chatml()).expect("compiles");
    for name in ["messages", "bos_token", "raise_exception", "range", "namespace", "loop"] {
        assert!(!template.takes_variable(name), "{name}");
    }
    assert!(template.takes_variable("enable_thinking"));
}

#[test]
fn a_number_of_any_size_does_no_more_work_than_a_template_may() {
    let tokenizer = chatml();
    for source in [
        "{% for x in range(n) %}{{ 'a' * 99 }}{% endfor %}",
        "{{ 'abcdefgh' * n }}",
        "{{ n ** n }}",
    ] {
        let template = ChatTemplate::new(source, &tokenizer).expect("compiles");
        for number in [i64::MAX, i64::MIN, 1 << 40] {
            let variables = [("n".to_owned(), Variable::Whole(number))];
            let options = RenderOptions { ending: Ending::Closed, variables: &variables };
            let rendered = template.render_with(&messages(&[("user", "x")]), &[], &options);
            let len = rendered.map_or(0, |segments| plain(&tokenizer, &segments).len());
            assert!(len <= MAX_PROMPT_BYTES, "{source} with {number} gives {len} bytes");
        }
    }
}
