//! Answers of all kinds of grammars over a vocabulary of bytes and a few longer tokens.

use grammar::{Ahead, Cache, Compiler, Constraint, Frame, Grammar, Spec, SpecError, Vocabulary};
use serde_json::{Value, json};

const END: u32 = 256;
/// `}}`.
const BRACES: u32 = 263;
/// Steers, and is no text.
const CONTROL: u32 = 264;

/// Bytes, an end token and longer tokens.
fn compiler() -> Compiler {
    let mut tokens: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    tokens.push(b"<|end|>".to_vec());
    tokens.extend(["{\"", "\":", "true", "false", ", ", "123", "}}"].map(|text| text.into()));
    tokens.push(Vec::new());
    Compiler::new(Vocabulary { tokens, end_tokens: vec![END] })
}

fn compile(spec: &Spec) -> Grammar {
    compiler().compile(spec).unwrap_or_else(|error| panic!("{spec:?}: {error}"))
}

/// Whether the whole of `text`, byte by byte, is an answer.
fn accepts(grammar: &Grammar, text: &str) -> bool {
    let mut matcher = grammar.matcher();
    for byte in text.bytes() {
        if !matcher.mask().is_ok_and(|set| set.contains(u32::from(byte))) {
            return false;
        }
        matcher.advance(u32::from(byte));
    }
    matcher.mask().is_ok_and(|set| set.contains(END))
}

fn check(spec: &Spec, accepted: &[&str], refused: &[&str]) {
    let grammar = compile(spec);
    for text in accepted {
        assert!(accepts(&grammar, text), "{spec:?} refuses {text:?}");
    }
    for text in refused {
        assert!(!accepts(&grammar, text), "{spec:?} accepts {text:?}");
    }
}

#[test]
fn a_schema_is_followed() {
    let spec = Spec::JsonSchema(json!({
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 3}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": false
    }));
    let accepted = [r#"{"name":"ab","age":7}"#, "{\n  \"name\": \"\",\n  \"age\": -12\n}"];
    let refused = [
        "",
        "{}",
        r#"{"name":"ab"}"#,
        r#"{"name":"abcd","age":7}"#,
        r#"{"name":"ab","age":7.5}"#,
        r#"{"name":"ab","age":7,"x":1}"#,
        r#"{"name":"ab","age":7}}"#,
        "{   \"name\": \"\", \"age\": 1}",
    ];
    check(&spec, &accepted, &refused);
}

