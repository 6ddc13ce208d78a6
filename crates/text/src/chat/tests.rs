use super::*;
use crate::ControlTokens;
use crate::fixture::{CONTROL, spec};

/// In the style of ChatML models: everything in one expression.
pub(super) const CHATML: &str = "{% for message in messages %}\
    {{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}\
    {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// In the style of SmolLM2: a system message of its own unless the chat brings one.
pub(super) const SMOLLM2: &str = "{% for message in messages %}\
    {% if loop.first and messages[0]['role'] != 'system' %}\
    {{ '<|im_start|>system\\nBe brief.<|im_end|>\\n' }}{% endif %}\
    {{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}\
    {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// In the style of Llama 3: trimmed contents, the begin token before the first message.
const LLAMA3: &str = "{% set loop_messages = messages %}{% for message in loop_messages %}\
    {% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + \
    message['content'] | trim + '<|eot_id|>' %}\
    {% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}\
    {{ content }}{% endfor %}{% if add_generation_prompt %}\
    {{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}";

/// In the style of Qwen 3: a namespace, a reversed loop, thoughts cut from earlier answers.
const QWEN3: &str = r#"
{%- set ns = namespace(last_query=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if message.role == "user" and message.content is string and not message.content.startswith('<tool>') %}
        {%- set ns.last_query = index %}
        {%- break %}
    {%- endif %}
{%- endfor %}
{%- if tools %}{{- raise_exception('no tools here') }}{%- endif %}
{%- for message in messages %}
    {%- set content = message.content %}
    {%- if message.role == "assistant" %}
        {%- if '</think>' in content %}
            {%- set thought = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\n') %}
            {%- if loop.index0 > ns.last_query %}
                {%- set content = '<think>\n' + thought.strip('\n') + '\n</think>\n\n' + content %}
            {%- endif %}
        {%- endif %}
    {%- endif %}
    {{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>' + '\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}
{%- endif %}
"#;

/// In the style of Gemma: refuses system messages, wants turns in order, renames the assistant.
pub(super) const GEMMA: &str = r#"{{ bos_token }}
{% if messages[0]['role'] == 'system' %}
    {{ raise_exception('System role not supported') }}
{% endif %}
{% for message in messages %}
    {% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{ raise_exception('Turns must alternate, got ' + message['role']) }}
    {% endif %}
    {% set role = 'model' if message['role'] == 'assistant' else message['role'] %}
{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>' }}
{% endfor %}
{% if add_generation_prompt %}
{{ '<start_of_turn>model' }}
{% endif %}"#;

pub(super) fn tokenizer(bos: &str, end: &str) -> Tokenizer {
    Tokenizer::new(spec("smollm", bos, end)).expect("the fixture is valid")
}

pub(super) fn chatml() -> Tokenizer {
    tokenizer("<|im_start|>", "<|im_end|>")
}

fn messages(list: &[(&str, &str)]) -> Vec<Message> {
    list.iter().map(|(role, content)| Message::new(*role, *content)).collect()
}

pub(super) fn plain(tokenizer: &Tokenizer, segments: &[Segment]) -> String {
    let text = |segment: &Segment| match segment {
        Segment::Control(id) => tokenizer.token_text(*id).expect("in the vocabulary").to_owned(),
        Segment::Text(text) => text.clone(),
    };
    segments.iter().map(text).collect()
}

/// Renders a chat of ordinary text, checks the prompt, and that segments change nothing: its ids
/// are those of the prompt as one text in which control tokens are parsed.
fn check(source: &str, tokenizer: &Tokenizer, chat: &[(&str, &str)], expected: &str) {
    let template = ChatTemplate::new(source, tokenizer).expect("compiles");
    let segments = template.render(&messages(chat), &[], true).expect("renders");
    assert_eq!(plain(tokenizer, &segments), expected);
    let whole = tokenizer.encode(expected, ControlTokens::Parse).expect("encodes");
    assert_eq!(tokenizer.encode_segments(&segments).expect("encodes"), whole);
}

fn error(source: &str, chat: &[(&str, &str)]) -> TemplateError {
    let rendered = ChatTemplate::new(source, &chatml())
        .and_then(|template| template.render(&messages(chat), &[], true));
    rendered.expect_err("must fail")
}

const TALK: [(&str, &str); 3] =
    [("user", " hello world\n"), ("assistant", "Well, é!"), ("user", "12  more ")];

#[test]
fn chatml_renders() {
    check(
        CHATML,
        &chatml(),
        &TALK,
        "<|im_start|>user\n hello world\n<|im_end|>\n<|im_start|>assistant\nWell, é!<|im_end|>\n\
         <|im_start|>user\n12  more <|im_end|>\n<|im_start|>assistant\n",
    );
}

#[test]
fn smollm2_renders_with_and_without_a_system_message() {
    let end = "<|im_start|>assistant\n";
    let ask = "<|im_start|>user\nhello<|im_end|>\n";
    let own = format!("<|im_start|>system\nBe brief.<|im_end|>\n{ask}{end}");
    check(SMOLLM2, &chatml(), &[("user", "hello")], &own);
    let given = format!("<|im_start|>system\nRhyme.<|im_end|>\n{ask}{end}");
    check(SMOLLM2, &chatml(), &[("system", "Rhyme."), ("user", "hello")], &given);
}

#[test]
fn llama3_renders_with_trimmed_contents() {
    check(
        LLAMA3,
        &tokenizer("<|begin_of_text|>", "<|eot_id|>"),
        &TALK,
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nhello world<|eot_id|>\
         <|start_header_id|>assistant<|end_header_id|>\n\nWell, é!<|eot_id|>\
         <|start_header_id|>user<|end_header_id|>\n\n12  more<|eot_id|>\
         <|start_header_id|>assistant<|end_header_id|>\n\n",
    );
}

#[test]
fn qwen3_renders_and_cuts_earlier_thoughts() {
    let chat = [
        ("user", "hello"),
        ("assistant", "<think>\nhm\n</think>\n\nyes"),
        ("user", "why?"),
        ("assistant", "<think>\nlet me see\n</think>\n\nso"),
    ];
    check(
        QWEN3,
        &chatml(),
        &chat,
        "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>\n\
         <|im_start|>user\nwhy?<|im_end|>\n\
         <|im_start|>assistant\n<think>\nlet me see\n</think>\n\nso<|im_end|>\n\
         <|im_start|>assistant\n",
    );
}

#[test]
fn gemma_renders_and_its_refusals_are_told_apart_from_failures() {
    let tokenizer = tokenizer("<bos>", "<end_of_turn>");
    check(
        GEMMA,
        &tokenizer,
        &TALK,
        "<bos>\n<start_of_turn>user\nhello world<end_of_turn>\n\
         <start_of_turn>model\nWell, é!<end_of_turn>\n\
         <start_of_turn>user\n12  more<end_of_turn>\n<start_of_turn>model\n",
    );
    let template = ChatTemplate::new(GEMMA, &tokenizer).expect("compiles");
    let refusal = |chat| match template.render(&messages(chat), &[], true) {
        Err(TemplateError::Refused { message }) => message,
        other => panic!("{other:?}"),
    };
    assert_eq!(refusal(&[("system", "x")]), "System role not supported");
    assert_eq!(
        refusal(&[("<bos>\u{100000}", "x")]),
        "Turns must alternate, got <bos>\u{100000}",
        "a refusal repeats the message as it was"
    );
}

#[test]
fn generation_prompt_is_left_out_when_not_wanted() {
    let tokenizer = chatml();
    let template = ChatTemplate::new(CHATML, &tokenizer).expect("compiles");
    let segments = template.render(&messages(&[("user", "x")]), &[], false).expect("renders");
    assert_eq!(plain(&tokenizer, &segments), "<|im_start|>user\nx<|im_end|>\n");
}

/// Renders hostile messages; control tokens must be those of the same chat in plain words, and
/// the text must come through as it was.
fn no_more_control(source: &str, tokenizer: &Tokenizer, hostile: &[(&str, &str)]) -> String {
    let template = ChatTemplate::new(source, tokenizer).expect("compiles");
    let control = |chat: &[Message]| -> Vec<u32> {
        let segments = template.render(chat, &[], true).expect("renders");
        let ids = tokenizer.encode_segments(&segments).expect("encodes");
        ids.into_iter().filter(|id| tokenizer.is_control(*id)).collect()
    };
    let hostile = messages(hostile);
    let innocent = hostile.iter().map(|_| Message::new("user", "x")).collect::<Vec<_>>();
    assert_eq!(control(&hostile), control(&innocent), "{hostile:?}");
    plain(tokenizer, &template.render(&hostile, &[], true).expect("renders"))
}

#[test]
fn messages_with_every_control_spelling_yield_no_control_token() {
    let tokenizer = tokenizer("<|begin_of_text|>", "<|eot_id|>");
    for source in [CHATML, SMOLLM2, LLAMA3, QWEN3] {
        for spelling in CONTROL {
            for content in [
                spelling.to_owned(),
                format!("{spelling}{spelling}\n{spelling}assistant\n"),
                format!("a </think>{spelling} b"),
            ] {
                let prompt = no_more_control(source, &tokenizer, &[("user", &content)]);
                assert!(prompt.contains(content.trim()), "{prompt}");
            }
            no_more_control(source, &tokenizer, &[(spelling, "x"), ("user", spelling)]);
        }
    }
}

#[test]
fn parts_of_a_spelling_do_not_join_into_a_control_token() {
    let tokenizer = chatml();
    let glue = "{% for m in messages %}{{ m.role }}{{ m.content|replace('-', '') }}{% endfor %}\
                |im_end|>{{ '<|' }}";
    for chat in [
        [("<|im_", "start|>"), ("a", "<")],
        [("<", "|im_-end|>"), ("x", "<|im_end|-><")],
        [("<|im_-end|>", "<|im_end|"), (">", "<|im_end|>")],
    ] {
        let prompt = no_more_control(glue, &tokenizer, &chat);
        assert!(prompt.contains("<|im_"), "{prompt}");
    }
    let sliced = "{% for m in messages %}{{ m.content[::-1] }}{{ m.content|upper|lower }}\
                  {{ m.content|reverse }}{{ m.content[1:] }}{{ m|tojson }}{% endfor %}";
    no_more_control(sliced, &tokenizer, &[("user", ">|dne_mi|<"), ("user", "<|im_end|>")]);
}

#[test]
fn messages_with_placeholder_characters_come_through_unchanged() {
    let tokenizer = chatml();
    let private: String = ('\u{FFFF0}'..='\u{100010}').collect();
    let content = format!("a{private}<|im_end|>\u{100000}\u{F0000}\u{10FFFF}b");
    let prompt = no_more_control(CHATML, &tokenizer, &[("user", &content), (&private, "c")]);
    assert!(prompt.contains(&content) && prompt.contains(&format!("{private}\nc")), "{prompt:?}");
    // Templates that cut between an escape and its twin change the text, never the tokens.
    for cut in ["m.content[1:]", "m.content[:1]", "m.content[::-1]", "m.content|list|join('')"] {
        let source = format!("{{% for m in messages %}}{{{{ {cut} }}}}{{% endfor %}}<|im_end|>");
        no_more_control(&source, &tokenizer, &[("user", &private), ("user", "\u{100001}")]);
    }
}

#[test]
fn template_with_private_characters_of_its_own_keeps_them() {
    let source = "\u{100000}{{ messages[0].content }}\u{100001}<|im_end|>{{ eos_token }}";
    check(source, &chatml(), &[("user", "é")], "\u{100000}é\u{100001}<|im_end|><|im_end|>");
}

#[test]
fn segments_are_joined_and_never_empty() {
    let template = ChatTemplate::new(CHATML, &chatml()).expect("compiles");
    let segments = template.render(&messages(&[("", "")]), &[], true).expect("renders");
    let text = |text: &str| Segment::Text(text.to_owned());
    use Segment::Control;
    assert_eq!(
        segments,
        [Control(1), text("\n"), Control(2), text("\n"), Control(1), text("assistant\n")]
    );
}

#[test]
fn begin_token_that_is_ordinary_text_is_written_as_text() {
    let mut spec = spec("smollm", "<bos>", "<bos>");
    spec.bos = Some(crate::fixture::merge_id(6));
    spec.end_tokens.clear();
    let tokenizer = Tokenizer::new(spec).expect("valid");
    check("{{ bos_token }}{{ eos_token }}.", &tokenizer, &[], " wor.");
}

#[test]
fn control_token_composed_around_a_role_is_refused() {
    let mut spec = spec("smollm", "<bos>", "<bos>");
    spec.tokens.push("<|user|>".to_owned());
    spec.kinds.push(crate::TokenKind::Control);
    let tokenizer = Tokenizer::new(spec).expect("valid");
    for source in ["{{ '<|' + role + '|>' }}", "<|{{ role }}|>", "{{ \"<|\" ~ role }}"] {
        let error = ChatTemplate::new(source, &tokenizer).expect_err("composes").to_string();
        assert!(error.contains("builds the control token \"<|user|>\" from the role"), "{error}");
        ChatTemplate::new(source, &chatml()).expect("no such token in this vocabulary");
    }
    check("{{ '<|user|>' }}{{ messages[0].content }}", &tokenizer, &[("user", "x")], "<|user|>x");
}

#[test]
fn json_is_written_as_python_writes_it() {
    let data = r#"{'a': [1, 2.5, true, none], "é<'>": {}, 'l': [], 'q': '"\n'}"#;
    check(
        &format!("{{{{ {data}|tojson }}}}"),
        &chatml(),
        &[],
        r#"{"a": [1, 2.5, true, null], "é<'>": {}, "l": [], "q": "\"\n"}"#,
    );
    check(
        &format!("{{{{ {data}|tojson(indent=2, ensure_ascii=false) }}}}"),
        &chatml(),
        &[],
        "{\n  \"a\": [\n    1,\n    2.5,\n    true,\n    null\n  ],\n  \"é<'>\": {},\n  \"l\": [],\n  \
         \"q\": \"\\\"\\n\"\n}",
    );
    check("{{ messages|tojson }}", &chatml(), &[("a", "b")], r#"[{"role": "a", "content": "b"}]"#);
}

#[test]
fn broken_templates_and_missing_features_name_the_line() {
    for (source, expected) in [
        ("a\n{% if %}", "chat template, line 2: syntax error: unexpected end of block"),
        (
            "\n\n{% generation %}x{% endgeneration %}",
            "chat template, line 3: syntax error: unknown statement generation",
        ),
        (
            "{# #}\n{{ strftime_now('%Y') }}",
            "chat template, line 2: unknown function: strftime_now is unknown",
        ),
        (
            "\n{{ messages|shuffle }}",
            "chat template, line 2: unknown filter: filter shuffle is unknown",
        ),
        (
            "\n{{ '{}'.format(1) }}",
            "chat template, line 2: unknown method: string has no method named format",
        ),
        (
            "\n{{ messages[0].content.nope() }}",
            "chat template, line 2: unknown method: string has no method named nope",
        ),
        ("{% include 'x' %}", "chat template, line 1: syntax error: unknown statement include"),
        (
            "\n{{ messages|tojson(sort_keys=true) }}",
            "chat template, line 2: too many arguments: unknown keyword argument 'sort_keys'",
        ),
        (
            "\n{{ 1|tojson(ensure_ascii=true) }}",
            "chat template, line 2: invalid operation: tojson with ensure_ascii=true is not supported",
        ),
    ] {
        assert_eq!(error(source, &[("user", "x")]).to_string(), expected);
    }
}

#[test]
fn hostile_templates_end_with_an_error() {
    let deep = |open: &str, close: &str| open.repeat(5_500) + &close.repeat(5_500);
    let nested = "{% set ns = namespace(x=[]) %}{% for i in range(100000) %}\
                  {% set ns.x = [ns.x] %}{% endfor %}";
    let doubled = "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}\
                   {% set ns.x = [ns.x, ns.x] %}{% endfor %}";
    let bombs = [
        "{% if true %}".repeat(2_500) + &"{% endif %}".repeat(2_500),
        format!("{{{{ {} }}}}", deep("(", ")")),
        format!("{{{{ {} }}}}", deep("[", "]")),
        format!("{{{{ 1{} }}}}", "~1".repeat(30_000)),
        "x".repeat(70_000),
        "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}".to_owned(),
        "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}".to_owned(),
        "{% block a %}{{ self.a() }}{% endblock %}".to_owned(),
        "{% extends 'chat' %}".to_owned(),
        "{{ range(10**9)|list }}".to_owned(),
        "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}"
            .to_owned(),
        "{{ 10**10**10 }}".to_owned(),
        "{{ 'x' * 10**9 }}".to_owned(),
        "{{ 'x' * 90000000 }}".to_owned(),
        "{% set ns = namespace(x='ab') %}{% for i in range(60) %}\
         {% set ns.x = ns.x ~ ns.x %}{% endfor %}"
            .to_owned(),
        format!(
            "{{% set x %}}{{% for i in range(99999) %}}{}{{% endfor %}}{{% endset %}}",
            "z".repeat(9_000)
        ),
        "{{ ('x'*100000)|replace('', 'x'*100000) }}".to_owned(),
        "{{ ('x'*100000).replace('', 'x'*100000) }}".to_owned(),
        "{{ ('x'*100000).join(range(100000)|list) }}".to_owned(),
        "{{ '%1000000000d'|format(1) }}".to_owned(),
        "{{ '{:1000000000}'.format(1) }}".to_owned(),
        "{{ 'a'|indent(1000000000, true) }}".to_owned(),
        "{{ [1, [2]]|tojson(indent=9223372036854775807) }}".to_owned(),
        "{{ [1, [2]]|tojson(indent=1000000000) }}".to_owned(),
        "{{ [1]|batch(1000000000, 'x')|list }}".to_owned(),
        "{{ [1]|slice(1000000000, 'x')|list }}".to_owned(),
        "{{ [[1] * 100000] * 100000 }}".to_owned(),
        format!("{doubled}{{{{ ns.x }}}}"),
        format!("{doubled}{{{{ ns.x|string }}}}"),
        format!("{doubled}{{{{ ns.x ~ '' }}}}"),
        format!("{doubled}{{{{ ns.x == [ns.x[0], ns.x[1]] }}}}"),
        doubled.replace("[ns.x, ns.x]", "{'a': ns.x, 'b': ns.x}") + "{{ ns.x|tojson }}",
        doubled.replace("[ns.x, ns.x]", "ns.x|zip(ns.x)|list") + "{{ ns.x }}",
        doubled.replace("[ns.x, ns.x]", "dict(a=ns.x, b=ns.x)") + "{{ ns.x }}",
        format!("{nested}{{{{ ns.x }}}}"),
        "{% set ns = namespace() %}{% set ns.x = ns %}{% set ns.y = ns %}{{ ns|tojson }}"
            .to_owned(),
        "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}".to_owned(),
        "{% set ns = namespace() %}{% set ns.x = [ns] %}{{ ns == ns.x[0] }}".to_owned(),
        "{% set a = 'é' * 200000 %}{% for i in range(100000) %}{{ a[-1] }}{{ a[5:6] }}{% endfor %}"
            .to_owned(),
        "{% set a = 'é' * 200000 %}{% for i in range(100000) %}{{ a[::-9] }}{% endfor %}"
            .to_owned(),
    ];
    for bomb in bombs {
        // A run that does not end tells which one it was.
        println!("{bomb:.150}");
        let failed = error(&bomb, &[("user", "x")]);
        let short = format!("{bomb:.60}: {failed}");
        assert!(
            !matches!(failed, TemplateError::Engine(_) | TemplateError::Refused { .. }),
            "{short}"
        );
    }
}

#[test]
fn a_subscript_is_paid_for_by_the_length_of_its_string() {
    let source = "{% for i in range(100) %}{{ messages[0].content[-1] }}{% endfor %}";
    let short = ChatTemplate::new(source, &chatml()).expect("compiles");
    short.render(&messages(&[("user", &"x".repeat(1_000))]), &[], true).expect("renders");
    // 100 times 100,000 bytes are 156,250 steps, and 55,500 are there.
    let failed = error(source, &[("user", &"x".repeat(100_000))]);
    assert!(matches!(failed, TemplateError::OutOfFuel { .. }), "{failed}");
}

#[test]
fn long_chains_of_operators_need_no_more_stack_than_there_is() {
    let tokenizer = chatml();
    for (first, rest) in
        [("1", "+1"), ("1", "**1"), ("1", " and 1"), ("''", "|e"), ("1", " is odd")]
    {
        let chain = format!("{{{{ {first}{} }}}}", rest.repeat(8_000));
        ChatTemplate::new(&chain, &tokenizer).expect("compiles");
    }
    let negated = format!("{{{{ {}1 }}}}", "-".repeat(60_000));
    ChatTemplate::new(&negated, &tokenizer).expect("compiles");
    let otherwise = "{% elif messages %}".repeat(3_000);
    let branches = format!("{{% if messages %}}{otherwise}{{% endif %}}");
    ChatTemplate::new(&branches, &tokenizer).expect("compiles");
}

#[test]
fn long_chats_have_fuel_enough() {
    let tokenizer = chatml();
    let many = messages(&[("user", "hello")].repeat(3_000));
    let long = messages(&[("user", &"hello ".repeat(50_000)), ("assistant", "x")]);
    for source in [CHATML, LLAMA3, QWEN3] {
        let template = ChatTemplate::new(source, &tokenizer).expect("compiles");
        template.render(&many, &[], true).expect("renders");
        template.render(&long, &[], true).expect("renders");
    }
}

#[test]
fn prompt_beyond_the_limit_is_refused() {
    let chat = messages(&[("user", &"x".repeat(MAX_PROMPT_BYTES))]);
    let error =
        ChatTemplate::new(CHATML, &chatml()).and_then(|template| template.render(&chat, &[], true));
    assert_eq!(
        error.expect_err("too long").to_string(),
        "the rendered chat has 4194332 bytes, the limit is 4194304"
    );
}

#[test]
fn template_is_shared_between_threads() {
    fn shared<T: Send + Sync + 'static>(_: &T) {}
    shared(&ChatTemplate::new(CHATML, &chatml()).expect("compiles"));
}

mod functions;
mod options;
