use proptest::prelude::*;

use super::AnswerPart::{Arguments, Call, Content, Reasoning as Thoughts};
use super::*;

fn rules(tools: ToolFormat) -> AnswerRules {
    let names = ["f", "get_weather"].map(String::from).into();
    AnswerRules {
        reasoning: Reasoning::MayOpen,
        tools: Some(tools),
        names,
        ..AnswerRules::default()
    }
}

fn thinking(reasoning: Reasoning) -> AnswerRules {
    AnswerRules { reasoning, ..AnswerRules::default() }
}

/// What the pieces give, joined.
fn parse<'t>(rules: &AnswerRules, pieces: impl IntoIterator<Item = &'t str>) -> Vec<AnswerPart> {
    let mut parser = AnswerParser::new(rules.clone());
    let mut parts: Vec<AnswerPart> = pieces.into_iter().flat_map(|p| parser.push(p)).collect();
    parts.extend(parser.finish());
    join(parts)
}

fn join(parts: Vec<AnswerPart>) -> Vec<AnswerPart> {
    let mut joined = Parts::default();
    for part in parts {
        match part {
            Content(text) => joined.content(&text),
            Thoughts(text) => joined.reasoning(&text),
            Call(name) => joined.call(name),
            Arguments(text) => joined.arguments(&text),
        }
    }
    joined.0
}

/// Checks the parts of `text` as a whole, in two pieces cut anywhere, and character by character.
fn check(rules: &AnswerRules, text: &str, expected: &[AnswerPart]) {
    assert_eq!(parse(rules, [text]), expected, "{text:?}");
    let cuts: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    for cut in &cuts {
        let pieces = [&text[..*cut], &text[*cut..]];
        assert_eq!(parse(rules, pieces), expected, "{pieces:?}");
    }
    let ends = cuts.iter().skip(1).copied().chain([text.len()]);
    let characters = cuts.iter().zip(ends).map(|(from, to)| &text[*from..to]);
    assert_eq!(parse(rules, characters), expected, "{text:?} by characters");
}

fn content(text: &str) -> AnswerPart {
    Content(text.to_owned())
}

fn thoughts(text: &str) -> AnswerPart {
    Thoughts(text.to_owned())
}

fn call(name: &str) -> AnswerPart {
    Call(name.to_owned())
}

fn arguments(text: &str) -> AnswerPart {
    Arguments(text.to_owned())
}

const MISTRAL: ToolFormat = ToolFormat::Mistral { has_args: false };
const FORMATS: [ToolFormat; 3] = [ToolFormat::Hermes, ToolFormat::Llama3, MISTRAL];

#[test]
fn text_without_marks_is_content_as_it_is() {
    for text in ["", "a", " hello \n\n", "\n", "a < b <t <tool <tool_ca", "é [TOOL [ARGS] € 😀 <"]
    {
        let expected = if text.is_empty() { vec![] } else { vec![content(text)] };
        check(&AnswerRules::default(), text, &expected);
        for format in FORMATS {
            check(&rules(format), text, &expected);
        }
    }
    assert!(AnswerRules::default().is_plain() && !rules(ToolFormat::Hermes).is_plain());
}

#[test]
fn much_space_is_let_go() {
    let text = format!("{}<think>a", " ".repeat(100));
    check(&thinking(Reasoning::MayOpen), &text, &[content(&text)]);
    let mut parser = AnswerParser::new(rules(ToolFormat::Hermes));
    assert_eq!(parser.push(&" ".repeat(100)), [content(&" ".repeat(36))]);
}

#[test]
fn thoughts_end_where_the_answer_begins() {
    let closed = thinking(Reasoning::MayOpen);
    let whole = [thoughts("let me\nsee"), content("so <think> it is</think>")];
    check(&closed, "<think>\nlet me\nsee\n</think>\n\nso <think> it is</think>", &whole);
    check(&closed, " \n<think>a</think>b", &[thoughts("a"), content("b")]);
    check(&closed, "x<think>a</think>b", &[content("x<think>a</think>b")]);
    check(&closed, "<think></think>b", &[content("b")]);
    check(&closed, "<think>a </thin", &[thoughts("a </thin")]);
    let open = thinking(Reasoning::Open);
    check(&open, "\nhm\n</think>\n\nyes", &[thoughts("hm"), content("yes")]);
    check(&open, "hm", &[thoughts("hm")]);
    check(&open, "</think>\n", &[]);
    check(&thinking(Reasoning::None), "<think>a</think>", &[content("<think>a</think>")]);
}

