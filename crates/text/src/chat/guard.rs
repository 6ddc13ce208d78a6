//! What minijinja's own bounds leave open, closed before a template is compiled.
//!
//! Three things: a namespace that comes to hold itself cannot be written, compared or freed (the
//! first two overflow the stack, which no thread survives); a subscript reads its whole string without
//! paying fuel for it; and a list may hold another one twice, and so on. The template's tokens, read by
//! minijinja's own lexer, tell all: namespaces may only be used by their fields, each subscript is
//! preceded by a call of [`CHARGE`], since a call pays for the string that it is made on, and each list
//! or map that is written out is followed by a call of [`WEIGHED`].

use std::mem::discriminant;

use minijinja::machinery::{Span, Token, tokenize};
use minijinja::syntax::SyntaxConfig;

use super::TemplateError;
use super::weight::WEIGHED;

/// Method that gives its value back unchanged.
pub(super) const CHARGE: &str = "charged";

/// `source` with its subscripts charged and its literals weighed, or why its namespaces are not supported.
///
/// What is not Jinja comes back as it is: the compiler has the better message.
pub(super) fn guard(source: String, syntax: SyntaxConfig) -> Result<String, TemplateError> {
    let tokens: Result<Vec<_>, _> = tokenize(&source, false, syntax).collect();
    let Ok(tokens) = tokens else { return Ok(source) };
    check_namespaces(&tokens)?;
    let mut guarded = String::with_capacity(source.len());
    let mut done = 0;
    let charges = subscripts(&tokens).map(|offset| (offset, CHARGE));
    let mut calls: Vec<_> = charges.chain(literals(&tokens)).collect();
    // A literal may itself be subscripted: both calls stand at the same place, in either order.
    calls.sort_unstable();
    for (offset, method) in calls {
        guarded.push_str(&source[done..offset]);
        guarded.push_str(&format!(".{method}()"));
        done = offset;
    }
    guarded.push_str(&source[done..]);
    Ok(guarded)
}

/// Where brackets open that take a part of what stands before them. A name alone, as in
/// `message['role']`, takes no part of a string.
fn subscripts(tokens: &[(Token, Span)]) -> impl Iterator<Item = usize> {
    (1..tokens.len()).filter_map(|index| {
        let (Token::BracketOpen, at) = &tokens[index] else { return None };
        let field = matches!(
            tokens.get(index + 1..index + 3),
            Some([(Token::Str(_) | Token::String(_), _), (Token::BracketClose, _)])
        );
        (ends_value(&tokens[..index]) && !field).then_some(at.start_offset as usize)
    })
}

/// Where lists and maps end that are written out. Those of constants too: the compiler would compute
/// with them, and write what it got.
fn literals(tokens: &[(Token, Span)]) -> Vec<(usize, &'static str)> {
    use Token::{BraceClose, BraceOpen, BracketClose, BracketOpen};
    let mut ends = Vec::new();
    // Of each open bracket, whether it is a literal.
    let mut open: Vec<bool> = Vec::new();
    for (index, (token, span)) in tokens.iter().enumerate() {
        let before = &tokens[..index];
        match token {
            BracketOpen => open.push(!ends_value(before) && !names_test(before)),
            BraceOpen => open.push(!names_test(before)),
            BracketClose | BraceClose => {
                let is_literal = open.pop() == Some(true);
                ends.extend(is_literal.then_some((span.end_offset as usize, WEIGHED)));
            }
            _ => {}
        }
    }
    ends
}

/// Whether a value ends where `tokens` end, so that a bracket behind them takes a part of it.
fn ends_value(tokens: &[(Token, Span)]) -> bool {
    use Token::{BraceClose, BracketClose, Dot, Ident, ParenClose, Str, String};
    let back = |count: usize| tokens.len().checked_sub(count).map(|index| &tokens[index].0);
    match back(1) {
        Some(BracketClose | ParenClose | BraceClose | Str(_) | String(_)) => true,
        Some(Ident(_)) if names_test(tokens) => false,
        Some(Ident(word)) => matches!(back(2), Some(Dot)) || !KEYWORDS.contains(word),
        _ => false,
    }
}

/// Whether `tokens` end with the name of a test: what follows `is eq` is neither a part of it, nor can
/// it have a method.
fn names_test(tokens: &[(Token, Span)]) -> bool {
    use Token::Ident;
    let back = |count: usize| tokens.len().checked_sub(count).map(|index| &tokens[index].0);
    matches!(
        (back(3), back(2), back(1)),
        (_, Some(Ident("is")), Some(Ident(_)))
            | (Some(Ident("is")), Some(Ident("not")), Some(Ident(_)))
    )
}

/// Words after which a bracket opens a list.
const KEYWORDS: [&str; 10] =
    ["in", "is", "not", "and", "or", "if", "elif", "else", "do", "recursive"];

