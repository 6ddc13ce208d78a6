//! Random schemas, regular expressions and grammars, made of the parts of good ones: each compiles or is
//! refused, nothing panics, and what compiles always allows some token until the answer may end.

use std::sync::LazyLock;

use grammar::{Compiler, Constraint, Spec, Vocabulary};
use proptest::prelude::*;
use serde_json::{Value, json};

const END: u32 = 256;
const LEN: u32 = 261;

static COMPILER: LazyLock<Compiler> = LazyLock::new(|| {
    let mut tokens: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    tokens.push(b"<|end|>".to_vec());
    tokens.extend(["{\"", "\":", "true", "123"].map(|text| text.into()));
    Compiler::new(Vocabulary { tokens, end_tokens: vec![END] })
});

/// Any schema, right or wrong.
fn schema() -> impl Strategy<Value = Value> {
    let number = prop_oneof![Just(json!(0)), Just(json!(-1)), Just(json!(3)), Just(json!(1e300))];
    let leaf = prop_oneof![
        prop::sample::select(vec![
            "string", "integer", "number", "boolean", "null", "object", "array", "nothing",
        ])
        .prop_map(|name| json!({"type": name})),
        Just(json!(true)),
        Just(json!(false)),
        Just(json!({})),
        Just(json!({"$ref": "#"})),
        Just(json!({"$ref": "#/$defs/none"})),
        Just(json!({"not": {"type": "null"}})),
        prop::collection::vec(number.clone(), 0..3).prop_map(|list| json!({"enum": list})),
        (number.clone(), number.clone())
            .prop_map(|(a, b)| json!({"type": "integer", "minimum": a, "maximum": b})),
        (number.clone(), number)
            .prop_map(|(a, b)| json!({"type": "string", "minLength": a, "maxLength": b})),
        regex().prop_map(|pattern| json!({"type": "string", "pattern": pattern})),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..3).prop_map(|list| json!({"anyOf": list})),
            prop::collection::vec(inner.clone(), 0..3).prop_map(|list| json!({"allOf": list})),
            inner.clone().prop_map(|item| json!({"type": "array", "items": item})),
            prop::collection::vec(inner, 1..3).prop_map(|fields| {
                let names = ["a", "b"];
                let fields = names.into_iter().zip(fields).map(|(n, f)| (n.to_owned(), f));
                let fields: serde_json::Map<String, Value> = fields.collect();
                json!({"type": "object", "properties": fields, "required": ["a", "c"],
                       "additionalProperties": false})
            }),
        ]
    })
}

/// A regular expression, perhaps spoilt.
fn regex() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "a", "b", "é", ".", "\\d", "[a-z]", "[^x]", "\\p{L}", "(?i:a)", "", "ab", "\\x41",
    ]);
    let whole = leaf.prop_map(str::to_owned).prop_recursive(4, 16, 2, |inner| {
        let times =
            prop::sample::select(vec!["*", "+", "?", "{2}", "{0,3}", "{1,1000}", "{999999999}"]);
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| a + &b),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}|{b})")),
            (inner, times).prop_map(|(a, times)| format!("({a}){times}")),
        ]
    });
    let parts = ["(", ")", "[", "^", "$", "\\b", "(?=a)", "*", "\\", "(a+)+", "&", "~"];
    spoilt(whole, &parts)
}

/// A grammar, perhaps spoilt.
fn lark() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec!["\"x\"", "/[0-9]+/", "a", "B", "start", "\"é\"i", "INT"]);
    let rule = leaf.prop_map(str::to_owned).prop_recursive(3, 12, 2, |inner| {
        let times = prop::sample::select(vec!["*", "+", "?", "~2", "{1,3}"]);
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} {b}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} | {b})")),
            (inner, times).prop_map(|(a, times)| format!("({a}){times}")),
        ]
    });
    let whole = (rule.clone(), rule).prop_map(|(start, a)| {
        format!("start: {start} | \"y\"\na: {a} | \"z\"\nB: /b+/\n%import common.INT\n")
    });
    let parts =
        ["\"", "/(/", ":", "\n", "(", "%json {\"type\": 5}", "<[256]>", "%ignore B\n", "[lazy]"];
    spoilt(whole, &parts)
}

/// `whole`, in every third case with one of `parts` somewhere in it.
fn spoilt<S: Strategy<Value = String>>(
    whole: S,
    parts: &[&'static str],
) -> impl Strategy<Value = String> + use<S> {
    let parts = prop::sample::select(parts.to_vec());
    let spoil = prop::option::weighted(0.3, (any::<prop::sample::Index>(), parts));
    (whole, spoil).prop_map(|(mut text, spoil)| {
        if let Some((at, part)) = spoil {
            let places: Vec<usize> =
                (0..=text.len()).filter(|at| text.is_char_boundary(*at)).collect();
            text.insert_str(*at.get(&places), part);
        }
        text
    })
}

/// Goes so far into an answer, by the token that `choices` pick of those allowed.
fn walk(spec: &Spec, choices: &[u16]) -> Result<(), TestCaseError> {
    let Ok(grammar) = COMPILER.compile(spec) else { return Ok(()) };
    let constraint = Constraint::new(&grammar);
    let mut answer = Vec::new();
    for choice in choices {
        // Too much work for one step ends the request, and nothing else.
        let Ok(set) = constraint.allowed_after(&answer) else { return Ok(()) };
        let allowed: Vec<u32> = (0..LEN).filter(|token| set.contains(*token)).collect();
        prop_assert!(!allowed.is_empty(), "{spec:?} allows nothing after {answer:?}");
        let token = allowed[usize::from(*choice) % allowed.len()];
        if token == END {
            return Ok(());
        }
        answer.push(token);
    }
    Ok(())
}

/// Walks into answers of 256 of what `specs` makes.
#[track_caller]
fn walk_any(specs: impl Strategy<Value = Spec>) {
    let choices = prop::collection::vec(any::<u16>(), 20);
    fuzz::check(256, &(specs, choices), |(spec, choices)| walk(&spec, &choices));
}

#[test]
fn a_schema_compiles_or_is_refused() {
    walk_any(schema().prop_map(Spec::JsonSchema));
}

#[test]
fn a_regular_expression_compiles_or_is_refused() {
    walk_any(regex().prop_map(Spec::Regex));
}

#[test]
fn a_grammar_compiles_or_is_refused() {
    walk_any(lark().prop_map(Spec::Lark));
}
