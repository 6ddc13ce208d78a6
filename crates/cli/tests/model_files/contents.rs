//! A well-formed file that says what cannot be: tokenizer keys and hyper-parameters.

use model::gguf::ValueKind;

use crate::Case;
use crate::gguf::{Parts, any_value, array, float, number, value, word, words};

pub fn cases() -> Vec<Case> {
    let mut cases = kinds();
    cases.extend(tokenizer());
    cases.extend(numbers());
    cases.extend(unsupported());
    cases
}

fn is_integer(kind: ValueKind) -> bool {
    use ValueKind::{I8, I16, I32, I64, U8, U16, U32, U64};
    [U8, I8, U16, I16, U32, I32, U64, I64].contains(&kind)
}

/// Every key with a value of every type that is not its own, and every list with elements of every
/// type that is not theirs.
fn kinds() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |key: &str, kind: ValueKind, value: Vec<u8>| {
        let name = format!("{key} as {}", kind.name());
        cases.push(Case::new(name, format!("metadata key `{key}`"), |p| p.set(key, value)));
    };
    for kind in ValueKind::ALL {
        for key in [
            "general.architecture",
            "general.name",
            "tokenizer.ggml.model",
            "tokenizer.ggml.pre",
            "tokenizer.chat_template",
        ] {
            if kind != ValueKind::Text {
                add(key, kind, any_value(kind));
            }
        }
        if kind != ValueKind::Bool {
            add("tokenizer.ggml.add_bos_token", kind, any_value(kind));
        }
        if !is_integer(kind) {
            add("tokenizer.ggml.bos_token_id", kind, any_value(kind));
            add("tokenizer.ggml.eos_token_id", kind, any_value(kind));
        }
        for key in ["tokenizer.ggml.tokens", "tokenizer.ggml.merges", "tokenizer.ggml.token_type"] {
            let own = if key.ends_with("type") { ValueKind::I32 } else { ValueKind::Text };
            if kind == ValueKind::Array {
                continue;
            }
            add(key, kind, any_value(kind));
            if kind != own {
                let items = vec![0; 320 * kind.min_bytes() as usize];
                add(key, kind, array(kind, 320, &items));
            }
        }
    }
    cases
}

/// The spellings of the good file, by way of its bytes.
fn spellings(parts: &Parts, key: &str) -> Vec<String> {
    let (_, value) = (parts.entries.iter())
        .find(|entry| entry.0 == key.as_bytes())
        .expect("a key of the good file");
    // Type, type of the elements, their number.
    let mut rest = &value[16..];
    let mut spellings = Vec::new();
    while !rest.is_empty() {
        let len = u64::from_le_bytes(rest[..8].try_into().expect("eight bytes")) as usize;
        spellings.push(String::from_utf8(rest[8..8 + len].to_vec()).expect("text"));
        rest = &rest[8 + len..];
    }
    spellings
}

fn tokenizer() -> Vec<Case> {
    let (tokens, types) = ("tokenizer.ggml.tokens", "tokenizer.ggml.token_type");
    let merges = "tokenizer.ggml.merges";
    let mut cases = Vec::new();
    for key in [tokens, types, merges, "tokenizer.ggml.model", "tokenizer.ggml.pre"] {
        let name = format!("without {key}");
        cases.push(Case::new(name, format!("`{key}` is missing"), |p| p.remove(key)));
    }
    for id in ["bos", "eos", "eot", "eom"] {
        for bad in [320, 1 << 20, u32::MAX] {
            let key = format!("tokenizer.ggml.{id}_token_id");
            let name = format!("{key} {bad}");
            cases.push(Case::new(name, format!("`{key}`"), |p| p.set(&key, number(bad))));
        }
    }
    for count in [0_usize, 1, 319, 321] {
        let list = [1, 0, 0, 0].repeat(count);
        let list = array(ValueKind::I32, count as u64, &list);
        cases.push(Case::new(format!("{count} types"), types, |p| p.set(types, list)));
    }
    for kind in [-1_i32, 0, 7, i32::MAX, i32::MIN] {
        let list = kind.to_le_bytes().repeat(320);
        let list = array(ValueKind::I32, 320, &list);
        cases.push(Case::new(format!("types of {kind}"), types, |p| p.set(types, list)));
    }
    for pre in ["", "llama-bpe2", "(a+)+$", "default\0"] {
        let set = |p: &mut Parts| p.set("tokenizer.ggml.pre", word(pre));
        cases.push(Case::new(format!("pre-tokenizer {pre:?}"), "pre-tokenizer", set));
    }
    for merge in ["", " ", "a", "a  b", "a b c", "ab cd zz", "\u{0}\u{0} x", "nope nope"] {
        let set = |p: &mut Parts| p.set(merges, words(&[merge]));
        cases.push(Case::new(format!("merge {merge:?}"), "merge", set));
    }
    cases.push(Case::new("no tokens", "", |p| p.set(tokens, words::<&str>(&[]))));
    cases.push(Case::new("an empty control token", "empty spelling", |p| {
        let mut list = spellings(p, tokens);
        list[0].clear();
        p.set(tokens, words(&list));
    }));
    cases.push(Case::new("no token is a byte", "byte", |p| {
        let list: Vec<String> =
            (0..spellings(p, tokens).len()).map(|id| format!("<{id}>")).collect();
        p.set(tokens, words(&list));
        p.set(merges, words::<&str>(&[]));
    }));
    cases.push(Case::new("begin without a begin token", "add_bos_token", |p| {
        p.remove("tokenizer.ggml.bos_token_id");
        p.set("tokenizer.ggml.add_bos_token", value(ValueKind::Bool, &[1]));
    }));
    cases
}