/// A namespace is made by `{% set NAME = namespace(…) %}` and used as `NAME.field`: so no value
/// is or holds a namespace, and none can hold itself.
fn check_namespaces(tokens: &[(Token, Span)]) -> Result<(), TemplateError> {
    let word = |index: usize| match tokens.get(index) {
        Some((Token::Ident(word), _)) => Some(*word),
        _ => None,
    };
    let is = |index: Option<usize>, token: Token| {
        let there = index.and_then(|index| tokens.get(index));
        there.is_some_and(|(there, _)| discriminant(there) == discriminant(&token))
    };
    let makers = (0..tokens.len()).filter(|index| word(*index) == Some("namespace"));
    let mut names = Vec::new();
    for maker in makers {
        if is(maker.checked_sub(1), Token::Dot) || is(Some(maker + 1), Token::Assign) {
            continue;
        }
        let made = maker.checked_sub(4).filter(|start| {
            is(Some(*start), Token::BlockStart)
                && word(start + 1) == Some("set")
                && is(Some(start + 3), Token::Assign)
                && ends_statement(tokens, maker + 1)
        });
        let Some(name) = made.and_then(|start| word(start + 2)) else {
            return Err(refusal("namespace", tokens[maker].1));
        };
        names.push(name);
    }
    for (index, (_, span)) in tokens.iter().enumerate() {
        let Some(name) = word(index).filter(|word| names.contains(word)) else { continue };
        let field = is(Some(index + 1), Token::Dot) || is(Some(index + 1), Token::BracketOpen);
        let assigned = is(Some(index + 1), Token::Assign);
        if !field && !assigned && !is(index.checked_sub(1), Token::Dot) {
            return Err(refusal(name, *span));
        }
    }
    Ok(())
}

/// Whether a call whose parenthesis opens at `open` is the end of its statement.
fn ends_statement(tokens: &[(Token, Span)], open: usize) -> bool {
    let mut depth = 0_usize;
    for (index, (token, _)) in tokens.iter().enumerate().skip(open) {
        match token {
            Token::ParenOpen => depth += 1,
            Token::ParenClose => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return matches!(tokens.get(index + 1), Some((Token::BlockEnd, _)));
        }
    }
    false
}

fn refusal(name: &str, at: Span) -> TemplateError {
    TemplateError::Namespace { line: usize::from(at.start_line), name: name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guarded(source: &str) -> Result<String, TemplateError> {
        guard(source.to_owned(), SyntaxConfig::default())
    }

    #[test]
    fn subscripts_are_charged_and_lists_are_left_alone() {
        for (source, expected) in [
            ("a[0] {{ a[0] }}", "a[0] {{ a.charged()[0] }}"),
            ("{{ a['b'] + a.b[1:] }}", "{{ a['b'] + a.b.charged()[1:] }}"),
            ("{{ 'ab'[0][x] }}", "{{ 'ab'.charged()[0].charged()[x] }}"),
            (
                "{{ f(x)[0] }}{{ {'a': b}[c] }}",
                "{{ f(x).charged()[0] }}{{ {'a': b}.charged().weighed()[c] }}",
            ),
            ("{{ a['b' ~ c] }}", "{{ a.charged()['b' ~ c] }}"),
            ("{{ x.in[0] }}", "{{ x.in.charged()[0] }}"),
            (
                "{{ [x, [1], {'a': [y]}] }}",
                "{{ [x, [1].weighed(), {'a': [y].weighed()}.weighed()].weighed() }}",
            ),
        ] {
            assert_eq!(guarded(source).expect("guarded"), expected);
        }
        for lists in [
            "{{ [1] }}{{ f([1], x=[2]) }}{% set x = [[3], {'a': [4]}] %}",
            "{% for x in [1] if [2] and not [3] or [4] %}{% elif [5] %}{% do [6] %}{% endfor %}",
            "{{ 1 is eq [1] }}{{ 1 is not in [1] }}{{ 1 if x else [2] }}",
            "{# a[0] #}{% raw %}{{ a[0] }}{% endraw %}{{ 'a[0]' }}",
            "{{ 'not closed",
        ] {
            assert_eq!(guarded(lists).expect("guarded").replace(".weighed()", ""), lists);
        }
    }

    #[test]
    fn namespaces_are_used_by_their_fields_alone() {
        for source in [
            "{% set ns = namespace(a=f(1), b=[]) %}{% set ns.a = ns.b %}{{ ns.a }}{{ ns['a'] }}",
            "{%- set ns = namespace() -%}{{ x.ns }}{{ f(ns=1) }} ns {# ns #}{{ 'ns namespace' }}",
            "{{ x.namespace }}{{ f(namespace=1) }} namespace functions",
        ] {
            guarded(source).expect("supported");
        }
        for (source, line, name) in [
            ("{% set ns = namespace() %}\n{% set ns.x = ns %}", 2, "ns"),
            ("{% set ns = namespace() %}\n{{ ns }}", 2, "ns"),
            ("{% set ns = namespace() %}\n\n{% set ns.x = [ns] %}", 3, "ns"),
            ("{% set ns = namespace() %}{% for ns in [1] %}{% endfor %}", 1, "ns"),
            ("{% set a = namespace() %}{% set b = namespace(x=a) %}", 1, "a"),
            ("{% set make = namespace %}", 1, "namespace"),
            ("{% set ns = [namespace()] %}", 1, "namespace"),
            ("{% set ns = namespace(), 1 %}", 1, "namespace"),
            ("{% set ns = namespace()|f %}", 1, "namespace"),
            ("{% with ns = namespace() %}{% endwith %}", 1, "namespace"),
            ("{{ namespace() }}", 1, "namespace"),
            ("{% set ns = namespace( %}", 1, "namespace"),
        ] {
            let refused = guarded(source).expect_err(source);
            let TemplateError::Namespace { line: found, name: other } = &refused else {
                panic!("{source}: {refused}")
            };
            assert_eq!((*found, other.as_str()), (line, name), "{source}");
        }
    }
}