#[test]
fn a_schema_may_refer_to_itself() {
    let spec = Spec::JsonSchema(json!({
        "$ref": "#/$defs/tree",
        "$defs": {"tree": {
            "type": "object",
            "properties": {"sub": {"type": "array", "items": {"$ref": "#/$defs/tree"}}},
            "additionalProperties": false
        }}
    }));
    check(&spec, &["{}", r#"{"sub":[{"sub":[]},{}]}"#], &[r#"{"sub":[1]}"#]);
}

#[test]
fn a_list_of_very_many_items_is_followed_and_not_ended_early() {
    let grammar = compile(&Spec::JsonSchema(json!({
        "type": "array", "items": {"const": 1}, "minItems": 1_000_000_000
    })));
    let mut matcher = grammar.matcher();
    for byte in format!("[{}", "1,".repeat(500)).bytes() {
        let set = matcher.mask().expect("within the work of a step");
        assert!(set.contains(u32::from(byte)));
        assert!(!set.contains(u32::from(b']')) && !set.contains(END));
        matcher.advance(u32::from(byte));
    }
}

#[test]
fn objects_and_anything() {
    check(&Spec::JsonObject, &["{}", r#"{"a":[1,null,{"b":"\n"}]}"#], &["[]", "1", "{'a':1}"]);
    for anything in [json!({}), json!(true)] {
        check(&Spec::JsonSchema(anything), &["1", "[]", "{}", "\"x\""], &["x", "[,]"]);
    }
}

#[test]
fn what_is_asked_for_may_be_a_part_of_an_answer() {
    let regex = |text: &str| Spec::Regex(text.to_owned());
    let choice = |texts: &[&str]| Spec::Choice(texts.iter().map(|&text| text.into()).collect());
    let cases: [(Spec, &[&str], &[&str]); 8] = [
        (regex("a/b+"), &["a/b", "a/bb"], &["a/", "ab"]),
        (regex(r"a\/[/]\\/?"), &["a//\\", "a//\\/"], &["a/\\/", "a//"]),
        (regex("a\nb|c\\\n"), &["a\nb", "c\n"], &["a\\nb", "anb", "a"]),
        (choice(&["yes", "y\"e\\\n"]), &["yes", "y\"e\\\n"], &["", "yess"]),
        (Spec::JsonObject, &["{}", r#"{"a":[1]}"#], &["[]", "1"]),
        (Spec::JsonSchema(json!({"enum": [1, "}"]})), &["1", "\"}\""], &["2", "}"]),
        (Spec::Lark("start: \"}\" start | A\nA: \"{\"".into()), &["{", "}}{"], &["}", "A"]),
        (Spec::Lark("start: %json {\"type\": \"null\"}".into()), &["null"], &["{}"]),
    ];
    for (spec, accepted, refused) in cases {
        check(&spec, accepted, refused);
        let parts = vec![text("<"), spec.into_frame(), text(">")];
        let framed = |texts: &[&str]| texts.iter().map(|t| format!("<{t}>")).collect::<Vec<_>>();
        let (accepted, refused) = (framed(accepted), framed(refused));
        let [accepted, refused] =
            [&accepted, &refused].map(|texts| texts.iter().map(String::as_str).collect::<Vec<_>>());
        check(&Spec::Frame(Frame::Sequence(parts)), &accepted, &refused);
    }
}

#[test]
fn a_grammar_whose_braces_do_not_match_is_refused_alone_and_as_a_part() {
    for lark in [
        "start: \"a\"\n}",
        "start: \"a\"\n{",
        "start: \"a\"\n} \"b\" %lark {\nstart: \"c\"",
        "start: \"a\"\n})\nother: (%lark {\nstart: \"c\"",
        "start: %json {\"type\": \"null\"",
        "start: %json {\"type\": \"null\"}}",
        "start: \"a\" // }\n}",
    ] {
        let spec = Spec::Lark(lark.to_owned());
        assert!(compiler().compile(&spec).is_err(), "{lark}");
        let parts = vec![text("<"), spec.into_frame(), text(">")];
        assert!(compiler().compile(&Spec::Frame(Frame::Sequence(parts))).is_err(), "{lark}");
    }
}

#[test]
fn expressions_choices_and_grammars() {
    let regex = Spec::Regex(r"(\d{3})-[a-f]+/?".to_owned());
    check(&regex, &["123-abc", "000-f/"], &["12-abc", "123-", "123-abcg"]);
    let choice = Spec::Choice(vec!["yes".to_owned(), "y\"e\\\n".to_owned(), "名".to_owned()]);
    check(&choice, &["yes", "y\"e\\\n", "名"], &["", "ye", "yess", "no"]);
    let lark = Spec::Lark("start: \"a\" start \"b\" | \"c\"\n".to_owned());
    check(&lark, &["c", "aacbb"], &["ab", "aacb", ""]);
}

#[test]
fn the_end_comes_only_where_it_may_and_nothing_but_it_where_it_must() {
    let grammar = compile(&Spec::Regex("ab?".to_owned()));
    let mut matcher = grammar.matcher();
    assert!(!matcher.mask().unwrap().contains(END));
    matcher.advance(u32::from(b'a'));
    let set = matcher.mask().unwrap();
    assert!(set.contains(END) && set.contains(u32::from(b'b')) && set.len() == 2, "{set:?}");
    matcher.advance(u32::from(b'b'));
    for _ in 0..3 {
        let set = matcher.mask().unwrap();
        assert!(set.contains(END) && set.len() == 1, "{set:?}");
        matcher.advance(END);
    }
}

#[test]
fn longer_tokens_are_allowed_where_their_text_is() {
    let grammar =
        compile(&Spec::JsonSchema(json!({"type": "array", "items": {"type": "boolean"}})));
    let set = grammar.matcher().mask_after(&[u32::from(b'[')]).unwrap();
    let allowed = |text: &str| match text {
        "true" => set.contains(259),
        "false" => set.contains(260),
        _ => set.contains(262),
    };
    assert!(allowed("true") && allowed("false") && !allowed("123"));
}

/// Follows the first allowed byte that `choose` takes, and gives the answer.
fn random_answer(grammar: &Grammar, mut seed: u64, tokens: usize) -> Vec<u32> {
    let mut matcher = grammar.matcher();
    for _ in 0..tokens {
        let set = matcher.mask().unwrap();
        let allowed: Vec<u32> = (0..263).filter(|token| set.contains(*token)).collect();
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let token = allowed[(seed >> 33) as usize % allowed.len()];
        if token == END {
            break;
        }
        matcher.advance(token);
    }
    matcher.taken().to_vec()
}

#[test]
fn the_set_depends_on_the_answer_alone() {
    let spec = Spec::JsonSchema(json!({"type": "object", "properties": {"a": {"type": "number"}}}));
    let grammar = compile(&spec);
    for seed in 0..8 {
        let answer = random_answer(&grammar, seed, 40);
        let mut whole = grammar.matcher();
        let mut wandering = grammar.matcher();
        for length in 0..=answer.len() {
            let expected = whole.mask_after(&answer[..length]).unwrap();
            // One that was further, one that was elsewhere, one that begins.
            wandering.mask_after(&answer).unwrap();
            assert_eq!(wandering.mask_after(&answer[..length]).unwrap(), expected);
            assert_eq!(grammar.matcher().mask_after(&answer[..length]).unwrap(), expected);
        }
    }
}

#[test]
fn a_set_computed_ahead_is_the_one_computed_when_needed() {
    let grammar = compile(&Spec::JsonObject);
    let answer = random_answer(&grammar, 3, 60);
    let (ahead, constraint) = (Ahead::new(), Constraint::new(&grammar));
    for (position, &token) in answer.iter().enumerate() {
        let expected = grammar.matcher().mask_after(&answer[..position]).unwrap();
        assert_eq!(constraint.allowed_after(&answer[..position]).unwrap(), expected);
        ahead.prepare(&constraint, position, token);
        // Told twice, or of a position that is over: nothing happens.
        ahead.prepare(&constraint, position, token);
        ahead.prepare(&constraint, 0, token);
    }
}

#[test]
fn a_token_that_is_not_allowed_ends_the_answer_with_an_error() {
    let grammar = compile(&Spec::Regex("abc".to_owned()));
    let error = grammar.matcher().mask_after(&[u32::from(b'x')]).expect_err("not in the grammar");
    assert!(!error.to_string().contains('\n'), "{error}");
    assert!(grammar.matcher().mask_after(&[u32::from(b'x'), u32::from(b'a')]).is_err());
}

#[test]
fn sizes_and_depths_are_bounded_from_both_sides() {
    let nested = |depth| (1..depth).fold(json!({}), |inner, _| json!({"not": inner}));
    assert!(Spec::JsonSchema(nested(32)).check().is_ok());
    assert!(Spec::JsonSchema(nested(33)).check().is_err());
    let long = |bytes: usize| Value::from("x".repeat(bytes - 2));
    assert!(Spec::JsonSchema(long(64 << 10)).check().is_ok());
    assert!(Spec::JsonSchema(long((64 << 10) + 1)).check().is_err());
    let sized = |bytes| "a".repeat(bytes);
    assert!(Spec::Regex(sized(4 << 10)).check().is_ok());
    assert!(Spec::Regex(sized((4 << 10) + 1)).check().is_err());
    assert!(Spec::Lark(sized(64 << 10)).check().is_ok());
    assert!(Spec::Lark(sized((64 << 10) + 1)).check().is_err());
    let brackets = |depth| format!("{}a{}", "(".repeat(depth), ")".repeat(depth));
    for spec in [Spec::Regex, Spec::Lark] {
        assert!(spec(brackets(64)).check().is_ok());
        assert!(spec(brackets(65)).check().is_err());
    }
    let choices = |count| Spec::Choice(vec!["a".to_owned(); count]);
    assert!(choices(1024).check().is_ok());
    assert!(choices(1025).check().is_err());
    assert!(Spec::Choice(vec![sized(64 << 10)]).check().is_ok());
    assert!(Spec::Choice(vec![sized((64 << 10) + 1)]).check().is_err());
    assert_eq!(choices(0).check(), Err(SpecError::NoChoices));
    let empty = Spec::Choice(vec!["a".to_owned(), String::new()]);
    assert_eq!(empty.check(), Err(SpecError::EmptyChoice { index: 1 }));
}

#[test]
fn what_cannot_be_followed_is_refused_with_one_short_line() {
    let lark = |text: &str| Spec::Lark(text.to_owned());
    let regex = |text: &str| Spec::Regex(text.to_owned());
    let mut specs = vec![
        regex("(a"),
        regex("a{9,1}"),
        regex("(?=a)b"),
        lark(""),
        lark("start: missing"),
        lark("start: \"a"),
        lark("start: /a"),
        lark("not a grammar at all {{{"),
        lark("start: <|end|>"),
    ];
    let schemas = [
        json!(3),
        json!(false),
        json!({"type": "nonsense"}),
        json!({"type": "string", "pattern": "("}),
        json!({"$ref": "#/$defs/missing"}),
        json!({"$ref": "https://example.com/schema.json"}),
        json!({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}),
        json!({"type": "integer", "minimum": 5, "maximum": 4}),
    ];
    specs.extend(schemas.map(Spec::JsonSchema));
    let compiler = compiler();
    for spec in specs {
        let Err(error) = compiler.compile(&spec) else { panic!("{spec:?} is accepted") };
        let error = error.to_string();
        assert!(error.len() <= 400 && !error.contains('\n'), "{spec:?}: {error}");
        assert!(!error.contains("panic"), "{spec:?}: {error}");
    }
}

#[test]
fn a_model_without_end_tokens_has_no_grammars() {
    let vocabulary = Vocabulary { tokens: vec![b"a".to_vec()], end_tokens: Vec::new() };
    let compiler = Compiler::new(vocabulary);
    for _ in 0..2 {
        assert_eq!(compiler.compile(&Spec::JsonObject).unwrap_err(), SpecError::NoEndToken);
    }
}

#[test]
fn hostile_tokens_do_no_harm() {
    let mut tokens: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    tokens.extend([
        vec![b'a'; 5_000],
        Vec::new(),
        b"a\xFF".to_vec(),
        b"ab".to_vec(),
        b"ab".to_vec(),
    ]);
    let compiler = Compiler::new(Vocabulary { tokens, end_tokens: vec![257, 0] });
    let grammar = compiler.compile(&Spec::Regex("ab|[ab]+c".to_owned())).unwrap();
    let ends = |answer: &str| {
        let answer: Vec<u32> = answer.bytes().map(u32::from).collect();
        let set = grammar.matcher().mask_after(&answer).unwrap();
        assert_eq!(set.contains(0), set.contains(257));
        set.contains(257)
    };
    assert!(ends("aabc") && ends("ab") && !ends("") && !ends("aab"));
}

#[test]
fn many_different_schemas_stay_within_the_bytes_of_the_cache() {
    let compiler = compiler();
    let choice = |index: usize| Spec::Choice(vec![format!("choice {index}")]);
    let one = compiler.compile(&choice(0)).unwrap().bytes();
    let mut cache = Cache::new(10 * one + one / 2);
    for index in 0..200 {
        let spec = choice(index);
        cache.put(spec.key(), compiler.compile(&spec).unwrap());
        // The first one is used all the time.
        assert!(cache.get(&choice(0).key()).is_some(), "{index}");
        assert!(cache.bytes() <= 10 * one + one / 2 && cache.len() <= 10, "{cache:?}");
    }
    assert!((8..=10).contains(&cache.len()), "{cache:?}");
    let kept = |index: usize, cache: &mut Cache| cache.get(&choice(index).key()).is_some();
    assert!(kept(199, &mut cache) && kept(194, &mut cache) && !kept(189, &mut cache));
    let mut small = Cache::new(one - 1);
    small.put(choice(0).key(), compiler.compile(&choice(0)).unwrap());
    assert!(small.is_empty());
}

fn text(text: &str) -> Frame {
    Frame::Text(text.to_owned())
}

/// `<f>` and an integer, or `<g>` and an object with `a`, several with `; ` between.
fn calls(most: usize) -> Frame {
    let call = |name: &str, schema: Value| {
        Frame::Sequence(vec![text(&format!("<{name}>{{\"x\": ")), Frame::Json(schema), text("}\n")])
    };
    let a = json!({"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]});
    let item = Frame::Choice(vec![call("f", json!({"type": "integer"})), call("g", a)]);
    Frame::Repeated { item: Box::new(item), between: Box::new(text("; ")), most }
}

#[test]
fn parts_follow_each_other_as_a_frame_says() {
    let spec = Spec::Frame(calls(2));
    let (f, g) = ("<f>{\"x\": 12}\n", "<g>{\"x\": {\"a\":true}}\n");
    let (two, three) = (format!("{g}; {f}"), format!("{f}; {f}; {f}"));
    let refused = [three.as_str(), "", "<f>{\"x\": {}}\n", "<g>{\"x\": {}}\n", "<h>{\"x\": 1}\n"];
    check(&spec, &[f, g, &two], &refused);
    let once = Spec::Frame(calls(1));
    check(&once, &[f, g], &[&two]);
    let thoughts = Frame::Sequence(vec![
        Frame::Optional(Box::new(Frame::Sequence(vec![
            text("<think>"),
            Frame::Through("</think>".to_owned()),
        ]))),
        calls(1),
    ]);
    let thinking = [f.to_owned(), format!("<think>a </thin\n<f></think>{f}")];
    let refused = [format!("a{f}"), format!("<think>{f}"), format!("<think></think>a</think>{f}")];
    check(
        &Spec::Frame(thoughts),
        &thinking.each_ref().map(String::as_str),
        &refused.each_ref().map(String::as_str),
    );
}

#[test]
fn a_frame_has_tokens_that_are_no_text() {
    let frame = Frame::Sequence(vec![Frame::Any, Frame::Token(CONTROL), text("a")]);
    let grammar = compile(&Spec::Frame(frame));
    let mut matcher = grammar.matcher();
    for token in [u32::from(b'x'), CONTROL, u32::from(b'a'), END] {
        let set = matcher.mask().expect("a next token");
        assert!(set.contains(token), "{token}");
        assert!(token == END || !set.contains(END));
        matcher.advance(token);
    }
}

#[test]
fn a_token_may_reach_over_the_end_of_a_schema() {
    let grammar = compile(&Spec::Frame(calls(1)));
    let mut matcher = grammar.matcher();
    for byte in b"<g>{\"x\": {\"a\":true" {
        matcher.advance(u32::from(*byte));
    }
    assert!(matcher.mask().expect("a next token").contains(BRACES), "as one token");
    matcher.advance(BRACES);
    matcher.advance(u32::from(b'\n'));
    assert!(matcher.mask().expect("the end").contains(END));
}

#[test]
fn schemas_of_a_frame_have_the_bounds_of_schemas_and_one_for_all() {
    let deep = (0..32).fold(json!({}), |inner, _| json!({"not": inner}));
    let schema = |bytes: usize| Frame::Json(json!({"description": "x".repeat(bytes)}));
    for frame in [Frame::Json(deep), schema(64 << 10), Frame::Choice(vec![schema(60 << 10); 5])] {
        let refusal = Spec::Frame(frame).check();
        assert!(matches!(refusal, Err(SpecError::TooLarge { .. })), "{refusal:?}");
    }
    let many = Frame::Choice(vec![schema(60 << 10); 4]);
    Spec::Frame(many).check().expect("within the bounds");
}

#[test]
fn as_many_functions_as_there_may_be_are_followed() {
    let parameters = json!({
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "where"},
            "unit": {"enum": ["celsius", "fahrenheit"]},
            "days": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 9}},
        },
        "required": ["city"], "additionalProperties": false,
    });
    let call = |index: usize| {
        let open = text(&format!("<tool_call>\n{{\"name\": \"function_{index}\", \"arguments\": "));
        Frame::Sequence(vec![open, Frame::Json(parameters.clone()), text("}\n</tool_call>")])
    };
    let item = Box::new(Frame::Choice((0..128).map(call).collect()));
    let frame = Frame::Repeated { item, between: Box::new(text("\n")), most: 128 };
    let one = "<tool_call>\n{\"name\": \"function_77\", \"arguments\": {\"city\": \"Bern\"}}\n</tool_call>";
    check(&Spec::Frame(frame), &[one, &format!("{one}\n{one}")], &[&format!("{one} ")]);
}

/// Answers of which only one text is possible, and that text is endless or nearly so.
#[test]
fn what_leaves_one_text_for_long_takes_one_step_at_a_time() {
    let check = |spec: Spec, answer: &str| {
        let grammar = compile(&spec);
        let mut matcher = grammar.matcher();
        for token in answer.bytes().map(u32::from) {
            let set = matcher.mask().expect("there is always a next byte");
            assert!(set.contains(token) && set.len() == 1, "{spec:?}");
            matcher.advance(token);
        }
    };
    let bs = "b".repeat(300);
    // Every `b` belongs to the first of the two, so that the second never begins.
    let endless = "start: \"x\" B B\nB: /b+/";
    check(Spec::Lark(endless.to_owned()), &format!("x{bs}"));
    check(Spec::Lark(endless.to_owned() + "\n%llguidance {\"no_forcing\": false}"), &bs[..0]);
    check(Spec::Regex("b{999999999}a".to_owned()), &bs);
    let long = json!({"type": "string", "pattern": "^b+$", "minLength": 999_999_999});
    check(Spec::JsonSchema(long), &format!("\"{bs}"));
    let close = json!({"whitespace_flexible": false});
    let items = json!({"type": "array", "items": {"const": 1}, "minItems": 999_999_999, "x-guidance": close});
    check(Spec::JsonSchema(items), &format!("[{}", "1,".repeat(100)));
}