#[test]
fn hermes_calls_are_told_without_the_space_around_them() {
    let hermes = rules(ToolFormat::Hermes);
    let one = r#"<tool_call>
{"name": "f", "arguments": {"a": [1, "}"], "b": "\"</tool_call>"}}
</tool_call>"#;
    let parts = [call("f"), arguments(r#"{"a": [1, "}"], "b": "\"</tool_call>"}"#)];
    check(&hermes, one, &parts);
    let [name, given] = parts.clone();
    let talk = format!("<think>hm</think>\n\nWell. \n{one}\n{one} \n");
    let expected = [
        thoughts("hm"),
        content("Well."),
        name.clone(),
        given.clone(),
        name.clone(),
        given.clone(),
    ];
    check(&hermes, &talk, &expected);
    let behind = [name, given, content("so it is")];
    check(&hermes, &format!("{one}\n\nso it is"), &behind);
}

#[test]
fn a_call_is_told_as_soon_as_its_arguments_begin() {
    let mut parser = AnswerParser::new(rules(ToolFormat::Hermes));
    assert_eq!(parser.push("<tool_call>{\"name\": \"f\", \"arguments\": "), []);
    assert_eq!(parser.push("{\"a\""), [call("f"), arguments("{\"a\"")]);
    assert_eq!(parser.push(": 1"), [arguments(": 1")]);
    assert_eq!(parser.push("}"), [arguments("}")]);
    assert_eq!(parser.push("}</tool_call>"), []);
    assert_eq!(parser.finish(), []);
}

#[test]
fn heads_of_calls_are_read_in_any_order_and_spelling() {
    let hermes = rules(ToolFormat::Hermes);
    let expected = [call("f"), arguments(r#"{"x":{}}"#)];
    for object in [
        r#"{"name":"f","arguments":{"x":{}}}"#,
        r#" { "arguments" : {"x":{}} , "name" : "f" } "#,
        r#"{"type":"function","id":"1","name":"f","parameters":{"x":{}},"more":[{}],"z":1}"#,
        r#"{"name":"\u0066","arguments":{"x":{}},}"#,
        r#"{"arguments":{"x":{}},"name":"f","arguments":{"y":1}}"#,
    ] {
        check(&hermes, &format!("<tool_call>{object}</tool_call>"), &expected);
    }
    let without = [call("f"), arguments("{}")];
    check(&hermes, r#"<tool_call>{"name": "f"}</tool_call>"#, &without);
}

#[test]
fn what_is_no_call_is_content() {
    for object in [
        "what?",
        "{}",
        "[]",
        r#"{"name": "g", "arguments": {}}"#,
        r#"{"name": 7, "arguments": {}}"#,
        r#"{"name": "f", "arguments": "x"}"#,
        r#"{"name": "f", "arguments": 7}"#,
        r#"{"nam": "f"}"#,
        r#"{"names": "f"}"#,
        r#"{"arguments": {}}"#,
        r#"{"name" "f"}"#,
        r#"{name: "f"}"#,
        r#"{"name": "f" "arguments": {}}"#,
        r#"{"name": "f", "#,
        r#"{"name": "f", "argu"#,
        "",
    ] {
        let text = format!("a <tool_call> {object} </tool_call>");
        check(&rules(ToolFormat::Hermes), &text, &[content(&text)]);
        let text = format!("<tool_call>{object}");
        check(&rules(ToolFormat::Hermes), &text, &[content(&text)]);
        let text = format!("[TOOL_CALLS] [{object}");
        check(&rules(MISTRAL), &text, &[content(&text)]);
        let expected = [content(object)];
        check(&rules(ToolFormat::Llama3), object, &expected[usize::from(object.is_empty())..]);
    }
}

#[test]
fn a_mark_behind_what_is_no_call_is_seen() {
    let text = r#"<tool_call><tool_call>{"name":"f"}</tool_call>"#;
    let expected = [content("<tool_call>"), call("f"), arguments("{}")];
    check(&rules(ToolFormat::Hermes), text, &expected);
}

#[test]
fn a_call_that_is_cut_off_keeps_what_came() {
    let hermes = rules(ToolFormat::Hermes);
    let cut = r#"<tool_call>{"name": "f", "arguments": {"a": "b"#;
    check(&hermes, cut, &[call("f"), arguments(r#"{"a": "b"#)]);
    let broken = r#"<tool_call>{"name": "f", "arguments": {} what"#;
    check(&hermes, broken, &[call("f"), arguments("{}"), content("what")]);
}

#[test]
fn an_answer_that_may_call_once_is_over_when_the_call_is() {
    let once = AnswerRules { ends_with_call: true, ..rules(ToolFormat::Hermes) };
    let call_of_f = r#"<tool_call>{"name": "f", "arguments": {}}"#;
    let expected = [content("So:"), call("f"), arguments("{}")];
    check(&once, &format!("So: {call_of_f}</tool_call> and {call_of_f}</tool_call>"), &expected);
    let mut parser = AnswerParser::new(once);
    for c in call_of_f.chars() {
        assert!(!parser.is_over());
        parser.push(c.encode_utf8(&mut [0; 4]));
    }
    assert!(parser.is_over());
}

#[test]
fn llama_calls_stand_alone() {
    let llama = rules(ToolFormat::Llama3);
    let one = r#"{"name": "f", "parameters": {"q": "a;b"}}"#;
    let parts = [call("f"), arguments(r#"{"q": "a;b"}"#)];
    check(&llama, one, &parts);
    check(&llama, &format!("<|python_tag|>{one}"), &parts);
    check(&llama, &format!("\n{one}\n"), &parts);
    let two = [parts.clone(), parts.clone()].concat();
    check(&llama, &format!("{one}; {one}"), &two);
    let said = format!("I say {one}");
    check(&llama, &said, &[content(&said)]);
    let json = r#"{"answer": {"name": "f", "parameters": {}}}"#;
    check(&llama, json, &[content(json)]);
    let code = "<|python_tag|>print(1)";
    check(&llama, code, &[content(code)]);
}

#[test]
fn mistral_calls_come_in_a_list_or_by_name() {
    let mistral = rules(MISTRAL);
    let f = [call("f"), arguments(r#"{"a": 1}"#)];
    let weather = [call("get_weather"), arguments("{}")];
    let list = r#"[TOOL_CALLS] [{"name": "f", "arguments": {"a": 1}, "id": "abcdefghi"}]"#;
    check(&mistral, list, &f);
    let both = [f.clone(), weather.clone()].concat();
    let list = r#"[TOOL_CALLS][{"name": "f", "arguments": {"a": 1}}, {"name": "get_weather", "arguments": {}}]"#;
    check(&mistral, list, &both);
    check(&mistral, r#"[TOOL_CALLS]f[ARGS]{"a": 1}[TOOL_CALLS]get_weather[ARGS]{}"#, &both);
    check(&mistral, r#"Well: [TOOL_CALLS]f{"a": 1}"#, &[&[content("Well:")], &f[..]].concat());
    let unknown = r#"[TOOL_CALLS]g[ARGS]{"a": 1}"#;
    check(&mistral, unknown, &[content(unknown)]);
    let long = format!("[TOOL_CALLS]{}", "f".repeat(300));
    check(&mistral, &long, &[content(&long)]);
}

/// Text made of what matters to the parser.
fn text() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "<think>",
        "</think>",
        "<tool_call>",
        "</tool_call>",
        "[TOOL_CALLS]",
        "[ARGS]",
        "<|python_tag|>",
        "<",
        "[",
        "]",
        "{",
        "}",
        "\"",
        ",",
        ";",
        ":",
        "\\",
        " ",
        "\n",
        "é",
        "x",
        "f",
        "1",
        "\"name\": \"f\"",
        "\"arguments\": {",
        "{\"name\": \"f\", \"arguments\": {\"a\": ",
        "}}",
    ]);
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_cuts_give_the_same_parts(
        text in text(),
        format in prop::sample::select(FORMATS.to_vec()),
        reasoning in prop::sample::select(
            vec![Reasoning::None, Reasoning::MayOpen, Reasoning::Open]),
        sizes in prop::collection::vec(1_usize..6, 200),
    ) {
        let rules = AnswerRules { reasoning, ..rules(format) };
        let mut rest = text.as_str();
        let mut pieces = Vec::new();
        for size in sizes {
            let end = rest.char_indices().nth(size).map_or(rest.len(), |(at, _)| at);
            pieces.push(&rest[..end]);
            rest = &rest[end..];
        }
        pieces.push(rest);
        prop_assert_eq!(parse(&rules, pieces), parse(&rules, [text.as_str()]));
    }

    #[test]
    fn nothing_but_marks_and_space_is_lost(text in text()) {
        let rules = AnswerRules { tools: None, ..rules(ToolFormat::Hermes) };
        let told: String = parse(&rules, [text.as_str()])
            .into_iter()
            .map(|part| match part {
                Content(text) | Thoughts(text) | Call(text) | Arguments(text) => text,
            })
            .collect();
        let plain = |text: &str| {
            text.replace(THINK, "").replace(END_THINK, "").split_whitespace().collect::<String>()
        };
        prop_assert_eq!(plain(&told), plain(&text));
    }
}

#[test]
fn calls_as_a_format_spells_them_are_read() {
    for format in FORMATS.into_iter().chain([ToolFormat::Mistral { has_args: true }]) {
        let CallSpelling { begin, open, middle, close, between, end } = format.spelling();
        let call = |name: &str, arguments: &str| format!("{open}{name}{middle}{arguments}{close}");
        let (first, second) = (call("f", r#"{"a": "}"}"#), call("get_weather", "{}"));
        let text = format!("{begin}{first}{between}{second}{end}");
        let expected = [
            Call("f".to_owned()),
            Arguments(r#"{"a": "}"}"#.to_owned()),
            Call("get_weather".to_owned()),
            Arguments("{}".to_owned()),
        ];
        check(&rules(format), &text, &expected);
        let text = format!("{THINK}hm{END_THINK}\n\n{begin}{first}{end}");
        let expected = [&[thoughts("hm")], &expected[..2]].concat();
        check(&rules(format), &text, &expected);
    }
}
