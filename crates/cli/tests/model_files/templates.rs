//! Chat templates that are no templates, or that never end.

use crate::Case;
use crate::gguf::word;

pub fn cases() -> Vec<Case> {
    let case = |template: String| {
        let name = format!("chat template {template:.60}");
        Case::new(name, "chat template", |p| p.set("tokenizer.chat_template", word(&template)))
    };
    let bombs = BOMBS.iter().map(|template| (*template).to_owned());
    bombs.chain(repeated()).map(case).collect()
}

/// Each says in a few words what would take for ever, or all memory.
const BOMBS: [&str; 41] = [
    "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
    "{% macro f(x) %}{{ g(x) }}{% endmacro %}{% macro g(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
    "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    "{{ range(10**9)|list }}",
    "{% for i in range(10**18) %}{% endfor %}",
    "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
    "{% for i in range(100000) %}{{ 'x' * 100000 }}{% endfor %}",
    "{{ 10**10**10 }}",
    "{{ 'x' * 10**9 }}",
    "{{ 'x' * 90000000 }}",
    "{{ ([1] * 100000)|tojson }}{{ [[1] * 100000] * 100000 }}",
    "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "{% set ns = namespace(x=[]) %}{% for i in range(100000) %}{% set ns.x = [ns.x] %}{% endfor %}\
     {{ ns.x }}",
    "{{ ('x'*100000)|replace('', 'x'*100000) }}",
    "{{ ('x'*100000).join(range(100000)|list) }}",
    "{{ '%1000000000d'|format(1) }}",
    "{{ 'a'|indent(1000000000, true) }}",
    "{{ [1, [2]]|tojson(indent=9223372036854775807) }}",
    "{{ [1]|batch(1000000000, 'x')|list }}",
    "{{ [1]|slice(1000000000, 'x')|list }}",
    "{% set a = 'é' * 200000 %}{% for i in range(100000) %}{{ a[::-9] }}{% endfor %}",
    "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x|string }}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x ~ '' }}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x|tojson }}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x == [ns.x[0], ns.x[1]] }}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x|join }}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ {ns.x: 1} }}",
    "{% extends 'chat' %}",
    "{% include '../../../../etc/passwd' %}",
    "{% import 'os' as os %}{{ os.system('id') }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{% if true %}",
    "{% endif %}",
    "{{ 1 +",
    "{{ messages[0].content.nope() }}",
    "{{ messages|made_up }}",
    "{{ made_up() }}",
    "{{ raise_exception('no chats here') }}",
];

fn repeated() -> Vec<String> {
    let deep = |open: &str, close: &str| open.repeat(5_500) + &close.repeat(5_500);
    vec![
        "{% if true %}".repeat(2_500) + &"{% endif %}".repeat(2_500),
        "{% for i in [1] %}".repeat(1_500) + &"{% endfor %}".repeat(1_500),
        format!("{{{{ {} }}}}", deep("(", ")")),
        format!("{{{{ {} }}}}", deep("[", "]")),
        format!("{{{{ {} }}}}", "{'a':".repeat(5_000)),
        format!("{{{{ 1{} }}}}", "~1".repeat(30_000)),
        "x".repeat(70_000),
    ]
}