fn numbers() -> Vec<Case> {
    let mut cases = Vec::new();
    for key in [
        "llama.vocab_size",
        "llama.context_length",
        "llama.embedding_length",
        "llama.feed_forward_length",
        "llama.block_count",
        "llama.attention.head_count",
        "llama.attention.head_count_kv",
        "llama.attention.key_length",
        "llama.attention.value_length",
        "llama.rope.dimension_count",
    ] {
        let mut add = |what: String, value: Vec<u8>| {
            cases.push(Case::new(format!("{key} {what}"), key, |p| p.set(key, value)));
        };
        for bad in [0, 1 << 31, u32::MAX] {
            add(bad.to_string(), number(bad));
        }
        add("-1".to_owned(), value(ValueKind::I32, &(-1_i32).to_le_bytes()));
        add("huge".to_owned(), value(ValueKind::U64, &u64::MAX.to_le_bytes()));
        add("a float".to_owned(), float(2.0));
        add("a text".to_owned(), word("2"));
    }
    for key in ["llama.rope.freq_base", "llama.attention.layer_norm_rms_epsilon"] {
        for bad in [0.0, -0.0, -1.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let set = |p: &mut Parts| p.set(key, float(bad));
            cases.push(Case::new(format!("{key} {bad}"), key, set));
        }
    }
    for (key, other) in [
        ("llama.block_count", 1),
        ("llama.block_count", 3),
        ("llama.block_count", 1024),
        ("llama.attention.head_count", 3),
        ("llama.attention.head_count", 4096),
        ("llama.attention.head_count_kv", 3),
        ("llama.attention.head_count_kv", 4),
        ("llama.attention.key_length", 31),
        ("llama.attention.key_length", 64),
        ("llama.embedding_length", 96),
        ("llama.feed_forward_length", 161),
        ("llama.vocab_size", 321),
        ("llama.rope.dimension_count", 15),
    ] {
        let set = |p: &mut Parts| p.set(key, number(other));
        cases.push(Case::new(format!("{key} {other}"), "", set));
    }
    for key in ["llama.embedding_length", "llama.block_count", "llama.context_length"] {
        cases.push(Case::new(format!("without {key}"), key, |p| p.remove(key)));
    }
    cases
}

fn unsupported() -> Vec<Case> {
    let mut cases = Vec::new();
    for name in ["", "llama\0", "Llama", "../llama", "made-up"] {
        let set = |p: &mut Parts| p.set("general.architecture", word(name));
        cases.push(Case::new(format!("architecture {name:?}"), "architecture", set));
    }
    for (key, value) in [
        ("llama.rope.scaling.type", word("made-up")),
        ("llama.expert_count", number(4096)),
        ("llama.attention.sliding_window", number(1 << 30)),
        ("llama.made_up_key", words(&["x"])),
    ] {
        cases.push(Case::new(key, format!("`{key}`"), |p| p.set(key, value)));
    }
    cases
}
